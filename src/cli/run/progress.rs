//! Progress of a run: a line per stage that changes in place on a terminal, a line per change
//! elsewhere. To standard error.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::super::context::Context;
use super::super::output::Paint;
use super::super::text;
use crate::api::{StageView, WatchUpdate};

pub enum Progress {
    Silent,
    Lines(Option<Box<WatchUpdate>>),
    Bars(Paint, MultiProgress, Vec<ProgressBar>),
}

impl Progress {
    pub fn new(context: &Context) -> Self {
        if context.global.quiet {
            Self::Silent
        } else if context.err == Paint::Ansi && console_is_terminal() {
            Self::Bars(context.err, MultiProgress::new(), Vec::new())
        } else {
            Self::Lines(None)
        }
    }

    pub fn show(&mut self, update: &WatchUpdate) {
        match self {
            Self::Silent => {}
            Self::Lines(last) => {
                for line in changes(last.as_deref(), update) {
                    eprintln!("{line}");
                }
                *last = Some(Box::new(update.clone()));
            }
            Self::Bars(paint, multi, bars) => {
                while bars.len() < update.stages.len() + 1 {
                    let bar = ProgressBar::new_spinner();
                    let style = ProgressStyle::with_template("{wide_msg}");
                    bar.set_style(style.expect("a valid template"));
                    bars.push(multi.add(bar));
                }
                let width = name_width(update);
                for (bar, stage) in bars.iter().zip(&update.stages) {
                    let log_line = update.log_line.as_deref();
                    bar.set_message(stage_line(stage, width, log_line, *paint));
                }
                if let Some(bar) = bars.last() {
                    bar.set_message(format!("  {}", text::line(&update.why.doing)));
                }
            }
        }
    }

    /// Leaves the stages' lines where they are.
    pub fn end(&mut self) {
        if let Self::Bars(_, _, bars) = self {
            if let Some(doing) = bars.pop() {
                doing.finish_and_clear();
            }
            for bar in bars {
                bar.abandon();
            }
            // The bars leave the cursor at the end of the last line.
            eprintln!();
        }
    }
}

fn console_is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

fn name_width(update: &WatchUpdate) -> usize {
    let widths = update.stages.iter().map(|stage| stage.name.chars().count());
    widths.max().unwrap_or(0)
}

fn stage_line(stage: &StageView, width: usize, log_line: Option<&str>, paint: Paint) -> String {
    // Padded before it is painted: escape codes have no width.
    let state = format!("{:<10}", word(stage));
    let painted = state.replace(state.trim_end(), &paint.state(state.trim_end()));
    let mut line = format!("  {:<width$}  {painted}", text::line(&stage.name));
    if stage.tries > 0 {
        line.push_str(&format!(" {:>7}", text::span(stage.elapsed_s)));
        if let Some(expected) = stage.expected_s {
            line.push_str(&format!(" of about {}", text::span(expected)));
        }
        if stage.tries > 1 {
            line.push_str(&format!(", try {}", stage.tries));
        }
    }
    if stage.state == "working"
        && let Some(log_line) = log_line
    {
        line.push_str(&format!("  {}", text::line(log_line)));
    }
    line
}

fn word(stage: &StageView) -> String {
    if stage.prefetching {
        "ready soon".to_owned()
    } else {
        text::line(&stage.state)
    }
}

/// What is new, in lines that stand for themselves in a log: stages first, then what follows for
/// the run, but for its end, which is told elsewhere.
fn changes(last: Option<&WatchUpdate>, now: &WatchUpdate) -> Vec<String> {
    let id = now.run.id;
    let mut lines: Vec<String> = now
        .stages
        .iter()
        .enumerate()
        .filter(|(index, stage)| {
            let before = last.and_then(|last| last.stages.get(*index));
            let is_new = before
                .is_none_or(|before| (&before.state, before.tries) != (&stage.state, stage.tries));
            is_new && stage.state != "waiting"
        })
        .map(|(_, stage)| format!("run {id}: {}", stage_change(stage)))
        .collect();
    if last.is_none_or(|last| last.run.state != now.run.state) && !now.run.is_at_rest() {
        let line = format!("run {id}: {}", text::line(&now.run.state));
        let at = if now.run.state == "undoing" {
            lines.len()
        } else {
            0
        };
        lines.insert(at, line);
    }
    lines
}

fn stage_change(stage: &StageView) -> String {
    let (name, state) = (text::line(&stage.name), text::line(&stage.state));
    let mut line = format!("stage {name}: {state}");
    if stage.tries > 1 {
        line.push_str(&format!(", try {}", stage.tries));
    }
    if matches!(stage.state.as_str(), "succeeded" | "failed") {
        line.push_str(&format!(" after {}", text::span(stage.elapsed_s)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn update(state: &str, stages: &[(&str, &str, u32)]) -> WatchUpdate {
        let view = sample::held();
        let mut run = view.run;
        run.state = state.into();
        WatchUpdate {
            run,
            why: view.why,
            stages: stages
                .iter()
                .map(|(name, state, tries)| StageView {
                    name: (*name).into(),
                    kind: "custom".into(),
                    state: (*state).into(),
                    tries: *tries,
                    elapsed_s: 3.2,
                    expected_s: Some(4.0),
                    prefetching: false,
                })
                .collect(),
            event: None,
            log_line: Some("copying\x1b[0m".into()),
        }
    }

    #[test]
    fn elsewhere_each_change_is_one_line_and_nothing_else_is() {
        let steps = [
            update("queued", &[("a", "waiting", 0), ("b", "waiting", 0)]),
            update("running", &[("a", "working", 1), ("b", "waiting", 0)]),
            update("running", &[("a", "working", 1), ("b", "waiting", 0)]),
            update("running", &[("a", "preparing", 2), ("b", "waiting", 0)]),
            update("succeeded", &[("a", "succeeded", 2), ("b", "succeeded", 1)]),
        ];
        let mut last = None;
        let mut lines = Vec::new();
        for step in &steps {
            lines.extend(changes(last, step));
            last = Some(step);
        }
        insta::assert_snapshot!(lines.join("\n"), @r"
        run 7: queued
        run 7: running
        run 7: stage a: working
        run 7: stage a: preparing, try 2
        run 7: stage a: succeeded, try 2 after 3.2s
        run 7: stage b: succeeded after 3.2s
        ");
    }

    #[test]
    fn on_a_terminal_a_stage_says_how_long_and_what() {
        let update = update("running", &[("a", "working", 2)]);
        let line = stage_line(
            &update.stages[0],
            5,
            update.log_line.as_deref(),
            Paint::Plain,
        );
        assert_eq!(
            line,
            "  a      working       3.2s of about 4.0s, try 2  copying\\u{1b}[0m"
        );
    }
}
