//! `run logs`: what the stages printed, as whole lines.

use std::collections::BTreeMap;

use clap::Args;
use futures::StreamExt;

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::output::Format;
use super::super::text;
use crate::api::LogPiece;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom run logs 7
  greenroom run logs 7 --follow
  greenroom run logs 7 --stage facts > facts.log
  greenroom run logs 7 -o json                 # pieces as they came, one per line

Lines of standard output are marked `|`, of standard error `!`; with --stage they come bare.")]
pub struct Logs {
    /// The run's number
    #[arg(value_parser = super::number)]
    id: i64,
    /// Go on until the run ends or is held
    #[arg(short, long)]
    follow: bool,
    /// Of one stage only
    #[arg(long)]
    stage: Option<String>,
}

impl Logs {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let pieces = client
            .run_logs(self.id, self.follow, self.stage.as_deref())
            .await?;
        let mut pieces = std::pin::pin!(pieces);
        let mut lines = Lines {
            marked: self.stage.is_none(),
            open: BTreeMap::new(),
        };
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            match context.global.output {
                Format::Table => context.print(&lines.take(&piece))?,
                Format::Json | Format::Yaml => context.show_item(&piece)?,
            }
        }
        context.print(&lines.rest())?;
        Ok(Exit::Ok)
    }
}

/// Puts pieces together to lines. Two streams that write at once do not cut each other's lines.
struct Lines {
    marked: bool,
    /// Lines that have not ended, by attempt and stream, with their mark.
    open: BTreeMap<(String, String), (String, String)>,
}

impl Lines {
    fn take(&mut self, piece: &LogPiece) -> String {
        let key = (piece.attempt.clone(), piece.stream.clone());
        let (mark, mut open) = self.open.remove(&key).unwrap_or_else(|| {
            let mark = if self.marked {
                mark(piece)
            } else {
                String::new()
            };
            (mark, String::new())
        });
        open.push_str(&piece.text);
        let mut out = String::new();
        let mut rest = open.as_str();
        while let Some((line, after)) = rest.split_once('\n') {
            out.push_str(&ended(&mark, line));
            rest = after;
        }
        if !rest.is_empty() {
            self.open.insert(key, (mark, rest.to_owned()));
        }
        out
    }

    /// Lines that never ended.
    fn rest(self) -> String {
        self.open
            .into_values()
            .map(|(mark, line)| ended(&mark, &line))
            .collect()
    }
}

fn ended(mark: &str, line: &str) -> String {
    format!("{mark}{}\n", text::block(line.trim_end_matches('\r')))
}

fn mark(piece: &LogPiece) -> String {
    let undo = if piece.purpose == "undo" { " undo" } else { "" };
    let number = if piece.number > 1 {
        format!("#{}", piece.number)
    } else {
        String::new()
    };
    let stream = if piece.stream == "err" { '!' } else { '|' };
    format!("{}{undo}{number} {stream} ", text::line(&piece.stage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Time;

    fn piece(stream: &str, number: u32, text: &str) -> LogPiece {
        LogPiece {
            stage: "facts".into(),
            purpose: "work".into(),
            number,
            attempt: format!("attempt-{number}"),
            stream: stream.into(),
            position: 0,
            at: Time(jiff::Timestamp::UNIX_EPOCH),
            text: text.into(),
        }
    }

    #[test]
    fn lines_stay_whole_and_say_whose_they_are() {
        let mut lines = Lines {
            marked: true,
            open: BTreeMap::new(),
        };
        let mut out = String::new();
        for piece in [
            piece("out", 1, "one\ntw"),
            piece("err", 1, "warning\x1b[31m\r\n"),
            piece("out", 1, "o\n\nthree"),
            piece("out", 2, "again\n"),
        ] {
            out.push_str(&lines.take(&piece));
        }
        out.push_str(&lines.rest());
        insta::assert_snapshot!(out, @r"
        facts | one
        facts ! warning\u{1b}[31m
        facts | two
        facts | 
        facts#2 | again
        facts | three
        ");
    }

    #[test]
    fn one_stage_comes_bare() {
        let mut lines = Lines {
            marked: false,
            open: BTreeMap::new(),
        };
        assert_eq!(
            lines.take(&piece("out", 1, "{\"a\":\n1}\n")),
            "{\"a\":\n1}\n"
        );
    }
}
