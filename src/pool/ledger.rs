//! The rows of the pool, in memory and on disk. Everything that changes one goes through here.
//!
//! What is in memory decides: it is changed under a lock, in no time, and so two claims never see the
//! same shell ready. What is changed is then written in one transaction. Each change has a turn, and
//! the database keeps the latest, so that writes may overtake each other.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::pool::{self as table, Wanted};
use crate::store::{Store, StoreError};
use crate::vocab::pool::{Claim, Class, Shell, ShellState, Template, TemplateState};
use crate::vocab::{MachineId, Timestamp};

/// What is there now; gone and released ones are in the database only.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    pub wanted: BTreeMap<Class, Wanted>,
    pub templates: BTreeMap<MachineId, Template>,
    pub shells: BTreeMap<MachineId, Shell>,
    pub claims: BTreeMap<String, Claim>,
    /// Memory that a shell's guest saw before any was added, MiB.
    pub bases: BTreeMap<MachineId, u64>,
    /// When a class was last claimed.
    pub used: BTreeMap<Class, Timestamp>,
    /// Claims that found nothing, by the class that would have served them. Not kept over a restart.
    pub in_vain: BTreeMap<Class, Vec<Timestamp>>,
    last_serial: u32,
    turn: i64,
}

impl Rows {
    pub fn shells_of(&self, template: MachineId) -> impl Iterator<Item = &Shell> {
        self.shells
            .values()
            .filter(move |shell| shell.template == template)
    }

    pub fn next_serial(&mut self) -> u32 {
        self.last_serial = self.last_serial.saturating_add(1);
        self.last_serial
    }
}

/// One changed row.
#[derive(Debug, Clone)]
enum Changed {
    Wanted(Class, Option<Wanted>),
    Template(Template),
    Shell(Shell, Option<u64>),
    Claim(Claim),
    /// Nobody was told of it.
    Undone(String, MachineId),
}

/// Rows that are being changed.
pub struct Draft<'a> {
    pub rows: &'a mut Rows,
    changed: Vec<Changed>,
}

impl Draft<'_> {
    pub fn put_wanted(&mut self, class: &Class, wanted: Option<Wanted>) {
        match &wanted {
            Some(wanted) => self.rows.wanted.insert(class.clone(), wanted.clone()),
            None => self.rows.wanted.remove(class),
        };
        self.changed.push(Changed::Wanted(class.clone(), wanted));
    }

    pub fn put_template(&mut self, template: Template) {
        match template.state {
            TemplateState::Gone => self.rows.templates.remove(&template.id),
            _ => self.rows.templates.insert(template.id, template.clone()),
        };
        self.changed.push(Changed::Template(template));
    }

    pub fn put_shell(&mut self, shell: Shell) {
        let base = self.rows.bases.get(&shell.id).copied();
        if shell.state == ShellState::Gone {
            self.rows.shells.remove(&shell.id);
            self.rows.bases.remove(&shell.id);
        } else {
            self.rows.shells.insert(shell.id, shell.clone());
        }
        self.changed.push(Changed::Shell(shell, base));
    }

    pub fn put_claim(&mut self, claim: Claim) {
        match claim.released_at {
            Some(_) => self.rows.claims.remove(&claim.key),
            None => self.rows.claims.insert(claim.key.clone(), claim.clone()),
        };
        self.changed.push(Changed::Claim(claim));
    }

    /// Takes a claim back that nobody was told of.
    pub fn undo_claim(&mut self, key: &str) {
        if let Some(claim) = self.rows.claims.remove(key) {
            self.changed
                .push(Changed::Undone(key.to_owned(), claim.shell));
        }
    }

    /// Changes a template that is there.
    pub fn template(&mut self, id: MachineId, change: impl FnOnce(&mut Template)) {
        if let Some(mut template) = self.rows.templates.get(&id).cloned() {
            change(&mut template);
            self.put_template(template);
        }
    }

    /// Changes a shell that is there.
    pub fn shell(&mut self, id: MachineId, change: impl FnOnce(&mut Shell)) {
        if let Some(mut shell) = self.rows.shells.get(&id).cloned() {
            change(&mut shell);
            self.put_shell(shell);
        }
    }

    /// A shell is to be destroyed. The first reason stays.
    pub fn discard(&mut self, id: MachineId, reason: Option<&str>) {
        self.shell(id, |shell| {
            shell.state = ShellState::Releasing;
            if shell.reason.is_none() {
                shell.reason = reason.map(str::to_owned);
            }
        });
    }
}

pub struct Ledger {
    store: Store,
    rows: Mutex<Rows>,
}

impl Ledger {
    pub async fn load(store: Store) -> Result<Self, StoreError> {
        let mut connection = store.read().await?;
        let mut rows = Rows {
            wanted: table::target_list(&mut connection).await?,
            last_serial: table::shell_last_serial(&mut connection).await?,
            turn: table::last_turn(&mut connection).await?,
            ..Rows::default()
        };
        for template in table::template_list(&mut connection, false, i64::MAX).await? {
            rows.templates.insert(template.id, template);
        }
        for (shell, base) in table::shell_alive(&mut connection).await? {
            rows.bases.extend(base.map(|base| (shell.id, base)));
            rows.shells.insert(shell.id, shell);
        }
        for claim in table::claim_open(&mut connection).await? {
            rows.claims.insert(claim.key.clone(), claim);
        }
        for (class, at) in table::claim_last_by_class(&mut connection).await? {
            if let Ok(class) = class.parse() {
                rows.used.insert(class, at);
            }
        }
        drop(connection);
        Ok(Self {
            store,
            rows: Mutex::new(rows),
        })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn look<T>(&self, look: impl FnOnce(&Rows) -> T) -> T {
        look(&self.lock())
    }

    /// Changes what is kept in memory only.
    pub fn note(&self, note: impl FnOnce(&mut Rows)) {
        note(&mut self.lock());
    }

    /// Changes rows and returns once they are on disk. Waits out a full disk or a locked database: in
    /// memory the change holds at once, and nothing further is begun on it until then.
    pub async fn change<T>(&self, change: impl FnOnce(&mut Draft<'_>) -> T) -> T {
        let (value, write) = self.draft(change);
        let mut pause = Duration::from_millis(100);
        while let Err(error) = self.write(&write).await {
            tracing::warn!(%error, "the pool waits for the database");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        value
    }

    /// The same for somebody who cannot wait: the change holds in memory when this returns, and the
    /// future writes it. Its error means that nothing is on disk, and that the caller has to take back
    /// what it changed in memory.
    pub fn begin<T>(
        &self,
        change: impl FnOnce(&mut Draft<'_>) -> T,
    ) -> (T, impl Future<Output = Result<(), StoreError>> + '_) {
        let (value, write) = self.draft(change);
        (value, async move { self.write(&write).await })
    }

    fn draft<T>(&self, change: impl FnOnce(&mut Draft<'_>) -> T) -> (T, (Vec<Changed>, i64)) {
        let mut rows = self.lock();
        rows.turn += 1;
        let turn = rows.turn;
        let mut draft = Draft {
            rows: &mut rows,
            changed: Vec::new(),
        };
        let value = change(&mut draft);
        (value, (draft.changed, turn))
    }

    async fn write(&self, (changed, turn): &(Vec<Changed>, i64)) -> Result<(), StoreError> {
        if changed.is_empty() {
            return Ok(());
        }
        let (changed, turn) = (changed.clone(), *turn);
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    for row in &changed {
                        match row {
                            Changed::Wanted(class, wanted) => {
                                table::target_put(connection, class, wanted.as_ref(), turn).await?;
                            }
                            Changed::Template(template) => {
                                table::template_put(connection, template, turn).await?;
                            }
                            Changed::Shell(shell, base) => {
                                table::shell_put(connection, shell, *base, turn).await?;
                            }
                            Changed::Claim(claim) => {
                                table::claim_put(connection, claim, turn).await?;
                            }
                            Changed::Undone(key, shell) => {
                                table::claim_undo(connection, key, *shell).await?;
                            }
                        }
                    }
                    Ok(())
                })
            })
            .await
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
