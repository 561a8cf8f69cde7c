//! The library at work: versions, promotion, assignments and rules in the store, and what a run pins.
//!
//! A version is compiled outside of the database's writer and stored in one transaction with the
//! whole batch; when somebody else stored one meanwhile, the batch is refused and nothing is changed.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sqlx::sqlite::SqliteConnection;

use super::catalogue::Catalogue;
use super::choose::{Who, choose};
use super::compile::{Known, Means, Outcome, Source, compile};
use super::render::{self, File};
use super::resolve::{Resolved, resolve};
use super::{diff, read, rules};
use crate::chain::faults::{Fault, Faults};
use crate::store::personas::{self as rows, AppliedRules};
use crate::store::{Store, StoreError};
use crate::vocab::persona::{
    Assignment, Choice, Given, PersonaMove, PersonaRef, PersonaVersion, PinnedPersona, RuleSet, Subject,
};
use crate::vocab::{Device, Timestamp};

/// Who does something, why, and when.
#[derive(Debug, Clone)]
pub struct Act {
    pub by: String,
    pub reason: String,
    pub now: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    #[error("{0}")]
    NotFound(String),
    /// It does not fit the present state; the message says what would.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for LibraryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(why) => Self::Refused(why),
            other => Self::Store(other),
        }
    }
}

/// What became of one file of a batch.
#[derive(Debug, Clone)]
pub struct Applied {
    pub file: String,
    pub name: String,
    /// None: it has faults.
    pub version: Option<PersonaVersion>,
    /// Against the newest version so far.
    pub difference: String,
    /// False: the newest version meant the same already.
    pub is_new: bool,
    pub faults: Option<Faults>,
    pub warnings: Vec<Fault>,
}

/// Whether a batch is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    DryRun,
    /// New versions are drafts.
    Store,
    /// New versions become current.
    StoreAndPromote,
}

/// Compiles a batch and, unless a file has faults, stores what is new. Nothing is stored of a batch
/// with faults.
pub async fn apply(store: &Store, sources: Vec<Source>, mode: Mode, act: Act) -> Result<Vec<Applied>, LibraryError> {
    let (known, newest) = {
        let mut connection = store.read().await?;
        gather(&mut connection, &sources).await?
    };
    let newest_for = newest.clone();
    let texts = sources.clone();
    let outcomes = crate::blocking::run(move || {
        let next = |compiled: &crate::vocab::persona::Compiled| match newest_for.get(&compiled.name) {
            Some(newest) if newest.compiled.digest == compiled.digest => newest.version,
            Some(newest) => newest.version + 1,
            None => 1,
        };
        compile(&texts, &known, &Means::shipped(), &next)
    })
    .await;
    let applied: Vec<Applied> = outcomes
        .into_iter()
        .zip(&sources)
        .map(|(outcome, source)| judge(outcome, source, &newest, &act))
        .collect();
    if mode == Mode::DryRun || applied.iter().any(|one| one.faults.is_some()) {
        return Ok(applied);
    }
    let stored = applied.clone();
    store
        .write(move |connection| Box::pin(async move { store_all(connection, &stored, mode, &act).await }))
        .await?;
    Ok(applied)
}

/// What the batch's parents may mean, and the newest version of everything.
async fn gather(connection: &mut SqliteConnection, sources: &[Source]) -> Result<(Known, BTreeMap<String, PersonaVersion>), StoreError> {
    let mut known = Known::default();
    let mut newest = BTreeMap::new();
    let mut wanted: Vec<PersonaRef> = sources.iter().filter_map(|source| read::read(&source.text).layer?.parent).collect();
    for head in rows::persona_list(connection).await? {
        let name = head.newest.name().to_owned();
        if let Some(current) = head.current {
            known.current.insert(name.clone(), current);
            wanted.push(PersonaRef::exact(&name, current));
        }
        newest.insert(name, head.newest);
    }
    for version in newest.values() {
        let versions = known.versions.entry(version.name().to_owned()).or_default();
        versions.insert(version.version, version.compiled.clone());
    }
    for persona in wanted {
        let Some(number) = persona.version else { continue };
        if known.versions.get(&persona.name).is_some_and(|versions| versions.contains_key(&number)) {
            continue;
        }
        if let Some(found) = rows::version_get(connection, &persona.name, Some(number)).await? {
            known.versions.entry(persona.name).or_default().insert(number, found.compiled);
        }
    }
    Ok((known, newest))
}

fn judge(outcome: Outcome, source: &Source, newest: &BTreeMap<String, PersonaVersion>, act: &Act) -> Applied {
    let before = newest.get(&outcome.name);
    let Outcome { file, name, compiled, warnings, .. } = outcome;
    match compiled {
        Err(faults) => Applied { file, name, version: None, difference: String::new(), is_new: false, faults: Some(faults), warnings },
        Ok(compiled) => {
            let is_new = before.is_none_or(|before| before.compiled.digest != compiled.digest);
            let exact = before.map(|before| before.exact().to_string()).unwrap_or_default();
            let difference = diff::compiled(before.map(|before| (&before.compiled, exact.as_str())), (&compiled, &name));
            let version = match before.filter(|_| !is_new) {
                Some(before) => before.clone(),
                None => PersonaVersion {
                    version: before.map_or(1, |before| before.version + 1),
                    compiled,
                    source: source.text.clone(),
                    warnings: warnings.iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect(),
                    applied_at: act.now,
                    applied_by: act.by.clone(),
                    reason: act.reason.clone(),
                },
            };
            Applied { file, name, version: Some(version), difference, is_new, faults: None, warnings }
        }
    }
}

async fn store_all(connection: &mut SqliteConnection, applied: &[Applied], mode: Mode, act: &Act) -> Result<(), StoreError> {
    for one in applied {
        let Some(version) = &one.version else { continue };
        if one.is_new {
            rows::version_insert(connection, version).await?;
            let previous = rows::current_get(connection, version.name()).await?;
            rows::move_insert(connection, &moved(version.name(), version.version, "applied", previous, act)).await?;
        }
        if mode == Mode::StoreAndPromote {
            make_current(connection, version.name(), version.version, "promoted", act).await?;
        }
    }
    Ok(())
}

fn moved(name: &str, version: i64, what: &str, previous: Option<i64>, act: &Act) -> PersonaMove {
    PersonaMove {
        name: name.to_owned(),
        version,
        what: what.to_owned(),
        previous,
        at: act.now,
        by: act.by.clone(),
        reason: act.reason.clone(),
    }
}

/// Nothing happens where it is current already.
async fn make_current(connection: &mut SqliteConnection, name: &str, version: i64, what: &str, act: &Act) -> Result<(), StoreError> {
    let previous = rows::current_get(connection, name).await?;
    if previous == Some(version) {
        return Ok(());
    }
    rows::current_set(connection, name, version).await?;
    rows::move_insert(connection, &moved(name, version, what, previous, act)).await
}

fn no_persona(name: &str, version: Option<i64>) -> LibraryError {
    LibraryError::NotFound(match version {
        Some(version) => format!("persona {name} has no version {version}; see `greenroom persona history {name}`"),
        None => format!("there is no persona {name:?}; see `greenroom persona list`"),
    })
}

/// One version; without a number the current one, else the newest.
pub async fn find(connection: &mut SqliteConnection, name: &str, version: Option<i64>) -> Result<PersonaVersion, LibraryError> {
    let wanted = match version {
        Some(version) => Some(version),
        None => rows::current_get(connection, name).await?,
    };
    let found = rows::version_get(connection, name, wanted).await?;
    match found {
        Some(found) => Ok(found),
        None if rows::version_get(connection, name, None).await?.is_some() => Err(no_persona(name, wanted)),
        None => Err(no_persona(name, None)),
    }
}

/// Makes a version the one that devices get: the one that is named, else the newest.
pub async fn promote(store: &Store, name: &str, version: Option<i64>, act: Act) -> Result<PersonaVersion, LibraryError> {
    let found = {
        let mut connection = store.read().await?;
        let found = rows::version_get(&mut connection, name, version).await?;
        match found {
            Some(found) => found,
            None => {
                let any = rows::version_get(&mut connection, name, None).await?;
                return Err(no_persona(name, version.filter(|_| any.is_some())));
            }
        }
    };
    let (name, number) = (name.to_owned(), found.version);
    store
        .write(move |connection| Box::pin(async move { make_current(connection, &name, number, "promoted", &act).await }))
        .await?;
    Ok(found)
}

/// Back to what was current before the current version was promoted, or to a version that is named.
pub async fn roll_back(store: &Store, name: &str, to: Option<i64>, act: Act) -> Result<PersonaVersion, LibraryError> {
    let target = {
        let mut connection = store.read().await?;
        let current = rows::current_get(&mut connection, name).await?;
        let Some(current) = current else {
            if rows::version_get(&mut connection, name, None).await?.is_none() {
                return Err(no_persona(name, None));
            }
            return Err(LibraryError::Refused(format!("no version of persona {name} is promoted, so there is nothing to go back from")));
        };
        let before = match to {
            Some(to) => Some(to),
            None => rows::move_list(&mut connection, name)
                .await?
                .iter()
                .find(|moved| moved.what == "promoted" && moved.version == current)
                .and_then(|moved| moved.previous),
        };
        let Some(before) = before else {
            return Err(LibraryError::Refused(format!(
                "nothing was current before version {current} of persona {name}; name a version with --to, see `greenroom persona history {name}`"
            )));
        };
        rows::version_get(&mut connection, name, Some(before)).await?.ok_or_else(|| no_persona(name, Some(before)))?
    };
    let (name, number) = (name.to_owned(), target.version);
    store
        .write(move |connection| Box::pin(async move { make_current(connection, &name, number, "rolled back", &act).await }))
        .await?;
    Ok(target)
}

/// What an assignment is to say.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub subject: Subject,
    pub persona: PersonaRef,
    pub precedence: i64,
    pub until: Option<Timestamp>,
}

pub async fn assign(store: &Store, wanted: Wanted, act: Act) -> Result<Assignment, LibraryError> {
    if wanted.until.is_some_and(|until| until <= act.now) {
        return Err(LibraryError::Refused("the assignment would be over before it begins; give a later --until".into()));
    }
    {
        let mut connection = store.read().await?;
        find(&mut connection, &wanted.persona.name, wanted.persona.version).await?;
    }
    let assignment = Assignment {
        id: 0,
        subject: wanted.subject,
        persona: wanted.persona,
        precedence: wanted.precedence,
        reason: act.reason,
        by: act.by,
        at: act.now,
        until: wanted.until,
    };
    Ok(store
        .write(move |connection| Box::pin(async move { rows::assignment_insert(connection, assignment).await }))
        .await?)
}

pub async fn unassign(store: &Store, id: i64, act: Act) -> Result<Assignment, LibraryError> {
    let no_such = || LibraryError::NotFound(format!("there is no assignment {id} in force; see `greenroom persona assignments`"));
    let found = {
        let mut connection = store.read().await?;
        rows::assignment_get(&mut connection, id).await?.ok_or_else(no_such)?
    };
    let ended = store
        .write(move |connection| Box::pin(async move { rows::assignment_end(connection, id, act.now, &act.by, &act.reason).await }))
        .await?;
    if ended { Ok(found) } else { Err(no_such()) }
}

/// Stores a file of rules as the next version. The inner error is the list of its faults; the second
/// value says whether anything changed.
pub async fn apply_rules(store: &Store, source: String, mode: Mode, act: Act) -> Result<Result<(AppliedRules, bool), Faults>, LibraryError> {
    let (names, newest) = {
        let mut connection = store.read().await?;
        let heads = rows::persona_list(&mut connection).await?;
        let names: Vec<String> = heads.iter().map(|head| head.newest.name().to_owned()).collect();
        (names, rows::rules_get(&mut connection, None).await?)
    };
    let rules = match rules::check(&source, Some(&names)) {
        Ok(rules) => rules,
        Err(faults) => return Ok(Err(faults)),
    };
    if let Some(newest) = newest.as_ref().filter(|newest| newest.rules == rules) {
        return Ok(Ok((newest.clone(), false)));
    }
    let applied = AppliedRules {
        version: newest.map_or(1, |newest| newest.version + 1),
        source,
        rules,
        applied_at: act.now,
        applied_by: act.by,
        reason: act.reason,
    };
    if mode != Mode::DryRun {
        let row = applied.clone();
        store.write(move |connection| Box::pin(async move { rows::rules_insert(connection, &row).await })).await?;
    }
    Ok(Ok((applied, true)))
}

/// What was chosen for a device, and the version that this means today.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub choice: Choice,
    pub version: Option<PersonaVersion>,
    /// Why there is none although one was chosen.
    pub trouble: Option<String>,
}

pub async fn choose_for(connection: &mut SqliteConnection, device: &Device, now: Timestamp) -> Result<Chosen, StoreError> {
    let assignments = rows::assignment_for(connection, &subjects(device)).await?;
    let rules = rows::rules_get(connection, None).await?.map_or_else(RuleSet::default, |applied| applied.rules);
    let who = Who { name: &device.name, facts: &device.facts };
    let choice = choose(who, &assignments, &rules, now);
    let Given::Persona { persona } = &choice.given else {
        return Ok(Chosen { choice, version: None, trouble: None });
    };
    let number = match persona.version {
        Some(version) => Some(version),
        None => rows::current_get(connection, &persona.name).await?,
    };
    let version = match number {
        Some(number) => rows::version_get(connection, &persona.name, Some(number)).await?,
        None => None,
    };
    let trouble = version.is_none().then(|| match persona.version {
        Some(version) => format!("persona {} has no version {version}", persona.name),
        None => format!("no version of persona {0} is promoted; `greenroom persona promote {0}`", persona.name),
    });
    Ok(Chosen { choice, version, trouble })
}

/// Everything that an assignment could call this device by.
fn subjects(device: &Device) -> Vec<Subject> {
    let mut subjects = vec![Subject::Device(device.name.clone())];
    for (keys, make) in [
        (["user", "users"], Subject::User as fn(String) -> Subject),
        (["role", "roles"], Subject::Role),
        (["group", "groups"], Subject::Group),
    ] {
        for key in keys {
            match device.facts.get(key) {
                Some(Value::String(text)) => subjects.push(make(text.clone())),
                Some(Value::Array(items)) => subjects.extend(items.iter().filter_map(Value::as_str).take(100).map(|text| make(text.to_owned()))),
                _ => {}
            }
        }
    }
    subjects.sort();
    subjects.dedup();
    subjects
}

/// What a persona means for a device.
#[derive(Debug, Clone)]
pub struct Preview {
    pub resolved: Resolved,
    pub files: Vec<File>,
}

pub fn preview(compiled: &crate::vocab::persona::Compiled, device: &str, facts: &Map<String, Value>) -> Preview {
    let catalogue = Catalogue::shipped();
    let resolved = resolve(&compiled.document, device, facts);
    let files = render::files(&compiled.document, &resolved, catalogue, device, compiled.digest);
    Preview { resolved, files }
}

/// A persona as a run takes it along: who it is, and what its stages read as `persona`.
#[derive(Debug, Clone, PartialEq)]
pub struct ForRun {
    pub pinned: PinnedPersona,
    pub document: Value,
}

/// The persona of a device for a run that starts now, if it has one. When equals disagree, or when
/// what was chosen cannot be had, that is refused with the reason.
pub async fn for_run(connection: &mut SqliteConnection, device: &Device, now: Timestamp) -> Result<Option<ForRun>, LibraryError> {
    let Chosen { choice, version, trouble } = choose_for(connection, device, now).await?;
    if choice.given == Given::Conflict {
        return Err(LibraryError::Refused(format!(
            "which persona device {} gets is not clear: {} (`greenroom persona why {}`)",
            device.name, choice.reason, device.name
        )));
    }
    if let Some(trouble) = trouble {
        return Err(LibraryError::Refused(format!("device {} has no persona: {trouble} ({})", device.name, choice.reason)));
    }
    Ok(version.map(|version| pinned(&version, choice.reason, device)))
}

/// Users with their shells as programs.
fn users(document: &crate::vocab::persona::Document) -> Value {
    let shells = Catalogue::shipped().variants.get(&document.os.variant).map(|variant| &variant.shells);
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

fn pinned(version: &PersonaVersion, reason: String, device: &Device) -> ForRun {
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
    document["files"] = files.iter().filter(|file| file.path.starts_with('/')).map(|file| json!(file)).collect();
    ForRun {
        pinned: PinnedPersona {
            name: compiled.name.clone(),
            version: version.version,
            digest: compiled.digest,
            reason,
        },
        document,
    }
}
