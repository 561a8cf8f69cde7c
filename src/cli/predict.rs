//! `predict`: what a chain would need for a device, with how sure that is and by whom.

use std::fmt::Write as _;

use clap::Args;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::Paint;
use super::table::Table;
use super::text;
use crate::api::models::PredictionView;
use crate::vocab::prediction::{Expected, Resource, Source};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom predict box-1 --chain hello
  greenroom predict box-1                     # the chain whose trigger holds for it
  greenroom predict box-1 --chain hello -o json | jq '.stages[].expected.memory'")]
pub struct Predict {
    /// Name or id of the device
    device: String,
    /// The chain [default: the one whose trigger holds for the device]
    #[arg(long)]
    chain: Option<String>,
}

impl Predict {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let predicted = client.predict(&self.device, self.chain.as_deref()).await?;
        context.show(&predicted, || render(&predicted, context.out))?;
        Ok(Exit::Ok)
    }
}

fn render(view: &PredictionView, paint: Paint) -> String {
    let mut out = format!(
        "{} v{} for {}\n",
        text::line(&view.chain),
        view.chain_version,
        text::line(&view.device)
    );
    let mut field = |label: &str, value: String| {
        let _ = writeln!(out, "  {label:<9} {}", text::line(&value));
    };
    if let (Some(duration), Some(late)) = (view.duration, view.duration_late) {
        field(
            "takes",
            format!(
                "{} ({} … {}), under {} in 19 of 20",
                text::span(duration.middle),
                text::span(duration.low),
                text::span(duration.high),
                text::span(late)
            ),
        );
    }
    if let Some(persona) = &view.persona {
        field("persona", format!("{persona}: {}", view.persona_reason));
    }
    match &view.proposal {
        Some(proposal) => {
            field(
                "seems",
                format!(
                    "{}: {}, from {} devices",
                    proposal.persona,
                    proposal.told(),
                    proposal.examples
                ),
            );
            for (persona, p) in &proposal.others {
                field("", format!("{persona} {:.0} %", 100.0 * p));
            }
        }
        None => field(
            "seems",
            "there is no classifier yet; rules and people decide".to_owned(),
        ),
    }
    out.push('\n');
    let headers = [
        "STAGE", "WHAT", "GIVEN", "EXPECTED", "8 OF 10", "BY", "BECAUSE",
    ];
    let mut table = Table::new(paint, &headers);
    for stage in &view.stages {
        for resource in Resource::ALL {
            let Some(expected) = stage.expected.as_ref().map(|all| all.of(resource)) else {
                continue;
            };
            let size = &stage.size;
            let given = match resource {
                Resource::Memory => format!("{} MiB", size.memory_mib),
                Resource::Cpu => format!("{} vCPU", size.vcpus),
                Resource::Network => size
                    .network_kbytes_per_s
                    .map_or_else(|| "unlimited".to_owned(), |limit| format!("{limit} kB/s")),
                Resource::Duration => "-".to_owned(),
            };
            let (middle, interval) = spread(expected, resource);
            table.row([
                stage.name.clone(),
                resource.word().to_owned(),
                given,
                middle,
                interval,
                by(expected),
                expected.reason.clone(),
            ]);
        }
        table.row([
            stage.name.clone(),
            "size".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            stage.size_reason.clone(),
        ]);
    }
    out.push_str(&table.render("no stages"));
    out
}

fn by(expected: &Expected) -> String {
    match (&expected.source, &expected.model) {
        (Source::Chain, _) => "chain".to_owned(),
        (Source::Model, Some(model)) => model.clone(),
        _ => "plain rule".to_owned(),
    }
}

fn spread(expected: &Expected, resource: Resource) -> (String, String) {
    let Some(spread) = expected.spread else {
        return ("-".to_owned(), "-".to_owned());
    };
    (
        format!("{:.1} {}", spread.middle, resource.unit()),
        format!("{:.1} … {:.1}", spread.low, spread.high),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::models::PredictedStage;
    use crate::vocab::machine::Size;
    use crate::vocab::prediction::{Spread, StageExpectation};

    #[test]
    fn what_is_expected_stands_with_by_whom_and_why() {
        let unknown = Expected {
            amount: 0.0,
            spread: None,
            source: Source::Chain,
            model: None,
            observations: 0,
            reason: "no history".into(),
        };
        let memory = Expected {
            amount: 96.0,
            spread: Some(Spread {
                low: 70.0,
                middle: 80.0,
                high: 90.5,
            }),
            source: Source::Model,
            model: Some("memory#7".into()),
            observations: 60,
            reason: "memory#7, trained on 60 observations".into(),
        };
        let view = PredictionView {
            device: "box\u{1b}[2J".into(),
            chain: "hello".into(),
            chain_version: 2,
            stages: vec![PredictedStage {
                name: "facts".into(),
                size: Size {
                    vcpus: 1,
                    memory_mib: 96,
                    disk_mib: 64,
                    network_kbytes_per_s: None,
                },
                size_reason: "96 MiB: memory#7".into(),
                expected: Some(StageExpectation {
                    memory,
                    cpu: unknown.clone(),
                    network: unknown.clone(),
                    duration: unknown,
                    features: 1,
                }),
            }],
            duration: None,
            duration_late: None,
            persona: None,
            persona_reason: String::new(),
            proposal: None,
        };
        let drawn = render(&view, Paint::Plain);
        assert!(drawn.starts_with("hello v2 for box\\u{1b}[2J\n"), "{drawn}");
        let line = drawn
            .lines()
            .find(|line| line.contains("memory#7, trained"))
            .unwrap();
        for part in ["facts", "96 MiB", "80.0 MiB", "70.0 … 90.5", "memory#7"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(drawn.contains("no history"));
        assert!(drawn.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
