//! Watching machines at work: one look at all of them a second, added up per try at a stage, and an
//! observation when the work ends.
//!
//! ```text
//! begin ─► first look ─► … a look a second, stored every five ─► end: last look ─► observation
//!            │ begun again after a restart: what was stored comes first
//! ```
//!
//! While nothing is watched this waits and costs nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::{Core, train};
use crate::hypervisor::MachineUsage;
use crate::learn::features::{self, Case};
use crate::learn::resources::observation::{End, Observation};
use crate::learn::resources::tally::{Look, Tally};
use crate::store::observations;
use crate::vocab::machine::Size;
use crate::vocab::prediction::StageExpectation;
use crate::vocab::run::AttemptPhases;
use crate::vocab::{AttemptId, MachineId, RunId, Timestamp};

/// Looks are stored so often: what is lost of a long stage by a crash.
const STORE_EVERY: Duration = Duration::from_secs(5);

/// A try at a stage that begins to work.
#[derive(Debug, Clone)]
pub struct Watched {
    pub attempt: AttemptId,
    pub run: RunId,
    /// The domain in which it works.
    pub domain: MachineId,
    pub case: Case,
    pub given: Size,
    pub phases: AttemptPhases,
    pub expected: Option<StageExpectation>,
    pub replay: bool,
    /// It was being watched before the daemon was started.
    pub resumed: bool,
}

pub enum Note {
    Begin(Box<Watched>, Arc<AtomicU32>),
    End(AttemptId, End, f64),
}

/// A try that is being watched. Dropped, its work was overtaken.
pub struct Watching {
    attempt: AttemptId,
    notes: Option<UnboundedSender<Note>>,
    short_permille: Arc<AtomicU32>,
}

pub fn begin(notes: &UnboundedSender<Note>, watched: Watched) -> Watching {
    let (attempt, short_permille) = (watched.attempt, Arc::new(AtomicU32::new(0)));
    let _ = notes.send(Note::Begin(Box::new(watched), short_permille.clone()));
    Watching {
        attempt,
        notes: Some(notes.clone()),
        short_permille,
    }
}

impl Watching {
    /// The work has ended; it took so long.
    pub fn end(mut self, end: End, work_s: f64) {
        self.tell(end, work_s);
    }

    /// Share of the time in which the machine used all its processor time, so far.
    pub fn short_of_cpu(&self) -> f64 {
        f64::from(self.short_permille.load(Ordering::Relaxed)) / 1000.0
    }

    fn tell(&mut self, end: End, work_s: f64) {
        if let Some(notes) = self.notes.take() {
            let _ = notes.send(Note::End(self.attempt, end, work_s));
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.tell(End::Dropped, 0.0);
    }
}

struct AtWork {
    watched: Watched,
    tally: Tally,
    began: Timestamp,
    short_permille: Arc<AtomicU32>,
}

/// Most notes that are taken before the next look.
const TOGETHER: usize = 64;

pub async fn watch(core: Arc<Core>, mut notes: UnboundedReceiver<Note>) {
    let every = core.services.settings.look_every;
    let mut at_work: HashMap<AttemptId, AtWork> = HashMap::new();
    let mut unstored: Vec<(AttemptId, Look)> = Vec::new();
    let (mut next_look, mut next_store) = (Instant::now(), Instant::now() + STORE_EVERY);
    loop {
        let mut heard = Vec::new();
        if at_work.is_empty() {
            if notes.recv_many(&mut heard, TOGETHER).await == 0 {
                return;
            }
            next_look = Instant::now() + every;
            next_store = Instant::now() + STORE_EVERY;
        } else {
            tokio::select! {
                count = notes.recv_many(&mut heard, TOGETHER) => if count == 0 { return },
                () = tokio::time::sleep_until(next_look) => {}
            }
        }
        let mut ended = Vec::new();
        let mut wanted: Vec<MachineId> = Vec::new();
        for note in heard {
            match note {
                Note::Begin(watched, short_permille) => {
                    wanted.push(watched.domain);
                    let one = take_up(&core, *watched, short_permille).await;
                    at_work.insert(one.watched.attempt, one);
                }
                Note::End(attempt, end, work_s) => {
                    if let Some(one) = at_work.get(&attempt) {
                        wanted.push(one.watched.domain);
                        ended.push((attempt, end, work_s));
                    }
                }
            }
        }
        if Instant::now() >= next_look {
            wanted = at_work.values().map(|one| one.watched.domain).collect();
            // A look that took longer than a second is not made up for.
            next_look = Instant::now() + every;
        }
        look(&core, &wanted, &mut at_work, &mut unstored).await;
        for (attempt, end, work_s) in ended {
            let Some(one) = at_work.remove(&attempt) else {
                continue;
            };
            if end == End::Dropped {
                // Aborted, or the daemon ends and the work goes on: the next one may take it up again.
                next_store = Instant::now();
                continue;
            }
            unstored.retain(|(of, _)| *of != attempt);
            note_down(&core, one, end, work_s).await;
        }
        if Instant::now() >= next_store {
            store_looks(&core, &mut unstored).await;
            next_store = Instant::now() + STORE_EVERY;
        }
    }
}

/// Begins, or goes on with what was stored before a restart.
async fn take_up(core: &Core, watched: Watched, short_permille: Arc<AtomicU32>) -> AtWork {
    let mut one = AtWork {
        began: core.now(),
        tally: Tally::default(),
        watched,
        short_permille,
    };
    if one.watched.resumed {
        let stored = async {
            let mut connection = core.services.store.read().await?;
            observations::look_list(&mut connection, one.watched.attempt).await
        };
        match stored.await {
            Ok(looks) => {
                one.began = looks.first().map_or(one.began, |look| look.at);
                for look in looks {
                    one.tally.take(look, one.watched.given.vcpus);
                }
            }
            Err(error) => tracing::warn!(%error, "what was seen before the restart is not known"),
        }
    }
    one
}

async fn look(
    core: &Core,
    wanted: &[MachineId],
    at_work: &mut HashMap<AttemptId, AtWork>,
    unstored: &mut Vec<(AttemptId, Look)>,
) {
    if wanted.is_empty() {
        return;
    }
    let seen = match core.services.hypervisor.usage_of(wanted).await {
        Ok(seen) => seen,
        Err(error) => {
            // A gap in what is known, and no more: the tally notes it by the time that passed.
            tracing::debug!(%error, "machines at work could not be looked at");
            return;
        }
    };
    let at = core.now();
    for (attempt, one) in at_work {
        let Some(usage) = seen.get(&one.watched.domain) else {
            continue;
        };
        let look = look_of(at, usage);
        one.tally.take(look, one.watched.given.vcpus);
        unstored.push((*attempt, look));
        if let Some(used) = one.tally.used() {
            let permille = (1000.0 * used.cpu_short_share) as u32;
            one.short_permille.store(permille, Ordering::Relaxed);
        }
    }
}

fn look_of(at: Timestamp, usage: &MachineUsage) -> Look {
    Look {
        at,
        cpu_ms: usage.cpu_ms,
        touched_mib: usage.touched_mib,
        disk_read_bytes: usage.disk_read_bytes,
        disk_written_bytes: usage.disk_written_bytes,
        net_received_bytes: usage.net_received_bytes,
        net_sent_bytes: usage.net_sent_bytes,
    }
}

async fn store_looks(core: &Core, unstored: &mut Vec<(AttemptId, Look)>) {
    let looks = std::mem::take(unstored);
    if looks.is_empty() {
        return;
    }
    let written = core.services.store.write(move |connection| {
        Box::pin(async move { observations::looks_put(connection, &looks).await })
    });
    if let Err(error) = written.await {
        tracing::warn!(%error, "looks at machines at work are lost");
    }
}

/// The work has ended: what it used becomes a row, and is known from now on.
async fn note_down(core: &Arc<Core>, one: AtWork, end: End, work_s: f64) {
    let watched = one.watched;
    let at = core.now();
    let seen_s = at.since(one.began).as_secs_f64();
    let observation = Observation {
        attempt: watched.attempt,
        run: watched.run,
        at,
        case: watched.case,
        features: features::VERSION,
        given: watched.given,
        end,
        used: one.tally.used().unwrap_or_default(),
        // After a restart the work is older than its watching.
        work_s: if work_s > 0.0 {
            work_s.max(seen_s)
        } else {
            seen_s
        },
        phases: watched.phases,
        expected: watched.expected,
        replay: watched.replay,
    };
    let row = observation.clone();
    let written = core.services.store.write(move |connection| {
        Box::pin(async move { observations::observation_put(connection, &row).await })
    });
    match written.await {
        Ok(Some(_)) => {
            let due = {
                let mut book = core.book();
                book.learn(&observation);
                book.count_new(&observation)
            };
            train::if_due(core, due).await;
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(%error, attempt = %watched.attempt, "what a stage used is not stored")
        }
    }
}
