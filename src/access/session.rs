//! When a browser's session ends, and what its cookie looks like.

use std::time::Duration;

use super::secret::Secret;
use crate::vocab::Timestamp;

/// The prefix makes browsers refuse the cookie unless it is secure, for the whole site, and set by this
/// very host (draft-ietf-httpbis-rfc6265bis, 4.1.3.2).
pub const COOKIE: &str = "__Host-greenroom";
/// Header that unsafe requests of a session carry.
pub const CSRF_HEADER: &str = "x-csrf-token";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A session that nobody uses ends after so long.
    pub idle: Duration,
    /// Every session ends so long after its login.
    pub absolute: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30 * 60),
            absolute: Duration::from_secs(12 * 3600),
        }
    }
}

impl Limits {
    pub fn is_over(&self, created_at: Timestamp, seen_at: Timestamp, now: Timestamp) -> bool {
        now.since(created_at) >= self.absolute || now.since(seen_at) >= self.idle
    }

    /// Whether it is time to store that a session is in use: not for each request.
    pub fn is_worth_noting(&self, seen_at: Timestamp, now: Timestamp) -> bool {
        now.since(seen_at) >= self.idle / 20
    }
}

/// The header that gives a browser its session.
pub fn set_cookie(secret: &Secret) -> String {
    format!(
        "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict",
        secret.reveal()
    )
}

/// The header that takes it away.
pub fn clear_cookie() -> String {
    format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// The session in a `Cookie` header.
pub fn read_cookie(header: &str) -> Option<Secret> {
    header.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE && !value.is_empty()).then(|| Secret::of(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_idle_or_old() {
        let limits = Limits::default();
        let at = |minutes: i64| Timestamp(minutes * 60_000_000);
        assert!(!limits.is_over(at(0), at(0), at(29)));
        assert!(limits.is_over(at(0), at(0), at(30)));
        assert!(!limits.is_over(at(0), at(700), at(719)));
        assert!(limits.is_over(at(0), at(719), at(720)), "however busy");
        assert!(!limits.is_worth_noting(at(0), at(1)));
        assert!(limits.is_worth_noting(at(0), at(2)));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let header = format!("a=b; {COOKIE}=xyz; c=d");
        assert_eq!(read_cookie(&header).unwrap().reveal(), "xyz");
        assert!(read_cookie("greenroom=xyz").is_none());
        assert!(read_cookie(&format!("{COOKIE}=")).is_none());
    }
}
