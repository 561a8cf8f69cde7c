//! Power and boot order of devices, through their baseboard controllers (BMCs).
//!
//! ```text
//!  operator ─► web ─► hands ──open──► redfish (HTTP; wire, read)  ─┐
//!  reprovision ─► a NetworkOrder's row                    ipmi (ipmitool) ─┼─► PowerControl ─► the machine
//!                       ▲                                 manual (a person) ┘
//!                       └── plan (pure): what next ◄── hands: looks, does it, stores how far it is
//! ```
//!
//! [`hands::RemoteHands`] owns every conversation with a BMC: one at a time with each, few at once with
//! all, and none after [`MOST_REFUSED`](crate::vocab::power::MOST_REFUSED) refused logins until a person
//! has looked, because BMCs lock accounts. Whatever is asked for is read back: BMCs say "accepted" and do
//! nothing.
//!
//! A BMC's password is in a file of the state folder ([`vault`]); the database has the file's name only,
//! so that a copy of the database, an audit record or a row in a log cannot give it away, and there is no
//! second key to lose. Nothing here knows the network boot: it leaves a row and reads the device's.

use std::time::Duration;

use async_trait::async_trait;

use crate::vocab::power::{BootOverride, BootTarget, Capabilities, Off, PowerState};

pub mod hands;
pub mod ipmi;
pub mod manual;
pub mod plan;
pub mod redfish;
pub mod vault;

/// One conversation with one machine's BMC. Each function waits for the BMC's own answer and no longer
/// than its limits; whether the machine obeyed is asked with [`state`](Self::state) and
/// [`boot_override`](Self::boot_override).
#[async_trait]
pub trait PowerControl: Send {
    async fn capabilities(&mut self) -> Result<Capabilities, PowerError>;
    async fn state(&mut self) -> Result<PowerState, PowerError>;
    async fn on(&mut self) -> Result<(), PowerError>;
    async fn off(&mut self, how: Off) -> Result<(), PowerError>;
    /// Off and on in one request; a machine that is off comes up.
    async fn cycle(&mut self) -> Result<(), PowerError>;
    /// Sets what the next boot is from, and reads it back. [`BootTarget::Pxe`] stands for the network:
    /// where the BMC knows UEFI's HTTP boot only, that is set.
    async fn boot_once(&mut self, from: BootTarget) -> Result<BootOverride, PowerError>;
    async fn boot_override(&mut self) -> Result<BootOverride, PowerError>;
    /// Puts an image that the BMC fetches from `url` into its virtual optical drive, in the place of what is
    /// in there, and reads that back.
    async fn insert_media(&mut self, _url: &str) -> Result<(), PowerError> {
        Err(no_media())
    }
    /// Takes out what is in the virtual optical drive, and reads that back.
    async fn eject_media(&mut self) -> Result<(), PowerError> {
        Err(no_media())
    }
    /// Ends the conversation: a BMC has few places for sessions. Failures do not matter any more.
    async fn leave(&mut self);
}

fn no_media() -> PowerError {
    PowerError::Refused("this kind of BMC has no virtual media; Redfish has".into())
}

/// Why a BMC did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PowerError {
    /// No connection, no answer in time, busy, or an answer that makes no sense: another try may help.
    #[error("{0}")]
    Unreachable(String),
    /// The user or the password is wrong.
    #[error("the BMC refused the login of {user}: {why}")]
    LoginRefused { user: String, why: String },
    /// So many logins were refused that there are no more until a person has looked.
    #[error(
        "{refused} logins in a row were refused, so there are no more, lest the BMC locks the account; give the right password with `greenroom device bmc set`, or let it try again with `greenroom device bmc unlock`"
    )]
    Locked { refused: u32 },
    /// The certificate or the address is not what a person said it is.
    #[error("{0}")]
    Untrusted(String),
    /// It was set, and reads back otherwise.
    #[error("the next boot was set to {wanted}, but the BMC reads back {found}")]
    DidNotStick { wanted: String, found: BootOverride },
    /// The BMC cannot do it, or refuses to.
    #[error("{0}")]
    Refused(String),
    /// There is nobody but a person; what they have to do.
    #[error("{0}")]
    Person(String),
}

impl PowerError {
    /// The same request may succeed later without anybody doing anything.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::DidNotStick { .. })
    }
}

/// Limits of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One request and its whole answer.
    pub patience: Duration,
    /// Largest answer that is read, bytes.
    pub answer_bytes: usize,
}

impl Default for Limits {
    /// 20 s: BMCs of servers take up to 10 s for one answer while the machine starts. 1 MiB: the largest
    /// computer system seen in the published mock-ups of DMTF is 30 KiB.
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(20),
            answer_bytes: 1 << 20,
        }
    }
}

/// What a BMC said, made fit for a message: one line, no control characters, at most 200 characters.
pub(crate) fn quoted(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
