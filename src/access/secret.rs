//! Secrets that the program makes: they are shown once, and stored as digests.
//!
//! A secret has 256 random bits, so a plain SHA-256 is enough to store (OWASP ASVS 5.0, 6.5.2, allows
//! it from 112 bits); a slow hash is for what people choose, which is [`super::password`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::vocab::Digest;

/// What bearer tokens begin with, so that scanners of leaked secrets can find them.
pub const TOKEN_PREFIX: &str = "grn_";

/// Cannot be shown by accident: neither `Debug` nor `Display` tells it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn of(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A bearer token: `grn_` and 43 characters.
    pub fn fresh_token() -> Self {
        Self(format!(
            "{TOKEN_PREFIX}{}",
            URL_SAFE_NO_PAD.encode(random())
        ))
    }

    /// A session's cookie: 43 characters.
    pub fn fresh_cookie() -> Self {
        Self(URL_SAFE_NO_PAD.encode(random()))
    }

    /// A code that somebody types once: five groups of five letters and digits that are not mistaken
    /// for each other, 124 bits.
    pub fn fresh_code() -> Self {
        // Crockford's base 32, of which 25 digits hold 125 bits.
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let digits: Vec<u8> = random()[..25]
            .iter()
            .map(|byte| ALPHABET[usize::from(byte % 32)])
            .collect();
        let groups: Vec<&str> = digits
            .chunks(5)
            .map(|group| std::str::from_utf8(group).unwrap_or_default())
            .collect();
        Self(groups.join("-"))
    }

    /// The one way to see it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored, and looked up by. Lookups by a digest need no comparison in constant time:
    /// who does not know the secret cannot choose the digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// The token against cross-site requests that belongs to this session's cookie. A page shows it
    /// to its own scripts and forms, and other sites cannot read it. Derived, so nothing is stored.
    pub fn csrf(&self) -> String {
        Digest::of(format!("greenroom csrf 1\n{}", self.0).as_bytes()).to_string()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// 256 bits of the thread's generator, which is a cryptographic one seeded by the system.
fn random() -> [u8; 32] {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_do_not_show() {
        let (one, two) = (Secret::fresh_token(), Secret::fresh_token());
        assert_ne!(one, two);
        assert_eq!(one.reveal().len(), 47);
        assert!(!format!("{one:?}").contains(&one.reveal()[4..10]));
        assert_ne!(one.csrf(), two.csrf());
        assert_ne!(
            one.csrf(),
            one.digest().to_string(),
            "what is stored is not what a page shows"
        );
        let code = Secret::fresh_code();
        assert_eq!(code.reveal().len(), 29);
        assert!(!code.reveal().contains(['I', 'L', 'O', 'U']));
    }
}
