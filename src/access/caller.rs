//! Somebody who has shown who they are.

use std::net::IpAddr;

use crate::vocab::access::{Role, Scope};
use crate::vocab::{Digest, TokenId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub who: Who,
    pub role: Role,
    pub scope: Scope,
}

/// How they showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Opened the daemon's Unix socket, which only its owner and its group may.
    Socket { uid: u32 },
    /// Sent a bearer token.
    Token { id: TokenId, name: String },
    /// Logged in with a password; the session is named by the digest of its cookie.
    User { name: String, session: Digest },
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Socket { uid: u32 },
    Network(IpAddr),
}

impl Caller {
    /// Whoever may open the socket may do everything.
    pub fn of_socket(uid: u32) -> Self {
        Self {
            who: Who::Socket { uid },
            role: Role::Admin,
            scope: Scope::Everyone,
        }
    }

    /// One name over all kinds of callers, as the audit log has it.
    pub fn name(&self) -> String {
        match &self.who {
            Who::Socket { uid } => format!("socket:uid={uid}"),
            Who::Token { id, name } => format!("token:{name} ({id})"),
            Who::User { name, .. } => format!("user:{name}"),
        }
    }

    /// Names the same caller from request to request, however often they log in.
    pub fn key(&self) -> String {
        match &self.who {
            Who::Socket { uid } => format!("socket:{uid}"),
            Who::Token { id, .. } => format!("token:{id}"),
            Who::User { name, .. } => format!("user:{name}"),
        }
    }

    /// Whether this caller may give `role` over `scope` to somebody else: nobody gives what they
    /// have not.
    pub fn may_grant(&self, role: Role, scope: &Scope) -> bool {
        role <= self.role && self.scope.contains(scope)
    }
}

impl Origin {
    /// What shares one allowance: an IPv4 address, or the /64 of IPv6 that one subscriber has all to
    /// themselves (RFC 6177).
    pub fn neighbourhood(&self) -> String {
        match self {
            Self::Network(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
            other => other.to_string(),
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket { uid } => write!(f, "socket uid {uid}"),
            Self::Network(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscribers_many_addresses_are_one_neighbourhood() {
        let of = |text: &str| Origin::Network(text.parse().unwrap()).neighbourhood();
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
