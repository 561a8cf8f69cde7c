//! `simulate`: what rules of pool sizes would have cost and served on a recorded trace. Needs no daemon.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::Paint;
use super::table::Table;
use crate::demand::decide::HYSTERESIS;
use crate::demand::rehearsal::rehearsed;
use crate::learn::psim::rule::{COMPARED, Ground, Rule};
use crate::learn::psim::{FORK_S, Host, MOST, Outcome, Trace, WEEK};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom simulate --trace arrivals.csv
  greenroom simulate --trace arrivals.csv --policy forecast:1800 --policy fixed:8 --lead 0.6
  greenroom simulate --trace arrivals.csv --reuse 120 -o json
  greenroom simulate --trace arrivals.csv --pool --policy forecast:1800 --policy fixed:4

A trace has a line UNIX_SECONDS,HOLD_SECONDS per request; a heading is allowed. The first weeks are learned
from, the rest is judged, each policy knowing at each tick of five minutes only what came before it.

Policies, a COST being that of a cold start in seconds of one idle machine (`pool policy show` tells yours):
  fixed:N          so many, always
  reactive:TICKS   the largest need of the last ticks
  moving:D         the moving average of the need and D standard deviations
  seasonal:Q       the quantile Q of the same time of the last six weeks
  sample:COST      the number that would have cost least at the same time of the last six weeks
  forecast:COST    what the daemon does: the forecast's quantiles against the cost
  foresight:COST   what it does after two weeks: like moments of the last weeks, replayed

In the table, * marks policies that no other beats both in cold share and in idle time.")]
pub struct Simulate {
    /// Recorded requests
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// Policy to judge; may be repeated [default: a comparison of all]
    #[arg(long = "policy", value_name = "POLICY")]
    policies: Vec<Rule>,
    /// Seconds until an ordered machine is ready [default: a fork's]
    #[arg(long, value_name = "SECONDS", default_value_t = FORK_S, hide_default_value = true)]
    lead: f64,
    /// Seconds that a returned machine may wait for its next request [default: used once]
    #[arg(long, value_name = "SECONDS")]
    reuse: Option<f64>,
    /// Weeks to learn from before the judged span
    #[arg(long, value_name = "WEEKS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..500))]
    learn_weeks: u16,
    /// Through the pool's own plan, which fills one machine at a time and gives way to claims, instead of
    /// an ideal pool that boots sixteen at once
    #[arg(long, conflicts_with = "reuse")]
    pool: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    policy: String,
    requests: usize,
    cold_percent: f64,
    idle_s_per_request: f64,
    mean_wait_s: f64,
    /// Machines that were made to wait.
    boots: usize,
    /// No other policy is better in both.
    best: bool,
}

impl Simulate {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let positive = |seconds: f64| seconds.is_finite() && seconds > 0.0;
        if !positive(self.lead) || !self.reuse.is_none_or(positive) {
            return Err(Failure::usage("--lead and --reuse are seconds above zero"));
        }
        let text = std::fs::read_to_string(&self.trace)
            .map_err(|error| Failure::of_file(&self.trace, &error))?;
        let trace = Trace::read(&text).map_err(|fault| {
            Failure::new(Exit::Invalid, format!("{}: {fault}", self.trace.display()))
        })?;
        let first = (trace.at_s[0] / crate::learn::psim::TICK_S) as usize;
        let begin = first + usize::from(self.learn_weeks) * WEEK;
        if begin >= trace.ticks() {
            return Err(Failure::new(
                Exit::Invalid,
                format!(
                    "{}: it covers {:.1} days; nothing is left to judge after {} weeks to learn from",
                    self.trace.display(),
                    (trace.ticks() - first) as f64 / crate::learn::psim::DAY as f64,
                    self.learn_weeks
                ),
            )
            .with_way_out("choose fewer with --learn-weeks"));
        }
        let host = Host {
            lead_s: self.lead,
            reuse_s: self.reuse,
        };
        // As in the daemon: machines are let go only where that saves clearly.
        let ground = Ground::new(&trace, host, begin..trace.ticks(), HYSTERESIS);
        let rules = if self.policies.is_empty() {
            COMPARED.to_vec()
        } else {
            self.policies
        };
        let progress = progress(context, rules.len());
        let mut lines: Vec<Line> = rules
            .into_iter()
            .map(|rule| {
                progress.set_message(rule.to_string());
                let outcome = if self.pool {
                    let targets = ground.targets(rule, 0..=MOST);
                    rehearsed(&trace, host, ground.ticks(), &targets)
                } else {
                    ground.judge(rule)
                };
                progress.inc(1);
                Line::of(rule, outcome, self.lead)
            })
            .collect();
        progress.finish_and_clear();
        mark_best(&mut lines);
        context.show(&lines, || table(&lines, context.out))?;
        Ok(Exit::Ok)
    }
}

impl Line {
    fn of(rule: Rule, outcome: Outcome, lead_s: f64) -> Self {
        Self {
            policy: rule.to_string(),
            requests: outcome.requests,
            cold_percent: outcome.cold_percent(),
            idle_s_per_request: outcome.idle_per_request(),
            mean_wait_s: outcome.mean_wait_s(lead_s),
            boots: outcome.boots,
            best: false,
        }
    }
}

/// Marks the lines that no other beats in both cold share and idle time.
fn mark_best(lines: &mut [Line]) {
    let points: Vec<(f64, f64)> = lines
        .iter()
        .map(|line| (line.cold_percent, line.idle_s_per_request))
        .collect();
    for (line, (cold, idle)) in lines.iter_mut().zip(&points) {
        line.best = !points
            .iter()
            .any(|(c, i)| c <= cold && i <= idle && (c < cold || i < idle));
    }
}

fn table(lines: &[Line], paint: Paint) -> String {
    let headers = [
        "",
        "POLICY",
        "REQUESTS",
        "COLD %",
        "IDLE S/REQUEST",
        "MEAN WAIT S",
        "MADE",
    ];
    let mut table = Table::new(paint, &headers);
    for line in lines {
        table.row([
            if line.best { "*" } else { "" }.to_owned(),
            line.policy.clone(),
            line.requests.to_string(),
            format!("{:.2}", line.cold_percent),
            format!("{:.1}", line.idle_s_per_request),
            format!("{:.3}", line.mean_wait_s),
            line.boots.to_string(),
        ]);
    }
    table.render("no policies")
}

/// A bar on a terminal; learning takes most of the time.
fn progress(context: &Context, policies: usize) -> ProgressBar {
    let is_shown = std::io::stderr().is_terminal() && !context.global.quiet;
    if !is_shown {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(policies as u64);
    let style = ProgressStyle::with_template("{bar:24} {pos} of {len}  {msg}  {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_marks_what_nothing_beats() {
        let outcome = |cold, idle_s| Outcome {
            requests: 100,
            cold,
            idle_s,
            boots: 7,
        };
        let mut lines = vec![
            Line::of(Rule::Fixed(0), outcome(100, 0.0), 0.6),
            Line::of(Rule::Fixed(2), outcome(5, 9000.0), 0.6),
            Line::of(Rule::Forecast(1800.0), outcome(5, 4000.0), 0.6),
        ];
        mark_best(&mut lines);
        let text = table(&lines, Paint::Plain);
        let marks: Vec<&str> = text.lines().skip(1).map(|line| &line[..1]).collect();
        assert_eq!(marks, ["*", " ", "*"], "{text}");
        assert!(
            text.contains("forecast:1800  100       5.00    40.0"),
            "{text}"
        );
    }
}
