//! The kind of BMC that is a person: every request is answered with what they have to do.

use async_trait::async_trait;

use super::{PowerControl, PowerError};
use crate::vocab::power::{BootOverride, BootTarget, Capabilities, Off, PowerState};

pub struct Manual {
    device: String,
    note: String,
}

impl Manual {
    pub fn new(device: &str, note: &str) -> Self {
        Self {
            device: device.to_owned(),
            note: note.to_owned(),
        }
    }

    fn ask<T>(&self, what: &str) -> Result<T, PowerError> {
        Err(PowerError::Person(self.says(what)))
    }

    /// What a person has to do, in one line.
    pub fn says(&self, what: &str) -> String {
        let note = if self.note.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.note)
        };
        format!("a person has to go to {}{note} and {what}", self.device)
    }
}

#[async_trait]
impl PowerControl for Manual {
    async fn capabilities(&mut self) -> Result<Capabilities, PowerError> {
        Ok(Capabilities {
            product: "a person".into(),
            ..Capabilities::default()
        })
    }

    async fn state(&mut self) -> Result<PowerState, PowerError> {
        self.ask("look whether it is on")
    }

    async fn on(&mut self) -> Result<(), PowerError> {
        self.ask("switch it on")
    }

    async fn off(&mut self, how: Off) -> Result<(), PowerError> {
        self.ask(match how {
            Off::Graceful => "shut it down",
            Off::Forced => "switch it off",
        })
    }

    async fn cycle(&mut self) -> Result<(), PowerError> {
        self.ask("switch it off and on")
    }

    async fn boot_once(&mut self, from: BootTarget) -> Result<BootOverride, PowerError> {
        self.ask(match from {
            BootTarget::Pxe | BootTarget::UefiHttp => {
                "choose the network in its boot menu when it starts"
            }
            BootTarget::Cd => "choose the optical drive in its boot menu when it starts",
            BootTarget::Disk => "choose the disk in its boot menu when it starts",
            BootTarget::Usual | BootTarget::Other => "leave its boot order as it is",
        })
    }

    async fn boot_override(&mut self) -> Result<BootOverride, PowerError> {
        self.ask("look at its boot order")
    }

    async fn leave(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_says_who_has_to_do_what_where() {
        let mut manual = Manual::new("box-1", "room 12, second shelf");
        let error = manual.cycle().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "a person has to go to box-1 (room 12, second shelf) and switch it off and on"
        );
        assert!(!error.may_pass());
    }
}
