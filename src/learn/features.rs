//! One stage's work as numbers: from what is known before it begins, and from what like work used.
//!
//! Typed and versioned: a model keeps the version that it was trained with and is not asked with another.
//! To add a feature, add it at the end of [`STATIC`] and of [`Case::numbers`] and raise [`VERSION`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::resources::history::{History, WIDTH};

/// Raised whenever [`row`] or [`keys`] change.
pub const VERSION: u32 = 1;

/// What is known of a stage before its machine is made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub chain: String,
    pub stage: String,
    /// A stage kind's word.
    pub kind: String,
    pub image: String,
    /// An engine's word.
    pub engine: String,
    /// Name of the persona that the device is to become.
    pub persona: Option<String>,
    pub client: String,
    /// The device's id.
    pub device: String,
    pub network: bool,
    pub handoff_disk: bool,
    pub hardware: Hardware,
}

/// What the device is made of, as far as its facts say. NaN and empty: not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    #[serde(with = "or_null")]
    pub cores: f64,
    #[serde(with = "or_null")]
    pub memory_mib: f64,
    #[serde(with = "or_null")]
    pub disks: f64,
    #[serde(with = "or_null")]
    pub disk_gib: f64,
    #[serde(with = "or_null")]
    pub nics: f64,
    #[serde(with = "or_null")]
    pub pci_devices: f64,
    /// Vendor and product, or the architecture.
    pub product: String,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            cores: f64::NAN,
            memory_mib: f64::NAN,
            disks: f64::NAN,
            disk_gib: f64::NAN,
            nics: f64::NAN,
            pci_devices: f64::NAN,
            product: String::new(),
        }
    }
}

/// JSON has no NaN.
mod or_null {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        match value.is_finite() {
            true => to.serialize_some(value),
            false => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
    }
}

/// Largest number that is believed of a device: beyond, it is not known.
const ABSURD: f64 = 1e9;

impl Hardware {
    /// From a device's facts: its inventory under `hardware`, and what people wrote beside it.
    pub fn of(facts: &Map<String, Value>) -> Self {
        let inventory = facts.get("hardware").unwrap_or(&Value::Null);
        let number = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| {
                    inventory[*name]
                        .as_f64()
                        .or_else(|| facts.get(*name)?.as_f64())
                })
                .filter(|value| (0.0..=ABSURD).contains(value))
                .unwrap_or(f64::NAN)
        };
        let list = |name: &str| inventory[name].as_array();
        let length = |name: &str| list(name).map_or(f64::NAN, |items| items.len() as f64);
        let bytes = list("disks").map(|disks| {
            disks
                .iter()
                .filter_map(|disk| disk["size_bytes"].as_f64())
                .sum::<f64>()
        });
        let text = |name: &str| inventory[name].as_str().unwrap_or_default();
        let product = [text("vendor"), text("product")].join(" ");
        Self {
            cores: number(&["cpu_cores", "cores", "vcpus"]),
            memory_mib: number(&["memory_mib"]),
            disks: length("disks"),
            disk_gib: bytes
                .map_or_else(|| number(&["disk_gib"]), |bytes| bytes / f64::from(1 << 30)),
            nics: length("nics"),
            pci_devices: number(&["pci_devices"]),
            product: match product.trim() {
                "" => text("arch").to_owned(),
                product => product.to_owned(),
            },
        }
    }

    /// Devices of one class are about alike.
    fn class(&self) -> String {
        let step = |value: f64| match value.is_finite() {
            true => format!("{:.0}", (1.0 + value).log2()),
            false => "?".to_owned(),
        };
        format!(
            "{} {} {} {}",
            self.product,
            step(self.cores),
            step(self.memory_mib),
            step(self.disk_gib)
        )
    }
}

/// Names of the features that do not come from history.
pub const STATIC: [&str; 16] = [
    "stage kind",
    "engine",
    "network",
    "handoff disk",
    "cores",
    "memory",
    "disks",
    "disk size",
    "network cards",
    "PCI devices",
    "hour",
    "weekday",
    "chain",
    "stage",
    "image",
    "persona",
];

/// What the history of each key is told as.
const OF_HISTORY: [&str; WIDTH] = [
    "observations",
    "mean",
    "least",
    "most",
    "last",
    "spread",
    "median",
    "90 %",
    "last two",
];

/// The keys under which like work is found, fine to coarse.
pub const KEYS: [&str; 4] = [
    "this stage on this device",
    "this stage on such devices",
    "this stage",
    "such stages",
];

/// The key of [`keys`] that stands for the stage whatever its device.
pub const STAGE_KEY: usize = 2;

impl Case {
    fn numbers(&self, at_s: f64) -> [f64; STATIC.len()] {
        let flag = |yes: bool| f64::from(u8::from(yes));
        let word = |text: &str| (hash(&[text]) % 97) as f64;
        let hardware = &self.hardware;
        let log = |value: f64| (1.0 + value).log2();
        [
            word(&self.kind),
            word(&self.engine),
            flag(self.network),
            flag(self.handoff_disk),
            log(hardware.cores),
            log(hardware.memory_mib),
            hardware.disks,
            log(hardware.disk_gib),
            hardware.nics,
            hardware.pci_devices,
            (at_s / 3600.0).floor().rem_euclid(24.0),
            (at_s / 86_400.0).floor().rem_euclid(7.0),
            word(&self.chain),
            word(&self.stage),
            word(&self.image),
            self.persona.as_deref().map_or(f64::NAN, word),
        ]
    }
}

/// Keys of a case; see [`KEYS`].
pub fn keys(case: &Case) -> [u64; KEYS.len()] {
    let persona = case.persona.as_deref().unwrap_or("");
    [
        hash(&[&case.chain, &case.stage, &case.device]),
        hash(&[&case.chain, &case.stage, persona, &case.hardware.class()]),
        hash(&[&case.chain, &case.stage]),
        hash(&[&case.image, &case.kind]),
    ]
}

/// The features of a case that begins at `at_s` (Unix seconds); history is that of one resource, as
/// logarithms. As wide as [`names`].
pub fn row(case: &Case, history: &mut History, at_s: f64) -> Vec<f64> {
    let mut row = history.features(&keys(case), at_s);
    row.extend(case.numbers(at_s));
    row
}

/// What each feature is, for people.
pub fn names() -> Vec<String> {
    KEYS.iter()
        .flat_map(|key| {
            OF_HISTORY
                .iter()
                .map(move |what| format!("{what} of {key}"))
        })
        .chain(STATIC.iter().map(|name| (*name).to_owned()))
        .collect()
}

/// FNV-1a of the words, with a separator that is in none of them.
fn hash(words: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for word in words {
        for byte in word.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn an_inventory_becomes_numbers_and_what_is_absurd_is_not_known() {
        let hardware = Hardware::of(&facts(json!({
            "memory_mib": 7,
            "hardware": {
                "cpu_cores": 8, "memory_mib": 16384, "arch": "x86_64", "vendor": "Acme", "product": "Box",
                "disks": [{ "size_bytes": 1_073_741_824u64 }, {}], "nics": [{}], "pci_devices": 1e300
            }
        })));
        assert_eq!(
            (hardware.cores, hardware.memory_mib, hardware.disks),
            (8.0, 16384.0, 2.0)
        );
        assert_eq!(
            (hardware.disk_gib, hardware.product.as_str()),
            (1.0, "Acme Box")
        );
        assert!(hardware.pci_devices.is_nan());
        let unknown = Hardware::of(&Map::new());
        assert!(unknown.cores.is_nan() && unknown.product.is_empty());
        let stored = serde_json::to_string(&unknown).unwrap();
        assert!(
            serde_json::from_str::<Hardware>(&stored)
                .unwrap()
                .cores
                .is_nan()
        );
        let flat = Hardware::of(&facts(json!({ "memory_mib": 2048, "cores": -3 })));
        assert!(flat.memory_mib == 2048.0 && flat.cores.is_nan());
    }

    #[test]
    fn a_row_has_a_name_for_each_number_and_likeness_is_by_key() {
        let mut case = Case {
            chain: "c".into(),
            stage: "s".into(),
            device: "1".into(),
            ..Case::default()
        };
        let mut history = History::default();
        history.ended(&keys(&case), 3.0, 10.0);
        assert_eq!(row(&case, &mut history, 5.0)[STAGE_KEY * WIDTH], 0.0);
        let row_of_it = row(&case, &mut history, 20.0);
        assert_eq!(row_of_it.len(), names().len());
        assert_eq!(row_of_it[0], 1.0);
        case.device = "2".into();
        let row_of_another = row(&case, &mut history, 20.0);
        assert_eq!(
            (row_of_another[0], row_of_another[STAGE_KEY * WIDTH]),
            (0.0, 1.0)
        );
        // "ab" + "c" is another key than "a" + "bc".
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
    }
}
