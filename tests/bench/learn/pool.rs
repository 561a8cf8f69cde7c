//! Pool sizes on recorded arrivals: cold share against idle time, for foresight and every plain rule.

use greenroom::learn::psim::rule::{COMPARED, Ground, Rule};
use greenroom::learn::psim::{Host, Trace, WEEK};
use greenroom::learn::sizing::Hysteresis;

use crate::traces;
use crate::{Figure, figure};

/// Costs of a miss in seconds of an idle shell, for a table.
const COSTS: [f64; 8] = [100.0, 300.0, 700.0, 1500.0, 2000.0, 3000.0, 4500.0, 9000.0];

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
    // The idle time at which the goal's cold share is asked for.
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
        if goals.is_empty() {
            for (rule, outcome) in &table.rows {
                if [
                    "fixed:1",
                    "fixed:4",
                    "reactive:3",
                    "moving:1",
                    "foresight:1500",
                ]
                .contains(&rule.as_str())
                {
                    let rule = rule.replace(':', "_");
                    figures.push(figure(
                        &format!("{name}_{rule}_cold"),
                        outcome.0,
                        "%",
                        "",
                        table.requests,
                    ));
                    figures.push(figure(
                        &format!("{name}_{rule}_idle"),
                        outcome.1,
                        "s/req",
                        "",
                        table.requests,
                    ));
                }
            }
        }
    }
    figures
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
        let ground = Ground::new(trace, host, ticks, Hysteresis { share: 0.0 });
        let rules = COMPARED
            .into_iter()
            .filter(|rule| !matches!(rule, Rule::Foresight(_)));
        for rule in rules.chain(COSTS.map(Rule::Foresight)) {
            let outcome = ground.judge(rule);
            table.requests = outcome.requests;
            let point = (outcome.cold_percent(), outcome.idle_per_request());
            table.rows.push((rule.to_string(), point));
        }
        table
    }

    /// Foresight's cold share at an idle time, between the costs that were tried.
    fn cold_at(&self, idle: f64) -> f64 {
        let mut points: Vec<(f64, f64)> = self
            .rows
            .iter()
            .filter(|(name, _)| name.starts_with("foresight:"))
            .map(|(_, (cold, idle))| (*idle, *cold))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
            .windows(2)
            .find(|pair| pair[0].0 <= idle && idle <= pair[1].0)
            .map_or(f64::NAN, |pair| {
                let share = (idle - pair[0].0) / (pair[1].0 - pair[0].0).max(1e-9);
                pair[0].1 + share * (pair[1].1 - pair[0].1)
            })
    }

    fn text(&self) -> String {
        self.rows
            .iter()
            .map(|(name, (cold, idle))| {
                format!("  {name:24} {cold:7.2} % cold {idle:7.0} s idle per request\n")
            })
            .collect()
    }
}
