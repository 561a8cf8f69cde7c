//! Passwords: argon2id, stored as PHC strings.
//!
//! Parameters are OWASP's second recommendation (Password Storage Cheat Sheet: 19 MiB, 2 passes,
//! 1 lane), which are the crate's defaults. One verification takes about 20 ms in a release build:
//! callers bound how many run at once.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

use super::secret::Secret;

/// Fewest characters (NIST SP 800-63B-4 asks for 15 where a password stands alone, ASVS for 8; there is
/// no second factor here yet).
pub const MIN_CHARS: usize = 12;
/// Most bytes: more would only make hashing slow.
pub const MAX_BYTES: usize = 256;

/// What is wrong with a password that somebody wants to have.
pub fn fault(name: &str, password: &Secret) -> Option<String> {
    let text = password.reveal();
    if text.chars().count() < MIN_CHARS {
        return Some(format!("a password has at least {MIN_CHARS} characters"));
    }
    if text.len() > MAX_BYTES {
        return Some(format!("a password has at most {MAX_BYTES} bytes"));
    }
    let lower = text.to_lowercase();
    let name = name.to_lowercase();
    if lower.replace(&name, "").chars().count() < MIN_CHARS / 2 || lower.contains("greenroom") {
        return Some("the password is made of the user's or the program's name".into());
    }
    let mut different: Vec<char> = text.chars().collect();
    different.sort_unstable();
    different.dedup();
    (different.len() < 5).then(|| "the password repeats fewer than five characters".into())
}

/// The PHC string to store. Slow on purpose.
pub fn hash(password: &Secret) -> Result<String, String> {
    let salt: [u8; 16] = rand::random();
    Argon2::default()
        .hash_password_with_salt(password.reveal().as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| error.to_string())
}

/// Slow on purpose, and as slow for a user who does not exist (`stored` none).
pub fn verify(password: &Secret, stored: Option<&str>) -> bool {
    // Of a random password: nothing fits it.
    const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdA$F1C5xSJgTaXFPPdnGXmGmhGkK3zwSdQOxQ+CJxvJ0tI";
    let parsed = PasswordHash::new(stored.unwrap_or(NOBODY));
    let fits = parsed.is_ok_and(|parsed| {
        Argon2::default()
            .verify_password(password.reveal().as_bytes(), &parsed)
            .is_ok()
    });
    fits && stored.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let good = Secret::of("correct horse battery");
        let stored = hash(&good).unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{stored}"
        );
        assert!(verify(&good, Some(&stored)));
        assert!(!verify(&Secret::of("correct horse batterz"), Some(&stored)));
        assert!(!verify(&good, None));
        assert!(!verify(&good, Some("not a hash")));
        assert_ne!(stored, hash(&good).unwrap(), "salted");
    }

    #[test]
    fn poor_passwords_are_refused_with_a_reason() {
        for poor in [
            "short",
            "aaaaaaaaaaaaaaaa",
            "adaadaadaada1",
            "Greenroom-2026!",
        ] {
            assert!(fault("ada", &Secret::of(poor)).is_some(), "{poor}");
        }
        assert!(fault("ada", &Secret::of("x".repeat(300))).is_some());
        assert_eq!(fault("ada", &Secret::of("correct horse battery")), None);
    }
}
