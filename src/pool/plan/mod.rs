//! What the pool does next. Pure: rows, what is known and the time in, steps out.
//!
//! ```text
//! wanted, no template ──► SelfTest ──► Build ──► Fill … Fill, StandBy
//! key changed, replaced, not wanted ──► Drain ──► (last shell goes) ──► Remove
//! three fillings in a row failed ──► Fail ──► Revive the generation before, or Build
//! too old, too many, over the budget, of an old generation ──► Discard ──► Destroy
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::core::Known;
use super::key::Key;
use super::ledger::Rows;
use crate::store::pool::Wanted;
use crate::vocab::pool::{Class, Shell, ShellState, Tier};
use crate::vocab::{MachineId, Timestamp};

mod shells;
mod templates;
#[cfg(test)]
mod tests;

/// Shells that are filled at once: filling takes a processor, and has time.
pub const FILLS_AT_ONCE: usize = 1;

/// Forks that wait empty, per class: they save a demand fork the create call (0.2–0.4 s of 0.6 s).
pub const STANDBYS: usize = 1;

/// What a warmed shell takes until it is measured (62 MB), and an empty one (35 MB), MiB.
pub const EXPECTED_PSS_MIB: f64 = 62.0;
const EMPTY_PSS_MIB: f64 = 35.0;

/// A class that was asked for in vain so often within an hour gets a template of its own accord, and
/// keeps it for a day after it was last used.
pub const ASKED_IN_VAIN: usize = 3;
const WITHIN: Duration = Duration::from_secs(3600);
const KEPT_UNUSED: Duration = Duration::from_secs(24 * 3600);

/// The reason of a template that another generation took the place of; it may come back.
pub const REPLACED: &str = "replaced by generation";

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    SelfTest,
    /// Writes the row of a new generation.
    Build(Class),
    /// Sets to work on a row that is there.
    Begin(MachineId),
    Drain {
        template: MachineId,
        reason: String,
    },
    /// Back from draining.
    Revive {
        template: MachineId,
        reason: String,
    },
    Fail {
        template: MachineId,
        reason: String,
    },
    /// Takes its files away.
    Remove(MachineId),
    Fill(MachineId),
    StandBy(MachineId),
    Discard {
        shell: MachineId,
        reason: String,
    },
    Destroy(MachineId),
    /// Ends a claim whose time is over.
    Expire(String),
    /// Keeps a template of a class because it was asked for.
    Promote(Class),
    /// Nobody used a class that was kept by use.
    Forget(Class),
}

pub struct Facts<'a> {
    pub rows: &'a Rows,
    pub known: &'a Known,
    /// What the template of each class would be made from now, or why that is not known.
    pub keys: &'a BTreeMap<Class, Result<Key, String>>,
    pub budget_mib: u64,
    pub max_age: Duration,
    pub claiming: bool,
    pub now: Timestamp,
}

#[derive(Debug, Default)]
pub struct Planned {
    pub steps: Vec<Step>,
    pub shortfalls: BTreeMap<Class, String>,
    /// When to look again, if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

/// Whether at least a template is to be kept.
pub fn wants_template(wanted: &Wanted) -> bool {
    wanted.by_use.is_some()
        || wanted
            .target
            .is_some_and(|target| target.hot > 0 || target.floor <= Tier::Warm)
}

pub fn hot_target(wanted: Option<&Wanted>) -> u32 {
    wanted
        .and_then(|wanted| wanted.target)
        .map_or(0, |target| target.hot)
}

pub fn pss_of(shell: &Shell) -> f64 {
    shell.pss_mib.unwrap_or(match shell.state {
        ShellState::Standby => EMPTY_PSS_MIB,
        _ => EXPECTED_PSS_MIB,
    })
}

pub fn plan(facts: &Facts<'_>) -> Planned {
    let mut planner = Planner {
        facts,
        planned: Planned::default(),
        discarded: BTreeSet::new(),
    };
    planner.claims();
    planner.removals();
    planner.promotions();
    let current = planner.templates();
    planner.builds(&current);
    planner.shells(&current);
    planner.planned
}

struct Planner<'a> {
    facts: &'a Facts<'a>,
    planned: Planned,
    discarded: BTreeSet<MachineId>,
}

impl Planner<'_> {
    fn step(&mut self, step: Step) {
        self.planned.steps.push(step);
    }

    fn wake_at(&mut self, at: Timestamp) {
        let at = self.planned.wake_at.map_or(at, |other| other.min(at));
        self.planned.wake_at = Some(at);
    }

    fn is_busy(&self, id: MachineId) -> bool {
        self.facts.known.busy.contains(&id)
    }

    fn discard(&mut self, shell: MachineId, reason: String) {
        if self.discarded.insert(shell) {
            self.step(Step::Discard { shell, reason });
        }
    }

    fn claims(&mut self) {
        for claim in self.facts.rows.claims.values() {
            match claim.until {
                Some(until) if until <= self.facts.now => {
                    self.step(Step::Expire(claim.key.clone()))
                }
                Some(until) => self.wake_at(until),
                None => {}
            }
        }
    }

    fn removals(&mut self) {
        for shell in self.facts.rows.shells.values() {
            if shell.state == ShellState::Releasing {
                self.when_due(shell.id, Step::Destroy(shell.id));
            }
        }
    }

    /// Takes the step now, or when the pause after its last failure is over.
    fn when_due(&mut self, id: MachineId, step: Step) {
        if self.is_busy(id) {
            return;
        }
        match self.facts.known.removals.get(&id) {
            Some(breaker) if !breaker.may_try(self.facts.now) => {
                self.planned.wake_at = self
                    .planned
                    .wake_at
                    .into_iter()
                    .chain(breaker.pauses_until)
                    .min();
            }
            _ => self.step(step),
        }
    }

    fn promotions(&mut self) {
        let (rows, now) = (self.facts.rows, self.facts.now);
        let used_mib: f64 = rows.shells.values().map(pss_of).sum();
        for (class, asked) in &rows.in_vain {
            let lately = asked.iter().filter(|at| now.since(**at) < WITHIN).count();
            let wanted = rows.wanted.get(class);
            let known = wanted.is_some_and(wants_template);
            if lately >= ASKED_IN_VAIN
                && !known
                && used_mib + EXPECTED_PSS_MIB <= self.facts.budget_mib as f64
            {
                self.step(Step::Promote(class.clone()));
            }
        }
        for (class, wanted) in &rows.wanted {
            let Some(by_use) = wanted.by_use else {
                continue;
            };
            let last = rows.used.get(class).copied().unwrap_or(by_use).max(by_use);
            let until = last.after(KEPT_UNUSED);
            if until <= now {
                self.step(Step::Forget(class.clone()));
            } else {
                self.wake_at(until);
            }
        }
    }

    fn is_wanted(&self, class: &Class) -> bool {
        self.facts
            .rows
            .wanted
            .get(class)
            .is_some_and(wants_template)
    }

    fn short(&mut self, class: &Class, words: String) {
        self.planned
            .shortfalls
            .entry(class.clone())
            .or_insert(words);
    }
}

/// Mean of the class's shells that were measured, MiB; what is expected where none was.
pub fn mean_pss(rows: &Rows, class: &Class) -> f64 {
    let measured: Vec<f64> = rows
        .shells
        .values()
        .filter(|shell| shell.class == *class && shell.state == ShellState::Ready)
        .filter_map(|shell| shell.pss_mib)
        .collect();
    if measured.is_empty() {
        EXPECTED_PSS_MIB
    } else {
        measured.iter().sum::<f64>() / measured.len() as f64
    }
}
