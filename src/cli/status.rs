//! `status`: what the daemon is doing, and what is stuck.

use std::fmt::Write as _;

use clap::Args;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::Paint;
use super::text;
use crate::api::{PoolBrief, StatusView};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom status
  greenroom status -o json | jq .stuck")]
pub struct Status {}

impl Status {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let status = context.client()?.status().await?;
        context.show(&status, || render(&status, context.out))?;
        Ok(Exit::Ok)
    }
}

fn render(status: &StatusView, paint: Paint) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "daemon    greenroom {}", text::line(&status.version));
    match (&status.host, &status.host_error) {
        (Some(host), _) => {
            let _ = writeln!(
                out,
                "host      {}, {}, {} CPUs, {} ({} free)",
                text::line(&host.host_name),
                text::line(&host.version),
                host.cpus,
                text::mib(host.memory_mib),
                text::mib(host.free_memory_mib)
            );
            let _ = writeln!(
                out,
                "guests    {}: {}",
                text::line(&host.accelerator),
                text::line(&host.accelerator_reason)
            );
        }
        (None, error) => {
            let error = error.as_deref().unwrap_or("unknown");
            let _ = writeln!(
                out,
                "host      {}: {}; runs wait for it",
                paint.red("does not answer"),
                text::line(error)
            );
        }
    }
    let capacity = &status.capacity;
    let _ = writeln!(
        out,
        "share     {} of {}, {} of {} vCPUs; {} machines, {} waiting for room",
        text::mib(capacity.used_memory_mib),
        text::mib(capacity.total_memory_mib),
        capacity.used_vcpus,
        capacity.total_vcpus,
        capacity.machines,
        capacity.waiting
    );
    let _ = writeln!(out, "runs      {}", counted(&status.runs));
    let _ = writeln!(out, "machines  {}", counted(&status.machines));
    if let Some(pool) = &status.pool {
        let _ = writeln!(out, "pool      {}", pool_line(pool));
    }
    if let Some(last) = &status.reconcile {
        let ago = text::span(status.now.seconds_from(last.at));
        let found = match &last.problem {
            Some(problem) => format!("{}: {}", paint.red("not possible"), text::line(problem)),
            None if last.suspects.is_empty() => "nothing is without an owner".to_owned(),
            None => format!(
                "without an owner: {}",
                text::line(&last.suspects.join(", "))
            ),
        };
        let _ = writeln!(out, "compared  {ago} ago: {found}");
    }
    for stuck in &status.stuck {
        let _ = write!(
            out,
            "\n{} run {} (device {}) for {}: {}\n  next     {}\n",
            paint.state(&text::line(&stuck.state)),
            stuck.run,
            text::line(&stuck.device),
            text::span(stuck.age_s),
            text::line(&stuck.why),
            text::line(&stuck.next)
        );
        for (index, command) in stuck.you_can.iter().enumerate() {
            let label = if index == 0 { "you can" } else { "" };
            let _ = writeln!(out, "  {label:8} {}", text::line(command));
        }
    }
    out
}

fn pool_line(pool: &PoolBrief) -> String {
    if pool.budget_mib == 0 {
        return "switched off; every machine boots".to_owned();
    }
    let forks = if pool.forks { "forks" } else { "does not fork" };
    format!(
        "{forks}: {}; {} ready, {} filling, {} claimed; {} of {}",
        text::line(&pool.forks_reason),
        pool.ready,
        pool.filling,
        pool.claimed,
        text::mib(pool.used_mib.round() as u64),
        text::mib(pool.budget_mib)
    )
}

fn counted(counts: &std::collections::BTreeMap<String, i64>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(state, count)| format!("{count} {}", text::line(state)))
        .collect();
    if parts.is_empty() {
        "none".to_owned()
    } else {
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CapacityView, StuckRun, Time};

    #[test]
    fn status_says_what_is_stuck_and_what_helps() {
        let status = StatusView {
            version: "0.1.0".into(),
            now: Time(jiff::Timestamp::UNIX_EPOCH),
            runs: [("held".to_owned(), 1), ("succeeded".to_owned(), 12)].into(),
            machines: [].into(),
            capacity: CapacityView {
                total_memory_mib: 8192,
                used_memory_mib: 512,
                total_vcpus: 8,
                used_vcpus: 1,
                machines: 1,
                waiting: 0,
            },
            host: None,
            host_error: Some("libvirt cannot be reached: no socket".into()),
            reconcile: None,
            pool: Some(PoolBrief {
                budget_mib: 2048,
                used_mib: 101.6,
                forks: true,
                forks_reason: "a probe guest was forked\x07".into(),
                ready: 3,
                filling: 1,
                claimed: 0,
            }),
            stuck: vec![StuckRun {
                run: 7,
                device: "box".into(),
                state: "held".into(),
                age_s: 62.0,
                why: "is held: exit: code 3\x1b[2J".into(),
                next: "is given up and cleaned away when the hold ends".into(),
                you_can: vec![
                    "greenroom run retry 7".into(),
                    "greenroom run logs 7".into(),
                ],
            }],
        };
        insta::assert_snapshot!(render(&status, Paint::Plain), @r"
        daemon    greenroom 0.1.0
        host      does not answer: libvirt cannot be reached: no socket; runs wait for it
        share     512 MiB of 8 GiB, 1 of 8 vCPUs; 1 machines, 0 waiting for room
        runs      1 held, 12 succeeded
        machines  none
        pool      forks: a probe guest was forked\u{7}; 3 ready, 1 filling, 0 claimed; 102 MiB of 2 GiB

        held run 7 (device box) for 1m02s: is held: exit: code 3\u{1b}[2J
          next     is given up and cleaned away when the hold ends
          you can  greenroom run retry 7
                   greenroom run logs 7
        ");
    }
}
