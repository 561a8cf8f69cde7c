//! `/audit`: who changed what, and whether the log is whole.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Shared;
use super::cursor;
use super::extract::Params;
use super::refusal::Refusal;
use super::routes::{Op, Routes};
use crate::access::Access;
use crate::access::ledger::{Head, Record, Verifier};
use crate::api::{AuditVerdict, AuditView, Page, Time};
use crate::store::audit as rows;
use crate::vocab::access::Role;

/// Records of one read.
const BATCH: i64 = 1000;

pub fn routes() -> Routes {
    Routes::of(
        "audit",
        "Every call that changed something, in a chain of hashes.",
    )
    .with(
        Op::get(
            "audit_list",
            "/audit",
            Access::whole_site(Role::Admin),
            list,
        )
        .says("Calls, newest first")
        .query::<Which>()
        .answers::<Page<AuditView>>(200),
    )
    .with(
        Op::get(
            "audit_verify",
            "/audit/verify",
            Access::whole_site(Role::Admin),
            verify,
        )
        .says("Reads the whole log and says whether a record was changed or removed")
        .query::<Kept>()
        .answers::<AuditVerdict>(200),
    )
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Part of the caller's name, such as `user:ada`.
    pub(crate) who: Option<String>,
    /// The operation, such as `run_start`.
    pub(crate) action: Option<String>,
    /// 100 when not given, 1000 at most.
    pub(crate) limit: Option<i64>,
    /// The `next` of the last page.
    pub(crate) cursor: Option<String>,
}

pub(crate) async fn list(
    State(app): Shared,
    Params(which): Params<Which>,
) -> Result<Json<Page<AuditView>>, Refusal> {
    let limit = cursor::limit(which.limit);
    let below = cursor::read_number("audit", which.cursor.as_deref(), i64::MAX)?;
    let which = rows::Which {
        who: which.who.unwrap_or_default(),
        action: which.action.unwrap_or_default(),
    };
    let mut connection = app.state.services.store.read().await?;
    let found = rows::audit_list(&mut connection, &which, below, limit + 1).await?;
    let key = |record: &Record| record.seq.to_string();
    Ok(Json(cursor::page("audit", found, limit, key, view)))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// `SEQ:HASH` of a record that was noted elsewhere, which has to be in the log.
    pub(crate) head: Option<String>,
}

pub(crate) async fn verify(
    State(app): Shared,
    Params(kept): Params<Kept>,
) -> Result<Json<AuditVerdict>, Refusal> {
    let kept = match kept.head.as_deref() {
        None => None,
        Some(text) => Some(head(text)?),
    };
    let mut verifier = Verifier::new(kept);
    let mut last = Head::start();
    // One connection, and so one moment, for head and records alike.
    let mut connection = app.state.services.store.read().await?;
    let stored = rows::audit_head(&mut connection).await?;
    let mut flaw = None;
    'reading: loop {
        let records = rows::audit_read(&mut connection, last.seq, BATCH).await;
        let records = match records {
            Ok(records) => records,
            Err(error) => {
                flaw = Some(error.to_string());
                break;
            }
        };
        let is_end = (records.len() as i64) < BATCH;
        for record in records {
            // What was added after the head was read is for the next time.
            if record.seq > stored.seq && last.seq == stored.seq {
                break 'reading;
            }
            if let Err(error) = verifier.read(&record) {
                flaw = Some(error.to_string());
                break 'reading;
            }
            last = record.head();
        }
        if is_end {
            break;
        }
    }
    if flaw.is_none() {
        flaw = verifier.end(stored).err().map(|flaw| flaw.to_string());
    }
    Ok(Json(AuditVerdict {
        whole: flaw.is_none(),
        records: last.seq,
        head: format!("{}:{}", last.seq, last.hash),
        flaw,
    }))
}

fn head(text: &str) -> Result<Head, Refusal> {
    let parsed = text.split_once(':').and_then(|(seq, hash)| {
        Some(Head {
            seq: seq.parse().ok()?,
            hash: hash.parse().ok()?,
        })
    });
    parsed.ok_or_else(|| {
        Refusal::mistake(format!(
            "{text:?} is not SEQ:HASH, as an earlier verification printed it"
        ))
    })
}

fn view(record: &Record) -> AuditView {
    let entry = record.entry.clone();
    AuditView {
        seq: record.seq,
        at: Time::of(entry.at),
        request: entry.request,
        who: entry.who,
        origin: entry.origin,
        role: entry.role,
        client: entry.client,
        action: entry.action,
        subject: entry.subject,
        status: entry.status,
        detail: entry.detail,
        hash: record.hash,
    }
}
