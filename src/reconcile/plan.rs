//! Comparing: what was seen, and who was suspected before, in; what to do, and who is suspected
//! now, out. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::observe::{Seen, machine_of, run_of};
use crate::hypervisor::Power;
use crate::vocab::machine::MachineState;
use crate::vocab::{MachineId, RunId};

/// What an activation may do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A machine with our tag that no row owns.
    DestroyOrphan { machine: MachineId, name: String },
    /// A file in our folder that no row owns.
    RemoveOrphan { path: PathBuf },
    /// A machine that a run counts on is not there.
    TellLost {
        run: RunId,
        machine: MachineId,
        why: String,
    },
    /// A shell of the pool is not there.
    TellPool { machine: MachineId, why: String },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DestroyOrphan { name, machine } => write!(f, "destroy orphan {name} ({machine})"),
            Self::RemoveOrphan { path } => write!(f, "remove orphan {}", path.display()),
            Self::TellPool { machine, why } => {
                write!(f, "tell the pool that machine {machine} is lost: {why}")
            }
            Self::TellLost { run, machine, why } => {
                write!(f, "tell run {run} that machine {machine} is lost: {why}")
            }
        }
    }
}

/// Seen without an owner, or missed, by one complete listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    orphans: BTreeSet<MachineId>,
    files: BTreeSet<PathBuf>,
    missing: BTreeSet<MachineId>,
}

impl Suspects {
    pub fn is_empty(&self) -> bool {
        self.orphans.is_empty() && self.files.is_empty() && self.missing.is_empty()
    }

    pub fn names(&self) -> Vec<String> {
        let orphans = self
            .orphans
            .iter()
            .map(|id| format!("machine {id} has no row"));
        let files = self
            .files
            .iter()
            .map(|path| format!("{} has no row", path.display()));
        let missing = self
            .missing
            .iter()
            .map(|id| format!("machine {id} is not on the host"));
        orphans.chain(files).chain(missing).collect()
    }
}

pub fn compare(seen: &Seen, before: Suspects) -> (Vec<Action>, Suspects) {
    let mut actions = Vec::new();
    let mut now = Suspects::default();

    for machine in seen.machines.iter().filter(|machine| seen.is_ours(machine)) {
        if seen.rows.contains_key(&machine.id) || seen.pooled.contains_key(&machine.id) {
            continue;
        }
        if before.orphans.contains(&machine.id) {
            actions.push(Action::DestroyOrphan {
                machine: machine.id,
                name: machine.name.clone(),
            });
        }
        now.orphans.insert(machine.id);
    }

    for path in &seen.disks {
        let owned = match (machine_of(path), run_of(path)) {
            // An orphan machine's disk goes after the machine.
            (Some(id), _) => {
                seen.rows.contains_key(&id)
                    || seen.pooled.contains_key(&id)
                    || seen.machines.iter().any(|machine| machine.id == id)
            }
            (None, Some(run)) => seen.runs_with_disks.contains(&run),
            // Not named as ours are: somebody put it there, and it is theirs.
            (None, None) => true,
        };
        if owned {
            continue;
        }
        if before.files.contains(path) {
            actions.push(Action::RemoveOrphan { path: path.clone() });
        }
        now.files.insert(path.clone());
    }

    for row in seen
        .rows
        .values()
        .filter(|row| matches!(row.state, MachineState::Up | MachineState::Kept { .. }))
    {
        let Some(why) = why_lost(seen, row.domain(), &row.name) else {
            continue;
        };
        if before.missing.contains(&row.id)
            && let Some(run) = row.tag.run()
        {
            actions.push(Action::TellLost {
                run,
                machine: row.id,
                why,
            });
        }
        now.missing.insert(row.id);
    }
    for (id, pooled) in seen.pooled.iter().filter(|(_, pooled)| pooled.settled) {
        let Some(why) = why_lost(seen, *id, &pooled.name) else {
            continue;
        };
        if before.missing.contains(id) {
            actions.push(Action::TellPool { machine: *id, why });
        }
        now.missing.insert(*id);
    }
    (actions, now)
}

/// None while it is there.
fn why_lost(seen: &Seen, id: MachineId, name: &str) -> Option<String> {
    match seen.machines.iter().find(|machine| machine.id == id) {
        Some(machine) if machine.power != Power::Off => None,
        Some(_) => Some(format!("machine {name} stopped or crashed")),
        None => Some(format!("machine {name} is not on the host any more")),
    }
}
