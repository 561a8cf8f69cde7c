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
use super::key::{Key, difference};
use super::ledger::Rows;
use super::selftest;
use super::size::{self, Demand};
use crate::store::pool::Wanted;
use crate::vocab::pool::{Class, Shell, ShellState, Template, TemplateState, Tier};
use crate::vocab::{MachineId, Timestamp};

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
    Drain { template: MachineId, reason: String },
    /// Back from draining.
    Revive { template: MachineId, reason: String },
    Fail { template: MachineId, reason: String },
    /// Takes its files away.
    Remove(MachineId),
    Fill(MachineId),
    StandBy(MachineId),
    Discard { shell: MachineId, reason: String },
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
                Some(until) if until <= self.facts.now => self.step(Step::Expire(claim.key.clone())),
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
                self.planned.wake_at = self.planned.wake_at.into_iter().chain(breaker.pauses_until).min();
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
            let known = wanted.is_some_and(|wanted| wants_template(wanted));
            if lately >= ASKED_IN_VAIN
                && !known
                && used_mib + EXPECTED_PSS_MIB <= self.facts.budget_mib as f64
            {
                self.step(Step::Promote(class.clone()));
            }
        }
        for (class, wanted) in &rows.wanted {
            let Some(by_use) = wanted.by_use else { continue };
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
        self.facts.rows.wanted.get(class).is_some_and(wants_template)
    }

    /// Whether a template is what would be made now. Without a key nothing is known to be different.
    fn is_current(&self, template: &Template) -> bool {
        match self.facts.keys.get(&template.class) {
            Some(Ok(key)) => key.digest == template.key,
            _ => true,
        }
    }

    /// What becomes of the templates that are there; the ones to fork from are returned.
    fn templates(&mut self) -> BTreeMap<Class, Template> {
        let mut current: BTreeMap<Class, Template> = BTreeMap::new();
        let mut newest_first: Vec<&Template> = self.facts.rows.templates.values().collect();
        newest_first.sort_by_key(|template| std::cmp::Reverse((template.generation, template.made_at)));
        for template in &newest_first {
            if selftest::is_own(&template.class) {
                if template.state == TemplateState::Ready && !self.is_busy(template.id) {
                    let reason = "the self-test was interrupted".to_owned();
                    self.step(Step::Fail { template: template.id, reason });
                }
                continue;
            }
            if template.state != TemplateState::Ready {
                continue;
            }
            match self.fate(template, current.get(&template.class)) {
                None => {
                    current.insert(template.class.clone(), (*template).clone());
                }
                Some(step) => self.step(step),
            }
        }
        self.revive(&newest_first, &mut current);
        for template in newest_first {
            let gives_up = matches!(
                template.state,
                TemplateState::Failed | TemplateState::Draining
            );
            let used = self.facts.rows.shells_of(template.id).next().is_some();
            if gives_up && !used && !self.may_come_back(template, current.get(&template.class)) {
                self.when_due(template.id, Step::Remove(template.id));
            }
        }
        current
    }

    fn fate(&self, template: &Template, newer: Option<&Template>) -> Option<Step> {
        let drain = |reason| {
            Some(Step::Drain {
                template: template.id,
                reason,
            })
        };
        if let Some(breaker) = self.facts.known.fills.get(&template.id)
            && breaker.is_open()
        {
            return Some(Step::Fail {
                template: template.id,
                reason: format!(
                    "{} forks in a row failed, the last with: {}",
                    breaker.failures,
                    breaker.words.as_deref().unwrap_or("")
                ),
            });
        }
        if let Some(Ok(key)) = self.facts.keys.get(&template.class)
            && key.digest != template.key
        {
            return drain(format!(
                "it is out of date: {}",
                difference(&template.inputs, &key.inputs)
            ));
        }
        if let Some(newer) = newer {
            return drain(format!("{REPLACED} {}", newer.generation));
        }
        if !self.is_wanted(&template.class) {
            return drain("nobody wants it any more".to_owned());
        }
        None
    }

    /// The generation before comes back when the newest has failed.
    fn revive(&mut self, newest_first: &[&Template], current: &mut BTreeMap<Class, Template>) {
        for template in newest_first {
            let replaced = template.reason.as_deref().unwrap_or("").starts_with(REPLACED);
            if template.state == TemplateState::Draining
                && replaced
                && !current.contains_key(&template.class)
                && self.is_current(template)
                && self.is_wanted(&template.class)
            {
                current.insert(template.class.clone(), (*template).clone());
                self.step(Step::Revive {
                    template: template.id,
                    reason: "the generation after it failed".to_owned(),
                });
            }
        }
    }

    /// A replaced generation stays until a shell of the new one has proved that it is good.
    fn may_come_back(&self, template: &Template, newer: Option<&Template>) -> bool {
        let Some(newer) = newer.filter(|newer| newer.id != template.id) else {
            return newer.is_some();
        };
        let replaced = template.reason.as_deref().unwrap_or("").starts_with(REPLACED);
        let proved = self.facts.rows.shells_of(newer.id).any(|shell| {
            shell.identity.is_some()
        });
        let hot = hot_target(self.facts.rows.wanted.get(&template.class));
        template.state == TemplateState::Draining && replaced && hot > 0 && !proved
    }

    fn builds(&mut self, current: &BTreeMap<Class, Template>) {
        let rows = self.facts.rows;
        let mut building: Vec<&Template> = rows
            .templates
            .values()
            .filter(|template| template.state == TemplateState::Building)
            .collect();
        building.sort_by_key(|template| (template.made_at, template.id));
        let mut room = !building.iter().any(|template| self.is_busy(template.id));
        let own = |template: &&Template| selftest::is_own(&template.class);
        for template in building.iter().filter(|template| !own(template)) {
            if !current.contains_key(&template.class) {
                self.short(&template.class, "its template is being built".to_owned());
            }
            if self.is_busy(template.id) {
                continue;
            }
            match self.forks(&template.class, &mut room) {
                Some(true) if std::mem::replace(&mut room, false) => {
                    self.step(Step::Begin(template.id));
                }
                Some(false) => {
                    let reason = "this host does not fork".to_owned();
                    self.step(Step::Fail { template: template.id, reason });
                }
                _ => {}
            }
        }
        let wanting: Vec<&Class> = rows
            .wanted
            .iter()
            .filter(|(_, wanted)| wants_template(wanted))
            .map(|(class, _)| class)
            .filter(|class| !current.contains_key(class))
            .filter(|class| !building.iter().any(|template| template.class == **class))
            .collect();
        for class in wanting {
            self.build(class, &mut room);
        }
    }

    fn build(&mut self, class: &Class, room: &mut bool) {
        match self.facts.keys.get(class) {
            Some(Ok(_)) => {}
            Some(Err(words)) => return self.short(class, words.clone()),
            None => return,
        }
        if self.forks(class, room) != Some(true) {
            return;
        }
        if let Some(breaker) = self.facts.known.builds.get(class)
            && !breaker.may_try(self.facts.now)
        {
            let words = breaker.words.as_deref().unwrap_or("");
            self.short(class, format!("building its template failed and is tried again: {words}"));
            self.planned.wake_at = self.planned.wake_at.into_iter().chain(breaker.pauses_until).min();
        } else if std::mem::replace(room, false) {
            self.step(Step::Build(class.clone()));
        } else {
            self.short(class, "another template is built before its own".to_owned());
        }
    }

    /// Whether the host forks. Where that is not known, or was denied a while ago, the self-test takes
    /// the room for one template.
    fn forks(&mut self, class: &Class, room: &mut bool) -> Option<bool> {
        let (known, now) = (self.facts.known, self.facts.now);
        let (words, again) = match &known.verdict {
            Some(verdict) if verdict.forks => return Some(true),
            Some(verdict) => (
                format!("this host does not fork: {}", verdict.reason),
                verdict
                    .at
                    .after(selftest::AGAIN_AFTER)
                    .max(known.selftest.pauses_until.unwrap_or(now)),
            ),
            None => (
                match &known.untested {
                    Some(words) => format!("it could not be tried whether this host forks: {words}"),
                    None => "it is being tried whether this host forks".to_owned(),
                },
                known.selftest.pauses_until.unwrap_or(now),
            ),
        };
        self.planned.shortfalls.insert(class.clone(), words);
        if again > now {
            self.wake_at(again);
        } else if std::mem::replace(room, false) {
            self.step(Step::SelfTest);
        }
        known.verdict.as_ref().map(|_| false)
    }

    fn short(&mut self, class: &Class, words: String) {
        self.planned.shortfalls.entry(class.clone()).or_insert(words);
    }

    fn shells(&mut self, current: &BTreeMap<Class, Template>) {
        let rows = self.facts.rows;
        let waiting = |class: &Class| -> Vec<&Shell> {
            let mut waiting: Vec<&Shell> = rows
                .shells
                .values()
                .filter(|shell| shell.class == *class && shell.state == ShellState::Ready)
                .collect();
            waiting.sort_by_key(|shell| (shell.ready_at, shell.serial));
            waiting
        };
        let shares = self.shares();
        let mut used_mib: f64 = rows
            .shells
            .values()
            .filter(|shell| shell.state != ShellState::Releasing)
            .map(pss_of)
            .sum();
        let over_budget = used_mib > self.facts.budget_mib as f64;
        let classes: BTreeSet<&Class> = rows
            .shells
            .values()
            .map(|shell| &shell.class)
            .filter(|class| !selftest::is_own(class))
            .collect();
        for class in classes {
            let newest = current.get(class).map(|template| template.id);
            let mut shells = waiting(class);
            // Those of an old generation go first, then the oldest.
            shells.sort_by_key(|shell| (Some(shell.template) == newest, shell.ready_at, shell.serial));
            let hot = hot_target(rows.wanted.get(class)) as usize;
            let share = shares.get(class).map_or(0, |share| share.hot as usize);
            let keep = if over_budget { hot.min(share) } else { hot };
            let surplus = shells.len().saturating_sub(keep);
            for shell in &shells[..surplus] {
                let reason = if hot > keep {
                    "the memory budget has no room for it"
                } else if hot == 0 {
                    "no hot shell of its class is wanted"
                } else {
                    "there are more shells of its class than are wanted"
                };
                used_mib -= pss_of(shell);
                self.discard(shell.id, reason.to_owned());
            }
            self.ages(&shells[surplus..]);
        }
        let standbys = rows.shells.values().filter(|shell| shell.state == ShellState::Standby);
        for shell in standbys {
            if current.get(&shell.class).map(|template| template.id) != Some(shell.template) {
                self.discard(shell.id, "its template is not forked from any more".to_owned());
            }
        }
        self.fills(current, &shares, used_mib);
    }

    /// One at a time, so that a class that was filled at once is not emptied at once.
    fn ages(&mut self, shells: &[&Shell]) {
        let max_age = self.facts.max_age;
        let born = |shell: &Shell| shell.ready_at.unwrap_or(shell.made_at);
        let Some(oldest) = shells.iter().min_by_key(|shell| born(shell)) else {
            return;
        };
        let until = born(oldest).after(max_age);
        if until <= self.facts.now {
            self.discard(oldest.id, format!("it waited for {} s", max_age.as_secs()));
        } else {
            self.wake_at(until);
        }
    }

    /// What each class gets of the budget that claimed shells leave.
    fn shares(&mut self) -> BTreeMap<Class, size::Share> {
        let rows = self.facts.rows;
        let taken: f64 = rows
            .shells
            .values()
            .filter(|shell| matches!(shell.state, ShellState::Claimed | ShellState::Standby))
            .map(pss_of)
            .sum();
        let demands = rows
            .wanted
            .iter()
            .filter(|(_, wanted)| hot_target(Some(wanted)) > 0)
            .map(|(class, wanted)| Demand {
                class: class.clone(),
                hot: hot_target(Some(wanted)),
                each_mib: mean_pss(rows, class),
                last_used: rows.used.get(class).copied(),
            })
            .collect();
        let shares = size::share_out(demands, self.facts.budget_mib as f64 - taken);
        for (class, share) in &shares {
            if let Some(words) = &share.shortfall {
                self.short(class, words.clone());
            }
        }
        shares
    }

    fn fills(
        &mut self,
        current: &BTreeMap<Class, Template>,
        shares: &BTreeMap<Class, size::Share>,
        used_mib: f64,
    ) {
        let (rows, known) = (self.facts.rows, self.facts.known);
        let forks = known.verdict.as_ref().is_some_and(|verdict| verdict.forks);
        let mut at_work = rows
            .shells
            .values()
            .filter(|shell| {
                shell.state == ShellState::Filling && !selftest::is_own(&shell.class)
            })
            .count();
        let mut free_mib = self.facts.budget_mib as f64 - used_mib;
        let mut needs = Vec::new();
        for (class, template) in current {
            let of = |state| rows.shells_of(template.id).filter(|shell| shell.state == state).count();
            let there = of(ShellState::Ready) + of(ShellState::Filling);
            let hot = shares.get(class).map_or(0, |share| share.hot as usize);
            if there < hot {
                // The class that has the smallest part of what it should have is served first.
                needs.push((there * 1000 / hot, Step::Fill(template.id), class));
                if forks {
                    self.short(class, format!("{there} of {hot} hot shells; more are being filled"));
                }
            } else if of(ShellState::Standby) < STANDBYS && of(ShellState::Filling) == 0 {
                needs.push((1001, Step::StandBy(template.id), class));
            }
        }
        needs.sort_by_key(|(part, _, _)| *part);
        for (_, step, class) in needs {
            let template = current[class].id;
            if let Some(breaker) = known.fills.get(&template)
                && !breaker.may_try(self.facts.now)
            {
                let words = breaker.words.as_deref().unwrap_or("");
                self.planned.shortfalls.insert(class.clone(), format!("filling failed and is tried again: {words}"));
                self.planned.wake_at = self.planned.wake_at.into_iter().chain(breaker.pauses_until).min();
                continue;
            }
            let cost = match step {
                Step::StandBy(_) => EMPTY_PSS_MIB,
                _ => mean_pss(rows, class),
            };
            if forks && !self.facts.claiming && at_work < FILLS_AT_ONCE && cost <= free_mib {
                at_work += 1;
                free_mib -= cost;
                self.step(step);
            } else if cost > free_mib && at_work == 0 && matches!(step, Step::Fill(_)) {
                self.make_room(class, template, shares);
            }
        }
    }

    /// A shell of an old generation makes room for one of the new, else one of a class that has more
    /// than its share.
    fn make_room(
        &mut self,
        class: &Class,
        newest: MachineId,
        shares: &BTreeMap<Class, size::Share>,
    ) {
        let rows = self.facts.rows;
        let ready = || rows.shells.values().filter(|shell| shell.state == ShellState::Ready);
        let old = ready().find(|shell| shell.class == *class && shell.template != newest);
        let surplus = || {
            ready().find(|shell| {
                let share = shares.get(&shell.class).map_or(0, |share| share.hot as usize);
                shell.class != *class
                    && ready().filter(|other| other.class == shell.class).count() > share
            })
        };
        if let Some(shell) = old.or_else(surplus) {
            self.discard(shell.id, format!("it makes room for one of {class}"));
        }
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
