//! Waiting for a template that is being built, phase by phase. To standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::output::Paint;
use super::super::text;
use super::short;
use crate::api::{Client, ClientError, PhaseView, TemplateView};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);
/// A daemon that is being restarted is back within this time.
const ABSENCE: Duration = Duration::from_secs(60);

/// Waits until it is no longer building; the daemon gives it up at its deadline.
pub async fn wait(
    context: &Context,
    client: &Client,
    begun: TemplateView,
) -> Result<TemplateView, Failure> {
    let again = format!(
        "it goes on; see `greenroom template show {}`",
        short(&begun.id)
    );
    let mut progress = Progress::new(context, &begun.class);
    let ended = tokio::select! {
        ended = until_ended(context, client, begun, &mut progress) => ended,
        _ = tokio::signal::ctrl_c() => {
            Err(Failure::new(Exit::Interrupted, "interrupted").with_way_out(again))
        }
    };
    progress.end();
    ended
}

async fn until_ended(
    context: &Context,
    client: &Client,
    mut seen: TemplateView,
    progress: &mut Progress,
) -> Result<TemplateView, Failure> {
    let id = seen.id.clone();
    let mut away_since: Option<Instant> = None;
    loop {
        progress.show(&seen.phases);
        if seen.state != "building" {
            return Ok(seen);
        }
        tokio::time::sleep(EVERY).await;
        match client.template_show(&id).await {
            Ok(detail) => {
                seen = detail.template;
                away_since = None;
            }
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Broken(_))) => {
                match away_since {
                    None => {
                        context.note("the daemon is away; waiting for it to come back");
                        away_since = Some(Instant::now());
                    }
                    Some(since) if since.elapsed() > ABSENCE => return Err(error.into()),
                    Some(_) => {}
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The phases that are over: beside a spinner on a terminal, a line for each elsewhere.
enum Progress {
    Silent,
    Lines { class: String, told: usize },
    Bar(ProgressBar),
}

impl Progress {
    fn new(context: &Context, class: &str) -> Self {
        let class = text::line(class);
        if context.global.quiet {
            return Self::Silent;
        }
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        if context.err == Paint::Plain || !is_terminal {
            return Self::Lines { class, told: 0 };
        }
        let bar = ProgressBar::new_spinner().with_prefix(class);
        let template = "{spinner} {prefix} {elapsed} {wide_msg}";
        bar.set_style(ProgressStyle::with_template(template).expect("a valid template"));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self::Bar(bar)
    }

    fn show(&mut self, phases: &[PhaseView]) {
        match self {
            Self::Silent => {}
            Self::Lines { class, told } => {
                for phase in phases.iter().skip(*told) {
                    eprintln!("template {class}: {}", said(phase));
                }
                *told = phases.len().max(*told);
            }
            Self::Bar(bar) => {
                let all: Vec<String> = phases.iter().map(said).collect();
                bar.set_message(all.join(", "));
            }
        }
    }

    fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn said(phase: &PhaseView) -> String {
    format!("{} {}", text::line(&phase.phase), text::millis(phase.ms))
}
