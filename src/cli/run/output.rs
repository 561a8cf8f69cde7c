//! `run output` and `run discard`: what a run made.

use std::io::Write;

use clap::Args;
use serde_json::Value;

use crate::api::RunOutput;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::text;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom run output 7                          # what there is, and where
  greenroom run output 7 -o json | jq .document   # the device's facts and all stages' results
  greenroom run output 7 --artefact security > evidence.tar.gz
  cp --sparse=always \"$(greenroom run output 7 -o json | jq -r .disk)\" web-1.raw")]
pub struct Output {
    /// The run's number
    #[arg(value_parser = super::number)]
    id: i64,
    /// Write the binary output of this stage to standard output
    #[arg(long, value_name = "STAGE")]
    artefact: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  greenroom run discard 7")]
pub struct Discard {
    /// The run's number
    #[arg(value_parser = super::number)]
    id: i64,
}

impl Output {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        if let Some(stage) = &self.artefact {
            let bytes = client.run_artefact(self.id, stage).await?;
            std::io::stdout()
                .write_all(&bytes)
                .map_err(|error| Failure::new(Exit::Failed, format!("standard output: {error}")))?;
            return Ok(Exit::Ok);
        }
        let output = client.run_output(self.id).await?;
        context.show(&output, || render(&output))?;
        Ok(Exit::Ok)
    }
}

impl Discard {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let run = context.client()?.run_discard(self.id).await?;
        context.show(&run, || {
            format!("the disk of run {} is discarded\n", run.id)
        })?;
        Ok(Exit::Ok)
    }
}

fn render(output: &RunOutput) -> String {
    let disk = output.disk.as_deref().unwrap_or("none is kept");
    let mut drawn = format!("disk      {}\n", text::line(disk));
    for artefact in &output.artefacts {
        drawn.push_str(&format!(
            "artefact  {}: {}, {} bytes, {}\n",
            text::line(&artefact.stage),
            text::line(&artefact.media_type),
            artefact.size_bytes,
            artefact.digest.get(..12).unwrap_or_default(),
        ));
    }
    let members = output.document.as_object().into_iter().flatten();
    let names: Vec<String> = members
        .map(|(name, _)| text::line(name).to_string())
        .collect();
    drawn.push_str(&format!(
        "document  {} (all of it: -o json)\n",
        names.join(", ")
    ));
    drawn.push_str(&verdicts(&output.document));
    drawn
}

/// What stages concluded: those that left a `verdict` with `checks`, each `{name, passed, …}`.
fn verdicts(document: &Value) -> String {
    let mut drawn = String::new();
    for (name, said) in document.as_object().into_iter().flatten() {
        let (Some(verdict), Some(checks)) = (said["verdict"].as_str(), said["checks"].as_array())
        else {
            continue;
        };
        let (passed, failed): (Vec<&Value>, Vec<&Value>) = checks
            .iter()
            .partition(|check| check["passed"].as_bool() == Some(true));
        drawn.push_str(&format!(
            "verdict   {}: {}, {} of {} checks\n",
            text::line(name),
            text::line(verdict),
            passed.len(),
            checks.len()
        ));
        for check in failed {
            let word = |key: &str| match &check[key] {
                Value::String(text) => text.clone(),
                Value::Null => "nothing".to_owned(),
                other => other.to_string(),
            };
            drawn.push_str(&format!(
                "  {}: expected {}, seen {}: {}\n",
                text::line(&word("name")),
                text::line(&word("expected")),
                text::line(&word("seen")),
                text::line(&word("reason"))
            ));
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_stages_concluded_is_told_with_what_falls_short() {
        let document = json!({
            "plan": { "hostname": "web-1" },
            "performance": { "verdict": "below expectations", "checks": [
                { "name": "boot", "passed": false, "expected": 60, "seen": 70.2, "reason": "10.2 s longer\u{1b}[2J" },
                { "name": "unit ssh", "passed": true, "expected": "active", "seen": "active", "reason": "it runs" },
            ] },
        });
        let said = verdicts(&document);
        assert!(said.starts_with("verdict   performance: below expectations, 1 of 2 checks\n  boot: expected 60, seen 70.2: 10.2 s longer"), "{said}");
        assert!(!said.contains('\u{1b}'));
    }
}
