//! `image`: base images, built in this process, without a daemon.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::StateOption;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::Paint;
use super::table::Table;
use super::text;
use crate::api::{ClientError, ImageView};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Flags};
use crate::images::build::{self, Built, Rebuild};
use crate::images::{Images, recipe};

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build images from their recipes, where anything changed
    Build(Build),
    /// List the images that are built
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  greenroom image list\n  greenroom image list -o json | jq -r '.[] | [.name, .digest] | @tsv'"
    )]
    List(StateOption),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom image build tiny
  greenroom image build --all
  greenroom image build toolbox --force --recipes ./images

A running daemon need not be stopped: new runs take the new image, runs under way keep theirs.")]
pub struct Build {
    /// Names of recipes
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
    /// Every recipe there is
    #[arg(long)]
    all: bool,
    /// Although nothing changed
    #[arg(long)]
    force: bool,
    /// Folder of recipes, instead of the configuration's (GREENROOM_IMAGES)
    #[arg(long, value_name = "DIR")]
    recipes: Option<PathBuf>,
    #[command(flatten)]
    state: StateOption,
}

#[derive(Debug, Serialize)]
struct Outcome {
    /// False: nothing had changed.
    built: bool,
    #[serde(flatten)]
    image: ImageView,
}

impl ImageCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Build(build) => build.run(context).await,
            Self::List(state) => list(context, state).await,
        }
    }
}

impl Build {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config_with(Flags {
            state: self.state.state.clone(),
            recipes: self.recipes.clone(),
            ..Flags::default()
        })?;
        let names = self.names_of(&config)?;
        let images = Images::open(&config.state).map_err(|error| {
            Failure::from(error).with_way_out(
                "the state folder belongs to the daemon: use its user, or another with --state",
            )
        })?;
        let rebuild = if self.force {
            Rebuild::Always
        } else {
            Rebuild::WhenChanged
        };
        let mut outcomes = Vec::new();
        for name in names {
            let built = build_one(context, &images, &config, name, rebuild).await?;
            outcomes.push(Outcome {
                built: matches!(built, Built::New(_)),
                image: ImageView::of(built.image()),
            });
        }
        context.show(&outcomes, || outcomes.iter().map(said).collect())?;
        Ok(Exit::Ok)
    }

    fn names_of(&self, config: &Config) -> Result<Vec<String>, Failure> {
        let folder = config.recipes.display();
        let help = "name the folder of recipes with --recipes or GREENROOM_IMAGES: in a checkout, --recipes images";
        let known = recipe::names(&config.recipes).map_err(|_| {
            Failure::new(
                Exit::NotFound,
                format!("there is no folder of recipes {folder}"),
            )
            .with_way_out(help)
        })?;
        if self.all && known.is_empty() {
            let message = format!("there are no recipes in {folder}");
            return Err(Failure::new(Exit::NotFound, message).with_way_out(help));
        }
        if self.all {
            return Ok(known);
        }
        if let Some(unknown) = self.names.iter().find(|name| !known.contains(name)) {
            let message = format!(
                "there is no recipe {unknown:?} in {folder}; there are: {}",
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            );
            return Err(Failure::new(Exit::NotFound, message).with_way_out(help));
        }
        Ok(self.names.clone())
    }
}

fn said(outcome: &Outcome) -> String {
    let image = &outcome.image;
    let what = if outcome.built {
        format!("built in {}", text::span(image.build_seconds))
    } else {
        "up to date".to_owned()
    };
    format!(
        "image {} {what}, {}, {}\n",
        text::line(&image.name),
        text::bytes(image.size_bytes),
        image.digest.short()
    )
}

/// Ctrl-C reaches the build script, too, which is of the same process group: its end is waited for,
/// so that it leaves nothing behind.
async fn build_one(
    context: &Context,
    images: &Images,
    config: &Config,
    name: String,
    rebuild: Rebuild,
) -> Result<Built, Failure> {
    let (images, recipes, now) = (images.clone(), config.recipes.clone(), SystemClock.now());
    let progress = Progress::new(context, &name);
    let work = crate::blocking::run(move || {
        let built = build::build(&images, &recipes, &name, rebuild, now, &mut |line| {
            progress.line(line)
        });
        progress.end();
        built
    });
    tokio::pin!(work);
    tokio::select! {
        built = &mut work => Ok(built?),
        _ = tokio::signal::ctrl_c() => {
            let _ = work.await;
            Err(Failure::new(Exit::Interrupted, "interrupted"))
        }
    }
}

/// The script's lines: the newest beside a spinner on a terminal, all of them elsewhere.
enum Progress {
    Silent,
    Lines(String),
    Bar(ProgressBar),
}

impl Progress {
    fn new(context: &Context, name: &str) -> Self {
        if context.global.quiet {
            return Self::Silent;
        }
        if context.err == Paint::Plain {
            return Self::Lines(text::line(name));
        }
        let bar = ProgressBar::new_spinner().with_prefix(text::line(name));
        let template = "{spinner} {prefix} {elapsed} {wide_msg}";
        bar.set_style(ProgressStyle::with_template(template).expect("a valid template"));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self::Bar(bar)
    }

    fn line(&self, line: &str) {
        match self {
            Self::Silent => {}
            Self::Lines(name) => eprintln!("{name}: {}", text::line(line)),
            Self::Bar(bar) => bar.set_message(text::line(line)),
        }
    }

    fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// As the daemon sees them; without one, as the state folder has them.
async fn list(context: &Context, own: StateOption) -> Result<Exit, Failure> {
    let config = context.config_with(Flags {
        state: own.state,
        ..Flags::default()
    })?;
    let images = match context.client_of(&config)?.image_list().await {
        Err(ClientError::Unreachable { .. }) if config.state.join("images").is_dir() => {
            let all = Images::open(&config.state)?.list()?;
            all.iter().map(ImageView::of).collect()
        }
        Err(ClientError::Unreachable { .. }) => Vec::new(),
        other => other?,
    };
    context.show(&images, || table(&images, context))?;
    Ok(Exit::Ok)
}

fn table(images: &[ImageView], context: &Context) -> String {
    let headers = ["NAME", "DIGEST", "SIZE", "MEMORY", "BUILT", "OS"];
    let mut table = Table::new(context.out, &headers);
    let now = context.now();
    for image in images {
        table.row([
            image.name.clone(),
            image.digest.short(),
            text::bytes(image.size_bytes),
            format!("≥ {}", text::mib(image.min_memory_mib)),
            format!("{} ago", text::span(now.seconds_from(image.built_at))),
            image.os.clone(),
        ]);
    }
    table.render("no images; build one with `greenroom image build NAME`")
}
