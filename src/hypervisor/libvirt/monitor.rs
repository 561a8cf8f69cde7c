//! QEMU's own commands, through libvirt's monitor passthrough: for what libvirt has no call for.
//! libvirt notes such a domain as tainted (`custom-monitor`), which changes nothing else.
//!
//! Protocol: QEMU's docs/interop/qmp-spec.rst; the commands' types come from the `qapi` crate.

use qapi::qmp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use virt::domain::Domain;

use super::errors;
use crate::hypervisor::HvError;
use crate::vocab::MachineId;

/// A machine's monitor, for the length of one call.
pub struct Monitor<'a> {
    pub domain: &'a Domain,
    pub id: MachineId,
}

/// What a command may come to instead of its answer.
#[derive(Debug)]
pub enum Fault {
    /// The host could not ask.
    Host(HvError),
    /// QEMU's refusal, in its own words.
    Qemu(String),
}

impl From<Fault> for HvError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Host(error) => error,
            Fault::Qemu(said) => HvError::Host(format!("QEMU: {said}")),
        }
    }
}

impl Monitor<'_> {
    pub fn ask<C: qmp::QmpCommand>(&self, command: C) -> Result<C::Ok, Fault> {
        let command = serde_json::to_string(&qapi::Execute::<C>::with_command(command))
            .map_err(|error| Fault::Host(HvError::Refused(error.to_string())))?;
        let reply = self.domain.qemu_monitor_command(&command, 0);
        let reply = reply.map_err(|error| {
            Fault::Host(if errors::is_not_running(&error) {
                HvError::NoSuchMachine(self.id)
            } else {
                errors::about(self.id)(error)
            })
        })?;
        read(&reply)
    }

    /// A property of an object; none when there is no such object or property.
    pub fn property(&self, path: &str, property: &str) -> Result<Option<serde_json::Value>, Fault> {
        let command = qmp::qom_get {
            path: path.to_owned(),
            property: property.to_owned(),
        };
        match self.ask(command) {
            Ok(value) => Ok(Some(value)),
            Err(Fault::Qemu(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    pub fn run_state(&self) -> Result<qmp::RunState, Fault> {
        Ok(self.ask(qmp::query_status {})?.status)
    }
}

fn read<T: DeserializeOwned>(reply: &str) -> Result<T, Fault> {
    #[derive(Deserialize)]
    struct Reply<T> {
        #[serde(rename = "return")]
        value: Option<T>,
        error: Option<Said>,
    }
    #[derive(Deserialize)]
    struct Said {
        desc: String,
    }
    let strange = |why: &str| {
        let start: String = reply.chars().take(200).collect();
        Fault::Host(HvError::Host(format!(
            "an answer of QEMU's monitor that is not understood ({why}): {start:?}"
        )))
    };
    match serde_json::from_str::<Reply<T>>(reply) {
        Ok(Reply {
            error: Some(said), ..
        }) => Err(Fault::Qemu(said.desc)),
        Ok(Reply {
            value: Some(value), ..
        }) => Ok(value),
        Ok(_) => Err(strange("neither a result nor an error")),
        Err(error) => Err(strange(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_result_or_a_refusal() {
        assert_eq!(read::<u32>(r#"{"return":7,"id":"libvirt-3"}"#).unwrap(), 7);
        let refused =
            read::<u32>(r#"{"id":"1","error":{"class":"GenericError","desc":"no such thing"}}"#);
        assert!(matches!(refused, Err(Fault::Qemu(said)) if said == "no such thing"));
        for strange in ["", "{}", r#"{"return":"x"}"#] {
            assert!(
                matches!(read::<u32>(strange), Err(Fault::Host(_))),
                "{strange}"
            );
        }
    }
}
