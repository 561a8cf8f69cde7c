//! `doctor`: looks at everything that a host needs, and says how to repair what is missing.
//!
//! Each check is a [`Finding`]; none changes anything. What the running daemon knows better (whether
//! KVM really runs guests) is asked from it.

use clap::Args;
use serde::Serialize;

use super::StateOption;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::Paint;
use super::table::Table;
use super::text;
use crate::api::{ClientError, PoolBrief, StatusView};
use crate::config::{Config, Flags, HypervisorKind};
use crate::images::Images;

mod host;
mod libvirt;
mod state;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom doctor
  greenroom doctor -o json | jq '.[] | select(.level != \"ok\")'

Changes nothing. Exit code 0 when all is well, 1 when something has to be repaired.")]
pub struct Doctor {
    #[command(flatten)]
    state: StateOption,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub level: Level,
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// It works, and could be better.
    Note,
    /// It has to be repaired.
    Bad,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Bad => "bad",
        }
    }
}

impl Finding {
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            found: found.into(),
            repair: None,
        }
    }

    pub fn note(check: &'static str, found: impl Into<String>, repair: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Note,
            found: found.into(),
            repair: Some(repair.into()),
        }
    }

    pub fn bad(check: &'static str, found: impl Into<String>, repair: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Bad,
            found: found.into(),
            repair: Some(repair.into()),
        }
    }
}

impl Doctor {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config_with(Flags {
            state: self.state.state,
            ..Flags::default()
        })?;
        let status = context.client_of(&config)?.status().await;
        let findings = findings(&config, status).await;
        context.show(&findings, || render(&findings, context.out))?;
        let all_well = findings.iter().all(|finding| finding.level != Level::Bad);
        Ok(if all_well { Exit::Ok } else { Exit::Failed })
    }
}

async fn findings(config: &Config, status: Result<StatusView, ClientError>) -> Vec<Finding> {
    let running = status.as_ref().ok();
    let mut found = vec![daemon(config, &status)];
    found.extend(state::folder(&config.state));
    found.push(state::database(&config.database(), running.is_some()).await);
    if config.hypervisor.kind == HypervisorKind::Libvirt {
        let seen = libvirt::look(&config.hypervisor).await;
        let qemu_user = seen.as_ref().ok().and_then(|seen| seen.qemu_user);
        found.extend(libvirt::findings(&config.hypervisor, seen));
        found.extend(qemu_user.map(|user| state::reach(&config.state, user)));
        found.push(host::accelerator(
            config.hypervisor.accelerator,
            running.and_then(|status| status.host.as_ref()),
        ));
    } else {
        found.push(Finding::note(
            "hypervisor",
            "machines are simulated",
            "set hypervisor.kind to libvirt for real ones",
        ));
    }
    found.push(host::tool(
        "qemu-img",
        "--version",
        "disks are made with it; install qemu-utils",
    ));
    found.push(host::tool(
        "jq",
        "--version",
        "transforms in jq need it; install jq",
    ));
    found.push(images(config));
    found.extend(running.and_then(|status| status.pool.as_ref()).map(pool));
    found
}

/// As the running daemon found it out: whether a host forks is seen only by forking.
fn pool(pool: &PoolBrief) -> Finding {
    let budget = text::mib(pool.budget_mib);
    if pool.budget_mib == 0 {
        Finding::note(
            "pool",
            "switched off: every machine boots",
            "set pool.enabled to true, or start the daemon without --no-pool",
        )
    } else if pool.forks {
        Finding::ok(
            "pool",
            format!("forks ({}), up to {budget}", pool.forks_reason),
        )
    } else {
        Finding::note(
            "pool",
            format!("no machine is forked: {}", pool.forks_reason),
            "machines boot instead, which is slower; the daemon's log has more",
        )
    }
}

fn daemon(config: &Config, status: &Result<StatusView, ClientError>) -> Finding {
    let socket = config.socket();
    match status {
        Ok(status) => match &status.host_error {
            None => Finding::ok(
                "daemon",
                format!("{} at {}", status.version, socket.display()),
            ),
            Some(why) => Finding::bad(
                "daemon",
                format!("runs, and its host does not answer: {why}"),
                "see the findings about libvirt below; runs wait meanwhile",
            ),
        },
        Err(error) => {
            let failure = Failure::from_client(error);
            Finding::bad(
                "daemon",
                failure.message,
                failure.way_out.unwrap_or_default(),
            )
        }
    }
}

fn images(config: &Config) -> Finding {
    let build = format!(
        "greenroom image build tiny (recipes are looked for in {}; --recipes or GREENROOM_IMAGES name another folder)",
        config.recipes.display()
    );
    if !config.state.join("images").is_dir() {
        return Finding::bad("images", "none is built", build);
    }
    match Images::open(&config.state).and_then(|images| images.list()) {
        Ok(images) if images.is_empty() => Finding::bad("images", "none is built", build),
        Ok(images) => {
            let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
            Finding::ok("images", names.join(", "))
        }
        Err(error) => Finding::bad("images", error.to_string(), "build it again with --force"),
    }
}

fn render(findings: &[Finding], paint: Paint) -> String {
    let mut table = Table::new(paint, &["", "CHECK", "FOUND"]);
    for finding in findings {
        table.row([finding.level.word(), finding.check, &finding.found]);
    }
    let mut out = table.render("");
    let repairs: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.repair.is_some())
        .collect();
    if !repairs.is_empty() {
        out.push('\n');
    }
    for finding in repairs {
        let repair = finding.repair.as_deref().unwrap_or_default();
        let check = paint.bold(finding.check);
        out.push_str(&format!("{check}: {}\n", text::line(repair)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_come_with_their_repair() {
        let findings = [
            Finding::ok("jq", "jq-1.7"),
            Finding::bad("images", "none is built", "greenroom image build tiny"),
        ];
        insta::assert_snapshot!(render(&findings, Paint::Plain), @r"
             CHECK   FOUND
        ok   jq      jq-1.7
        bad  images  none is built

        images: greenroom image build tiny
        ");
    }
}
