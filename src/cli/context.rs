//! What every command has at hand: settings, the client, and where output goes.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::Global;
use super::exit::{Exit, Failure};
use super::output::{Format, Paint, as_json, as_yaml};
use super::text;
use crate::api::{Client, Time};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Environment, Flags};

pub struct Context {
    pub global: Global,
    /// How standard output may be painted.
    pub out: Paint,
    /// How standard error may be painted.
    pub err: Paint,
}

impl Context {
    pub fn new(global: Global) -> Self {
        Self {
            out: Paint::decide(global.color, io::stdout().is_terminal()),
            err: Paint::decide(global.color, io::stderr().is_terminal()),
            global,
        }
    }

    pub fn config(&self) -> Result<Config, Failure> {
        self.config_with(Flags::default())
    }

    /// The settings, with flags that only some commands have.
    pub fn config_with(&self, own: Flags) -> Result<Config, Failure> {
        let flags = Flags {
            file: self.global.config.clone(),
            socket: self.global.socket.clone(),
            ..own
        };
        Ok(config::load(&flags, &Environment::of_process())?)
    }

    pub fn client(&self) -> Result<Client, Failure> {
        self.client_of(&self.config()?)
    }

    pub fn client_of(&self, config: &Config) -> Result<Client, Failure> {
        Ok(Client::new(&config.socket())?)
    }

    pub fn now(&self) -> Time {
        Time::of(SystemClock.now())
    }

    /// Writes a result: `table` as it is, or `value` as a document.
    pub fn show<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.global.output {
            Format::Table => self.print(&table()),
            Format::Json => self.print(&(as_json(value, true)? + "\n")),
            Format::Yaml => self.print(&as_yaml(value)?),
        }
    }

    /// Writes one item of a stream that has no table form of its own here.
    pub fn show_item<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        match self.global.output {
            Format::Yaml => self.print(&format!("---\n{}", as_yaml(value)?)),
            _ => self.print(&(as_json(value, false)? + "\n")),
        }
    }

    /// To standard output. A reader that has had enough ends the program quietly, as it would end
    /// one that is not written in Rust.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
        {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => Err(Failure::new(
                Exit::Failed,
                format!("standard output cannot be written: {error}"),
            )),
        }
    }

    /// To standard error, unless that is not wanted.
    pub fn note(&self, text: &str) {
        if !self.global.quiet {
            let _ = writeln!(io::stderr().lock(), "{}", text::block(text));
        }
    }

    /// To standard error, already harmless, painted or not.
    pub fn note_painted(&self, text: &str) {
        let _ = write!(io::stderr().lock(), "{text}");
    }

    /// Says what went wrong and gives the exit code back.
    pub fn report(&self, failure: &Failure) -> Exit {
        let mut said = format!(
            "{} {}\n",
            self.err.red("error:"),
            text::block(&failure.message)
        );
        if let Some(way_out) = &failure.way_out {
            said.push_str(&format!(
                "{} {}\n",
                self.err.bold("help:"),
                text::block(way_out)
            ));
        }
        self.note_painted(&said);
        failure.exit
    }
}
