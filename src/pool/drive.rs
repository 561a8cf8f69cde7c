//! The pool's one task: looks, plans, and sets to work what the plan says. Dull on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::adopt::adopt;
use super::core::Core;
use super::key::{self, Key};
use super::plan::{self, Facts, Planned, Step};
use super::{claim, selftest, shell, template};
use crate::hypervisor::{HvError, MachineEvent, Power};
use crate::store::pool::{Wanted, template_count, verdict_get};
use crate::vocab::MachineId;
use crate::vocab::pool::{Class, Shell, ShellState, TemplateState};

/// How often images, host and memory are looked at while there is something to keep, and while not.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(60);

/// Runs until stopped; what it has begun ends with it, and the next start goes on from the rows.
pub async fn drive(core: Arc<Core>, half_built: BTreeSet<MachineId>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = Driver::new(core).run(&half_built) => {}
    }
}

struct Driver {
    core: Arc<Core>,
    tasks: JoinSet<()>,
    keys: BTreeMap<Class, Result<Key, String>>,
    look_at: Instant,
}

impl Driver {
    fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            tasks: JoinSet::new(),
            keys: BTreeMap::new(),
            look_at: Instant::now(),
        }
    }

    async fn run(mut self, half_built: &BTreeSet<MachineId>) {
        let mut events = self.core.hypervisor().events();
        self.take_up(half_built).await;
        loop {
            self.look().await;
            let planned = self.plan();
            let mut begun = false;
            for step in planned.steps {
                begun |= self.carry_out(step).await;
            }
            if begun {
                // What the steps changed may let others follow.
                continue;
            }
            let now = self.core.now();
            let pause = planned
                .wake_at
                .map(|at| at.remaining(now).max(Duration::from_millis(10)));
            let pause = pause.into_iter().chain(self.core.quiet_for()).min();
            let wake = self
                .look_at
                .min(Instant::now() + pause.unwrap_or(IDLE_LOOK_EVERY));
            tokio::select! {
                () = self.core.nudge.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                event = events.recv() => self.heard(event),
            }
        }
    }

    /// Compares what an earlier life left with the host, until that could be done once.
    async fn take_up(&mut self, half_built: &BTreeSet<MachineId>) {
        while let Err(error) = adopt(&self.core, half_built).await {
            tracing::warn!(%error, "the pool waits for the host");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// What is known about images, host and memory is made new, when it is time.
    async fn look(&mut self) {
        let core = self.core.clone();
        let due = Instant::now() >= self.look_at;
        if due {
            match core.look_at_host().await {
                Ok(host) => {
                    let name = selftest::name_of(&host);
                    let stored = async {
                        let mut connection = core.services.store.read().await?;
                        verdict_get(&mut connection, &name).await
                    };
                    match stored.await {
                        Ok(verdict) => core.known().verdict = verdict,
                        Err(error) => {
                            tracing::warn!(%error, "the verdict on this host cannot be read")
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "the host cannot be looked at"),
            }
            measure(&core).await;
            let something = core
                .ledger
                .look(|rows| !rows.wanted.is_empty() || !rows.shells.is_empty());
            self.look_at = Instant::now()
                + if something {
                    LOOK_EVERY
                } else {
                    IDLE_LOOK_EVERY
                };
        }
        let classes: Vec<Class> = core.ledger.look(|rows| {
            let templates = rows.templates.values().map(|template| &template.class);
            rows.wanted.keys().chain(templates).cloned().collect()
        });
        self.keys.retain(|class, _| classes.contains(class));
        for class in classes {
            if (due || !self.keys.contains_key(&class))
                && let Some(key) = current_key(&core, &class).await
            {
                self.keys.insert(class, key);
            }
        }
    }

    fn plan(&self) -> Planned {
        let settings = &self.core.services.settings;
        let planned = self.core.ledger.look(|rows| {
            plan::plan(&Facts {
                rows,
                known: &self.core.known(),
                keys: &self.keys,
                budget_mib: settings.budget_mib,
                max_age: settings.max_age,
                claiming: self.core.quiet_for().is_some(),
                now: self.core.now(),
            })
        });
        self.core.known().shortfalls = planned.shortfalls.clone();
        planned
    }

    /// Returns whether the rows changed, so that the plan is to be made again.
    async fn carry_out(&mut self, step: Step) -> bool {
        let core = self.core.clone();
        tracing::debug!(?step, "the pool");
        match step {
            Step::SelfTest => self.self_test(),
            Step::Build(class) => return self.write_row(&class).await,
            Step::Begin(id) => self.build(id),
            Step::Drain { template, reason } => {
                tracing::info!(%template, %reason, "a template is drained");
                set_state(&core, template, TemplateState::Draining, reason).await;
                return true;
            }
            Step::Revive { template, reason } => {
                tracing::warn!(%template, %reason, "a template is taken again");
                core.known().fills.remove(&template);
                set_state(&core, template, TemplateState::Ready, reason).await;
                return true;
            }
            Step::Fail { template, reason } => {
                template::fail(&core, template, &reason).await;
                return true;
            }
            Step::Remove(id) => self.clear(id, async move { template::remove(&core, id).await }),
            Step::Destroy(id) => self.clear(id, async move { shell::destroy(&core, id).await }),
            Step::Fill(template) => return self.fork(template, Purpose::Fill).await,
            Step::StandBy(template) => return self.fork(template, Purpose::StandBy).await,
            Step::Discard { shell, reason } => {
                core.ledger
                    .change(|draft| {
                        // A claim may have been faster.
                        let idle = draft.rows.shells.get(&shell).is_some_and(|shell| {
                            matches!(shell.state, ShellState::Ready | ShellState::Standby)
                        });
                        if idle {
                            draft.discard(shell, Some(&reason));
                        }
                    })
                    .await;
                return true;
            }
            Step::Expire(key) => {
                tracing::info!(%key, "the time of a claim is over");
                self.tasks.spawn(async move {
                    if let Err(error) = claim::release(&core, &key).await {
                        tracing::warn!(%key, %error, "a claim is not released yet");
                    }
                });
            }
            Step::Promote(class) => {
                tracing::info!(%class, "asked for in vain several times: a template of it is kept");
                let now = core.now();
                core.ledger
                    .change(|draft| {
                        let wanted = Wanted {
                            by_use: Some(now),
                            ..draft.rows.wanted.get(&class).cloned().unwrap_or_default()
                        };
                        draft.rows.in_vain.remove(&class);
                        draft.put_wanted(&class, Some(wanted));
                    })
                    .await;
                return true;
            }
            Step::Forget(class) => {
                tracing::info!(%class, "not used for a day: no template of it is kept any more");
                core.ledger
                    .change(|draft| {
                        let target = draft
                            .rows
                            .wanted
                            .get(&class)
                            .and_then(|wanted| wanted.target);
                        let wanted = target.map(|target| Wanted {
                            target: Some(target),
                            by_use: None,
                        });
                        draft.put_wanted(&class, wanted);
                    })
                    .await;
                return true;
            }
        }
        false
    }

    fn self_test(&mut self) {
        let core = self.core.clone();
        // Its template is worked on from its row's first moment, so that this comes only once.
        core.known().selftest.pauses_until = Some(core.now().after(selftest::AGAIN_AFTER));
        self.tasks.spawn(async move {
            let tried = selftest::run(&core).await;
            let now = core.now();
            let mut known = core.known();
            match tried {
                Ok(verdict) => {
                    known.verdict = Some(verdict);
                    known.untested = None;
                    known.selftest.succeeded();
                }
                Err(words) => {
                    tracing::error!(%words, "it could not be tried whether this host forks");
                    known.selftest.failed("self-test", &words, now);
                    known.untested = Some(words);
                }
            }
        });
    }

    async fn write_row(&mut self, class: &Class) -> bool {
        match new_generation(&self.core, class).await {
            Ok(_) => true,
            Err(words) => {
                let now = self.core.now();
                let mut known = self.core.known();
                let breaker = known.builds.entry(class.clone()).or_default();
                breaker.failed(&class.to_string(), &words, now);
                false
            }
        }
    }

    fn build(&mut self, id: MachineId) {
        let core = self.core.clone();
        let row = core.ledger.look(|rows| rows.templates.get(&id).cloned());
        let (Some(row), Some(busy)) = (row, core.take_up(id)) else {
            return;
        };
        self.tasks.spawn(async move {
            let built = async {
                let image = template::image_of(&core, &row).await?;
                template::build(&core, &row, &image, None).await
            };
            let built = built.await;
            let now = core.now();
            match built {
                Ok(()) => {
                    core.known().builds.remove(&row.class);
                    tracing::info!(class = %row.class, generation = row.generation, "a template is ready");
                }
                Err(words) => {
                    template::fail(&core, id, &words).await;
                    let mut known = core.known();
                    let breaker = known.builds.entry(row.class.clone()).or_default();
                    breaker.failed(&row.class.to_string(), &words, now);
                }
            }
            drop(busy);
        });
    }

    async fn fork(&mut self, id: MachineId, purpose: Purpose) -> bool {
        let core = self.core.clone();
        let Some(template) = core.ledger.look(|rows| rows.templates.get(&id).cloned()) else {
            return false;
        };
        let row = core
            .ledger
            .change(|draft| {
                let row = shell::row(&core, draft.rows, &template, ShellState::Filling);
                draft.put_shell(row.clone());
                row
            })
            .await;
        let Some(busy) = core.take_up(row.id) else {
            return false;
        };
        self.tasks.spawn(async move {
            let filled = async {
                let image = template::image_of(&core, &template).await?;
                match purpose {
                    Purpose::Fill => shell::fill(&core, &row, &image).await,
                    Purpose::StandBy => shell::stand_by(&core, &row, &image).await,
                }
            };
            let filled = filled.await;
            settle(&core, &row, &purpose, filled).await;
            drop(busy);
        });
        true
    }

    /// Takes something away, and tries again later where that fails.
    fn clear(
        &mut self,
        id: MachineId,
        work: impl Future<Output = Result<(), HvError>> + Send + 'static,
    ) {
        let core = self.core.clone();
        let Some(busy) = core.take_up(id) else { return };
        self.tasks.spawn(async move {
            let done = work.await;
            let now = core.now();
            {
                let mut known = core.known();
                match done {
                    Ok(()) => {
                        known.removals.remove(&id);
                        known.fills.remove(&id);
                    }
                    Err(error) => {
                        tracing::warn!(%id, %error, "not removed yet; tried again");
                        let breaker = known.removals.entry(id).or_default();
                        breaker.failed(&id.to_string(), &error.to_string(), now);
                    }
                }
            }
            drop(busy);
        });
    }

    fn heard(&mut self, event: Result<MachineEvent, RecvError>) {
        match event {
            Ok(MachineEvent::Stopped(id, why)) => {
                let core = self.core.clone();
                if core.ledger.look(|rows| is_waiting(rows.shells.get(&id))) {
                    self.tasks.spawn(async move { lost(&core, id, &why).await });
                }
            }
            // Another libvirt may answer now, with another QEMU.
            Ok(MachineEvent::Reconnected) | Err(RecvError::Lagged(_)) => {
                self.look_at = Instant::now();
            }
            Ok(_) | Err(RecvError::Closed) => {}
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Purpose {
    Fill,
    StandBy,
}

async fn settle(core: &Arc<Core>, row: &Shell, purpose: &Purpose, filled: Result<(), String>) {
    let (now, template) = (core.now(), row.template);
    match filled {
        Ok(()) => {
            if matches!(purpose, Purpose::Fill) {
                core.known().fills.remove(&template);
            }
        }
        Err(words) => {
            tracing::warn!(shell = %row.name, %words, "a shell could not be filled");
            core.ledger
                .change(|draft| draft.discard(row.id, Some(&words)))
                .await;
            let mut known = core.known();
            let breaker = known.fills.entry(template).or_default();
            breaker.failed(&template.to_string(), &words, now);
        }
    }
}

async fn set_state(core: &Core, template: MachineId, state: TemplateState, reason: String) {
    core.ledger
        .change(|draft| {
            draft.template(template, |template| {
                template.state = state;
                template.reason = Some(reason);
            });
        })
        .await;
}

/// Writes the row of the class's next template.
pub async fn new_generation(core: &Core, class: &Class) -> Result<MachineId, String> {
    let key = current_key(core, class)
        .await
        .unwrap_or_else(|| Err("the host cannot be reached".to_owned()))?;
    let count = async {
        let mut connection = core.services.store.read().await?;
        template_count(&mut connection, class).await
    };
    let generation = count.await.map_err(|error| error.to_string())? + 1;
    let row = template::row(core, class, &key, generation);
    let id = row.id;
    core.ledger.change(|draft| draft.put_template(row)).await;
    Ok(id)
}

/// What a template of the class would be made from now; `None` while the host is not known.
pub async fn current_key(core: &Core, class: &Class) -> Option<Result<Key, String>> {
    let host = core.host().await.ok()?;
    let (images, name) = (core.services.images.clone(), class.image.clone());
    let image = crate::blocking::run(move || images.get(&name)).await;
    Some(match image {
        Ok(image) if class.memory_mib < image.min_memory_mib => Err(format!(
            "image {} needs {} MiB, and {class} has {}",
            image.name, image.min_memory_mib, class.memory_mib
        )),
        Ok(image) => Ok(key::of(
            class,
            &image,
            &host,
            core.services.settings.growth_mib,
        )),
        Err(error) => Err(error.to_string()),
    })
}

fn is_waiting(shell: Option<&Shell>) -> bool {
    shell.is_some_and(|shell| matches!(shell.state, ShellState::Ready | ShellState::Standby))
}

/// A shell's machine is said to have stopped: if that is so, the shell goes. A claimed one is its
/// claimant's business.
pub async fn lost(core: &Core, id: MachineId, why: &str) {
    let gone = match core.hypervisor().machine(id).await {
        Ok(seen) => seen.is_none_or(|seen| seen.power == Power::Off),
        Err(_) => return,
    };
    if !gone {
        return;
    }
    core.ledger
        .change(|draft| {
            if is_waiting(draft.rows.shells.get(&id)) {
                draft.discard(id, Some(&format!("its machine stopped: {why}")));
            } else if draft.rows.shells.contains_key(&id) {
                draft.shell(id, |shell| {
                    shell
                        .reason
                        .get_or_insert_with(|| format!("its machine stopped: {why}"));
                });
            }
        })
        .await;
    core.nudge.notify_one();
}

/// Notes what each shell takes. It stays in memory until the row is written for another reason.
async fn measure(core: &Core) {
    let ids: Vec<MachineId> = core.ledger.look(|rows| {
        let made = rows.shells.values().filter(|shell| {
            matches!(
                shell.state,
                ShellState::Ready | ShellState::Standby | ShellState::Claimed
            )
        });
        made.map(|shell| shell.id).collect()
    });
    if ids.is_empty() {
        return;
    }
    match core.hypervisor().memory_of(&ids).await {
        Ok(found) => core.ledger.note(|rows| {
            for (id, memory) in found {
                if let Some(shell) = rows.shells.get_mut(&id) {
                    shell.pss_mib = Some(memory.pss_mib);
                }
            }
        }),
        Err(error) => tracing::debug!(%error, "the shells' memory cannot be measured"),
    }
}
