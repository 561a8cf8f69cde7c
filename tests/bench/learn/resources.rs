//! Sizes and run times, on the daily use of 500 machines and on a log of jobs.
//!
//! Machines: the next day's need (CPU: 95 % quantile of the day; memory: the day's highest) is limited by
//! a share of what was provisioned, judged in September on what was learned before. `alloc` is the sum
//! of limits ÷ the sum provisioned, `under` the share of days that needed more, `deep` those that needed
//! more than 1.25 times the limit. What a retry costs is chosen on the four weeks before September, each
//! judged with a model of what came before it: the cheapest at which `under` and `deep`, one standard
//! error of the weeks' mean above it, are what is asked for.

use std::collections::HashMap;

use greenroom::learn::resources::history::History;
use greenroom::learn::resources::model::{HEADS, Model, PLAN, RetryCost};
use greenroom::learn::robust;
use greenroom::learn::trees::Table;

use crate::traces;
use crate::{Figure, figure};

pub fn measure() -> Vec<Figure> {
    let days = Days::read();
    let mut figures = Vec::new();
    let cpu = Resource {
        name: "cpu",
        need: 7,
        cap: 2,
        other: 3,
        mean: 4,
        own: [4, 5, 6, 7, 8],
    };
    let memory = Resource {
        name: "mem",
        need: 13,
        cap: 3,
        other: 2,
        mean: 9,
        own: [9, 10, 11, 12, 13],
    };
    figures.extend(sizes(
        &days,
        &memory,
        Asked {
            under: 0.053,
            deep: 0.026,
            alloc: 0.387,
        },
    ));
    figures.extend(sizes(
        &days,
        &cpu,
        Asked {
            under: 0.103,
            deep: 0.032,
            alloc: 0.299,
        },
    ));
    figures.extend(run_times());
    figures
}

/// Days of machines, by machine and date. Columns: samples, cores, CPU and memory provisioned, CPU mean,
/// 50, 90, 95 %, highest, memory the same, disk mean and highest, network mean and highest.
struct Days {
    rows: Vec<(u32, String, Vec<f64>)>,
    /// Where each machine's days begin.
    first: HashMap<u32, usize>,
}

struct Resource {
    name: &'static str,
    need: usize,
    cap: usize,
    other: usize,
    mean: usize,
    own: [usize; 5],
}

/// Weeks on which the cost of a retry is chosen, each with a model of what came before it.
const WEEKS: [(&str, &str); 4] = [
    ("2013-08-04", "2013-08-11"),
    ("2013-08-11", "2013-08-18"),
    ("2013-08-18", "2013-08-25"),
    ("2013-08-25", "2013-09-01"),
];

struct Asked {
    under: f64,
    deep: f64,
    alloc: f64,
}

const DISK: usize = 14;
const NETWORK: usize = 16;

impl Days {
    fn read() -> Self {
        let mut rows: Vec<(u32, String, Vec<f64>)> = traces::rows("bitbrains_rnd/vm_daily.csv.gz")
            .into_iter()
            .map(|row| {
                let numbers = row[2..]
                    .iter()
                    .map(|v| v.parse().unwrap_or(f64::NAN))
                    .collect();
                (row[1].parse().expect("a machine"), row[0].clone(), numbers)
            })
            .filter(|(_, _, day): &(u32, String, Vec<f64>)| {
                day[0] >= 100.0 && day[2] > 0.0 && day[3] > 0.0
            })
            .collect();
        rows.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let mut first = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            first.entry(row.0).or_insert(at);
        }
        Self { rows, first }
    }

    /// Logarithm of a column, for the resource's own columns as a share of what is provisioned.
    fn log(&self, at: usize, column: usize, of: &Resource) -> f64 {
        let day = &self.rows[at].2;
        let unit = if column >= DISK { 1.0 } else { day[of.cap] };
        ((day[column] + 1.0) / unit).ln()
    }

    /// What is known of a machine before its day `at`.
    fn features(&self, at: usize, of: &Resource) -> Vec<f64> {
        let (machine, date, day) = &self.rows[at];
        let first = self.first[machine];
        let mut row = vec![
            day[1],
            day[of.cap].ln(),
            day[of.other].ln(),
            weekday(date),
            (at - first).min(40) as f64,
        ];
        let before = |days: usize, column: usize| -> Vec<f64> {
            (at.saturating_sub(days).max(first)..at)
                .map(|day| self.log(day, column, of))
                .collect()
        };
        for column in of.own.into_iter().chain([NETWORK, DISK]) {
            row.push(before(1, column).last().copied().unwrap_or(f64::NAN));
        }
        for column in [of.need, of.mean] {
            for days in [3, 7, 21] {
                let seen = before(days, column);
                row.push(robust::mean(&seen));
                row.push(seen.iter().copied().fold(f64::NAN, f64::max));
            }
            let week = before(7, column);
            let mean = robust::mean(&week);
            let squares: f64 = week.iter().map(|v| (v - mean) * (v - mean)).sum();
            row.push((squares / (week.len() as f64 - 1.0)).sqrt());
        }
        row.push(if at >= first + 7 {
            self.log(at - 7, of.need, of)
        } else {
            f64::NAN
        });
        row
    }

    /// (alloc, under, deep) of limits as shares of what is provisioned.
    fn judged(&self, days: &[usize], of: &Resource, share: impl Fn(usize) -> f64) -> [f64; 3] {
        let (mut limits, mut caps, mut under, mut deep) = (0.0, 0.0, 0.0, 0.0);
        for (i, at) in days.iter().enumerate() {
            let day = &self.rows[*at].2;
            let limit = (share(i) * day[of.cap]).max(1e-9).min(day[of.cap]);
            limits += limit;
            caps += day[of.cap];
            under += f64::from(u8::from(day[of.need] > 1.0001 * limit));
            deep += f64::from(u8::from(day[of.need] > 1.25 * limit));
        }
        let n = days.len() as f64;
        [limits / caps, under / n, deep / n]
    }
}

/// Days since Monday, of dates in 2013.
fn weekday(date: &str) -> f64 {
    let part = |range: std::ops::Range<usize>| date[range].parse::<usize>().expect("a date");
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][part(5..7) - 1];
    // 2013 began on a Tuesday.
    ((before + part(8..10)) % 7) as f64
}

fn sizes(days: &Days, of: &Resource, asked: Asked) -> Vec<Figure> {
    let whole = |at: &usize| *at >= days.first[&days.rows[*at].0] + 7;
    let dated = |from: &'static str, until: &'static str| {
        let mut found: Vec<usize> = (0..days.rows.len())
            .filter(whole)
            .filter(|at| (from..until).contains(&days.rows[*at].1.as_str()))
            .collect();
        found.sort_by(|a, b| days.rows[*a].1.cmp(&days.rows[*b].1));
        found
    };
    let weeks = WEEKS.map(|(from, until)| (dated("2013-06-01", from), dated(from, until)));
    let test = dated("2013-09-01", "2013-12-31");
    let model = |known: &[usize], held_back: f64| {
        let table = Table::of_rows(
            &known
                .iter()
                .map(|at| days.features(*at, of))
                .collect::<Vec<_>>(),
        );
        let used: Vec<f64> = known
            .iter()
            .map(|at| days.log(*at, of.need, of).exp())
            .collect();
        Model::fit(&table, &used, held_back, &PLAN, &HEADS).expect("a model")
    };
    let all = dated("2013-06-01", "2013-09-01");
    let usual = robust::mean(
        &all.iter()
            .map(|at| days.rows[*at].2[of.cap])
            .collect::<Vec<_>>(),
    );
    let chosen = |model: &Model, at: usize, times: f64| {
        let cost = RetryCost {
            fixed: times * usual,
            times_need: 1.0,
        };
        model
            .choose(
                &days.features(at, of),
                days.rows[at].2[of.cap],
                cost,
                (0.0, 1.0),
            )
            .amount
    };
    let early = weeks.each_ref().map(|(train, _)| model(train, 0.0));
    // One standard error above the mean: the month to come is as many such weeks.
    let above = |values: Vec<f64>| {
        let mean = robust::mean(&values);
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        let n = values.len() as f64;
        mean + (squares / (n - 1.0) / n).sqrt()
    };
    let times = (-12..=24)
        .map(|step| 1.12f64.powi(step))
        .find(|times| {
            let judged: Vec<[f64; 3]> = weeks
                .iter()
                .zip(&early)
                .map(|((_, tune), early)| days.judged(tune, of, |i| chosen(early, tune[i], *times)))
                .collect();
            let under = above(judged.iter().map(|week| week[1]).collect());
            let deep = above(judged.iter().map(|week| week[2]).collect());
            under <= asked.under && deep <= asked.deep
        })
        .unwrap_or(1.12f64.powi(24));
    let full = model(&all, weeks[3].1.len() as f64 / all.len() as f64);
    let [alloc, under, deep] = days.judged(&test, of, |i| chosen(&full, test[i], times));
    let even: Vec<f64> = test
        .iter()
        .map(|at| full.predict(&days.features(*at, of)).quantiles[2])
        .collect();
    let [even_alloc, even_under, even_deep] = days.judged(&test, of, |i| even[i]);
    let window: Vec<f64> = test
        .iter()
        .map(|at| {
            let first = days.first[&days.rows[*at].0];
            let most = (at.saturating_sub(7).max(first)..*at)
                .map(|day| days.rows[day].2[of.need])
                .fold(0.0, f64::max);
            1.1 * most / days.rows[*at].2[of.cap]
        })
        .collect();
    let [plain_alloc, plain_under, _] = days.judged(&test, of, |i| window[i]);
    let n = test.len();
    let name = |part: &str| format!("res_{}_{part}", of.name);
    vec![
        figure(
            &name("alloc"),
            alloc,
            "share",
            &format!("≤ {}", asked.alloc),
            n,
        ),
        figure(
            &name("under"),
            under,
            "share",
            &format!("≤ {}", asked.under),
            n,
        ),
        figure(
            &name("deep"),
            deep,
            "share",
            &format!("≤ {}", asked.deep),
            n,
        ),
        figure(&name("retry_cost"), times, "× mean", "", n),
        figure(&name("even95_alloc"), even_alloc, "share", "", n),
        figure(&name("even95_under"), even_under, "share", "", n),
        figure(&name("even95_deep"), even_deep, "share", "", n),
        figure(&name("plain_alloc"), plain_alloc, "share", "", n),
        figure(&name("plain_under"), plain_under, "share", "", n),
    ]
}

/// Run times of jobs, learned from the first 60 %: the 50 % and the 90 % quantile.
fn run_times() -> Vec<Figure> {
    let mut history = History::default();
    let mut features = Vec::new();
    let mut seconds = Vec::new();
    for row in traces::rows("nasa_ipsc_jobs/jobs.csv") {
        let job: Vec<f64> = row.iter().map(|v| v.parse().expect("a number")).collect();
        let (submit_s, run_s, procs, user, group, app) =
            (job[1], job[2], job[3], job[4], job[5], job[6]);
        let coarse = user as u64 * 1_000_000;
        let middle = coarse + (app + 1.0) as u64 * 1000;
        let keys = [middle + procs as u64, middle, coarse];
        let mut known = history.features(&keys, submit_s);
        let (hour, day) = (
            (submit_s / 3600.0).floor() % 24.0,
            (submit_s / 86_400.0).floor() % 7.0,
        );
        known.extend([procs.log2(), group, hour, day, app, user]);
        features.push(known);
        seconds.push(run_s + 1.0);
        history.ended(&keys, (run_s + 1.0).ln(), submit_s + run_s);
    }
    let cut = (0.6 * seconds.len() as f64) as usize;
    let plan = greenroom::learn::trees::Plan {
        leaves: 800,
        min_leaf: 5.0,
        ..PLAN
    };
    let model = Model::fit(
        &Table::of_rows(&features[..cut]),
        &seconds[..cut],
        0.0,
        &plan,
        &HEADS,
    )
    .expect("a model");
    let (mut ratios, mut covered, mut reserved, mut used) = (Vec::new(), 0.0, 0.0, 0.0);
    for (row, seconds) in features[cut..].iter().zip(&seconds[cut..]) {
        let [q50, q90, ..] = model.predict(row).quantiles;
        ratios.push((seconds / q50).ln().abs());
        covered += f64::from(u8::from(*seconds <= q90));
        reserved += q90;
        used += seconds;
    }
    let n = ratios.len();
    vec![
        figure(
            "runtime_median_ratio",
            robust::median(&ratios).exp(),
            "ratio",
            "≤ 1.61",
            n,
        ),
        figure("runtime_cover90", covered / n as f64, "share", ".88–.92", n),
        figure("runtime_reserved", reserved / used, "ratio", "≤ 1.51", n),
    ]
}
