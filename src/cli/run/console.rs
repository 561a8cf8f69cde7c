//! `run console`: the last lines of the consoles of a run's machines.

use clap::Args;

use crate::api::ConsoleView;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::text;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greenroom run console 7\n\nThe newest machine comes first. What the stages print is in `greenroom run logs`."
)]
pub struct Console {
    /// The run's number
    #[arg(value_parser = super::number)]
    id: i64,
}

impl Console {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let consoles = context.client()?.run_console(self.id).await?;
        context.show(&consoles, || render(&consoles))?;
        Ok(Exit::Ok)
    }
}

fn render(consoles: &[ConsoleView]) -> String {
    if consoles.is_empty() {
        return "no machine of the run has a console that is kept\n".to_owned();
    }
    let mut out = String::new();
    for console in consoles {
        out.push_str(&format!(
            "{} (stage {}, {})\n",
            text::line(&console.machine),
            text::line(&console.stage),
            text::line(&console.state)
        ));
        for line in &console.lines {
            out.push_str(&format!("  {}\n", text::line(line)));
        }
    }
    out
}
