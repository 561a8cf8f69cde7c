//! Versions: compiled outside of the database's writer, stored all or none, promoted and rolled back.

use std::collections::BTreeMap;

use sqlx::sqlite::SqliteConnection;

use super::{Act, LibraryError, Mode, no_persona};
use crate::chain::faults::{Fault, Faults};
use crate::personas::compile::{Known, Means, Outcome, Source, compile};
use crate::personas::{diff, read};
use crate::store::personas as rows;
use crate::store::{Store, StoreError};
use crate::vocab::persona::{PersonaMove, PersonaRef, PersonaVersion};

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

/// Compiles a batch and, unless a file has faults, stores what is new. Nothing is stored of a batch
/// with faults.
pub async fn apply(
    store: &Store,
    sources: Vec<Source>,
    mode: Mode,
    act: Act,
) -> Result<Vec<Applied>, LibraryError> {
    let (known, newest) = {
        let mut connection = store.read().await?;
        gather(&mut connection, &sources).await?
    };
    let newest_for = newest.clone();
    let texts = sources.clone();
    let outcomes = crate::blocking::run(move || {
        let next = |compiled: &crate::vocab::persona::Compiled| match newest_for.get(&compiled.name)
        {
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
        .write(move |connection| {
            Box::pin(async move { store_all(connection, &stored, mode, &act).await })
        })
        .await?;
    Ok(applied)
}

/// What the batch's parents may mean, and the newest version of everything.
pub(super) async fn gather(
    connection: &mut SqliteConnection,
    sources: &[Source],
) -> Result<(Known, BTreeMap<String, PersonaVersion>), StoreError> {
    let mut known = Known::default();
    let mut newest = BTreeMap::new();
    let mut wanted: Vec<PersonaRef> = sources
        .iter()
        .filter_map(|source| read::read(&source.text).layer?.parent)
        .collect();
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
        let Some(number) = persona.version else {
            continue;
        };
        if known
            .versions
            .get(&persona.name)
            .is_some_and(|versions| versions.contains_key(&number))
        {
            continue;
        }
        if let Some(found) = rows::version_get(connection, &persona.name, Some(number)).await? {
            known
                .versions
                .entry(persona.name)
                .or_default()
                .insert(number, found.compiled);
        }
    }
    Ok((known, newest))
}

pub(super) fn judge(
    outcome: Outcome,
    source: &Source,
    newest: &BTreeMap<String, PersonaVersion>,
    act: &Act,
) -> Applied {
    let before = newest.get(&outcome.name);
    let Outcome {
        file,
        name,
        compiled,
        warnings,
        ..
    } = outcome;
    match compiled {
        Err(faults) => Applied {
            file,
            name,
            version: None,
            difference: String::new(),
            is_new: false,
            faults: Some(faults),
            warnings,
        },
        Ok(compiled) => {
            let is_new = before.is_none_or(|before| before.compiled.digest != compiled.digest);
            let exact = before
                .map(|before| before.exact().to_string())
                .unwrap_or_default();
            let difference = diff::compiled(
                before.map(|before| (&before.compiled, exact.as_str())),
                (&compiled, &name),
            );
            let version = match before.filter(|_| !is_new) {
                Some(before) => before.clone(),
                None => PersonaVersion {
                    version: before.map_or(1, |before| before.version + 1),
                    compiled,
                    source: source.text.clone(),
                    warnings: warnings
                        .iter()
                        .map(|warning| format!("{}: {}", warning.path, warning.message))
                        .collect(),
                    applied_at: act.now,
                    applied_by: act.by.clone(),
                    reason: act.reason.clone(),
                },
            };
            Applied {
                file,
                name,
                version: Some(version),
                difference,
                is_new,
                faults: None,
                warnings,
            }
        }
    }
}

pub(super) async fn store_all(
    connection: &mut SqliteConnection,
    applied: &[Applied],
    mode: Mode,
    act: &Act,
) -> Result<(), StoreError> {
    for one in applied {
        let Some(version) = &one.version else {
            continue;
        };
        if one.is_new {
            rows::version_insert(connection, version).await?;
            let previous = rows::current_get(connection, version.name()).await?;
            rows::move_insert(
                connection,
                &moved(version.name(), version.version, "applied", previous, act),
            )
            .await?;
        }
        if mode == Mode::StoreAndPromote {
            make_current(connection, version.name(), version.version, "promoted", act).await?;
        }
    }
    Ok(())
}

pub(super) fn moved(
    name: &str,
    version: i64,
    what: &str,
    previous: Option<i64>,
    act: &Act,
) -> PersonaMove {
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
pub(super) async fn make_current(
    connection: &mut SqliteConnection,
    name: &str,
    version: i64,
    what: &str,
    act: &Act,
) -> Result<(), StoreError> {
    let previous = rows::current_get(connection, name).await?;
    if previous == Some(version) {
        return Ok(());
    }
    rows::current_set(connection, name, version).await?;
    rows::move_insert(connection, &moved(name, version, what, previous, act)).await
}

/// Makes a version the one that devices get: the one that is named, else the newest.
pub async fn promote(
    store: &Store,
    name: &str,
    version: Option<i64>,
    act: Act,
) -> Result<PersonaVersion, LibraryError> {
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
        .write(move |connection| {
            Box::pin(async move { make_current(connection, &name, number, "promoted", &act).await })
        })
        .await?;
    Ok(found)
}

/// Back to what was current before the current version was promoted, or to a version that is named.
pub async fn roll_back(
    store: &Store,
    name: &str,
    to: Option<i64>,
    act: Act,
) -> Result<PersonaVersion, LibraryError> {
    let target = {
        let mut connection = store.read().await?;
        let current = rows::current_get(&mut connection, name).await?;
        let Some(current) = current else {
            if rows::version_get(&mut connection, name, None)
                .await?
                .is_none()
            {
                return Err(no_persona(name, None));
            }
            return Err(LibraryError::Refused(format!(
                "no version of persona {name} is promoted, so there is nothing to go back from"
            )));
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
        rows::version_get(&mut connection, name, Some(before))
            .await?
            .ok_or_else(|| no_persona(name, Some(before)))?
    };
    let (name, number) = (name.to_owned(), target.version);
    store
        .write(move |connection| {
            Box::pin(
                async move { make_current(connection, &name, number, "rolled back", &act).await },
            )
        })
        .await?;
    Ok(target)
}
