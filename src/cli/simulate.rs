//! `simulate`: what rules of pool sizes would have cost and served on a recorded trace. Needs no daemon.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::table::Table;
use crate::learn::psim::rule::{COMPARED, Ground, Rule};
use crate::learn::psim::{FORK_S, Host, Trace, WEEK};
use crate::learn::sizing::Hysteresis;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom simulate --trace arrivals.csv
  greenroom simulate --trace arrivals.csv --policy foresight:2000 --policy fixed:8 --lead 0.6
  greenroom simulate --trace arrivals.csv --reuse 120 -o json

A trace has a line UNIX_SECONDS,HOLD_SECONDS per request. The first weeks are learned from, the rest is
judged. Policies are fixed:SHELLS, reactive:TICKS, moving:DEVIATIONS, seasonal:QUANTILE, sample:COST and
foresight:COST, a cost being that of a cold start in seconds of one idle shell.")]
pub struct Simulate {
    /// Recorded requests
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// Rule to judge; may be repeated [default: a comparison of all]
    #[arg(long = "policy", value_name = "RULE")]
    policies: Vec<Rule>,
    /// Seconds until an ordered shell is ready
    #[arg(long, value_name = "SECONDS", default_value_t = FORK_S)]
    lead: f64,
    /// Seconds that a returned shell may wait for its next request [default: used once]
    #[arg(long, value_name = "SECONDS")]
    reuse: Option<f64>,
    /// Weeks to learn from before the judged span
    #[arg(long, value_name = "WEEKS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..500))]
    learn_weeks: u16,
}

#[derive(Debug, Serialize)]
struct Line {
    policy: String,
    requests: usize,
    cold_percent: f64,
    idle_s_per_request: f64,
    mean_wait_s: f64,
    boots: usize,
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
        // A twentieth: shells are let go only where that saves clearly.
        let ground = Ground::new(
            &trace,
            host,
            begin..trace.ticks(),
            Hysteresis { share: 0.05 },
        );
        let rules = if self.policies.is_empty() {
            COMPARED.to_vec()
        } else {
            self.policies
        };
        let lines: Vec<Line> = rules
            .into_iter()
            .map(|rule| {
                let outcome = ground.judge(rule);
                Line {
                    policy: rule.to_string(),
                    requests: outcome.requests,
                    cold_percent: outcome.cold_percent(),
                    idle_s_per_request: outcome.idle_per_request(),
                    mean_wait_s: outcome.mean_wait_s(self.lead),
                    boots: outcome.boots,
                }
            })
            .collect();
        context.show(&lines, || {
            let headers = [
                "POLICY",
                "REQUESTS",
                "COLD %",
                "IDLE S/REQUEST",
                "MEAN WAIT S",
                "BOOTS",
            ];
            let mut table = Table::new(context.out, &headers);
            for line in &lines {
                table.row([
                    line.policy.clone(),
                    line.requests.to_string(),
                    format!("{:.2}", line.cold_percent),
                    format!("{:.1}", line.idle_s_per_request),
                    format!("{:.3}", line.mean_wait_s),
                    line.boots.to_string(),
                ]);
            }
            table.render("no policies")
        })?;
        Ok(Exit::Ok)
    }
}
