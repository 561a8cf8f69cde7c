//! What one try at a stage was given and used: the row that everything here is learned from.

use serde::{Deserialize, Serialize};

use super::model::BUMP;
use crate::learn::features::Case;
use crate::vocab::machine::Size;
use crate::vocab::prediction::{Resource, StageExpectation, Used};
use crate::vocab::run::AttemptPhases;
use crate::vocab::{AttemptId, FailureKind, RunId, Timestamp};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    pub attempt: AttemptId,
    pub run: RunId,
    /// When the work ended.
    pub at: Timestamp,
    pub case: Case,
    /// Version of the features that the case was made for.
    pub features: u32,
    pub given: Size,
    pub end: End,
    pub used: Used,
    pub work_s: f64,
    /// As far as they had gone when the work ended.
    pub phases: AttemptPhases,
    #[serde(default)]
    pub expected: Option<StageExpectation>,
    /// Of a replay: an experiment, which nothing is learned from.
    #[serde(default)]
    pub replay: bool,
}

/// How the work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", content = "failure", rename_all = "snake_case")]
pub enum End {
    Done,
    Failed(FailureKind),
    /// Overtaken by an abort, or by the daemon's end.
    Dropped,
}

impl End {
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed(kind) => kind.word(),
            Self::Dropped => "dropped",
        }
    }
}

/// What the stage would have needed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Need {
    pub value: f64,
    /// It needed more than it was given; the value is a guess.
    pub short: bool,
}

/// A stage that used all its processor time for this share of it would have used more.
const SHORT_OF_CPU: f64 = 0.9;
/// Shorter work than this says little about its processor time, seconds.
const SHORTEST_S: f64 = 5.0;

impl Observation {
    /// What of a resource it needed, in the resource's unit; none where this try cannot say.
    pub fn need(&self, resource: Resource) -> Option<Need> {
        let used = &self.used;
        let done = self.end == End::Done && !self.replay;
        let short_of_cpu = used.cpu_short_share >= SHORT_OF_CPU && self.work_s >= SHORTEST_S;
        let short = |given: f64| Need {
            value: given * BUMP,
            short: true,
        };
        let enough = |value: f64| {
            Some(Need {
                value,
                short: false,
            })
        };
        let need = match resource {
            Resource::Memory if self.end == End::Failed(FailureKind::Memory) && !self.replay => {
                Some(short(self.given.memory_mib as f64))
            }
            Resource::Memory if done && used.memory_mib > 0.0 => {
                enough(used.memory_mib.min(self.given.memory_mib as f64))
            }
            Resource::Cpu
                if short_of_cpu
                    && !self.replay
                    && matches!(self.end, End::Done | End::Failed(FailureKind::Deadline)) =>
            {
                Some(short(100.0 * f64::from(self.given.vcpus)))
            }
            Resource::Cpu if done && used.looks >= 2 => {
                enough(used.cpu_peak_percent.max(used.cpu_mean_percent))
            }
            Resource::Network if done && used.looks >= 2 && self.case.network => {
                enough(used.net_peak_kbytes_per_s)
            }
            Resource::Duration if done => enough(self.work_s),
            _ => None,
        };
        need.filter(|need| need.value.is_finite() && need.value >= 0.0)
    }

    /// What was given of a resource; none where it has no limit.
    pub fn given_of(&self, resource: Resource) -> Option<f64> {
        match resource {
            Resource::Memory => Some(self.given.memory_mib as f64),
            Resource::Cpu => Some(100.0 * f64::from(self.given.vcpus)),
            Resource::Network => self.given.network_kbytes_per_s.map(|limit| limit as f64),
            Resource::Duration => None,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Done in 10 s with so much memory touched, of 512 MiB and one vCPU.
    pub fn sample(memory_mib: f64, at_s: i64) -> Observation {
        Observation {
            attempt: AttemptId::fresh(),
            run: RunId(1),
            at: Timestamp(at_s * 1_000_000),
            case: Case::default(),
            features: crate::learn::features::VERSION,
            given: Size {
                vcpus: 1,
                memory_mib: 512,
                disk_mib: 64,
                network_kbytes_per_s: None,
            },
            end: End::Done,
            used: Used {
                memory_mib,
                cpu_mean_percent: 40.0,
                cpu_peak_percent: 80.0,
                looks: 11,
                watched_s: 10.0,
                ..Used::default()
            },
            work_s: 10.0,
            phases: AttemptPhases::default(),
            expected: None,
            replay: false,
        }
    }

    #[test]
    fn a_shortage_is_more_than_was_given() {
        let mut one = sample(100.0, 0);
        let value = |one: &Observation, resource| one.need(resource).map(|need| need.value);
        assert_eq!(value(&one, Resource::Memory), Some(100.0));
        assert_eq!(value(&one, Resource::Cpu), Some(80.0));
        assert_eq!(value(&one, Resource::Network), None, "it has no network");
        one.used.cpu_short_share = 1.0;
        assert_eq!(value(&one, Resource::Cpu), Some(150.0));
        one.end = End::Failed(FailureKind::Memory);
        assert_eq!(
            one.need(Resource::Memory),
            Some(Need {
                value: 768.0,
                short: true
            })
        );
        assert_eq!(value(&one, Resource::Duration), None);
        one.end = End::Failed(FailureKind::Exit);
        assert!(Resource::ALL.iter().all(|r| value(&one, *r).is_none()));
    }

    #[test]
    fn replays_and_nonsense_teach_nothing() {
        let mut one = sample(f64::NAN, 0);
        assert_eq!(one.need(Resource::Memory), None);
        one.used.cpu_peak_percent = f64::INFINITY;
        assert_eq!(one.need(Resource::Cpu), None);
        one = sample(100.0, 0);
        one.replay = true;
        assert!(Resource::ALL.iter().all(|r| one.need(*r).is_none()));
    }
}
