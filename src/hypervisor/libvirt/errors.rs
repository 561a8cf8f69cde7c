//! libvirt's error numbers in our words.
//!
//! Numbers decide wherever libvirt has one that means a single thing. Where it uses one number for
//! several (`VIR_ERR_INTERNAL_ERROR` for every failure of QEMU, `VIR_ERR_AGENT_UNRESPONSIVE` for an
//! absent and for a silent agent) the text decides, and a text we do not know falls back to the
//! cautious reading.
//!
//! Source: include/libvirt/virterror.h; texts from src/qemu/qemu_agent.c and qemu_domain.c of 11.3.

use std::time::Duration;

use virt::error::{Error, ErrorDomain, ErrorNumber};

use crate::hypervisor::HvError;
use crate::vocab::MachineId;

/// The general reading, for calls that are not about one machine.
pub fn of(error: &Error) -> HvError {
    use ErrorNumber::*;
    let said = error.message().trim().to_owned();
    if is_connection_lost(error) {
        return HvError::Unreachable(said);
    }
    if says_no_space(&said) {
        return HvError::DiskFull(said);
    }
    if error.code().is_known_and(|code| code == NoMemory) || says_no_memory(&said) {
        return HvError::NoMemory(said);
    }
    // QEMU's own lock on a disk image that another process has open for writing; a name that is taken.
    if said.contains("Is another process using the image")
        || said.contains("already exists with uuid")
    {
        return HvError::Refused(said);
    }
    let refused = error.code().is_known_and(|code| {
        matches!(
            code,
            XmlError
                | XmlDetail
                | XmlInvalidSchema
                | InvalidArg
                | InvalidMac
                | ConfigUnsupported
                | ArgumentUnsupported
                | OperationUnsupported
                | OperationDenied
                | NoSupport
                | NoNetwork
                | AccessDenied
                | CpuIncompatible
        )
    });
    if refused {
        HvError::Refused(said)
    } else {
        HvError::Host(said)
    }
}

/// The reading for calls about the machine `id`.
pub fn about(id: MachineId) -> impl Fn(Error) -> HvError {
    move |error| {
        if is_no_domain(&error) {
            HvError::NoSuchMachine(id)
        } else {
            of(&error)
        }
    }
}

/// The reading for a guest agent command that was given `deadline`.
pub fn of_agent(id: MachineId, deadline: Duration, error: &Error) -> HvError {
    use ErrorNumber::*;
    let said = error.message();
    if is_no_domain(error) {
        return HvError::NoSuchMachine(id);
    }
    // Paused, or just stopped, which the next call then says.
    if is_not_running(error) {
        return HvError::AgentAbsent(id);
    }
    let code = error.code();
    if code.is_known_and(|code| code == AgentCommandTimeout) {
        return HvError::AgentTimeout(id, deadline);
    }
    if code.is_known_and(|code| matches!(code, AgentUnresponsive | AgentUnsynced)) {
        let silent = said.contains("timed out") || said.contains("respond to synchronization");
        return if silent {
            HvError::AgentTimeout(id, deadline)
        } else {
            HvError::AgentAbsent(id)
        };
    }
    if code.is_known_and(|code| code == AgentCommandFailed) || said.contains("agent command") {
        return HvError::Agent(said.trim().to_owned());
    }
    // A reply above libvirt's own limits is refused while it is being passed on.
    if code.is_known_and(|code| code == Rpc) && said.contains("payload") {
        return HvError::Agent(format!("a message that is too large: {said}"));
    }
    of(error)
}

pub fn is_no_domain(error: &Error) -> bool {
    error
        .code()
        .is_known_and(|code| code == ErrorNumber::NoDomain)
}

/// The domain has nothing of ours among its metadata.
pub fn is_no_metadata(error: &Error) -> bool {
    error
        .code()
        .is_known_and(|code| code == ErrorNumber::NoDomainMetadata)
}

/// The domain stopped between being found and being asked.
pub fn is_not_running(error: &Error) -> bool {
    error
        .code()
        .is_known_and(|code| code == ErrorNumber::OperationInvalid)
        && (error.message().contains("not running")
            || error.message().contains("is no longer active"))
}

/// The connection itself is of no further use, whatever was asked.
fn is_connection_lost(error: &Error) -> bool {
    use ErrorNumber::*;
    let code = error.code();
    if code
        .is_known_and(|code| matches!(code, NoConnect | InvalidConn | AuthFailed | AuthUnavailable))
    {
        return true;
    }
    // "End of file while reading data", "Cannot write data: Broken pipe", "client socket is closed",
    // "connection closed due to keepalive timeout" come as different numbers from the same place.
    let from_transport = error
        .domain()
        .is_known_and(|domain| domain == ErrorDomain::Rpc);
    from_transport && !error.message().contains("payload")
}

pub fn says_no_space(text: &str) -> bool {
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}

/// libvirt sets limits by running tc(8), and passes its complaint on.
pub fn says_no_shaping(text: &str) -> bool {
    text.contains("(tc ") || text.contains("/tc ")
}

fn says_no_memory(text: &str) -> bool {
    text.contains("Cannot allocate memory") || text.contains("cannot set up guest memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_running_out_are_known() {
        assert!(says_no_space(
            "qemu-img: /d/x: error while writing: No space left on device"
        ));
        assert!(says_no_memory(
            "process exited while connecting to monitor: cannot set up guest memory 'pc.ram': Cannot allocate memory"
        ));
    }

    #[test]
    fn a_host_that_is_not_there_is_unreachable() {
        virt::error::clear_error_callback();
        let error =
            virt::connect::Connect::open(Some("qemu+unix:///system?socket=/nowhere/libvirt-sock"))
                .unwrap_err();
        assert!(matches!(of(&error), HvError::Unreachable(_)), "{error}");
    }
}
