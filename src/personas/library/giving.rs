//! Who gets which persona: assignments, rules, and the choice for one device.

use serde_json::Value;
use sqlx::sqlite::SqliteConnection;

use super::{Act, LibraryError, Mode, find};
use crate::chain::faults::Faults;
use crate::personas::choose::{Who, choose};
use crate::personas::rules;
use crate::store::personas::{self as rows, AppliedRules};
use crate::store::{Store, StoreError};
use crate::vocab::persona::{
    Assignment, Choice, Given, PersonaRef, PersonaVersion, RuleSet, Subject,
};
use crate::vocab::prediction::Proposal;
use crate::vocab::{Device, Timestamp};

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
        return Err(LibraryError::Refused(
            "the assignment would be over before it begins; give a later --until".into(),
        ));
    }
    {
        let mut connection = store.read().await?;
        find(
            &mut connection,
            &wanted.persona.name,
            wanted.persona.version,
        )
        .await?;
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
        .write(move |connection| {
            Box::pin(async move { rows::assignment_insert(connection, assignment).await })
        })
        .await?)
}

pub async fn unassign(store: &Store, id: i64, act: Act) -> Result<Assignment, LibraryError> {
    let no_such = || {
        LibraryError::NotFound(format!(
            "there is no assignment {id} in force; see `greenroom persona assignments`"
        ))
    };
    let found = {
        let mut connection = store.read().await?;
        rows::assignment_get(&mut connection, id)
            .await?
            .ok_or_else(no_such)?
    };
    let ended = store
        .write(move |connection| {
            Box::pin(async move {
                rows::assignment_end(connection, id, act.now, &act.by, &act.reason).await
            })
        })
        .await?;
    if ended { Ok(found) } else { Err(no_such()) }
}

/// Stores a file of rules as the next version. The inner error is the list of its faults; the second
/// value says whether anything changed.
pub async fn apply_rules(
    store: &Store,
    source: String,
    mode: Mode,
    act: Act,
) -> Result<Result<(AppliedRules, bool), Faults>, LibraryError> {
    let (names, newest) = {
        let mut connection = store.read().await?;
        let heads = rows::persona_list(&mut connection).await?;
        let names: Vec<String> = heads
            .iter()
            .map(|head| head.newest.name().to_owned())
            .collect();
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
        store
            .write(move |connection| {
                Box::pin(async move { rows::rules_insert(connection, &row).await })
            })
            .await?;
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

/// `proposal` is what the classifier says of the device. It does not count where its persona has no
/// version that is promoted: nobody wanted it yet.
pub async fn choose_for(
    connection: &mut SqliteConnection,
    device: &Device,
    proposal: Option<Proposal>,
    now: Timestamp,
) -> Result<Chosen, StoreError> {
    let assignments = rows::assignment_for(connection, &subjects(device)).await?;
    let rules = rows::rules_get(connection, None)
        .await?
        .map_or_else(RuleSet::default, |applied| applied.rules);
    let who = Who {
        name: &device.name,
        facts: &device.facts,
    };
    let proposal = match proposal {
        Some(said)
            if rows::current_get(connection, &said.persona)
                .await?
                .is_some() =>
        {
            Some(said)
        }
        _ => None,
    };
    let choice = choose(who, &assignments, &rules, proposal.as_ref(), now);
    let Given::Persona { persona } = &choice.given else {
        return Ok(Chosen {
            choice,
            version: None,
            trouble: None,
        });
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
        None => format!(
            "no version of persona {0} is promoted; `greenroom persona promote {0}`",
            persona.name
        ),
    });
    Ok(Chosen {
        choice,
        version,
        trouble,
    })
}

/// Everything that an assignment could call this device by.
pub(super) fn subjects(device: &Device) -> Vec<Subject> {
    let mut subjects = vec![Subject::Device(device.name.clone())];
    for (keys, make) in [
        (["user", "users"], Subject::User as fn(String) -> Subject),
        (["role", "roles"], Subject::Role),
        (["group", "groups"], Subject::Group),
    ] {
        for key in keys {
            match device.facts.get(key) {
                Some(Value::String(text)) => subjects.push(make(text.clone())),
                Some(Value::Array(items)) => subjects.extend(
                    items
                        .iter()
                        .filter_map(Value::as_str)
                        .take(100)
                        .map(|text| make(text.to_owned())),
                ),
                _ => {}
            }
        }
    }
    subjects.sort();
    subjects.dedup();
    subjects
}
