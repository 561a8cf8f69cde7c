//! `serve`: the daemon.

use clap::Args;

use super::StateOption;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output;
use crate::config::{Flags, HypervisorKind};
use crate::hypervisor::HvError;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom serve
  greenroom serve --state /srv/greenroom -v
  greenroom serve --hypervisor simulated --state /tmp/try      # chains without any VM

Ends at SIGTERM and SIGINT; runs go on where they were at the next start.")]
pub struct Serve {
    #[command(flatten)]
    state: StateOption,
    /// What makes machines real, instead of the configuration's choice
    #[arg(long, value_enum, value_name = "KIND")]
    hypervisor: Option<HypervisorKind>,
    /// Keep no machines ready: each one boots
    #[arg(long)]
    no_pool: bool,
}

impl Serve {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config_with(Flags {
            state: self.state.state,
            hypervisor: self.hypervisor,
            no_pool: self.no_pool,
            ..Flags::default()
        })?;
        let traces = crate::daemon::traces(&config).map_err(|error| of_daemon(&error))?;
        output::install_daemon_log(&context.global, traces.as_ref());
        let served = crate::daemon::serve(config).await;
        if let Some(traces) = traces {
            traces.end().await;
        }
        match served {
            Ok(()) => Ok(Exit::Ok),
            Err(error) => Err(of_daemon(&error)),
        }
    }
}

fn of_daemon(error: &anyhow::Error) -> Failure {
    // `{:#}` is the chain of causes on one line.
    let message = format!("{error:#}");
    for cause in error.chain() {
        if let Some(HvError::Unreachable(_)) = cause.downcast_ref() {
            return Failure::new(Exit::Unreachable, message).with_way_out(
                "see that libvirtd runs; `greenroom doctor` looks at everything that is needed",
            );
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::AddrInUse
        {
            return Failure::new(Exit::Refused, message);
        }
    }
    Failure::new(Exit::Failed, message)
        .with_way_out("`greenroom doctor` looks at everything that is needed")
}
