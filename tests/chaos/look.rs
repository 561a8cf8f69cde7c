//! The look from outside: `virsh`, the database through a connection of its own, the files.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};

use crate::checker::{AttemptRow, Domain, Facts, JournalRow, MachineRow, RunRow};
use crate::pooled::{ClaimRow, FileSeen, PoolFacts, ShellRow, TemplateRow};

/// The namespace of the tag in a domain's metadata.
const TAG: &str = "https://greenroom.dev/domain/1";

/// Everything that can be seen of the deployment in a state folder; `Err` says what could not be read.
pub async fn gather(state: &Path) -> Result<Facts, String> {
    let mut facts = Facts {
        domains: domains()?,
        ..Facts::default()
    };
    rows(state, &mut facts)
        .await
        .map_err(|error| format!("the database cannot be read: {error}"))?;
    walk(state, state, &mut facts.files);
    facts.files.sort();
    for file in facts
        .files
        .iter()
        .filter(|file| file.starts_with("templates/"))
    {
        if let Ok(seen) = std::fs::symlink_metadata(state.join(file)) {
            let seen = FileSeen {
                size_bytes: seen.len(),
                mode: seen.permissions().mode() & 0o7777,
            };
            facts.pool.files.insert(file.clone(), seen);
        }
    }
    for file in &facts.files {
        let Some(name) = file
            .strip_prefix("artefacts/")
            .and_then(|rest| rest.split('/').nth(1))
            .filter(|name| !name.starts_with('.'))
        else {
            continue;
        };
        let bytes = std::fs::read(state.join(file)).map_err(|error| format!("{file}: {error}"))?;
        facts.artefacts.insert(name.to_owned(), sha256(&bytes));
        for run in facts.runs.iter().filter(|run| run.head == name) {
            facts
                .envelopes
                .insert(run.id, serde_json::from_slice(&bytes).unwrap_or_default());
        }
    }
    Ok(facts)
}

pub async fn connect(database: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .busy_timeout(std::time::Duration::from_secs(5));
    SqliteConnection::connect_with(&options).await
}

async fn rows(state: &Path, facts: &mut Facts) -> Result<(), sqlx::Error> {
    let mut connection = connect(&state.join("greenroom.db")).await?;
    // One transaction: the daemon may go on writing while this is read.
    let mut reading = connection.begin().await?;
    let deployment: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'deployment'")
        .fetch_one(&mut *reading)
        .await?;
    facts.deployment = deployment.trim_matches('"').to_owned();
    for row in fetch(&mut reading, "SELECT id, state, body FROM runs ORDER BY id").await? {
        let body = document(&row);
        facts.runs.push(RunRow {
            id: row.get("id"),
            state: row.get("state"),
            head: text(&body["head"]),
            has_disks: body["has_disks"] == true,
        });
    }
    for row in fetch(&mut reading, "SELECT run, stage_index, purpose, number, generation, progress, input, output, body FROM attempts ORDER BY run, created_at").await? {
        facts.attempts.push(AttemptRow {
            run: row.get("run"),
            stage_index: row.get("stage_index"),
            stage: text(&document(&row)["stage"]),
            purpose: row.get("purpose"),
            number: row.get("number"),
            generation: row.get("generation"),
            progress: row.get("progress"),
            input: row.get("input"),
            output: row.get("output"),
        });
    }
    for row in fetch(&mut reading, "SELECT id, run, state FROM machines").await? {
        facts.machines.push(MachineRow {
            id: row.get("id"),
            run: row.get("run"),
            state: row.get("state"),
        });
    }
    for row in fetch(
        &mut reading,
        "SELECT run, seq, action, subject, intent_at, result_at FROM journal ORDER BY run, seq",
    )
    .await?
    {
        facts.journal.push(JournalRow {
            run: row.get("run"),
            seq: row.get("seq"),
            action: row.get("action"),
            subject: row.get("subject"),
            intent_at: row.get("intent_at"),
            result_at: row.get("result_at"),
        });
    }
    facts.pool = pool_rows(&mut reading).await?;
    let mut logs: BTreeMap<i64, String> = BTreeMap::new();
    for row in fetch(&mut reading, "SELECT logs.run, piece FROM logs JOIN attempts ON attempts.id = attempt WHERE stream = 'out' ORDER BY logs.run, attempts.position, logs.position").await? {
        logs.entry(row.get("run")).or_default().push_str(row.get("piece"));
    }
    facts.logs = logs
        .into_iter()
        .map(|(run, text)| (run, text.lines().map(str::to_owned).collect()))
        .collect();
    Ok(())
}

async fn pool_rows(reading: &mut SqliteConnection) -> Result<PoolFacts, sqlx::Error> {
    let mut pool = PoolFacts::default();
    for row in fetch(reading, "SELECT id, state, body FROM templates").await? {
        let seal = &document(&row)["seal"];
        let size = |file: &str| Some((file.to_owned(), seal[file]["size_bytes"].as_u64()?));
        pool.templates.push(TemplateRow {
            id: row.get("id"),
            state: row.get("state"),
            sealed: ["memory", "state", "disk"]
                .into_iter()
                .filter_map(size)
                .collect(),
        });
    }
    for row in fetch(
        reading,
        "SELECT id, state, body FROM shells ORDER BY serial",
    )
    .await?
    {
        let body = document(&row);
        pool.shells.push(ShellRow {
            id: row.get("id"),
            name: text(&body["name"]),
            state: row.get("state"),
            template: text(&body["template"]),
            claim: body["claim"].as_str().map(str::to_owned),
            draw: body["identity"]["draw"].as_str().map(str::to_owned),
            is_warm: body["ready_at"].is_i64(),
        });
    }
    for row in fetch(reading, "SELECT key, shell, released_at, body FROM claims").await? {
        pool.claims.push(ClaimRow {
            key: row.get("key"),
            shell: row.get("shell"),
            is_open: row.get::<Option<i64>, _>("released_at").is_none(),
            ends_by_itself: !document(&row)["until"].is_null(),
        });
    }
    Ok(pool)
}

async fn fetch(
    connection: &mut SqliteConnection,
    query: &'static str,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    sqlx::query(query).fetch_all(connection).await
}

fn document(row: &SqliteRow) -> Value {
    serde_json::from_str(row.get("body")).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
    // A folder or file may be removed while we look.
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path == root.join("images") {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // A template's folder counts, also when nothing is in it.
            if folder == root.join("templates")
                && let Ok(name) = path.strip_prefix(root)
            {
                found.push(format!("{}/", name.display()));
            }
            walk(root, &path, found);
        } else if let Ok(name) = path.strip_prefix(root) {
            found.push(name.display().to_string());
        }
    }
}

/// All domains of the host, whoever they belong to.
pub fn domains() -> Result<Vec<Domain>, String> {
    let listed = virsh(&["list", "--all", "--uuid"])?;
    let mut found = Vec::new();
    for uuid in listed.split_whitespace() {
        match domain(uuid) {
            Ok(domain) => found.push(domain),
            // It ended since it was listed.
            Err(error) if error.contains("failed to get domain") || error.contains("not found") => {
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

pub fn domain(uuid: &str) -> Result<Domain, String> {
    let xml = virsh(&["dumpxml", uuid])?;
    let state = virsh(&["domstate", uuid])?;
    let tree = roxmltree::Document::parse(&xml).map_err(|error| error.to_string())?;
    let name = tree
        .root_element()
        .children()
        .find(|child| child.has_tag_name("name"))
        .and_then(|name| name.text())
        .unwrap_or_default()
        .to_owned();
    let deployment = tree
        .descendants()
        .find(|node| node.tag_name().namespace() == Some(TAG))
        .and_then(|tag| tag.attribute("deployment"))
        .map(str::to_owned);
    Ok(Domain {
        name,
        uuid: uuid.to_owned(),
        deployment,
        xml,
        state: state.trim().to_owned(),
    })
}

/// Runs `virsh`; its complaint is the error.
pub fn virsh(arguments: &[&str]) -> Result<String, String> {
    let uri = std::env::var("GREENROOM_LIBVIRT_URI").unwrap_or_else(|_| "qemu:///system".into());
    let output = Command::new("timeout")
        .args(["60", "virsh", "-q", "-c", &uri])
        .args(arguments)
        .output()
        .map_err(|error| format!("virsh: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "virsh {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
