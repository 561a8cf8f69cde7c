//! Forms of output: documents, colours, logs.

use std::env::var_os;

use clap::ValueEnum;
use serde::Serialize;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::Global;
use super::exit::Failure;
use super::text;
use crate::daemon::Traces;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people; may change
    Table,
    /// For programs: the API's own fields
    Json,
    /// The same as YAML
    Yaml,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColourChoice {
    Auto,
    Always,
    Never,
}

/// Whether a stream may be painted. State is always said in words, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Ansi,
}

impl Paint {
    pub fn decide(choice: ColourChoice, is_terminal: bool) -> Self {
        let set = |name: &str| var_os(name).is_some_and(|value| !value.is_empty());
        let wanted = match choice {
            ColourChoice::Always => true,
            ColourChoice::Never => false,
            ColourChoice::Auto if set("NO_COLOR") => false,
            ColourChoice::Auto if var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0") => {
                true
            }
            ColourChoice::Auto => {
                is_terminal && var_os("TERM").is_some_and(|terminal| terminal != "dumb")
            }
        };
        if wanted { Self::Ansi } else { Self::Plain }
    }

    pub fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// A state of a run, stage or machine, in its colour.
    pub fn state(self, word: &str) -> String {
        match word {
            "succeeded" | "up" | "ok" => self.green(word),
            "failed" | "bad" => self.red(word),
            "held" | "paused" | "undoing" | "undone" | "aborted" | "kept" | "note" => {
                self.yellow(word)
            }
            "running" | "working" | "preparing" | "finishing" | "making" => self.with("36", word),
            _ => word.to_owned(),
        }
    }

    fn with(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// A document as JSON, safe for a terminal. serde_json escapes the C0 controls only.
pub fn as_json<T: Serialize>(value: &T, pretty: bool) -> Result<String, Failure> {
    let text = if pretty {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    let text = text.map_err(|error| Failure::internal(error.to_string()))?;
    Ok(text::json_escaped(&text))
}

/// A document as YAML, safe for a terminal.
pub fn as_yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    // Through JSON, so that every string that a terminal could misread is replaced before the YAML is
    // written. Fields come sorted by name.
    let mut value =
        serde_json::to_value(value).map_err(|error| Failure::internal(error.to_string()))?;
    text::clean_strings(&mut value);
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(&value, options)
        .map_err(|error| Failure::internal(error.to_string()))?;
    Ok(if text.ends_with('\n') {
        text
    } else {
        text + "\n"
    })
}

/// One line and the place where it happened; never a backtrace.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let said = panic
            .payload()
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.payload().downcast_ref::<String>().cloned())
            .unwrap_or_default();
        let place = panic
            .location()
            .map(|place| format!(" ({}:{})", place.file(), place.line()))
            .unwrap_or_default();
        eprintln!(
            "error: a fault of greenroom itself: {}{place}; please report this",
            text::line(&said)
        );
    }));
}

/// Logs go to standard error. Commands say only what goes wrong.
pub fn install_log(global: &Global) {
    install(global, false, None);
}

/// The daemon says what it does, and traces it where that is wanted.
pub fn install_daemon_log(global: &Global, traces: Option<&Traces>) {
    install(global, true, traces);
}

fn install(global: &Global, is_daemon: bool, traces: Option<&Traces>) {
    let base = match (is_daemon, global.quiet, global.verbose) {
        (_, true, _) => "error",
        (true, _, 0) => "info",
        (false, _, 0) => "warn",
        (false, _, 1) => "greenroom=info,warn",
        (_, _, 1) => "greenroom=debug,info",
        (_, _, _) => "greenroom=trace,debug",
    };
    let filter = EnvFilter::try_from_env("GREENROOM_LOG").unwrap_or_else(|_| EnvFilter::new(base));
    let painted = Paint::decide(
        global.color,
        std::io::IsTerminal::is_terminal(&std::io::stderr()),
    ) == Paint::Ansi;
    // A second subscriber (in tests) is not worth a complaint.
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(painted)
        .with_filter(filter);
    let _ = tracing_subscriber::registry()
        .with(traces.map(Traces::layer))
        .with(log)
        .try_init();
}
