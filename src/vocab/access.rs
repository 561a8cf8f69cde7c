//! Who may do how much, and for whom.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a caller may do; each role may do what those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees.
    Viewer,
    /// Starts, stops and repairs runs; adds devices.
    Operator,
    /// Writes what is run: chains, personas.
    Author,
    /// Gives access to others.
    Admin,
}

impl Role {
    pub const ALL: [Role; 4] = [Self::Viewer, Self::Operator, Self::Author, Self::Admin];

    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Author => "author",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a role; these are: viewer, operator, author, admin")]
pub struct NotARole(String);

impl FromStr for Role {
    type Err = NotARole;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.word() == text)
            .ok_or_else(|| NotARole(text.chars().take(40).collect()))
    }
}

/// Whose devices and runs a caller has to do with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    Everyone,
    /// One client's only: others' do not exist for the caller.
    Client(String),
}

impl Scope {
    pub fn of(client: Option<String>) -> Self {
        client.map_or(Self::Everyone, Self::Client)
    }

    /// The one client; none: all of them.
    pub fn client(&self) -> Option<&str> {
        match self {
            Self::Everyone => None,
            Self::Client(client) => Some(client),
        }
    }

    pub fn covers(&self, client: &str) -> bool {
        self.client().is_none_or(|own| own == client)
    }

    /// Nothing is in `other` that is not in `self`.
    pub fn contains(&self, other: &Scope) -> bool {
        *self == Self::Everyone || self == other
    }
}
