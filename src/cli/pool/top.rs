//! `pool top`: the pool on a screen, each second anew.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::output::{Format, Paint};
use super::super::table::Table;
use super::super::text;
use super::list;
use crate::api::{ClaimView, Client, PoolStatusView};

const EVERY: Duration = Duration::from_secs(1);
/// Claims that are shown.
const RECENT: usize = 12;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom pool top
  greenroom pool top --once
  greenroom pool top -o json | jq '.recent[0].phases'     # once

Ends with Ctrl-C. Where the output is no terminal it is written once.")]
pub struct Top {
    /// Write it once and end
    #[arg(long)]
    once: bool,
}

impl Top {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let is_screen = std::io::stdout().is_terminal();
        if self.once || !is_screen || context.global.output != Format::Table {
            let status = client.pool_status().await?;
            context.show(&status, || render(&status, context.out))?;
            return Ok(Exit::Ok);
        }
        // The alternate screen, so that what was on the terminal comes back.
        context.print("\x1b[?1049h\x1b[?25l")?;
        let ended = tokio::select! {
            error = live(context, &client) => Err(error),
            _ = tokio::signal::ctrl_c() => Ok(Exit::Ok),
        };
        context.print("\x1b[?25h\x1b[?1049l")?;
        ended
    }
}

/// Draws until something fails that waiting does not mend.
async fn live(context: &Context, client: &Client) -> Failure {
    loop {
        let screen = match client.pool_status().await {
            Ok(status) => render(&status, context.out),
            Err(error) => {
                let failure = Failure::from_client(&error);
                if failure.exit != Exit::Unreachable {
                    return failure;
                }
                format!("{}\n", text::line(&failure.message))
            }
        };
        if let Err(failure) = context.print(&redrawn(&screen)) {
            return failure;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Over what was there, line by line, without a moment of an empty screen.
fn redrawn(screen: &str) -> String {
    let mut out = String::from("\x1b[H");
    for line in screen.lines() {
        let _ = write!(out, "{line}\x1b[K\r\n");
    }
    out + "\x1b[J"
}

fn render(status: &PoolStatusView, paint: Paint) -> String {
    let mut out = String::new();
    let forks = if status.forks {
        paint.green("forks")
    } else {
        paint.yellow("does not fork")
    };
    let _ = writeln!(out, "host    {forks}: {}", text::line(&status.forks_reason));
    if status.budget_mib == 0 {
        out.push_str("memory  the pool is switched off\n");
    } else {
        let _ = writeln!(
            out,
            "memory  {:.0} MiB of {} ({:.0}%)",
            status.used_mib,
            text::mib(status.budget_mib),
            100.0 * status.used_mib / status.budget_mib as f64
        );
    }
    out.push('\n');
    out.push_str(&list(&status.pools, paint));
    out.push('\n');
    out.push_str(&claims(status, paint));
    out
}

/// The last claims, a column for each phase that any of them has.
fn claims(status: &PoolStatusView, paint: Paint) -> String {
    let recent: Vec<&ClaimView> = status.recent.iter().take(RECENT).collect();
    let mut phases: Vec<&str> = Vec::new();
    for phase in recent.iter().flat_map(|claim| &claim.phases) {
        if !phases.contains(&phase.phase.as_str()) {
            phases.push(&phase.phase);
        }
    }
    let upper: Vec<String> = phases
        .iter()
        .map(|phase| text::line(phase).to_uppercase())
        .collect();
    let mut headers = vec!["CLAIM", "CLASS", "ENGINE", "TIER", "AGO"];
    headers.extend(upper.iter().map(String::as_str));
    headers.push("SUM");
    let mut table = Table::new(paint, &headers);
    for claim in recent {
        let mut row = vec![
            claim.key.clone(),
            claim.class.clone(),
            claim.engine.clone(),
            claim.tier.clone(),
            text::span(status.now.seconds_from(claim.made_at)),
        ];
        row.extend(phases.iter().map(|wanted| {
            let of_phase = claim.phases.iter().filter(|phase| phase.phase == *wanted);
            let times: Vec<f64> = of_phase.map(|phase| phase.ms).collect();
            if times.is_empty() {
                "-".to_owned()
            } else {
                text::millis(times.iter().sum())
            }
        }));
        let sum = claim.phases.iter().map(|phase| phase.ms).sum();
        row.push(text::millis(sum));
        table.row(row);
    }
    table.render("no claims yet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_shows_tiers_hits_memory_and_phases() {
        let claim = |key: &str, engine: &str, phases: serde_json::Value| {
            serde_json::json!({
                "key": key, "owner": "x", "machine": "m", "name": null, "class": "tiny:1x128",
                "engine": engine, "tier": if engine == "resume" { "hot" } else { "warm" },
                "reason": "", "made_at": "2026-01-01T00:00:00Z", "until": null,
                "released_at": null, "achieved": null, "phases": phases,
            })
        };
        let status: PoolStatusView = serde_json::from_value(serde_json::json!({
            "now": "2026-01-01T00:00:05Z",
            "pools": [{
                "class": "tiny:1x128", "target": {"hot": 2, "floor": "warm"}, "tier": "hot",
                "shortfall": "one is filling", "template": null, "ready": 1, "filling": 1,
                "claimed": 0, "served": {"hot": 6, "warm": 1}, "pss_mib": 33.94, "failures": 0,
                "pauses_until": null,
            }],
            "budget_mib": 4096, "used_mib": 412.0, "forks": true, "forks_reason": "seen",
            "recent": [
                claim("b\x1b", "resume", serde_json::json!([{"phase": "take", "ms": 1.2}, {"phase": "resume", "ms": 11.0}])),
                claim("a", "fork", serde_json::json!([{"phase": "take", "ms": 1.0}, {"phase": "fork", "ms": 520.0}])),
            ],
        }))
        .unwrap();
        insta::assert_snapshot!(render(&status, Paint::Plain), @r"
        host    forks: seen
        memory  412 MiB of 4 GiB (10%)

        CLASS       WANTED  TIER  READY  FILLING  CLAIMED  HITS                       PSS       NOTE
        tiny:1x128  2 hot   hot   1      1        0        hot 6 (86%), warm 1 (14%)  33.9 MiB  one is filling

        CLAIM    CLASS       ENGINE  TIER  AGO   TAKE   RESUME  FORK   SUM
        b\u{1b}  tiny:1x128  resume  hot   5.0s  1.2ms  11ms    -      12ms
        a        tiny:1x128  fork    warm  5.0s  1.0ms  -       520ms  521ms
        ");
    }

    #[test]
    fn a_shorter_screen_leaves_nothing_of_a_longer_one() {
        assert_eq!(redrawn("a\nb\n"), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
    }
}
