//! The library at work: versions, promotion, assignments and rules in the store, and what a run pins.
//!
//! A version is compiled outside of the database's writer and stored in one transaction with the
//! whole batch; when somebody else stored one meanwhile, the batch is refused and nothing is changed.

mod giving;
mod run;
mod versions;

pub use giving::{Chosen, Wanted, apply_rules, assign, choose_for, unassign};
pub use run::{ForRun, Preview, for_run, for_run_asked, preview};
pub use versions::{Applied, apply, promote, roll_back};

use sqlx::sqlite::SqliteConnection;

use crate::store::StoreError;
use crate::store::personas as rows;
use crate::vocab::Timestamp;
use crate::vocab::persona::PersonaVersion;

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

/// Whether a batch is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    DryRun,
    /// New versions are drafts.
    Store,
    /// New versions become current.
    StoreAndPromote,
}

fn no_persona(name: &str, version: Option<i64>) -> LibraryError {
    LibraryError::NotFound(match version {
        Some(version) => format!(
            "persona {name} has no version {version}; see `greenroom persona history {name}`"
        ),
        None => format!("there is no persona {name:?}; see `greenroom persona list`"),
    })
}

/// One version; without a number the current one, else the newest.
pub async fn find(
    connection: &mut SqliteConnection,
    name: &str,
    version: Option<i64>,
) -> Result<PersonaVersion, LibraryError> {
    let wanted = match version {
        Some(version) => Some(version),
        None => rows::current_get(connection, name).await?,
    };
    let found = rows::version_get(connection, name, wanted).await?;
    match found {
        Some(found) => Ok(found),
        None if rows::version_get(connection, name, None).await?.is_some() => {
            Err(no_persona(name, wanted))
        }
        None => Err(no_persona(name, None)),
    }
}
