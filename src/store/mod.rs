//! The database: SQLite through sqlx, a file per noun.
//!
//! All writes go through one writer, which commits whatever is waiting as one transaction (group
//! commit): with `synchronous = FULL` each commit is a flush to disk, and many runs share it. Reads
//! use their own connections and see the last commit.
//!
//! Queries are runtime-checked text, so that a first build needs no database; `tests/store` prepares
//! and runs each of them. The SQL keeps to what SQLite and PostgreSQL share (`$1…`, BIGINT, TEXT,
//! no booleans): PostgreSQL is where users go when they outgrow one host.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{mpsc, oneshot};

pub mod access;
pub mod answers;
pub mod artefacts;
pub mod audit;
pub mod boot;
pub mod boot_codes;
pub mod chains;
pub mod demand;
pub mod devices;
pub mod events;
pub mod journal;
pub mod logs;
pub mod meta;
pub mod models;
pub mod observations;
pub mod pages;
pub mod personas;
pub mod pool;
pub mod power;
pub mod runs;
pub mod telemetry;
pub mod times;
pub mod webhooks;

#[derive(Clone)]
pub struct Store {
    writer: mpsc::Sender<Write>,
    readers: SqlitePool,
    path: PathBuf,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the disk that holds {path} is full; free space there and the daemon goes on by itself"
    )]
    DiskFull { path: String },
    #[error("{path} is locked by another program; stop it and the daemon goes on by itself")]
    Locked { path: String },
    #[error("{path} is not a database of this program: {why}")]
    NotOurs { path: String, why: String },
    /// The answer to a caller's mistake: an unknown name, a stale generation, a name that is taken.
    #[error("{0}")]
    Refused(String),
    #[error("database: {0}")]
    Failed(String),
}

impl StoreError {
    /// The same write may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Locked { .. })
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // SQLite's primary result codes: 5 BUSY, 6 LOCKED, 10 IOERR, 13 FULL (sqlite.org/rescode.html).
        if let sqlx::Error::Database(inner) = &error {
            match inner
                .code()
                .and_then(|code| code.parse::<i32>().ok())
                .map(|code| code & 0xff)
            {
                Some(5 | 6) => {
                    return Self::Locked {
                        path: "the database".into(),
                    };
                }
                Some(13) => {
                    return Self::DiskFull {
                        path: "the database".into(),
                    };
                }
                _ => {}
            }
        }
        Self::Failed(error.to_string())
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(format!("a stored document does not read back: {error}"))
    }
}

type Work = Box<
    dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(), StoreError>> + Send,
>;

struct Write {
    work: Work,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// Most writes that share one transaction.
const GROUP: usize = 128;

impl Store {
    /// Opens or creates the database and brings its schema up to date. Must be called on a tokio
    /// runtime, which then carries the writer.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let not_ours = |error: sqlx::Error| match StoreError::from(error) {
            StoreError::Failed(why) => StoreError::NotOurs {
                path: shown.clone(),
                why,
            },
            StoreError::DiskFull { .. } => StoreError::DiskFull {
                path: shown.clone(),
            },
            other => other,
        };
        // Stages' logs and documents are nobody else's business; SQLite gives its other files the
        // mode of this one.
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| StoreError::NotOurs {
                path: shown.clone(),
                why: error.to_string(),
            })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(2))
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options)
            .await
            .map_err(not_ours)?;
        sqlx::migrate!("src/store/migrations")
            .run(&mut connection)
            .await
            .map_err(|error| StoreError::NotOurs {
                path: path.display().to_string(),
                why: error.to_string(),
            })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options.read_only(true))
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        keep_private(path).map_err(|error| StoreError::NotOurs {
            path: path.display().to_string(),
            why: error.to_string(),
        })?;
        let (writer, queue) = mpsc::channel(1024);
        tokio::spawn(write_in_groups(connection, queue));
        Ok(Self {
            writer,
            readers,
            path: path.to_owned(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` in a transaction of the one writer and returns once it is on disk. `work` may be
    /// undone by its own error, never by a neighbour's.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let (value_out, value_in) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            Box::pin(async move {
                let value = work(connection).await?;
                let _ = value_out.send(value);
                Ok(())
            })
        });
        let (answer, answered) = oneshot::channel();
        let gone = || StoreError::Failed("the database writer has stopped".into());
        self.writer
            .send(Write { work, answer })
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())??;
        value_in.await.map_err(|_| gone())
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Sqlite>, StoreError> {
        Ok(self.readers.acquire().await?)
    }
}

/// The database and SQLite's files beside it may be an older build's, which others could read.
fn keep_private(database: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        match std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

async fn write_in_groups(mut connection: SqliteConnection, mut queue: mpsc::Receiver<Write>) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut group, GROUP).await > 0 {
        let writes = std::mem::take(&mut group);
        let mut answers = Vec::with_capacity(writes.len());
        let outcome = commit_group(&mut connection, writes, &mut answers).await;
        for (answer, own) in answers {
            let _ = answer.send(match &outcome {
                Ok(()) => own,
                Err(error) => Err(error.clone()),
            });
        }
    }
    let _ = connection.close().await;
}

type Answers = Vec<(
    oneshot::Sender<Result<(), StoreError>>,
    Result<(), StoreError>,
)>;

async fn commit_group(
    connection: &mut SqliteConnection,
    writes: Vec<Write>,
    answers: &mut Answers,
) -> Result<(), StoreError> {
    let mut result = execute(connection, "BEGIN IMMEDIATE").await;
    for write in writes {
        let own = match &result {
            Ok(()) => one_write(connection, write.work).await,
            Err(error) => Err(Broken::Group(error.clone())),
        };
        if let Err(Broken::Group(error)) = &own {
            result = Err(error.clone());
        }
        answers.push((
            write.answer,
            own.map_err(|(Broken::Own(error) | Broken::Group(error))| error),
        ));
    }
    if result.is_ok() {
        result = execute(connection, "COMMIT").await;
    }
    if result.is_err() {
        // A failed COMMIT (disk full) may leave the transaction open; without this the next BEGIN fails.
        let _ = execute(connection, "ROLLBACK").await;
    }
    result
}

/// How far a write's error reaches.
enum Broken {
    /// It was undone alone.
    Own(StoreError),
    /// The transaction is gone: SQLite rolls it back by itself when the disk is full, say.
    Group(StoreError),
}

async fn one_write(connection: &mut SqliteConnection, work: Work) -> Result<(), Broken> {
    execute(connection, "SAVEPOINT one")
        .await
        .map_err(Broken::Group)?;
    match work(&mut *connection).await {
        Ok(()) => execute(connection, "RELEASE one")
            .await
            .map_err(Broken::Group),
        Err(error) => match execute(connection, "ROLLBACK TO one; RELEASE one").await {
            Ok(()) => Err(Broken::Own(error)),
            Err(_) => Err(Broken::Group(error)),
        },
    }
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::raw_sql(sql).execute(connection).await?;
    Ok(())
}

/// Rows keep their nouns as JSON text beside the few columns that queries need.
pub(crate) fn to_text<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    Ok(serde_json::to_string(value)?)
}

pub(crate) fn from_text<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    Ok(serde_json::from_str(text)?)
}
