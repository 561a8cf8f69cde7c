//! The measurements: `vagrant/lab bench [NAME…] [--json FILE]`.
//!
//! Each figure has a name that stays, so that runs can be compared. Absolute times move by a factor
//! of two with what else the machine does; where that matters a figure is a ratio of two things
//! measured in the same run.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "shared with the tests of the API")]
#[path = "../api/ground.rs"]
mod ground;

mod api;
mod boot;
mod chain5;
#[allow(dead_code, reason = "shared with the tests of the network boot")]
#[path = "../support/field.rs"]
mod field;
mod fork;
mod idle;
mod learn;
mod onboard;
mod pages;
#[path = "../support/personas.rs"]
mod personas;
#[path = "../libvirt/raw.rs"]
mod raw;
mod simulated;
#[allow(dead_code, reason = "shared with the tests of the network boot")]
#[path = "../netboot/station.rs"]
mod station;
#[path = "../support/traces.rs"]
mod traces;
#[path = "../support/weeks.rs"]
mod weeks;

use serde::Serialize;

/// One measured figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub figure: String,
    pub value: f64,
    pub unit: &'static str,
    /// What is to be reached, as text; empty where there is no goal.
    pub goal: String,
    /// Repetitions behind the value.
    pub n: usize,
}

pub fn figure(name: &str, value: f64, unit: &'static str, goal: &str, n: usize) -> Figure {
    // At once: a group that is cut short has told what it found.
    eprintln!("  {name} {value:.3} {unit}");
    Figure {
        figure: name.to_owned(),
        value,
        unit,
        goal: goal.to_owned(),
        n,
    }
}

/// The middle of some measurements.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    greenroom::runs::pinned::quantile(&values, 0.5)
}

/// The value below which the share `q` of some measurements lies.
pub fn percentile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    greenroom::runs::pinned::quantile(&values, q)
}

/// A group of figures that are measured together.
struct Group {
    name: &'static str,
    about: &'static str,
    run: fn() -> Vec<Figure>,
}

const GROUPS: &[Group] = &[
    Group {
        name: "simulated",
        about: "cost of Greenroom itself, on the simulated host",
        run: simulated::measure,
    },
    Group {
        name: "api",
        about: "latency of reads over TLS at 1,000 requests per second",
        run: api::measure,
    },
    Group {
        name: "boot",
        about: "what devices are to boot, at 1,000 requests per second, beside a bare handler",
        run: boot::measure,
    },
    Group {
        name: "pages",
        about: "the web interface with 10,000 devices and 1,000 runs",
        run: pages::measure,
    },
    Group {
        name: "chain",
        about: "a chain of five stages on real machines, by phase",
        run: chain5::measure,
    },
    Group {
        name: "fork",
        about: "forks and hot claims, beside QEMU alone and cold boots",
        run: fork::measure,
    },
    Group {
        name: "alive",
        about: "how many hot shells are alive at once, and what each more costs",
        run: fork::measure_alive,
    },
    Group {
        name: "onboard",
        about: "blank machines from power-on to reporting as their persona, one and DEVICES=8 at once",
        run: onboard::measure,
    },
    Group {
        name: "idle",
        about: "an idle daemon",
        run: idle::measure,
    },
    Group {
        name: "learn",
        about: "forecasts, pool sizes, resources and personas on recorded traces",
        run: learn::measure,
    },
];

fn main() {
    let mut names = Vec::new();
    let mut json = None;
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => {
                json = Some(
                    arguments
                        .next()
                        .unwrap_or_else(|| usage("--json needs a file")),
                )
            }
            "--help" | "-h" => usage(""),
            name if GROUPS.iter().any(|group| group.name == name) => names.push(name.to_owned()),
            other => usage(&format!("there is no group {other:?}")),
        }
    }
    let mut figures = Vec::new();
    for group in GROUPS
        .iter()
        .filter(|group| names.is_empty() || names.iter().any(|name| name == group.name))
    {
        eprintln!("measuring {}: {}", group.name, group.about);
        figures.extend((group.run)());
    }
    print!("{}", table(&figures));
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&figures).expect("plain data");
        if let Err(error) = std::fs::write(&path, text + "\n") {
            eprintln!("{path}: {error}");
            std::process::exit(1);
        }
    }
}

fn usage(fault: &str) -> ! {
    if !fault.is_empty() {
        eprintln!("{fault}");
    }
    eprintln!("Usage: vagrant/lab bench [GROUP…] [--json FILE]\n\nGroups:");
    for group in GROUPS {
        eprintln!("  {:12} {}", group.name, group.about);
    }
    std::process::exit(if fault.is_empty() { 0 } else { 2 });
}

fn table(figures: &[Figure]) -> String {
    let width = figures
        .iter()
        .map(|figure| figure.figure.len())
        .max()
        .unwrap_or(6)
        .max(6);
    let mut text = format!(
        "{:width$}  {:>12}  {:8}  {:>5}  goal\n",
        "figure", "value", "unit", "n"
    );
    for figure in figures {
        text.push_str(&format!(
            "{:width$}  {:>12.3}  {:8}  {:>5}  {}\n",
            figure.figure, figure.value, figure.unit, figure.n, figure.goal
        ));
    }
    text
}
