//! `pool policy`: who chooses how many machines wait, and what that comes to.

use std::fmt::Write as _;

use clap::{Args, Subcommand, ValueEnum};

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::output::Paint;
use super::super::table::Table;
use super::super::text;
use super::ClassOptions;
use crate::api::TargetView;
use crate::api::demand::{PolicyView, SetPolicy, TierView};

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// How the number of each class is chosen, or of one with what it would have come to lately
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  greenroom pool policy show
  greenroom pool policy show tiny
  greenroom pool policy show tiny -o json | jq '.preview[] | [.rule, .cold, .idle_s_per_day]'

The preview replays the last seven days of arrivals, with the same rules as `greenroom simulate`."
    )]
    Show {
        /// A class, or an image of which there is one [default: all, a line each]
        #[arg(value_name = "CLASS-OR-IMAGE")]
        which: Option<String>,
    },
    /// Set it, or see with --dry-run what it would come to
    #[command(after_help = "\
Examples:
  greenroom pool policy set tiny --mode forecast --dry-run
  greenroom pool policy set tiny --mode forecast --least 1 --most 8
  greenroom pool policy set tiny --idle-cost 0.02 --cold-cost 0.05    # in euros, say
  greenroom pool policy set tiny --mode fixed                         # back to the number before

A number that is set by hand (`greenroom pool set`) ends the mode forecast.")]
    Set(Set),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The number that was set
    Fixed,
    /// The forecast, weighed by the costs
    Forecast,
}

#[derive(Debug, Args)]
pub struct Set {
    #[command(flatten)]
    class: ClassOptions,
    /// Who chooses the number
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// What a machine that waits for an hour costs, in any currency [default: 1]
    #[arg(long, value_name = "COST")]
    idle_cost: Option<f64>,
    /// What a cold start costs (a clone that boots), in the same; what a fork serves costs as much less as it
    /// waits less [default: 0.5]
    #[arg(long, value_name = "COST")]
    cold_cost: Option<f64>,
    /// The forecast chooses no fewer [default: 0]
    #[arg(long, value_name = "N")]
    least: Option<u32>,
    /// The forecast chooses no more [default: 64]
    #[arg(long, value_name = "N")]
    most: Option<u32>,
    /// Show what it would come to, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl PolicyCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        match self {
            Self::Show { which: Some(which) } => {
                let policy = client.pool_policy_show(&which).await?;
                context.show(&policy, || one(&policy, context.out))?;
            }
            Self::Show { which: None } => {
                let policies = client.pool_policy_list().await?;
                context.show(&policies, || list(&policies, context.out))?;
            }
            Self::Set(set) => {
                let order = SetPolicy {
                    class: set.class.which(),
                    mode: set.mode.map(|mode| match mode {
                        Mode::Fixed => "fixed".to_owned(),
                        Mode::Forecast => "forecast".to_owned(),
                    }),
                    idle_hour_cost: set.idle_cost,
                    cold_cost: set.cold_cost,
                    least: set.least,
                    most: set.most,
                    dry_run: set.dry_run,
                };
                let policy = client.pool_policy_set(&order).await?;
                context.show(&policy, || one(&policy, context.out))?;
                if set.dry_run {
                    context.note("nothing was changed");
                }
            }
        }
        Ok(Exit::Ok)
    }
}

fn list(policies: &[PolicyView], paint: Paint) -> String {
    let headers = ["CLASS", "MODE", "WANTED", "BOUNDS", "COLD/IDLE HOUR", "WHY"];
    let mut table = Table::new(paint, &headers);
    for policy in policies {
        table.row([
            policy.class.clone(),
            policy.mode.clone(),
            target(policy.target.as_ref()),
            format!("{}–{}", policy.least, policy.most),
            costs(policy),
            policy.why.clone().unwrap_or_default(),
        ]);
    }
    table.render("no classes; say what is wanted with `greenroom pool set IMAGE --hot N`")
}

fn one(policy: &PolicyView, paint: Paint) -> String {
    let mut out = String::new();
    let mut field = |label: &str, value: &str| {
        let _ = writeln!(out, "{label:<9} {}", text::line(value));
    };
    field("class", &policy.class);
    field("mode", &policy.mode);
    field("wanted", &target(policy.target.as_ref()));
    if let Some(why) = &policy.why {
        field("because", why);
    }
    if policy.before.is_some() {
        field("before", &target(policy.before.as_ref()));
    }
    field("bounds", &format!("{} to {}", policy.least, policy.most));
    let of = format!(
        "a cold start {}, an hour of waiting {}",
        policy.cold_cost, policy.idle_hour_cost
    );
    field("costs", &of);
    out.push_str(&tiers(&policy.tiers, paint));
    if policy.preview.is_empty() {
        out.push_str("\nno preview: nothing was asked for lately\n");
        return out;
    }
    let _ = writeln!(
        out,
        "\nOn the arrivals of the last seven days, a machine being ready {} after it is ordered:\n",
        text::millis(policy.lead_s * 1000.0)
    );
    let headers = [
        "",
        "POLICY",
        "REQUESTS",
        "COLD",
        "COLD %",
        "IDLE VM-S/DAY",
        "COST/DAY",
    ];
    let mut table = Table::new(paint, &headers);
    for preview in &policy.preview {
        let percent = 100.0 * preview.cold as f64 / preview.requests.max(1) as f64;
        table.row([
            if preview.is_asked { "▸" } else { "" }.to_owned(),
            preview.rule.clone(),
            preview.requests.to_string(),
            preview.cold.to_string(),
            format!("{percent:.2}"),
            format!("{:.0}", preview.idle_s_per_day),
            format!("{:.2}", preview.cost_per_day),
        ]);
    }
    out.push_str(&table.render("no preview"));
    out
}

/// What a request costs by the tier that serves it.
fn tiers(tiers: &[TierView], paint: Paint) -> String {
    if tiers.is_empty() {
        return String::new();
    }
    let mut table = Table::new(paint, &["", "SERVED BY", "WAITS", "MEASURED", "COSTS"]);
    for tier in tiers {
        let how = match &*tier.tier {
            "hot" => "hot: one that waits",
            "warm" => "warm: a fork",
            "cool" => "cool: a clone that boots",
            "cold" => "cold: its image is made first",
            other => other,
        };
        table.row([
            if tier.is_next { "▸" } else { "" }.to_owned(),
            how.to_owned(),
            text::millis(tier.wait_s * 1000.0),
            match tier.measured {
                0 => "as expected".to_owned(),
                n => format!("{n} requests"),
            },
            format!("{:.3}", tier.cost),
        ]);
    }
    let table = table.render("no tiers");
    format!(
        "\nWho finds none waiting is served by the tier at ▸; that is what a shortage costs:\n\n{table}"
    )
}

fn target(target: Option<&TargetView>) -> String {
    match target {
        None => "-".to_owned(),
        Some(target) if target.hot > 0 => format!("{} hot", target.hot),
        Some(target) => target.floor.clone(),
    }
}

fn costs(policy: &PolicyView) -> String {
    format!("{}/{}", policy.cold_cost, policy.idle_hour_cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_shows_its_reason_and_what_it_would_have_come_to() {
        let policy: PolicyView = serde_json::from_value(serde_json::json!({
            "class": "tiny:1x128", "mode": "forecast", "idle_hour_cost": 1.0, "cold_cost": 0.5,
            "least": 0, "most": 8, "target": {"hot": 3, "floor": "warm"},
            "before": {"hot": 2, "floor": "warm"}, "why": "one more would cost more than it saves",
            "lead_s": 0.62,
            "tiers": [
                {"tier": "hot", "wait_s": 0.04, "measured": 700, "cost": 0.0, "is_next": false},
                {"tier": "warm", "wait_s": 0.6, "measured": 40, "cost": 0.0421, "is_next": true},
                {"tier": "cool", "wait_s": 6.7, "measured": 0, "cost": 0.5, "is_next": false},
            ],
            "preview": [
                {"rule": "forecast:1800", "is_asked": true, "requests": 812, "cold": 4, "idle_s_per_day": 51200.0, "cost_per_day": 14.5},
                {"rule": "fixed:2", "is_asked": false, "requests": 812, "cold": 40, "idle_s_per_day": 170000.0, "cost_per_day": 50.1},
            ],
        }))
        .unwrap();
        let text = one(&policy, Paint::Plain);
        for line in [
            "wanted    3 hot",
            "because   one more would cost more than it saves",
            "before    2 hot",
            "costs     a cold start 0.5, an hour of waiting 1",
            "▸  warm: a fork              600ms  40 requests   0.042",
            "   cool: a clone that boots  6.7s   as expected   0.500",
            "On the arrivals of the last seven days, a machine being ready 620ms after it is ordered:",
            "▸  forecast:1800  812       4     0.49    51200          14.50",
            "   fixed:2        812       40    4.93    170000         50.10",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let text = list(&[policy], Paint::Plain);
        assert!(text.contains("forecast  3 hot   0–8     0.5/1"), "{text}");
    }
}
