//! The command line: nouns, then verbs; a file per group.
//!
//! Data goes to standard output, everything else to standard error. Commands speak through
//! `api::client` like everyone else; only `chain check`, `persona check`, `image`, `simulate` and `doctor` work without a
//! daemon.
//! What a guest or a stranger may have written passes [`text`] before it reaches a terminal.

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use futures::FutureExt;

use self::context::Context;
use self::exit::{Exit, Failure};
use self::output::{ColourChoice, Format};

mod audit;
mod boot;
mod chain;
mod claim;
mod context;
mod device;
mod device_bmc;
mod device_boot;
mod device_power;
mod doctor;
mod exit;
mod facts;
mod forecast;
mod image;
mod models;
mod output;
mod persona;
mod pool;
mod predict;
mod run;
mod serve;
mod simulate;
mod status;
mod table;
mod telemetry;
mod template;
mod text;
mod token;
mod user;
mod webhook;

#[derive(Debug, Parser)]
#[command(
    name = "greenroom",
    version,
    about = "Provisions devices through chains of short-lived virtual machines",
    max_term_width = 100,
    arg_required_else_help = true,
    after_long_help = EXIT_CODES,
    after_help = "See `greenroom --help` for exit codes and environment variables, `greenroom COMMAND --help` for examples."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the run failed or is held; a build failed; doctor found something
  2    the command line or the request is wrong
  3    there is no such thing
  4    refused: it does not fit the present state
  5    a document (chain, persona, device, configuration) has faults
  6    the pool has no machine for this
  7    timed out
  8    the daemon or libvirt cannot be reached
  70   a fault of greenroom itself
  130  interrupted
`claim --exec` ends with the exit code of its command once that has run.

Environment, each overruling the configuration file and overruled by flags:
  GREENROOM_CONFIG  GREENROOM_STATE  GREENROOM_SOCKET  GREENROOM_SOCKET_GROUP
  GREENROOM_IMAGES (recipes)
  GREENROOM_HYPERVISOR  GREENROOM_LIBVIRT_URI  GREENROOM_ACCELERATOR  GREENROOM_NETWORK
  GREENROOM_MEMORY_MIB  GREENROOM_VCPUS  GREENROOM_MAX_ACTIVE_RUNS
  GREENROOM_API_ADDRESS
  GREENROOM_POOL  GREENROOM_POOL_BUDGET_MIB  GREENROOM_POOL_MAX_AGE  GREENROOM_POOL_GROWTH_MIB
  NO_COLOR, CLICOLOR_FORCE

Start here:
  greenroom doctor
  greenroom image build tiny --recipes images
  greenroom serve &
  greenroom chain apply chains/hello.yaml
  greenroom device add box-1 --fact serial=X1
  greenroom run start --device box-1 --chain hello --wait";

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// How results are written
    #[arg(short = 'o', long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT", help_heading = "Global options")]
    pub output: Format,
    /// The daemon's socket [default: greenroom.sock in the state folder]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        help_heading = "Global options"
    )]
    pub socket: Option<PathBuf>,
    /// Configuration file [default: /etc/greenroom/greenroom.yaml, if there]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub config: Option<PathBuf>,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t = ColourChoice::Auto, value_name = "WHEN", help_heading = "Global options")]
    pub color: ColourChoice,
    /// Results and errors only
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// More about what is done; twice for all of it
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// The option of commands that work on the state folder itself.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct StateOption {
    /// Folder of everything that is kept [default: /var/lib/greenroom]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve(serve::Serve),
    /// Check the host and say how to repair what is wrong
    Doctor(doctor::Doctor),
    /// What the daemon is doing, and what is stuck
    Status(status::Status),
    /// Recipes of stages: check, apply, list, show
    #[command(subcommand, visible_alias = "chains")]
    Chain(chain::ChainCommand),
    /// What is provisioned: add, list, show, watch, approve, release
    #[command(subcommand, visible_alias = "devices")]
    Device(device::DeviceCommand),
    /// The network boot: explain
    #[command(subcommand)]
    Boot(boot::BootCommand),
    /// What devices are to become: check, apply, diff, promote, preview, assign, why
    #[command(subcommand, visible_alias = "personas")]
    Persona(persona::PersonaCommand),
    /// Executions of chains: start, list, show, watch, logs, abort, retry, replay
    #[command(subcommand, visible_alias = "runs")]
    Run(run::RunCommand),
    /// Base images: build, list
    #[command(subcommand, visible_alias = "images")]
    Image(image::ImageCommand),
    /// Bearer tokens of programs: create, list, revoke
    #[command(subcommand, visible_alias = "tokens")]
    Token(token::TokenCommand),
    /// People who log in: create, list, password, remove
    #[command(subcommand, visible_alias = "users")]
    User(user::UserCommand),
    /// Who changed what: list, verify
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Who outside is told what happens: add, list, test, log, remove
    #[command(subcommand, visible_alias = "webhooks")]
    Webhook(webhook::WebhookCommand),
    /// What warm machines are forked from: build, list, show, verify, retire
    #[command(subcommand, visible_alias = "templates")]
    Template(template::TemplateCommand),
    /// Machines that wait before they are asked for: list, show, set, policy, top
    #[command(subcommand, visible_alias = "pools")]
    Pool(pool::PoolCommand),
    /// Take a warm machine, and run a command in it
    #[command(visible_alias = "claims")]
    Claim(claim::ClaimCommand),
    /// Give claimed machines back
    Release(claim::Release),
    /// What will be asked for: show, compare, levels, event
    #[command(subcommand, visible_alias = "forecasts")]
    Forecast(forecast::ForecastCommand),
    /// What was learned from earlier runs: list, show, record, train, explain
    #[command(subcommand, visible_alias = "model")]
    Models(models::ModelsCommand),
    /// What a chain would need for a device, and which persona the device seems to be
    Predict(predict::Predict),
    /// What rules of pool sizes would have cost and served on a recorded trace
    Simulate(simulate::Simulate),
}

/// Runs the process's command line.
pub fn main() -> ExitCode {
    output::install_panic_hook();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            // A closed pipe behind --help is no reason to complain.
            let _ = error.print();
            return exit.into();
        }
    };
    let is_daemon = matches!(cli.command, Command::Serve(_));
    // The daemon's configuration says where else than into the log it tells what it does.
    if !is_daemon {
        output::install_log(&cli.global);
    }
    let context = Context::new(cli.global.clone());
    let mut builder = if is_daemon {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return context
                .report(&Failure::internal(format!("no runtime: {error}")))
                .into();
        }
    };
    let work = AssertUnwindSafe(execute(cli.command, &context)).catch_unwind();
    let exit = match runtime.block_on(work) {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => context.report(&failure),
        // The panic's hook has said what there is to say.
        Err(_) => Exit::Internal,
    };
    // Blocking work that is left (a name lookup, a hanging libvirt) must not keep the process.
    runtime.shutdown_background();
    end(exit)
}

/// Ends the process without the exit handlers of C libraries: threads inside of libvirt may be left
/// (the daemon's always are, a hanging one elsewhere), and libraries that are taken down under them
/// crash. Nothing of ours waits for an exit handler.
fn end(exit: Exit) -> ! {
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    // SAFETY: takes a number and does not return.
    unsafe { nix::libc::_exit(i32::from(exit.code())) }
}

async fn execute(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Serve(serve) => serve.run(context).await,
        Command::Doctor(doctor) => doctor.run(context).await,
        Command::Status(status) => status.run(context).await,
        Command::Chain(command) => command.run(context).await,
        Command::Device(command) => command.run(context).await,
        Command::Boot(command) => command.run(context).await,
        Command::Persona(command) => command.run(context).await,
        Command::Run(command) => command.run(context).await,
        Command::Image(command) => command.run(context).await,
        Command::Token(command) => command.run(context).await,
        Command::User(command) => command.run(context).await,
        Command::Audit(command) => command.run(context).await,
        Command::Webhook(command) => command.run(context).await,
        Command::Template(command) => command.run(context).await,
        Command::Pool(command) => command.run(context).await,
        Command::Claim(command) => command.run(context).await,
        Command::Release(release) => release.run(context).await,
        Command::Forecast(command) => command.run(context).await,
        Command::Models(command) => command.run(context).await,
        Command::Predict(command) => command.run(context).await,
        Command::Simulate(command) => command.run(context).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn no_two_options_collide() {
        super::Cli::command().debug_assert();
    }
}
