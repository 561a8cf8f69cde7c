//! What can go wrong on a simulated host, on order or by chance.

use std::collections::VecDeque;

use super::super::HvError;
use super::random::SplitMix;

/// A fault of the host. Each waits for the next operation that it applies to and is used up by it.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The next disk is not made.
    DiskFails(HvError),
    /// The next machine does not start.
    StartFails(HvError),
    /// The next capture writes nothing; its machine is paused.
    CaptureFails(HvError),
    /// The next load of a fork fails; the fork stays empty.
    LoadFails(HvError),
    /// The next machine to go on does not.
    ResumeFails(HvError),
    /// The next machine to be paused runs on.
    PauseFails(HvError),
    /// The next machine that starts has this fault.
    Guest(GuestFault),
    /// The next so many listings ([`machines`](super::super::Hypervisor::machines) and
    /// [`disks`](super::super::Hypervisor::disks)) are errors. They are never incomplete.
    ListingsFail(u32),
    /// The next operation of this kind has its effect, and its caller is told that the host cannot
    /// be reached.
    LostReply(Operation),
    /// The next so many operations of any kind find that the host cannot be reached.
    UnreachableFor(u32),
}

/// A fault of one machine or its guest. Calls are agent calls to that machine, failed ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestFault {
    /// The agent never connects.
    BootNeverFinishes,
    /// After so many calls the agent is not connected for the next `calls`.
    AgentAbsent { after: u32, calls: u32 },
    /// After so many calls the agent takes commands and does not answer any more.
    AgentSilent { after: u32 },
    /// After so many resumes that it came back from, the guest does not: its agent takes commands and
    /// does not answer.
    SilentOnceResumed { after: u32 },
    /// After so many calls replies are JSON, but not what was asked for.
    AgentGarbage { after: u32 },
    /// After so many calls replies are larger than the cap.
    AgentOversize { after: u32 },
    /// The machine's process dies with the call after so many.
    Crash { after: u32 },
    /// The same, and the host still lists the machine as off.
    CrashListed { after: u32 },
}

/// Kinds of operation, as a fault distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    MakeDisk,
    RemoveDisk,
    Start,
    Destroy,
    Attach,
    Detach,
    AttachNic,
    Pause,
    Resume,
    Resize,
    Capture,
    Load,
    Seal,
    RemoveTemplate,
    Agent,
    /// Questions, whose reply is all that can be lost.
    Look,
}

/// Faults by chance, from a seed: the same calls in the same order meet the same faults. Each number
/// is a probability from 0 to 1 per operation, or per machine started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Chaos {
    pub seed: u64,
    pub disk_fails: f64,
    pub start_fails: f64,
    pub boot_never_finishes: f64,
    pub agent_silent: f64,
    pub agent_garbage: f64,
    pub crash: f64,
    pub silent_once_resumed: f64,
    pub capture_fails: f64,
    pub load_fails: f64,
    pub resume_fails: f64,
    pub pause_fails: f64,
    /// Per load of a fork: the template's memory turns out to be truncated, from then on.
    pub template_damaged: f64,
    pub listing_fails: f64,
    pub lost_reply: f64,
    pub unreachable: f64,
}

/// The faults that wait, and the chance of others.
#[derive(Debug)]
pub(super) struct Faults {
    waiting: VecDeque<Fault>,
    chaos: Chaos,
    random: SplitMix,
}

impl Faults {
    pub fn new(chaos: Chaos) -> Self {
        Self {
            waiting: VecDeque::new(),
            chaos,
            random: SplitMix::new(chaos.seed),
        }
    }

    pub fn order(&mut self, fault: Fault) {
        self.waiting.push_back(fault);
    }

    pub fn clear(&mut self) {
        self.waiting.clear();
        self.chaos = Chaos {
            seed: self.chaos.seed,
            ..Chaos::default()
        };
    }

    /// Takes the first waiting fault that `pick` knows.
    fn take<T>(&mut self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let at = self
            .waiting
            .iter()
            .position(|fault| pick(fault).is_some())?;
        self.waiting.remove(at).and_then(|fault| pick(&fault))
    }

    /// As `take`, for faults that count down.
    fn count_down(&mut self, count: impl Fn(&mut Fault) -> Option<&mut u32>) -> bool {
        let Some(at) = self
            .waiting
            .iter_mut()
            .position(|fault| count(fault).is_some())
        else {
            return false;
        };
        let Some(left) = count(&mut self.waiting[at]) else {
            return false;
        };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.waiting.remove(at);
        }
        true
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.unit() < probability
    }

    pub fn unreachable(&mut self) -> bool {
        self.count_down(|fault| match fault {
            Fault::UnreachableFor(left) if *left > 0 => Some(left),
            _ => None,
        }) || self.chance(self.chaos.unreachable)
    }

    pub fn listing_fails(&mut self) -> bool {
        self.count_down(|fault| match fault {
            Fault::ListingsFail(left) if *left > 0 => Some(left),
            _ => None,
        }) || self.chance(self.chaos.listing_fails)
    }

    pub fn loses_reply(&mut self, operation: Operation) -> bool {
        let ordered = self.take(|fault| {
            matches!(fault, Fault::LostReply(lost) if *lost == operation).then_some(())
        });
        ordered.is_some() || self.chance(self.chaos.lost_reply)
    }

    pub fn disk_fails(&mut self) -> Option<HvError> {
        let ordered = self.take(|fault| match fault {
            Fault::DiskFails(error) => Some(error.clone()),
            _ => None,
        });
        let by_chance = self.chance(self.chaos.disk_fails);
        ordered
            .or_else(|| by_chance.then(|| HvError::Host("simulated: the disk was not made".into())))
    }

    pub fn start_fails(&mut self) -> Option<HvError> {
        let ordered = self.take(|fault| match fault {
            Fault::StartFails(error) => Some(error.clone()),
            _ => None,
        });
        let by_chance = self.chance(self.chaos.start_fails);
        ordered.or_else(|| {
            by_chance.then(|| HvError::Host("simulated: the machine did not start".into()))
        })
    }

    pub fn capture_fails(&mut self) -> Option<HvError> {
        let ordered = self.take(|fault| match fault {
            Fault::CaptureFails(error) => Some(error.clone()),
            _ => None,
        });
        let by_chance = self.chance(self.chaos.capture_fails);
        ordered.or_else(|| by_chance.then(|| HvError::DiskFull("simulated: the state".into())))
    }

    pub fn load_fails(&mut self) -> Option<HvError> {
        let ordered = self.take(|fault| match fault {
            Fault::LoadFails(error) => Some(error.clone()),
            _ => None,
        });
        let by_chance = self.chance(self.chaos.load_fails);
        ordered.or_else(|| {
            by_chance.then(|| HvError::Host("simulated: the state was not loaded".into()))
        })
    }

    pub fn resume_fails(&mut self) -> Option<HvError> {
        let ordered = self.take(|fault| match fault {
            Fault::ResumeFails(error) => Some(error.clone()),
            _ => None,
        });
        let by_chance = self.chance(self.chaos.resume_fails);
        ordered.or_else(|| {
            by_chance.then(|| HvError::Host("simulated: the machine did not go on".into()))
        })
    }

    pub fn pause_fails(&mut self) -> Option<HvError> {
        let ordered = self.take(|fault| match fault {
            Fault::PauseFails(error) => Some(error.clone()),
            _ => None,
        });
        let by_chance = self.chance(self.chaos.pause_fails);
        ordered.or_else(|| {
            by_chance.then(|| HvError::Host("simulated: the machine was not paused".into()))
        })
    }

    pub fn damages_template(&mut self) -> bool {
        self.chance(self.chaos.template_damaged)
    }

    /// The faults of a machine that starts now.
    pub fn of_new_guest(&mut self) -> Vec<GuestFault> {
        let ordered = self.take(|fault| match fault {
            Fault::Guest(fault) => Some(*fault),
            _ => None,
        });
        let mut faults: Vec<GuestFault> = ordered.into_iter().collect();
        let chaos = self.chaos;
        let after = (self.random.next() % 12) as u32;
        for (probability, fault) in [
            (chaos.boot_never_finishes, GuestFault::BootNeverFinishes),
            (chaos.agent_silent, GuestFault::AgentSilent { after }),
            (chaos.agent_garbage, GuestFault::AgentGarbage { after }),
            (chaos.crash, GuestFault::Crash { after }),
            (
                chaos.silent_once_resumed,
                GuestFault::SilentOnceResumed { after: after % 2 },
            ),
        ] {
            if self.chance(probability) {
                faults.push(fault);
            }
        }
        faults
    }

    /// Some number, for garbage.
    pub fn any_number(&mut self) -> u64 {
        self.random.next()
    }
}
