//! Who is it? A scored comparison of what a device claims with what is known. Pure.
//!
//! No single feature decides: addresses are copied, serials are "To be filled by O.E.M.", disks move.
//! The weights are Digital Rebar's as a start. Ties and contradictions are for people.

use super::wire::Claims;
use crate::vocab::DeviceId;
use crate::vocab::boot::{Fingerprint, Mac};

const UUID: u32 = 40;
const SERIAL: u32 = 40;
const BOARD: u32 = 20;
/// Each, at most twice.
const MAC: u32 = 25;
/// Each, at most twice.
const DISK: u32 = 20;
/// Below this, two devices have nothing in common that counts.
const LEAST: u32 = 25;
/// The best must lead the second by so much.
const MARGIN: u32 = 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    New,
    Same {
        device: DeviceId,
        note: Option<String>,
    },
    /// It could be several.
    Tie {
        devices: Vec<DeviceId>,
    },
    /// It has something of a known device and contradicts the rest.
    Changed {
        device: DeviceId,
        why: String,
    },
}

/// Leaves out what many devices share.
pub fn fingerprint(claims: &Claims) -> Fingerprint {
    let mut macs: Vec<Mac> = claims
        .macs
        .iter()
        .take(64)
        .filter_map(|text| text.parse().ok())
        .filter(Mac::is_single)
        .collect();
    macs.sort();
    macs.dedup();
    let mut disks: Vec<String> = claims
        .disks
        .iter()
        .take(64)
        .filter_map(|text| telling(text))
        .collect();
    disks.sort();
    disks.dedup();
    Fingerprint {
        uuid: claims.uuid.as_deref().and_then(telling),
        serial: claims.serial.as_deref().and_then(telling),
        board_serial: claims.board_serial.as_deref().and_then(telling),
        macs,
        disks,
    }
}

/// Serials and UUIDs that makers leave in, as seen in others' bug reports: zero, all F, one character
/// over and over, placeholders.
fn telling(text: &str) -> Option<String> {
    const JUNK: [&str; 16] = [
        "",
        "na",
        "none",
        "null",
        "unknown",
        "default",
        "defaultstring",
        "notspecified",
        "notapplicable",
        "tobefilledbyoem",
        "systemserialnumber",
        "serialnumber",
        "oem",
        "1234567890",
        "123456789",
        "03000200040005000006000700080009",
    ];
    let text = text.trim();
    if text.chars().count() > 128 || text.chars().any(char::is_control) {
        return None;
    }
    let plain: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let first = plain.chars().next()?;
    let is_one_character = plain.chars().all(|c| c == first);
    if plain.len() < 4 || is_one_character || JUNK.contains(&plain.as_str()) {
        return None;
    }
    Some(text.to_ascii_lowercase())
}

/// Compares with everyone known.
pub fn judge(claimed: &Fingerprint, known: &[(DeviceId, Fingerprint)]) -> Verdict {
    let mut scored: Vec<(u32, &DeviceId, &Fingerprint)> = known
        .iter()
        .map(|(id, fingerprint)| (score(claimed, fingerprint), id, fingerprint))
        .filter(|(score, ..)| *score >= LEAST)
        .collect();
    scored.sort_by_key(|(score, id, _)| (std::cmp::Reverse(*score), **id));
    let Some((best, device, fingerprint)) = scored.first() else {
        return Verdict::New;
    };
    let close: Vec<DeviceId> = scored
        .iter()
        .filter(|(score, ..)| score + MARGIN > *best)
        .map(|(_, id, _)| **id)
        .collect();
    if close.len() > 1 {
        return Verdict::Tie { devices: close };
    }
    let contradictions = contradictions(claimed, fingerprint);
    if contradictions
        .iter()
        .any(|what| *what != "network cards" && *what != "disks")
        || contradictions.len() > 1
    {
        return Verdict::Changed {
            device: **device,
            why: format!(
                "{} differ from what is known of it",
                contradictions.join(" and ")
            ),
        };
    }
    Verdict::Same {
        device: **device,
        note: contradictions
            .first()
            .map(|what| format!("its {what} are others than before")),
    }
}

fn score(a: &Fingerprint, b: &Fingerprint) -> u32 {
    let same = |a: &Option<String>, b: &Option<String>, weight| {
        if a.is_some() && a == b { weight } else { 0 }
    };
    let macs = a
        .macs
        .iter()
        .filter(|mac| b.macs.contains(mac))
        .count()
        .min(2) as u32;
    let disks = a
        .disks
        .iter()
        .filter(|disk| b.disks.contains(disk))
        .count()
        .min(2) as u32;
    same(&a.uuid, &b.uuid, UUID)
        + same(&a.serial, &b.serial, SERIAL)
        + same(&a.board_serial, &b.board_serial, BOARD)
        + macs * MAC
        + disks * DISK
}

/// What both have and nothing of which agrees.
fn contradictions(a: &Fingerprint, b: &Fingerprint) -> Vec<&'static str> {
    let differ =
        |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
    let mut found = Vec::new();
    if differ(&a.uuid, &b.uuid) {
        found.push("system UUIDs");
    }
    if differ(&a.serial, &b.serial) {
        found.push("serial numbers");
    }
    if differ(&a.board_serial, &b.board_serial) {
        found.push("board serial numbers");
    }
    if !a.macs.is_empty() && !b.macs.is_empty() && !a.macs.iter().any(|mac| b.macs.contains(mac)) {
        found.push("network cards");
    }
    if !a.disks.is_empty()
        && !b.disks.is_empty()
        && !a.disks.iter().any(|disk| b.disks.contains(disk))
    {
        found.push("disks");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn box_of(n: u8) -> Fingerprint {
        fingerprint(&Claims {
            uuid: Some(format!("4c4c4544-0000-1000-8000-0000000000{n:02x}")),
            serial: Some(format!("SN-{n:04}")),
            board_serial: None,
            macs: vec![format!("52:54:00:00:00:{n:02x}")],
            disks: vec![format!("disk-{n:04}")],
        })
    }

    fn known() -> (Vec<DeviceId>, Vec<(DeviceId, Fingerprint)>) {
        let ids: Vec<DeviceId> = (0..2).map(|_| DeviceId::fresh()).collect();
        let all = ids.iter().copied().zip([box_of(1), box_of(2)]).collect();
        (ids, all)
    }

    #[test]
    fn the_same_device_is_known_again_with_a_new_card_or_disk() {
        let (ids, all) = known();
        assert_eq!(
            judge(&box_of(1), &all),
            Verdict::Same {
                device: ids[0],
                note: None
            }
        );
        let mut other_card = box_of(1);
        other_card.macs = vec!["52:54:00:aa:aa:aa".parse().unwrap()];
        assert!(
            matches!(judge(&other_card, &all), Verdict::Same { device, note: Some(_) } if device == ids[0])
        );
        assert_eq!(judge(&box_of(3), &all), Verdict::New);
    }

    #[test]
    fn a_borrowed_address_does_not_make_another_device() {
        let (ids, all) = known();
        let mut liar = box_of(9);
        liar.macs = box_of(1).macs;
        assert!(matches!(judge(&liar, &all), Verdict::Changed { device, .. } if device == ids[0]));
    }

    #[test]
    fn what_fits_two_is_nobodys() {
        let (_, all) = known();
        let mut both = box_of(1);
        both.serial = box_of(2).serial;
        both.disks = box_of(2).disks;
        assert!(matches!(judge(&both, &all), Verdict::Tie { devices } if devices.len() == 2));
    }

    #[test]
    fn a_device_that_was_declared_by_its_address_alone_is_found() {
        let id = DeviceId::fresh();
        let declared = Fingerprint {
            macs: box_of(1).macs,
            ..Fingerprint::default()
        };
        assert_eq!(
            judge(&box_of(1), &[(id, declared)]),
            Verdict::Same {
                device: id,
                note: None
            }
        );
    }

    #[test]
    fn makers_placeholders_tell_nothing() {
        for junk in [
            "",
            " ",
            "NA",
            "N/A",
            "None",
            "To be filled by O.E.M.",
            "1234567890",
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "Default string",
            "System Serial Number",
            "xxxxxxxx",
            "0",
            "03000200-0400-0500-0006-000700080009",
        ] {
            assert_eq!(telling(junk), None, "{junk:?}");
        }
        assert_eq!(telling(" S265318X0104 "), Some("s265318x0104".into()));
        assert_eq!(telling("a\u{1b}[31mb1234"), None);
    }

    proptest! {
        #[test]
        fn any_claims_are_judged(uuid: Option<String>, serial: Option<String>, macs: Vec<String>, disks: Vec<String>) {
            let (_, all) = known();
            let claims = Claims { uuid, serial, board_serial: None, macs, disks };
            let _ = judge(&fingerprint(&claims), &all);
        }
    }
}
