//! What becomes of templates: drained, given up, taken again, removed, built.

use std::collections::BTreeMap;

use super::{Planner, REPLACED, Step, hot_target, wants_template};
use crate::pool::key::difference;
use crate::pool::selftest;
use crate::vocab::pool::{Class, Template, TemplateState};

impl Planner<'_> {
    /// Whether a template is what would be made now. Without a key nothing is known to be different.
    fn is_current(&self, template: &Template) -> bool {
        match self.facts.keys.get(&template.class) {
            Some(Ok(key)) => key.digest == template.key,
            _ => true,
        }
    }

    /// What becomes of the templates that are there; the ones to fork from are returned.
    pub(super) fn templates(&mut self) -> BTreeMap<Class, Template> {
        let mut current: BTreeMap<Class, Template> = BTreeMap::new();
        let mut newest_first: Vec<&Template> = self.facts.rows.templates.values().collect();
        newest_first
            .sort_by_key(|template| std::cmp::Reverse((template.generation, template.made_at)));
        for template in &newest_first {
            if selftest::is_own(&template.class) {
                if template.state == TemplateState::Ready && !self.is_busy(template.id) {
                    let reason = "the self-test was interrupted".to_owned();
                    self.step(Step::Fail {
                        template: template.id,
                        reason,
                    });
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
            let replaced = template
                .reason
                .as_deref()
                .unwrap_or("")
                .starts_with(REPLACED);
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
        let replaced = template
            .reason
            .as_deref()
            .unwrap_or("")
            .starts_with(REPLACED);
        let proved = self
            .facts
            .rows
            .shells_of(newer.id)
            .any(|shell| shell.identity.is_some());
        let hot = hot_target(self.facts.rows.wanted.get(&template.class));
        template.state == TemplateState::Draining && replaced && hot > 0 && !proved
    }

    pub(super) fn builds(&mut self, current: &BTreeMap<Class, Template>) {
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
                    self.step(Step::Fail {
                        template: template.id,
                        reason,
                    });
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
            self.short(
                class,
                format!("building its template failed and is tried again: {words}"),
            );
            self.planned.wake_at = self
                .planned
                .wake_at
                .into_iter()
                .chain(breaker.pauses_until)
                .min();
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
                    Some(words) => {
                        format!("it could not be tried whether this host forks: {words}")
                    }
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
}
