//! One id type per noun, so that two swapped arguments do not compile.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id, ordered by the time at which it was made (UUID version 7, RFC 9562).
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// One device that is, or will be, provisioned.
    DeviceId
);
uuid_id!(
    /// One try at one stage of one run.
    AttemptId
);
uuid_id!(
    /// One virtual provisioning machine. It is also the UUID of its libvirt domain.
    MachineId
);
uuid_id!(
    /// One installation of Greenroom. Written into the tag of everything that it makes.
    Deployment
);

uuid_id!(
    /// One bearer token of the API. The secret is another thing.
    TokenId
);
uuid_id!(
    /// One place outside that is told what happens.
    WebhookId
);

impl Deployment {
    /// Its last six digits, which are random: enough to keep the installations of one host apart.
    pub fn short(&self) -> String {
        let digits = self.0.simple().to_string();
        digits[digits.len() - 6..].to_owned()
    }
}

/// One execution of a chain for one device. Small numbers, because people type them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
