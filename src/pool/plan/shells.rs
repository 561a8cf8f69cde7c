//! What becomes of shells: too many, too old, too few.

use std::collections::{BTreeMap, BTreeSet};

use super::{EMPTY_PSS_MIB, FILLS_AT_ONCE, Planner, STANDBYS, Step, hot_target, mean_pss, pss_of};
use crate::pool::selftest;
use crate::pool::size::{self, Demand};
use crate::vocab::MachineId;
use crate::vocab::pool::{Class, Shell, ShellState, Template};

impl Planner<'_> {
    pub(super) fn shells(&mut self, current: &BTreeMap<Class, Template>) {
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
            shells.sort_by_key(|shell| {
                (Some(shell.template) == newest, shell.ready_at, shell.serial)
            });
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
        let standbys = rows
            .shells
            .values()
            .filter(|shell| shell.state == ShellState::Standby);
        for shell in standbys {
            if current.get(&shell.class).map(|template| template.id) != Some(shell.template) {
                self.discard(
                    shell.id,
                    "its template is not forked from any more".to_owned(),
                );
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
            .filter(|shell| shell.state == ShellState::Filling && !selftest::is_own(&shell.class))
            .count();
        let mut free_mib = self.facts.budget_mib as f64 - used_mib;
        let mut needs = Vec::new();
        for (class, template) in current {
            let of = |state| {
                rows.shells_of(template.id)
                    .filter(|shell| shell.state == state)
                    .count()
            };
            let there = of(ShellState::Ready) + of(ShellState::Filling);
            let hot = shares.get(class).map_or(0, |share| share.hot as usize);
            if there < hot {
                // The class that has the smallest part of what it should have is served first.
                needs.push((there * 1000 / hot, Step::Fill(template.id), class));
                if forks {
                    self.short(
                        class,
                        format!("{there} of {hot} hot shells; more are being filled"),
                    );
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
                self.planned.shortfalls.insert(
                    class.clone(),
                    format!("filling failed and is tried again: {words}"),
                );
                self.planned.wake_at = self
                    .planned
                    .wake_at
                    .into_iter()
                    .chain(breaker.pauses_until)
                    .min();
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
        let ready = || {
            rows.shells
                .values()
                .filter(|shell| shell.state == ShellState::Ready)
        };
        let old = ready().find(|shell| shell.class == *class && shell.template != newest);
        let surplus = || {
            ready().find(|shell| {
                let share = shares
                    .get(&shell.class)
                    .map_or(0, |share| share.hot as usize);
                shell.class != *class
                    && ready().filter(|other| other.class == shell.class).count() > share
            })
        };
        if let Some(shell) = old.or_else(surplus) {
            self.discard(shell.id, format!("it makes room for one of {class}"));
        }
    }
}
