//! Recorded traces for the learning core, where they are at hand: the folder named by
//! GREENROOM_TEST_DATA, or `shared/data` beside the repository.

#![allow(dead_code)] // Each test program uses its own part.

use std::path::{Path, PathBuf};

use greenroom::learn::forecast::Shape;
use greenroom::learn::psim::Trace;
use greenroom::learn::random::Seeded;

pub const ABSENT: &str =
    "skipped: there are no recorded traces; name their folder in GREENROOM_TEST_DATA";

pub fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let named = std::env::var_os("GREENROOM_TEST_DATA").map(PathBuf::from);
    named
        .into_iter()
        .chain([beside])
        .find(|folder| folder.join("surf_arrivals").is_dir())
}

/// A file of the traces; one that ends in `.gz` is unpacked.
pub fn text(path: &str) -> String {
    let file = folder().expect("traces are at hand").join(path);
    if path.ends_with(".gz") {
        let output = std::process::Command::new("gzip")
            .arg("-dc")
            .arg(&file)
            .output()
            .expect("gzip runs");
        assert!(output.status.success(), "{}: {output:?}", file.display());
        return String::from_utf8(output.stdout).expect("text");
    }
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Rows of a file without its heading.
pub fn rows(path: &str) -> Vec<Vec<String>> {
    text(path)
        .lines()
        .skip(1)
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect()
}

/// One column of numbers.
pub fn column(path: &str, at: usize) -> Vec<f64> {
    rows(path)
        .iter()
        .map(|row| row[at].parse().expect("a number"))
        .collect()
}

/// A history and what came after it.
pub struct Origin {
    pub history: Vec<f64>,
    pub actual: Vec<f64>,
    pub shape: Shape,
}

const HOURS: Shape = Shape { day: 24, week: 168 };
const WORKING: Shape = Shape { day: 13, week: 65 };

/// A demand series and how many steps of history a forecast gets.
pub fn demand(name: &str) -> (Vec<f64>, usize, Shape) {
    match name {
        "surf" => {
            let mut hours = column("surf_arrivals/hourly_counts.csv", 1);
            hours.truncate(hours.len() / 24 * 24);
            (hours, 1008, HOURS)
        }
        "calls" => (column("bank_calls/calls_65min.csv", 3), 1040, WORKING),
        "taxi" => {
            let halves = column("nab/realKnownCause/nyc_taxi.csv", 1);
            (
                halves
                    .chunks_exact(2)
                    .map(|pair| pair[0] + pair[1])
                    .take(24 * 200)
                    .collect(),
                1008,
                HOURS,
            )
        }
        other => panic!("there is no demand series {other}"),
    }
}

/// One-day-ahead origins `days_back` days before a series' end.
pub fn origins(name: &str, days_back: impl Iterator<Item = usize>) -> Vec<Origin> {
    let (values, steps, shape) = demand(name);
    days_back
        .map(|days| {
            let origin = values.len() - days * shape.day;
            Origin {
                history: values[origin.saturating_sub(steps)..origin].to_vec(),
                actual: values[origin..origin + shape.day].to_vec(),
                shape,
            }
        })
        .collect()
}

/// The 30 hourly series of M4 with their official last 48 hours.
pub fn m4() -> Vec<Origin> {
    let mut series: std::collections::BTreeMap<String, (Vec<f64>, Vec<f64>)> = Default::default();
    for row in rows("m4_hourly30/m4_hourly30.csv") {
        let (history, actual) = series.entry(row[0].clone()).or_default();
        let value = row[3].parse().expect("a number");
        if row[1] == "train" {
            history.push(value)
        } else {
            actual.push(value)
        }
    }
    series
        .into_values()
        .map(|(history, actual)| Origin {
            history,
            actual,
            shape: HOURS,
        })
        .collect()
}

/// Job submissions of a cluster, from the Monday before the first.
pub fn surf() -> Trace {
    Trace::read(&text("surf_arrivals/arrivals.csv")).expect("a trace")
}

/// Calls to a bank, one of twenty, spread evenly over their five minutes, held for a lognormal time
/// with median 20 minutes. A draw of our own from the definition, by a fixed seed.
pub fn calls() -> Trace {
    let mut random = Seeded::new(11);
    let mut requests = Vec::new();
    for row in rows("bank_calls/calls_5min.csv") {
        let number = |at: usize| row[at].parse::<f64>().expect("a number");
        let (day, slot) = (number(0), number(2));
        let days = (day / 5.0).floor() * 7.0 + day % 5.0;
        let begin = days * 86_400.0 + 25_200.0 + slot * 300.0;
        for _ in 0..number(3) as usize {
            if random.unit() < 0.05 {
                let hold = (1200f64.ln() + random.normal()).exp().min(28_800.0);
                requests.push((begin + 300.0 * random.unit(), hold));
            }
        }
    }
    requests.sort_by(|a, b| a.0.total_cmp(&b.0));
    Trace {
        at_s: requests.iter().map(|request| request.0).collect(),
        hold_s: requests.iter().map(|request| request.1).collect(),
    }
}

/// Ticks before the judged span of a trace: seven weeks, and for the cluster, whose first Monday comes
/// four days after its first request, counted from there.
pub fn training_weeks(name: &str) -> usize {
    if name == "surf" { 8 } else { 7 }
}
