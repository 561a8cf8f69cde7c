//! What happens next in a run. Pure: a view and the time in, changes and actions out.
//!
//! [`absorb`] takes the outcome of an action into the view, [`request`] what somebody asks for;
//! [`advance`] makes every move that needs no effect (next attempt, next stage, undo, hold); [`due`]
//! names the effects that are to be under way now and [`wake_at`] when to look again. Called in this
//! order after anything happened.

use std::fmt;
use std::time::Duration;

use crate::vocab::machine::{EngineKind, MachinePhases};
use crate::vocab::{AttemptId, Digest, Failure, MachineId, Timestamp};

mod absorb;
mod advance;
mod due;
mod request;
mod tries;
mod undo;

pub use absorb::absorb;
pub use advance::{admit, advance};
pub use due::{begin, due, is_over, must_wait, wake_at};
pub use request::request;

/// An effect on the outside world. Each may be carried out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Make disk and domain of a machine and wait until its guest answers.
    MakeMachine(MachineId),
    /// Destroy a machine and remove its files.
    Release(MachineId),
    /// Make, checkpoint or restore the handoff disk for an attempt.
    PrepareDisk(AttemptId),
    /// Attach the handoff disk.
    Attach(AttemptId),
    /// Make the input and start the work in the guest.
    Start(AttemptId),
    /// Wait for the work's end, taking its logs.
    Watch(AttemptId),
    /// Take, check and store the output.
    Collect(AttemptId),
    /// Take the handoff disk back.
    Detach(AttemptId),
    /// Remove handoff disk and checkpoints.
    RemoveDisks,
}

impl Action {
    /// The word under which it stands in the journal and in fault points.
    pub fn word(self) -> &'static str {
        match self {
            Self::MakeMachine(_) => "make_machine",
            Self::Release(_) => "release",
            Self::PrepareDisk(_) => "prepare_disk",
            Self::Attach(_) => "attach",
            Self::Start(_) => "start",
            Self::Watch(_) => "watch",
            Self::Collect(_) => "collect",
            Self::Detach(_) => "detach",
            Self::RemoveDisks => "remove_disks",
        }
    }

    /// All words, for tests that visit every point.
    pub const WORDS: [&'static str; 9] = [
        "make_machine",
        "release",
        "prepare_disk",
        "attach",
        "start",
        "watch",
        "collect",
        "detach",
        "remove_disks",
    ];

    pub fn subject(self) -> String {
        match self {
            Self::MakeMachine(id) | Self::Release(id) => id.to_string(),
            Self::PrepareDisk(id)
            | Self::Attach(id)
            | Self::Start(id)
            | Self::Watch(id)
            | Self::Collect(id)
            | Self::Detach(id) => id.to_string(),
            Self::RemoveDisks => "disks".to_owned(),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.word(), self.subject())
    }
}

/// How a machine was really had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The pool's shell that serves, and its domain's name; none for a machine of the run's own.
    pub shell: Option<(MachineId, String)>,
    pub engine: EngineKind,
    pub reason: String,
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    MachineUp {
        phases: MachinePhases,
        served: Served,
    },
    MachineGone {
        teardown_ms: f64,
    },
    DiskPrepared {
        took_ms: f64,
    },
    Attached {
        took_ms: f64,
    },
    Started {
        took_ms: f64,
        deadline: Timestamp,
    },
    /// With the output, where it was short enough to come with the news of the end.
    Worked {
        work_ms: f64,
        output: Option<Vec<u8>>,
    },
    Collected {
        envelope: Digest,
        took_ms: f64,
    },
    Detached {
        took_ms: f64,
    },
    DisksRemoved,
    /// It could not be done.
    Failed(Failure),
    /// It was given up because it is not wanted any more.
    Cancelled,
}

impl Outcome {
    /// How the journal says it.
    pub fn in_journal(&self) -> String {
        match self {
            Self::Failed(failure) => failure.to_string(),
            Self::Cancelled => "cancelled".to_owned(),
            _ => "ok".to_owned(),
        }
    }
}

/// Something that people or the reconciler ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Abort {
        reason: String,
    },
    /// From this stage, or from where it makes sense; `force` although earlier stages were undone.
    Retry {
        from: Option<String>,
        force: bool,
    },
    /// Stand still before the next stage, for so long at most.
    Hold {
        reason: String,
        within: Duration,
    },
    /// Go on after a hold, or do without it.
    Resume,
    /// The kept result, the handoff disk, is not wanted any more.
    Discard,
    /// The device reports from its own system; the envelope has what it said.
    Arrived {
        head: Digest,
    },
    /// The host says that a machine of this run is not there any more.
    MachineLost {
        machine: MachineId,
        why: String,
    },
}
