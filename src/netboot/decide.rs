//! The one decision of the network boot: who asks, for what, what is known → what is answered, and why.
//!
//! DHCP, TFTP and HTTP all end here. dnsmasq cannot call us for each packet, so [`super::dnsmasq`]
//! writes its configuration from this function's own answers, one per kind of client.
//!
//! The chain of a boot: firmware → (TFTP or HTTP) our iPXE → first script → the device's script. An
//! iPXE that can do HTTP is never given iPXE again: that breaks the loop.

use serde::{Deserialize, Serialize};

use super::client::{Asks, Client, Firmware};
use crate::vocab::boot::BootPhase;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A DHCP DISCOVER or REQUEST.
    Dhcp,
    /// A file by TFTP, as named by the client.
    Tftp(String),
    /// The first script by HTTP, the same for everyone.
    FirstScript,
    /// The device's own script by HTTP.
    Script,
    /// A boot file by HTTP.
    BootFile(String),
}

/// What is known of who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody with this address was here before.
    Unknown,
    Known {
        phase: BootPhase,
        /// Scripts that it was given since its image was delivered.
        boots_since_delivery: u32,
    },
}

/// What of the configuration matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether addresses that nobody knows are let into the ramdisk.
    pub unknown: Unknown,
    /// `http://ADDRESS:PORT`, without a slash at its end.
    pub base_url: String,
    /// A delivered device that asks the network more often than this has a disk that does not boot.
    pub most_boots_after_delivery: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Into the ramdisk, where they may tell what they are made of.
    Discover,
    /// No answer.
    Ignore,
}

/// Our boot files, from Debian's iPXE package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootFile {
    /// Keeps the card's own UNDI driver: works with any card whose ROM speaks PXE.
    Undionly,
    /// The same for UEFI, with the firmware's own network driver.
    Snponly,
}

impl BootFile {
    pub const ALL: [Self; 2] = [Self::Undionly, Self::Snponly];

    pub fn name(self) -> &'static str {
        match self {
            Self::Undionly => "undionly.kpxe",
            Self::Snponly => "snponly.efi",
        }
    }

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.name() == name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Nothing is sent: somebody else may answer, or the firmware goes on.
    Silence,
    /// DHCP: this file by TFTP.
    TftpFile { file: BootFile },
    /// DHCP: this URL, with the vendor class HTTPClient sent back (UEFI 2.10, 24.7).
    HttpFile { url: String },
    /// DHCP: iPXE is to run this script.
    ScriptUrl { url: String },
    /// TFTP or HTTP: the bytes of our boot file.
    Send { file: BootFile },
    /// HTTP: the first script.
    FirstScript,
    /// HTTP: boots the device ramdisk.
    Ramdisk,
    /// HTTP: leaves to the firmware, whose next entry is the device's own disk.
    OwnDisk,
    /// HTTP: waits, then asks again.
    Wait { seconds: u32 },
    /// HTTP: 404.
    NotFound,
}

impl Answer {
    /// In words.
    pub fn says(&self) -> String {
        match self {
            Self::Silence => "no answer".to_owned(),
            Self::TftpFile { file } => format!("file {} by TFTP", file.name()),
            Self::HttpFile { url } => format!("file {url}"),
            Self::ScriptUrl { url } => format!("script {url}"),
            Self::Send { file } => format!("the bytes of {}", file.name()),
            Self::FirstScript => "the first script".to_owned(),
            Self::Ramdisk => "script: boot the device ramdisk".to_owned(),
            Self::OwnDisk => "script: leave to the firmware and its own disk".to_owned(),
            Self::Wait { seconds } => format!("script: wait {seconds} s, then ask again"),
            Self::NotFound => "not found".to_owned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    #[serde(flatten)]
    pub answer: Answer,
    pub reason: String,
}

fn decision(answer: Answer, reason: impl Into<String>) -> Decision {
    Decision {
        answer,
        reason: reason.into(),
    }
}

/// Where the first script is, below the base URL.
pub const FIRST_SCRIPT: &str = "/boot/first.ipxe";
/// Where boot files are, below the base URL.
pub const FILES: &str = "/boot/files/";

/// Decides one request.
pub fn decide(
    client: &Client,
    request: &Request,
    standing: &Standing,
    settings: &Settings,
) -> Decision {
    match request {
        Request::Dhcp => dhcp(client, standing, settings),
        Request::Tftp(name) | Request::BootFile(name) => match BootFile::by_name(name) {
            Some(file) => decision(Answer::Send { file }, "it is one of the boot files"),
            None => decision(
                Answer::NotFound,
                format!(
                    "{:?} is not one of the boot files {}",
                    name.chars().take(60).collect::<String>(),
                    BootFile::ALL.map(BootFile::name).join(", ")
                ),
            ),
        },
        Request::FirstScript => decision(
            Answer::FirstScript,
            "the first script is everyone's: it asks again with the client's address",
        ),
        Request::Script => script(client, standing, settings),
    }
}

fn dhcp(client: &Client, standing: &Standing, settings: &Settings) -> Decision {
    if client.mac.is_some_and(|mac| !mac.is_single()) {
        return decision(Answer::Silence, "its address is not one card's");
    }
    if !client.has_lawful_uuid_option() {
        return decision(
            Answer::Silence,
            "its option 97 is not 17 bytes that begin with 0, as RFC 4578 demands",
        );
    }
    if *standing == Standing::Unknown && settings.unknown == Unknown::Ignore {
        return decision(
            Answer::Silence,
            "nobody knows this address, and boot.unknown is `ignore`",
        );
    }
    if client.is_ipxe() {
        return ipxe(client, settings);
    }
    if client.is_raspberry_pi() {
        return decision(
            Answer::Silence,
            "a Raspberry Pi says BIOS in option 93 and takes none of our boot files",
        );
    }
    let Some(firmware) = Firmware::of_list(&client.arches) else {
        return decision(
            Answer::Silence,
            "without option 93 it is not booting from the network",
        );
    };
    if client.asks() == Asks::Neither {
        return decision(
            Answer::Silence,
            "its vendor class is neither PXEClient nor HTTPClient",
        );
    }
    // Firmware may send a list in which HTTP stands beside TFTP; the vendor class says which it means now.
    let wants_http = firmware.speaks_http() || client.asks() == Asks::Http;
    match (firmware, wants_http) {
        (Firmware::Bios, false) => decision(
            Answer::TftpFile {
                file: BootFile::Undionly,
            },
            "a BIOS gets iPXE on top of its own card's driver, by TFTP",
        ),
        (Firmware::UefiX64, false) => decision(
            Answer::TftpFile {
                file: BootFile::Snponly,
            },
            "UEFI x64 (7, and 9 in old firmware) gets iPXE for UEFI, by TFTP",
        ),
        (Firmware::UefiX64 | Firmware::HttpX64, true) => decision(
            Answer::HttpFile {
                url: format!("{}{FILES}{}", settings.base_url, BootFile::Snponly.name()),
            },
            "UEFI x64 with HTTP boot gets iPXE for UEFI by URL, and its vendor class back",
        ),
        (other, _) => decision(
            Answer::Silence,
            format!("there is no boot file for {}", other.says()),
        ),
    }
}

/// An iPXE that is running already: ours, or one in the card's ROM.
fn ipxe(client: &Client, settings: &Settings) -> Decision {
    let features = client.ipxe.unwrap_or_default();
    if features.http == Some(false) {
        // Our own always has HTTP, so this cannot loop.
        let file = match Firmware::of_list(&client.arches) {
            None | Some(Firmware::Bios) => BootFile::Undionly,
            Some(Firmware::UefiX64) => BootFile::Snponly,
            Some(other) => {
                return decision(
                    Answer::Silence,
                    format!(
                        "its iPXE has no HTTP, and there is none of ours for {}",
                        other.says()
                    ),
                );
            }
        };
        return decision(
            Answer::TftpFile { file },
            "the iPXE in its ROM has no HTTP (option 175.19); it gets ours first",
        );
    }
    decision(
        Answer::ScriptUrl {
            url: format!("{}{FIRST_SCRIPT}", settings.base_url),
        },
        "iPXE runs already: it gets the script, not another iPXE",
    )
}

fn script(client: &Client, standing: &Standing, settings: &Settings) -> Decision {
    if client.mac.is_none_or(|mac| !mac.is_single()) {
        return decision(Answer::NotFound, "a script is for one card's address");
    }
    let (phase, boots) = match standing {
        Standing::Unknown => {
            return match settings.unknown {
                Unknown::Discover => decision(
                    Answer::Ramdisk,
                    "nobody knows this address: it may tell what it is made of, and nothing else",
                ),
                Unknown::Ignore => decision(
                    Answer::OwnDisk,
                    "nobody knows this address, and boot.unknown is `ignore`",
                ),
            };
        }
        Standing::Known {
            phase,
            boots_since_delivery,
        } => (phase, *boots_since_delivery),
    };
    if phase.boots_from_disk() {
        return if boots > settings.most_boots_after_delivery {
            decision(
                Answer::Wait { seconds: 60 },
                format!("it was sent to its own disk {boots} times and came back; it is held"),
            )
        } else {
            decision(
                Answer::OwnDisk,
                format!("its image is on its disk ({})", phase.word()),
            )
        };
    }
    match phase {
        BootPhase::Held { reason } => decision(
            Answer::Wait { seconds: 60 },
            format!("it is held: {reason}"),
        ),
        // Who it is can only be found out in the ramdisk, which tells it nothing.
        BootPhase::Quarantined { reason } => decision(
            Answer::Ramdisk,
            format!("it is in quarantine ({reason}): it may only say who it is"),
        ),
        other => decision(
            Answer::Ramdisk,
            format!("it is {} and works in the ramdisk", other.word()),
        ),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
