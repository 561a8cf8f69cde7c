//! Who may use the API, on the wire: tokens, users, sessions.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;
use crate::vocab::access::Role;

/// A secret that a request brings or an answer shows once. It does not show itself in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Shown(pub String);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(…)")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for, for people.
    pub name: String,
    pub role: Role,
    /// The one client it is bound to; none: the caller's own reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Seconds until it ends; 90 days when not given, ten years at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenView {
    pub id: String,
    pub name: String,
    pub role: Role,
    /// The one client it is bound to; none: all.
    pub client: Option<String>,
    /// `valid`, `expired` or `revoked`.
    pub state: String,
    pub created_by: String,
    pub created_at: Time,
    pub expires_at: Time,
    /// To the minute.
    pub last_used_at: Option<Time>,
}

/// The one time that a token's secret is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedToken {
    #[serde(flatten)]
    pub token: TokenView,
    /// What goes into `Authorization: Bearer …`.
    pub secret: Shown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// Letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// At least 12 characters.
    pub password: Shown,
    pub role: Role,
    /// The one client they are bound to; none: the caller's own reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserView {
    pub name: String,
    pub role: Role,
    /// The one client they are bound to; none: all.
    pub client: Option<String>,
    pub created_by: String,
    pub created_at: Time,
    /// When the password was set.
    pub password_set_at: Time,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// At least 12 characters.
    pub password: Shown,
    /// The present one, which users show who set their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Shown>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub name: String,
    pub password: Shown,
}

/// Makes the first admin, with the code that the daemon printed at its first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    pub code: Shown,
    pub name: String,
    pub password: Shown,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionView {
    /// Such as `user:ada`, `token:ci (…)`, `socket:uid=0`.
    pub who: String,
    pub role: Role,
    /// The one client they are bound to; none: all.
    pub client: Option<String>,
    /// In a browser's session: the value of the header `X-CSRF-Token` that changes need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<Shown>,
}
