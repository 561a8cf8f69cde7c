//! Generated devices with personas: to learn from, and to judge on.

#![allow(dead_code)] // Each test program uses its own part.

use greenroom::learn::classify::{Example, Facts};

use crate::traces;

const WORDS: [&str; 6] = [
    "location",
    "department",
    "role",
    "seniority",
    "device_class",
    "os",
];
const NUMBERS: [&str; 4] = ["cpu_cores", "ram_gb", "has_gpu", "remote"];

/// Training and test examples.
pub fn examples() -> (Vec<Example>, Vec<Example>) {
    let text = traces::text("personas_synth/personas.csv");
    let heading: Vec<&str> = text.lines().next().expect("a heading").split(',').collect();
    let at = |name: &str| {
        heading
            .iter()
            .position(|column| *column == name)
            .expect("a column")
    };
    let mut parts = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let row: Vec<&str> = line.split(',').collect();
        let facts = Facts {
            words: WORDS
                .map(|name| (name.to_owned(), row[at(name)].to_owned()))
                .into(),
            numbers: NUMBERS
                .map(|name| (name.to_owned(), row[at(name)].parse().unwrap_or(f64::NAN)))
                .into(),
        };
        let persona = row[at("persona")].to_owned();
        let example = Example {
            facts,
            persona,
            corrected: false,
        };
        if row[at("split")] == "train" {
            parts.0.push(example)
        } else {
            parts.1.push(example)
        }
    }
    parts
}
