//! What a persona means for one device, and what a run takes along of it.

use serde_json::{Map, Value, json};
use sqlx::sqlite::SqliteConnection;

use super::{Chosen, LibraryError, choose_for, no_persona};
use crate::personas::catalogue::Catalogue;
use crate::personas::render::{self, File};
use crate::personas::resolve::{Resolved, resolve};
use crate::store::personas as rows;
use crate::vocab::persona::{Given, PersonaRef, PersonaVersion, PinnedPersona};
use crate::vocab::prediction::Proposal;
use crate::vocab::{Device, Timestamp};

/// What a persona means for a device.
#[derive(Debug, Clone)]
pub struct Preview {
    pub resolved: Resolved,
    pub files: Vec<File>,
}

pub fn preview(
    compiled: &crate::vocab::persona::Compiled,
    device: &str,
    facts: &Map<String, Value>,
) -> Preview {
    let catalogue = Catalogue::shipped();
    let resolved = resolve(&compiled.document, device, facts);
    let files = render::files(
        &compiled.document,
        &resolved,
        catalogue,
        device,
        compiled.digest,
    );
    Preview { resolved, files }
}

/// A persona as a run takes it along: who it is, and what its stages read as `persona`.
#[derive(Debug, Clone, PartialEq)]
pub struct ForRun {
    pub pinned: PinnedPersona,
    /// The chain that it names for itself, by its label [`CHAIN_LABEL`].
    pub chain: Option<String>,
    pub document: Value,
    /// The classifier decided alone.
    pub proposed: bool,
}

/// The persona of a device for a run that starts now, if it has one. When equals disagree, or when
/// what was chosen cannot be had, that is refused with the reason.
pub async fn for_run(
    connection: &mut SqliteConnection,
    device: &Device,
    proposal: Option<Proposal>,
    now: Timestamp,
) -> Result<Option<ForRun>, LibraryError> {
    // Most of what a run start costs here; an installation without personas does not pay it.
    if !rows::persona_exists(connection).await? {
        return Ok(None);
    }
    let Chosen {
        choice,
        version,
        trouble,
    } = choose_for(connection, device, proposal, now).await?;
    if choice.given == Given::Conflict {
        return Err(LibraryError::Refused(format!(
            "which persona device {} gets is not clear: {} (`greenroom persona why {}`)",
            device.name, choice.reason, device.name
        )));
    }
    if let Some(trouble) = trouble {
        return Err(LibraryError::Refused(format!(
            "device {} has no persona: {trouble} ({})",
            device.name, choice.reason
        )));
    }
    let proposed = choice.is_proposed();
    Ok(version.map(|version| ForRun {
        proposed,
        ..pinned(&version, choice.reason, device)
    }))
}

/// The label by which a persona says which chain makes it.
pub const CHAIN_LABEL: &str = "chain";

/// The persona that somebody asked for, whatever rules and assignments say. A draft has to be named with
/// its version.
pub async fn for_run_asked(
    connection: &mut SqliteConnection,
    device: &Device,
    persona: &PersonaRef,
) -> Result<ForRun, LibraryError> {
    let name = &persona.name;
    let number = match persona.version {
        Some(version) => version,
        None => match rows::current_get(connection, name).await? {
            Some(version) => version,
            None if rows::version_get(connection, name, None).await?.is_none() => {
                return Err(no_persona(name, None));
            }
            None => {
                return Err(LibraryError::Refused(format!(
                    "no version of persona {name} is promoted; promote one with `greenroom persona promote {name}`, or name one as {name}@VERSION"
                )));
            }
        },
    };
    let version = rows::version_get(connection, name, Some(number))
        .await?
        .ok_or_else(|| no_persona(name, Some(number)))?;
    Ok(pinned(&version, "it was asked for".into(), device))
}

/// Users with their shells as programs.
pub(super) fn users(document: &crate::vocab::persona::Document) -> Value {
    let shells = Catalogue::shipped()
        .variants
        .get(&document.os.variant)
        .map(|variant| &variant.shells);
    let preferences = &document.preferences;
    preferences
        .users
        .iter()
        .map(|user| {
            let shell = user.shell.as_ref().unwrap_or(&preferences.shell);
            let program = shells.and_then(|shells| shells.get(shell)).map_or("/bin/sh", String::as_str);
            json!({ "name": user.name, "sudo": user.sudo, "groups": user.groups, "keys": user.keys, "shell": program })
        })
        .collect()
}

/// A file as the stages put it on the disk; none: it is for the installation only. cloud-init looks for
/// its seed in a folder of the disk before it looks anywhere else.
fn on_disk(file: &File, cloud_init: bool) -> Option<Value> {
    if file.path.starts_with('/') {
        return Some(json!(file));
    }
    let name = file.path.strip_prefix("nocloud/").filter(|_| cloud_init)?;
    let path = format!("{SEED}/{name}");
    Some(json!(File {
        path,
        ..file.clone()
    }))
}

/// The NoCloud data source's own folder (cloud-init's manual, NoCloud, "File based configuration").
const SEED: &str = "/var/lib/cloud/seed/nocloud";

pub(super) fn pinned(version: &PersonaVersion, reason: String, device: &Device) -> ForRun {
    let compiled = &version.compiled;
    let Preview { resolved, files } = preview(compiled, &device.name, &device.facts);
    let mut document = serde_json::to_value(&compiled.document).unwrap_or_default();
    document["name"] = json!(compiled.name);
    document["version"] = json!(version.version);
    document["digest"] = json!(compiled.digest);
    document["reason"] = json!(reason);
    document["problems"] = json!(resolved.problems);
    document["resolved"] = json!({
        "hostname": resolved.hostname,
        "users": users(&compiled.document),
        "interfaces": resolved.interfaces,
        "bonds": resolved.bonds,
        "packages": render::packages(&compiled.document, Catalogue::shipped()),
        "cmdline": render::cmdline(&compiled.document),
    });
    document["files"] = files
        .iter()
        .filter_map(|file| on_disk(file, compiled.document.os.cloud_init))
        .collect();
    ForRun {
        pinned: PinnedPersona {
            name: compiled.name.clone(),
            version: version.version,
            digest: compiled.digest,
            reason,
        },
        document,
        chain: compiled.document.labels.get(CHAIN_LABEL).cloned(),
        proposed: false,
    }
}
