//! Pool sizes on recorded arrivals: cold share against idle time, for foresight and every plain rule.

use greenroom::learn::psim::rule::{COMPARED, Ground, Rule};
use greenroom::learn::psim::{Host, Trace, WEEK, clairvoyant, foresee, run};
use greenroom::learn::sizing::Hysteresis;

use crate::traces;
use crate::{Figure, figure};

/// Costs of a miss in seconds of an idle shell, for a table.
const COSTS: [f64; 22] = [
    100.0, 200.0, 300.0, 450.0, 700.0, 1000.0, 1300.0, 1400.0, 1500.0, 1750.0, 1875.0, 2000.0,
    2500.0, 3000.0, 3700.0, 4500.0, 5000.0, 5500.0, 5700.0, 6500.0, 6700.0, 9000.0,
];
/// The same for the daemon's forecasts.
const FORECAST_COSTS: [f64; 7] = [300.0, 700.0, 1500.0, 3000.0, 6000.0, 12_000.0, 30_000.0];

/// Widths of the bells, in ticks of five minutes, under which foresight is told how many requests come: an
/// hour to both sides, half an hour, a quarter, five minutes.
const BELLS: [f64; 4] = [12.0, 6.0, 3.0, 1.0];

/// A figure's name, its trace, the host, and goals: idle seconds per request, cold percent.
type Case<'a> = (
    &'static str,
    &'static str,
    &'a Trace,
    Host,
    &'static [(f64, f64)],
);

pub fn measure() -> Vec<Figure> {
    let (calls, surf) = (traces::calls(), traces::surf());
    let mut figures = Vec::new();
    let host = |lead_s, reuse_s| Host { lead_s, reuse_s };
    // The idle time that a point may have at most, and the cold share that is asked for of it.
    let goals: [Case; 6] = [
        (
            "psim_calls_6p7",
            "calls",
            &calls,
            host(6.7, None),
            &[(73.0, 0.81)],
        ),
        (
            "psim_calls_180",
            "calls",
            &calls,
            host(180.0, Some(120.0)),
            &[(205.0, 0.99)],
        ),
        (
            "psim_surf_6p7",
            "surf",
            &surf,
            host(6.7, Some(120.0)),
            &[(132.0, 12.3), (356.0, 7.0)],
        ),
        ("psim_calls_0p6", "calls", &calls, host(0.6, None), &[]),
        ("psim_surf_0p6", "surf", &surf, host(0.6, None), &[]),
        (
            "psim_surf_0p6_reuse",
            "surf",
            &surf,
            host(0.6, Some(120.0)),
            &[],
        ),
    ];
    for (name, kind, trace, host, goals) in goals {
        let table = Table::new(kind, trace, host);
        eprintln!(
            "{name}: lead {} s, reuse {:?} s\n{}",
            host.lead_s,
            host.reuse_s,
            table.text()
        );
        for (idle, cold) in goals {
            let label = format!("{name}_cold_at_{idle}");
            let goal = format!("≤ {cold}");
            figures.push(figure(
                &label,
                table.cold_at(*idle),
                "%",
                &goal,
                table.requests,
            ));
        }
        if !goals.is_empty() {
            let told = told(name, kind, trace, host, goals);
            let named =
                |(label, cold): (String, f64)| figure(&label, cold, "%", "", table.requests);
            figures.extend(told.into_iter().map(named));
        }
        for (rule, outcome) in &table.rows {
            let is_shown = [
                "fixed:1",
                "fixed:4",
                "reactive:3",
                "moving:1",
                "forecast:1500",
                "foresight:1500",
            ];
            if goals.is_empty() && is_shown.contains(&rule.as_str()) {
                let rule = rule.replace(':', "_");
                let n = table.requests;
                let label = format!("{name}_{rule}");
                figures.push(figure(&format!("{label}_cold"), outcome.0, "%", "", n));
                figures.push(figure(&format!("{label}_idle"), outcome.1, "s/req", "", n));
            }
        }
    }
    figures
}

/// What foresight would come to at the same idle time if it were told the true rates: the bound of what
/// any better forecast of rates could bring.
fn told(
    name: &str,
    kind: &str,
    trace: &Trace,
    host: Host,
    goals: &[(f64, f64)],
) -> Vec<(String, f64)> {
    let ticks = traces::training_weeks(kind) * WEEK..trace.ticks() - 1;
    let mut found = Vec::new();
    for width in BELLS {
        let expected = clairvoyant::expect(trace, host, ticks.clone(), &[width]);
        let points = COSTS.map(|cost| {
            let targets = foresee::targets(&expected, cost, Hysteresis { share: 0.0 });
            let outcome = run(trace, host, ticks.clone(), |tick| {
                targets[tick - ticks.start]
            });
            (outcome.cold_percent(), outcome.idle_per_request())
        });
        let minutes = 5.0 * width;
        for (cold, idle) in points {
            eprintln!("  told ±{minutes} min  {cold:7.2} % cold {idle:7.1} s idle per request");
        }
        for (idle, _) in goals {
            let cold = points
                .iter()
                .filter(|(_, i)| i <= idle)
                .map(|(cold, _)| *cold);
            let least = cold.fold(f64::NAN, f64::min);
            let label = format!("{name}_told_{minutes}min_cold_at_{idle}");
            found.push((label, least));
        }
    }
    found
}

/// Cold percent and idle seconds per request of each rule.
struct Table {
    rows: Vec<(String, (f64, f64))>,
    requests: usize,
}

impl Table {
    fn new(kind: &str, trace: &Trace, host: Host) -> Self {
        let ticks = traces::training_weeks(kind) * WEEK..trace.ticks() - 1;
        let mut table = Self {
            rows: Vec::new(),
            requests: 0,
        };
        // A forecast each quarter of an hour: a third of the cost, and the same to the second digit.
        let ground = Ground::new(trace, host, ticks, Hysteresis { share: 0.0 }).forecasting_each(3);
        let rules = COMPARED
            .into_iter()
            .filter(|rule| !matches!(rule, Rule::Foresight(_) | Rule::Forecast(_)))
            .chain(FORECAST_COSTS.map(Rule::Forecast))
            .chain(COSTS.map(Rule::Foresight));
        for rule in rules {
            let outcome = ground.judge(rule);
            table.requests = outcome.requests;
            let point = (outcome.cold_percent(), outcome.idle_per_request());
            table.rows.push((rule.to_string(), point));
        }
        table
    }

    /// The least cold share of a point of foresight that idles no longer than this.
    fn cold_at(&self, idle: f64) -> f64 {
        self.rows
            .iter()
            .filter(|(name, point)| name.starts_with("foresight:") && point.1 <= idle)
            .map(|(_, (cold, _))| *cold)
            .fold(f64::NAN, f64::min)
    }

    /// `*` where no other rule is better in both.
    fn mark(&self, (cold, idle): (f64, f64)) -> &'static str {
        let beaten = self
            .rows
            .iter()
            .any(|(_, (c, i))| *c <= cold && *i <= idle && (*c < cold || *i < idle));
        if beaten { " " } else { "*" }
    }

    fn text(&self) -> String {
        self.rows
            .iter()
            .map(|(name, point)| {
                let (mark, (cold, idle)) = (self.mark(*point), point);
                format!("{mark} {name:24} {cold:7.2} % cold {idle:7.1} s idle per request\n")
            })
            .collect()
    }
}
