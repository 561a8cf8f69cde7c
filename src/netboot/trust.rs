//! How far a device is trusted, and why, in words; and the codes that people give it. Pure.
//!
//! ```text
//!  discovery ──► network    boot.approve says `network`: the cable is the proof
//!            ──► code       it gave a code that a person made, once, within its time
//!            ──► operator   a person approved it
//! ```
//!
//! Approval by switch port is not here: nothing tells us the port (our own DHCP server is reached
//! without a relay that would add option 82, and LLDP frames end at the switch). A TPM is told of and
//! proves nothing until its keys are asked.

use super::settings::Approve;
use crate::vocab::Digest;
use crate::vocab::boot::Trust;

/// Letters and digits of a code without its hyphens, as [`crate::access::secret`] makes them.
const DIGITS: usize = 25;
const GROUP: usize = 5;

/// What is stored of a code as somebody typed it. None: that is no code.
///
/// Crockford's base 32: no difference between small and large letters, O is 0, I and L are 1.
pub fn code_hash(typed: &str) -> Option<Digest> {
    if typed.len() > 4 * DIGITS {
        return None;
    }
    let mut digits = String::new();
    for c in typed
        .chars()
        .filter(|c| *c != '-' && !c.is_ascii_whitespace())
    {
        match c.to_ascii_uppercase() {
            'O' => digits.push('0'),
            'I' | 'L' => digits.push('1'),
            'U' => return None,
            c if c.is_ascii_alphanumeric() => digits.push(c),
            _ => return None,
        }
    }
    if digits.len() != DIGITS {
        return None;
    }
    let groups: Vec<&str> = (0..DIGITS)
        .step_by(GROUP)
        .map(|at| &digits[at..at + GROUP])
        .collect();
    Some(Digest::of(groups.join("-").as_bytes()))
}

/// A tier and why a device is there. `known`: None for an address that is nobody's.
pub fn explain(known: Option<Trust>, has_tpm: bool, approve: Approve) -> (String, String) {
    let tier = known.unwrap_or(Trust::Discovery);
    let mut why = match (known, approve) {
        (None, Approve::Network) => "nobody knows this address; boot.approve is `network`, so once it has said what it is made of it may be provisioned".to_owned(),
        (None, Approve::Operator) => "nobody knows this address: it may tell what it is made of, and nothing else".to_owned(),
        (Some(Trust::Discovery), _) => "nobody has approved it: `greenroom device approve`, or a code of `greenroom device code create` given on it, lets it on".to_owned(),
        (Some(Trust::Network), _) => "boot.approve was `network` when it came: whoever is on this network may be provisioned".to_owned(),
        (Some(Trust::Code), _) => "it gave a one-time code that a person made".to_owned(),
        (Some(Trust::Operator), _) => "a person approved it".to_owned(),
    };
    if has_tpm {
        why.push_str("; it says that it has a TPM, which is not asked for proof");
    }
    let may = if tier.may_be_provisioned() {
        "may be provisioned"
    } else {
        "discovery only"
    };
    (format!("{}: {may}", tier.word()), why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::secret::Secret;
    use proptest::prelude::*;

    #[test]
    fn a_code_is_known_however_it_is_typed() {
        let code = Secret::fresh_code();
        let text = code.reveal();
        assert_eq!(code_hash(text), Some(code.digest()));
        assert_eq!(code_hash(&text.to_lowercase()), Some(code.digest()));
        assert_eq!(
            code_hash(&format!(" {} ", text.replace('-', ""))),
            Some(code.digest())
        );
        assert_eq!(
            code_hash(&text.replace('0', "o").replace('1', "L")),
            Some(code.digest())
        );
        assert_eq!(code_hash(&text[1..]), None);
        assert_eq!(code_hash(&format!("{text}0")), None);
    }

    #[test]
    fn each_tier_says_why() {
        for approve in [Approve::Network, Approve::Operator] {
            for known in [
                None,
                Some(Trust::Discovery),
                Some(Trust::Network),
                Some(Trust::Code),
                Some(Trust::Operator),
            ] {
                let (tier, why) = explain(known, true, approve);
                assert!(tier.contains(known.unwrap_or(Trust::Discovery).word()));
                assert!(why.contains("TPM"));
                assert!(!explain(known, false, approve).1.contains("TPM"));
            }
        }
    }

    proptest! {
        #[test]
        fn anything_typed_is_read(typed: String) {
            let _ = code_hash(&typed);
        }

        #[test]
        fn only_twenty_five_digits_are_a_code(typed in "[0-9A-Za-z -]{0,40}") {
            let count = typed.chars().filter(char::is_ascii_alphanumeric).count();
            prop_assert!(code_hash(&typed).is_none() || count == DIGITS);
        }
    }
}
