//! A recorded day on a clock of its own: the pool's plan decides, as it does in the daemon, and only the
//! carrying out is simulated. Pure.
//!
//! Unlike a simulation of what pools might be, this one fills one shell at a time, gives way to claims,
//! keeps an empty fork, replaces shells that waited too long, and shares out a budget: whatever
//! [`super::plan`] does, it does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::time::Duration;

use super::core::{Known, QUIET};
use super::ledger::Rows;
use super::plan::{self, Facts, Step};
use crate::store::pool::{Verdict, Wanted};
use crate::vocab::pool::{Class, Shell, ShellState, Target, Template, TemplateState, Tier};
use crate::vocab::{Digest, MachineId, Timestamp};

/// What is rehearsed.
pub struct Script<'a> {
    /// Seconds at which machines are asked for, ascending.
    pub at_s: &'a [f64],
    /// Seconds of a decision, and those that are played.
    pub tick_s: f64,
    pub ticks: Range<usize>,
    /// Until an ordered shell is ready.
    pub lead_s: f64,
    pub budget_mib: u64,
    pub max_age: Duration,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rehearsed {
    pub requests: usize,
    /// Found a shell.
    pub hot: usize,
    /// Found the empty fork.
    pub standby: usize,
    /// Seconds that ready shells waited, all together.
    pub idle_s: f64,
    /// Shells that were made to wait.
    pub fills: usize,
}

/// Of the time that a shell takes, the part that is left where an empty fork waits: loading it.
const LEFT_OF_STANDBY: f64 = 0.5;

/// Plays it with `target(tick)` hot shells wanted.
pub fn rehearse(script: &Script, target: impl Fn(usize) -> usize) -> Rehearsed {
    let mut stage = Stage::set(script);
    let (begin, end) = (
        script.ticks.start as f64 * script.tick_s,
        script.ticks.end as f64 * script.tick_s,
    );
    let mut next = script.at_s.partition_point(|at| *at < begin);
    let mut tick = script.ticks.start;
    let mut now = begin;
    loop {
        let request = script.at_s.get(next).copied().unwrap_or(f64::INFINITY);
        let border = tick as f64 * script.tick_s;
        let at = request.min(border).min(stage.next_s());
        stage.outcome.idle_s += stage.ready() as f64 * (at.min(end) - now).max(0.0);
        if at >= end {
            return stage.outcome;
        }
        now = now.max(at);
        if border <= now {
            stage.want(target(tick));
            tick += 1;
        } else if request <= now {
            stage.claim(now);
            next += 1;
        } else {
            stage.come(now);
        }
        stage.plan(now);
    }
}

struct Stage<'a> {
    script: &'a Script<'a>,
    class: Class,
    rows: Rows,
    known: Known,
    /// Shells under way, by when they are there.
    coming: BinaryHeap<Reverse<(Moment, MachineId, bool)>>,
    /// When to plan although nothing happened.
    wake_s: f64,
    quiet_until: f64,
    outcome: Rehearsed,
}

/// Seconds that order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Moment(f64);

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

fn stamp(second: f64) -> Timestamp {
    Timestamp((second * 1e6) as i64)
}

impl<'a> Stage<'a> {
    /// A host that forks, with one template and nothing that waits.
    fn set(script: &'a Script<'a>) -> Self {
        let class = Class {
            image: "rehearsal".to_owned(),
            vcpus: 1,
            memory_mib: 128,
            network: false,
            trust: Default::default(),
        };
        let template = Template {
            id: MachineId::fresh(),
            class: class.clone(),
            generation: 1,
            state: TemplateState::Ready,
            key: Digest::of(b"rehearsal"),
            inputs: Vec::new(),
            seal: None,
            reason: None,
            made_at: Timestamp(0),
            ready_at: Some(Timestamp(0)),
            phases: Vec::new(),
        };
        let mut rows = Rows::default();
        rows.templates.insert(template.id, template);
        let known = Known {
            verdict: Some(Verdict {
                forks: true,
                reason: String::new(),
                at: Timestamp(0),
            }),
            ..Known::default()
        };
        Self {
            script,
            class,
            rows,
            known,
            coming: BinaryHeap::new(),
            wake_s: f64::INFINITY,
            quiet_until: f64::NEG_INFINITY,
            outcome: Rehearsed::default(),
        }
    }

    fn next_s(&self) -> f64 {
        let coming = self.coming.peek().map_or(f64::INFINITY, |c| c.0.0.0);
        coming.min(self.wake_s)
    }

    fn ready(&self) -> usize {
        let shells = self.rows.shells.values();
        shells.filter(|s| s.state == ShellState::Ready).count()
    }

    fn want(&mut self, hot: usize) {
        let target = Some(Target {
            hot: u32::try_from(hot).unwrap_or(u32::MAX),
            floor: Tier::Warm,
        });
        let wanted = Wanted {
            target,
            by_use: None,
        };
        self.rows.wanted.insert(self.class.clone(), wanted);
    }

    /// The oldest shell that waits, else the empty fork, else one that is forked now.
    fn claim(&mut self, now: f64) {
        self.outcome.requests += 1;
        let oldest = |state: ShellState| {
            let shells = self.rows.shells.values().filter(|s| s.state == state);
            shells
                .min_by_key(|s| (s.ready_at, s.serial))
                .map(|shell| shell.id)
        };
        let (taken, took_s) = match (oldest(ShellState::Ready), oldest(ShellState::Standby)) {
            (Some(hot), _) => {
                self.outcome.hot += 1;
                (Some(hot), 0.0)
            }
            (None, Some(standby)) => {
                self.outcome.standby += 1;
                (Some(standby), LEFT_OF_STANDBY * self.script.lead_s)
            }
            (None, None) => (None, self.script.lead_s),
        };
        if let Some(id) = taken {
            self.rows.shells.remove(&id);
        }
        self.rows.used.insert(self.class.clone(), stamp(now));
        // Nothing is filled while a claim is made ready, and for a moment after it.
        self.quiet_until = self.quiet_until.max(now + took_s + QUIET.as_secs_f64());
    }

    fn come(&mut self, now: f64) {
        while let Some(Reverse((at, id, stands_by))) = self.coming.peek().copied() {
            if at.0 > now {
                break;
            }
            self.coming.pop();
            if let Some(shell) = self.rows.shells.get_mut(&id) {
                shell.state = if stands_by {
                    ShellState::Standby
                } else {
                    ShellState::Ready
                };
                shell.ready_at = Some(stamp(now));
            }
        }
    }

    /// Plans, and does what it says, until there is nothing to do now.
    fn plan(&mut self, now: f64) {
        let keys = BTreeMap::new();
        loop {
            let planned = plan::plan(&Facts {
                rows: &self.rows,
                known: &self.known,
                keys: &keys,
                budget_mib: self.script.budget_mib,
                max_age: self.script.max_age,
                claiming: now < self.quiet_until,
                now: stamp(now),
            });
            let mut done = false;
            for step in planned.steps {
                match step {
                    Step::Fill(template) => self.begin(template, now, false),
                    Step::StandBy(template) => self.begin(template, now, true),
                    Step::Discard { shell, .. } => {
                        self.rows.shells.remove(&shell);
                    }
                    // One template for all time, and claims that end elsewhere.
                    _ => continue,
                }
                done = true;
            }
            if done {
                continue;
            }
            // A microsecond more, so that what is due then is due.
            let wake = planned.wake_at.map(|at| at.0 as f64 / 1e6 + 1e-6);
            let quiet = (now < self.quiet_until).then_some(self.quiet_until);
            let wake = wake.into_iter().chain(quiet).fold(f64::INFINITY, f64::min);
            self.wake_s = if wake > now { wake } else { f64::INFINITY };
            return;
        }
    }

    fn begin(&mut self, template: MachineId, now: f64, stands_by: bool) {
        let id = MachineId::fresh();
        let serial = self.rows.next_serial();
        self.rows.shells.insert(
            id,
            Shell {
                id,
                name: String::new(),
                class: self.class.clone(),
                template,
                serial,
                state: ShellState::Filling,
                identity: None,
                made_at: stamp(now),
                ready_at: None,
                gone_at: None,
                pss_mib: None,
                claim: None,
                reason: None,
                phases: Vec::new(),
            },
        );
        let takes_s = if stands_by {
            (1.0 - LEFT_OF_STANDBY) * self.script.lead_s
        } else {
            self.outcome.fills += 1;
            self.script.lead_s
        };
        self.coming
            .push(Reverse((Moment(now + takes_s), id, stands_by)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(at_s: &[f64]) -> Script<'_> {
        Script {
            at_s,
            tick_s: 300.0,
            ticks: 0..2,
            lead_s: 1.0,
            budget_mib: 100_000,
            max_age: Duration::from_secs(100_000),
        }
    }

    #[test]
    fn shells_are_filled_one_after_the_other_and_refilled_after_a_moment() {
        // Ready at 1, 2 and 3; the fork stands by half a second later.
        let outcome = rehearse(&script(&[]), |_| 3);
        assert_eq!((outcome.requests, outcome.fills), (0, 3));
        let idle = 599.0 + 598.0 + 597.0;
        assert!((outcome.idle_s - idle).abs() < 1e-3, "{outcome:?}");
        // One shell: the second request finds the empty fork, the third nothing.
        let outcome = rehearse(&script(&[100.0, 100.1, 100.2, 200.0]), |_| 1);
        assert_eq!((outcome.hot, outcome.standby), (2, 1), "{outcome:?}");
        assert_eq!(outcome.fills, 3);
    }

    #[test]
    fn without_a_target_nothing_waits_but_the_empty_fork() {
        let outcome = rehearse(&script(&[100.0, 200.0]), |_| 0);
        assert_eq!((outcome.hot, outcome.standby), (0, 2));
        assert_eq!((outcome.idle_s, outcome.fills), (0.0, 0));
    }

    #[test]
    fn a_fallen_target_and_age_let_shells_go() {
        let outcome = rehearse(&script(&[]), |tick| if tick == 0 { 2 } else { 0 });
        assert!((outcome.idle_s - 299.0 - 298.0).abs() < 1e-3, "{outcome:?}");
        let aged = Script {
            max_age: Duration::from_secs(100),
            ..script(&[])
        };
        let outcome = rehearse(&aged, |_| 1);
        assert_eq!(outcome.fills, 6, "{outcome:?}");
    }

    #[test]
    fn a_budget_bounds_what_waits() {
        let tight = Script {
            budget_mib: 200,
            ..script(&[])
        };
        let outcome = rehearse(&tight, |_| 10);
        assert!(outcome.fills <= 3, "{outcome:?}");
    }
}
