//! What a machine says about itself when it boots from the network. Claims, never proof.

use serde::{Deserialize, Serialize};

use crate::vocab::boot::Mac;

/// The firmware kinds that differ in what they can be given, from option 93 (RFC 4578 and IANA's
/// "Processor Architecture Types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    Bios,
    UefiX64,
    UefiIa32,
    UefiArm32,
    UefiArm64,
    HttpX64,
    HttpIa32,
    HttpArm32,
    HttpArm64,
    HttpBios,
    /// Known to IANA, and we have nothing for it; the number says which.
    Foreign(u16),
}

impl Firmware {
    /// 7 and 9 are both x64: RFC 4578 swapped EFI BC and x86-64 by mistake (its errata), and old
    /// firmware says 9. 15–20 ask for HTTP instead of TFTP.
    pub fn of_arch(arch: u16) -> Self {
        match arch {
            0 => Self::Bios,
            6 => Self::UefiIa32,
            7 | 9 => Self::UefiX64,
            10 => Self::UefiArm32,
            11 => Self::UefiArm64,
            15 => Self::HttpIa32,
            16 => Self::HttpX64,
            18 => Self::HttpArm32,
            19 => Self::HttpArm64,
            20 => Self::HttpBios,
            other => Self::Foreign(other),
        }
    }

    /// The first of option 93's list that we know, else the first.
    pub fn of_list(arches: &[u16]) -> Option<Self> {
        let known = arches
            .iter()
            .map(|arch| Self::of_arch(*arch))
            .find(|firmware| !matches!(firmware, Self::Foreign(_)));
        known.or_else(|| arches.first().map(|arch| Self::of_arch(*arch)))
    }

    pub fn speaks_http(self) -> bool {
        matches!(
            self,
            Self::HttpX64 | Self::HttpIa32 | Self::HttpArm32 | Self::HttpArm64 | Self::HttpBios
        )
    }

    pub fn says(self) -> String {
        match self {
            Self::Bios => "BIOS".into(),
            Self::UefiX64 => "UEFI x64".into(),
            Self::UefiIa32 => "UEFI ia32".into(),
            Self::UefiArm32 => "UEFI arm32".into(),
            Self::UefiArm64 => "UEFI arm64".into(),
            Self::HttpX64 => "UEFI x64 with HTTP boot".into(),
            Self::HttpIa32 => "UEFI ia32 with HTTP boot".into(),
            Self::HttpArm32 => "UEFI arm32 with HTTP boot".into(),
            Self::HttpArm64 => "UEFI arm64 with HTTP boot".into(),
            Self::HttpBios => "BIOS with HTTP boot".into(),
            Self::Foreign(arch) => format!("architecture {arch}"),
        }
    }
}

/// What iPXE says it was built with: option 175, encapsulated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpxeFeatures {
    /// 175.19. None where nobody told: a ROM may send the user class alone.
    pub http: Option<bool>,
}

impl IpxeFeatures {
    /// Reads the encapsulated options: tag, length, value; 0 pads, 255 ends. Stops at what is cut off.
    pub fn read(mut bytes: &[u8]) -> Self {
        const HTTP: u8 = 0x13;
        let mut http = false;
        while let [tag, rest @ ..] = bytes {
            match *tag {
                0 => bytes = rest,
                255 => break,
                tag => {
                    let Some((value, after)) = rest
                        .split_first()
                        .and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)))
                    else {
                        break;
                    };
                    http |= tag == HTTP && value.first() == Some(&1);
                    bytes = after;
                }
            }
        }
        Self { http: Some(http) }
    }
}

/// One client as far as it has told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    pub mac: Option<Mac>,
    /// Option 93, in the client's order.
    pub arches: Vec<u16>,
    /// Option 77.
    pub user_class: Option<String>,
    /// Option 60.
    pub vendor_class: Option<String>,
    /// Option 175, where it was sent.
    pub ipxe: Option<IpxeFeatures>,
    /// Option 97 as sent: a type byte and 16 bytes.
    pub uuid_option: Option<Vec<u8>>,
}

/// The vendor class's beginning says which protocol the firmware speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    Pxe,
    Http,
    Neither,
}

impl Client {
    /// The user class alone may be iPXE's doing or ours; option 175 is iPXE's for certain.
    pub fn is_ipxe(&self) -> bool {
        self.ipxe.is_some() || self.user_class.as_deref() == Some("iPXE")
    }

    pub fn asks(&self) -> Asks {
        match self.vendor_class.as_deref() {
            Some(class) if class.starts_with("HTTPClient") => Asks::Http,
            Some(class) if class.starts_with("PXEClient") => Asks::Pxe,
            _ => Asks::Neither,
        }
    }

    /// Boards that lie in option 93: a Raspberry Pi's boot ROM says 0, which is BIOS, and takes
    /// neither; its makers' prefixes tell (IEEE registry, as in Tinkerbell's dhcp.go).
    pub fn is_raspberry_pi(&self) -> bool {
        const PREFIXES: [[u8; 3]; 5] = [
            [0xb8, 0x27, 0xeb],
            [0xdc, 0xa6, 0x32],
            [0xe4, 0x5f, 0x01],
            [0x28, 0xcd, 0xc1],
            [0xd8, 0x3a, 0xdd],
        ];
        self.mac
            .is_some_and(|mac| PREFIXES.iter().any(|prefix| mac.0.starts_with(prefix)))
    }

    /// RFC 4578, 2.3: absent, or 17 bytes of which the first is 0.
    pub fn has_lawful_uuid_option(&self) -> bool {
        match &self.uuid_option {
            None => true,
            Some(bytes) => bytes.len() == 17 && bytes[0] == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_known_architecture_counts() {
        assert_eq!(Firmware::of_list(&[0x4242, 9]), Some(Firmware::UefiX64));
        assert_eq!(Firmware::of_list(&[7, 0]), Some(Firmware::UefiX64));
        assert_eq!(Firmware::of_list(&[8]), Some(Firmware::Foreign(8)));
        assert_eq!(Firmware::of_list(&[]), None);
    }

    #[test]
    fn ipxe_says_that_it_has_http() {
        assert_eq!(
            IpxeFeatures::read(&[0xb1, 1, 2, 0x13, 1, 1, 255]).http,
            Some(true)
        );
        assert_eq!(IpxeFeatures::read(&[0xb1, 1, 2]).http, Some(false));
        assert_eq!(
            IpxeFeatures::read(&[0x13, 9, 1]).http,
            Some(false),
            "cut off"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            prop_assert!(IpxeFeatures::read(&bytes).http.is_some());
        }
    }
}
