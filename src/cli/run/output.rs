//! `run output` and `run discard`: what a run made.

use std::io::Write;

use clap::Args;

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
    drawn
}
