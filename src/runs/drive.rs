//! Driving one run: the task that owns its rows.
//!
//! Each turn: let the plan advance, store what changed together with the results of what is done
//! and the intentions of what begins (one transaction), begin it, wait for something to happen.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::act::{self, Order};
use super::plan::{self, Action, Outcome, Request};
use super::services::{Live, Services};
use super::view::View;
use crate::capacity::Urgency;
use crate::fault::Window;
use crate::store::{StoreError, events, journal, runs, times};
use crate::vocab::machine::MachineState;
use crate::vocab::run::{Progress, Purpose};
use crate::vocab::{AttemptId, MachineId, RunId, Timestamp};

/// How long a driver that has nothing left to do listens for requests.
const LINGER: Duration = Duration::from_secs(1);

/// What a run's driver is told.
pub enum Message {
    /// The run has its turn; answered once it is stored as running.
    Admit(oneshot::Sender<()>),
    Request(Request, Asker),
}

/// How others reach a driver.
#[derive(Clone)]
pub struct Handle {
    pub inbox: mpsc::Sender<Message>,
    /// The run takes one of the places for active runs.
    pub active: Arc<AtomicBool>,
}

/// Loads a run and everything about it.
pub async fn load(services: &Services, id: RunId) -> Result<Option<View>, StoreError> {
    let mut connection = services.store.read().await?;
    let Some(run) = runs::run_get(&mut connection, id).await? else {
        return Ok(None);
    };
    let plan = runs::plan_get(&mut connection, id)
        .await?
        .ok_or_else(|| StoreError::Failed(format!("run {id} has no plan")))?;
    Ok(Some(View {
        run,
        plan: Arc::new(serde_json::from_value(plan)?),
        attempts: runs::attempt_list(&mut connection, id).await?,
        machines: runs::machine_list(&mut connection, id).await?,
        news: Vec::new(),
    }))
}

/// Starts the driver of a run. `ended` is called when nothing is left to do for it.
pub fn start(
    services: Services,
    view: View,
    changed: impl Fn() + Send + Sync + 'static,
    ended: impl FnOnce() + Send + 'static,
) -> Handle {
    let (sender, inbox) = mpsc::channel(16);
    let active = Arc::new(AtomicBool::new(view.run.state.is_active()));
    let handle = Handle {
        inbox: sender,
        active: active.clone(),
    };
    let span = tracing::info_span!("run", id = %view.run.id, device = %view.run.device_name, chain = %view.run.chain);
    for machine in view
        .machines
        .iter()
        // One that is being made may not have had its room yet: it asks again.
        .filter(|machine| machine.state.holds_capacity() && machine.state != MachineState::Making)
    {
        services.capacity.adopt(machine.id, machine.size);
    }
    let driver = Driver {
        stored: view.clone(),
        view,
        services,
        inbox,
        active,
        changed: Box::new(changed),
        tasks: JoinSet::new(),
        under_way: HashMap::new(),
        fetched: HashMap::new(),
        started: HashSet::new(),
        answers: Vec::new(),
        admitted: Vec::new(),
    };
    tokio::spawn(
        async move {
            // Also when an action panics, so that its run does not keep a place for ever.
            let _ended = OnDrop(Some(ended));
            driver.drive().await;
        }
        .instrument(span),
    );
    handle
}

/// Who waits to hear whether a request is accepted, or why not.
type Asker = oneshot::Sender<Result<(), String>>;

struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(last) = self.0.take() {
            last();
        }
    }
}

struct Driver {
    services: Services,
    view: View,
    /// The view as the database has it.
    stored: View,
    inbox: mpsc::Receiver<Message>,
    active: Arc<AtomicBool>,
    changed: Box<dyn Fn() + Send + Sync>,
    tasks: JoinSet<(Action, Outcome)>,
    under_way: HashMap<Action, CancellationToken>,
    /// Outputs that came with the news of a work's end; after a restart they are fetched again.
    fetched: HashMap<AttemptId, Vec<u8>>,
    /// Attempts whose work this driver started; others' it found at work.
    started: HashSet<AttemptId>,
    /// Answers to give once the next turn is stored.
    answers: Vec<(Asker, Result<(), String>)>,
    admitted: Vec<oneshot::Sender<()>>,
}

impl Driver {
    async fn drive(mut self) {
        let mut done: Vec<(Action, Outcome)> = Vec::new();
        loop {
            let now = self.services.now();
            plan::advance(&mut self.view, now);
            let begin = self.choose(now);
            for action in &begin {
                plan::begin(&mut self.view, *action);
            }
            if let Err(error) = self.store(&done, &begin, now).await {
                tracing::error!(%error, "another owner has this run; letting go of it");
                return;
            }
            for (action, _) in &done {
                self.services
                    .faults
                    .point(action.word(), Window::Stored)
                    .await;
            }
            self.announce();
            if let Some(machine) = self.view.current().and_then(|attempt| attempt.machine) {
                self.services.capacity.promote(machine);
            }
            // Places in the queue for room are taken here, in order: the stage's own machine goes
            // before the one that is made ahead.
            for action in &begin {
                if let Action::MakeMachine(id) = action
                    && let Some(machine) = self.view.machine(*id)
                {
                    self.services
                        .capacity
                        .line_up(*id, machine.size, self.urgency(*id));
                }
            }
            for action in begin {
                self.begin(action);
            }
            if plan::is_over(&self.view) && self.tasks.is_empty() {
                // Somebody may ask for a retry: a driver is also started just to be asked.
                match tokio::time::timeout(LINGER, self.inbox.recv()).await {
                    Ok(Some(message)) => self.take(message),
                    _ => return,
                }
                done.clear();
                continue;
            }
            done = self.wait(now).await;
            let now = self.services.now();
            for (action, outcome) in &done {
                self.under_way.remove(action);
                if let (
                    Action::Watch(attempt),
                    Outcome::Worked {
                        output: Some(bytes),
                        ..
                    },
                ) = (action, outcome)
                {
                    self.fetched.insert(*attempt, bytes.clone());
                }
                plan::absorb(&mut self.view, *action, outcome.clone(), now);
                if let (Action::Release(machine), Outcome::MachineGone { .. }) = (action, outcome) {
                    self.services.capacity.give_back(*machine);
                }
            }
        }
    }

    /// What is due and not yet under way; what is under way and not due any more is cancelled.
    fn choose(&self, now: Timestamp) -> Vec<Action> {
        let due = plan::due(&self.view, now);
        for (action, cancel) in &self.under_way {
            if !due.contains(action) {
                cancel.cancel();
            }
        }
        due.into_iter()
            .filter(|action| !self.under_way.contains_key(action) && !self.is_blocked(*action))
            .collect()
    }

    fn urgency(&self, machine: MachineId) -> Urgency {
        match self.view.current() {
            Some(attempt) if attempt.machine == Some(machine) => Urgency::Wanted,
            _ => Urgency::Ahead,
        }
    }

    fn is_blocked(&self, action: Action) -> bool {
        self.under_way
            .keys()
            .any(|other| plan::must_wait(&self.view, action, *other))
    }

    fn begin(&mut self, action: Action) {
        let mut order = Order::new(&self.view, action);
        if let (Action::Watch(_), Some(attempt)) = (action, &order.attempt) {
            order.resumed = !self.started.contains(&attempt.id);
        }
        if let (Action::Start(_), Some(attempt)) = (action, &order.attempt) {
            self.started.insert(attempt.id);
        }
        if let Action::Collect(attempt) = action {
            order.output = self.fetched.remove(&attempt);
        }
        let cancel = CancellationToken::new();
        self.under_way.insert(action, cancel.clone());
        let services = self.services.clone();
        let span = tracing::debug_span!("act", %action);
        self.tasks.spawn(
            async move {
                services.faults.point(action.word(), Window::Before).await;
                let outcome = act::carry_out(&services, &order, &cancel).await;
                services.faults.point(action.word(), Window::After).await;
                (action, outcome)
            }
            .instrument(span),
        );
    }

    /// Waits until an action is done, somebody asks for something, or it is time to look again.
    async fn wait(&mut self, turn: Timestamp) -> Vec<(Action, Outcome)> {
        // Against the time of this turn, not of now: what became due while the turn was stored must
        // not be slept over.
        let pause = plan::wake_at(&self.view, turn).map(|at| at.remaining(self.services.now()));
        let mut done = Vec::new();
        tokio::select! {
            Some(result) = self.tasks.join_next() => done.extend(finished(result)),
            Some(message) = self.inbox.recv() => self.take(message),
            () = tokio::time::sleep(pause.unwrap_or(Duration::from_secs(3600))) => {}
        }
        while let Some(result) = self.tasks.try_join_next() {
            done.extend(finished(result));
        }
        done
    }

    fn take(&mut self, message: Message) {
        let now = self.services.now();
        match message {
            Message::Admit(answer) => {
                plan::admit(&mut self.view, now);
                self.admitted.push(answer);
            }
            Message::Request(request, answer) => {
                let result = plan::request(&mut self.view, request, now);
                self.answers.push((answer, result));
            }
        }
    }

    /// Stores everything that changed. Waits out a full disk or a locked database: until then nothing
    /// further is begun, and nothing is lost.
    async fn store(
        &mut self,
        done: &[(Action, Outcome)],
        begin: &[Action],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let change = Change::between(&self.stored, &self.view, done, begin, now);
        if change.is_empty() {
            return Ok(());
        }
        let mut pause = Duration::from_millis(100);
        let ids = loop {
            let attempt = change.clone();
            match self
                .services
                .store
                .write(move |connection| Box::pin(async move { attempt.write(connection).await }))
                .await
            {
                Ok(ids) => break ids,
                Err(StoreError::Refused(why)) => return Err(StoreError::Refused(why)),
                Err(error) => {
                    tracing::warn!(%error, "the run waits for the database");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        };
        for (mut event, id) in self.view.news.drain(..).zip(ids) {
            event.id = id;
            let _ = self.services.live.send(Live::Event(event));
        }
        self.stored = self.view.clone();
        Ok(())
    }

    fn announce(&mut self) {
        // Before the answers: the dispatcher counts active runs when it has its answer.
        let active = self.view.run.state.is_active();
        let was_active = self.active.swap(active, Ordering::SeqCst);
        for (answer, result) in self.answers.drain(..) {
            let _ = answer.send(result);
        }
        for answer in self.admitted.drain(..) {
            let _ = answer.send(());
        }
        if was_active && !active {
            (self.changed)();
        }
    }
}

fn finished(
    result: Result<(Action, Outcome), tokio::task::JoinError>,
) -> Option<(Action, Outcome)> {
    match result {
        Ok(done) => Some(done),
        // An action that panics is our own bug; let the run's task end with it rather than wait for
        // an outcome that never comes. A restart of the daemon finds the run where it was.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => None,
        },
    }
}

/// Everything that one turn writes.
#[derive(Clone)]
struct Change {
    view: View,
    run: bool,
    /// The generation that the database is to have.
    expected: i64,
    attempts: Vec<usize>,
    machines: Vec<usize>,
    succeeded: Vec<usize>,
    results: Vec<(Action, String)>,
    intents: Vec<Action>,
    over: bool,
    now: Timestamp,
}

impl Change {
    fn between(
        stored: &View,
        view: &View,
        done: &[(Action, Outcome)],
        begin: &[Action],
        now: Timestamp,
    ) -> Self {
        let changed_attempts: Vec<usize> = (0..view.attempts.len())
            .filter(|i| stored.attempts.get(*i) != Some(&view.attempts[*i]))
            .collect();
        let succeeded = changed_attempts
            .iter()
            .copied()
            .filter(|i| {
                let attempt = &view.attempts[*i];
                // A replay is not what a stage usually meets.
                attempt.progress == Progress::Succeeded
                    && attempt.purpose == Purpose::Work
                    && view.run.replay_of.is_none()
            })
            .collect();
        Self {
            run: stored.run != view.run,
            expected: stored.run.generation,
            machines: (0..view.machines.len())
                .filter(|i| stored.machines.get(*i) != Some(&view.machines[*i]))
                .collect(),
            attempts: changed_attempts,
            succeeded,
            results: done
                .iter()
                .map(|(action, outcome)| (*action, outcome.in_journal()))
                .collect(),
            intents: begin.to_vec(),
            over: plan::is_over(view)
                && view
                    .machines
                    .iter()
                    .all(|machine| machine.state == MachineState::Gone),
            view: view.clone(),
            now,
        }
    }

    fn is_empty(&self) -> bool {
        !self.run
            && self.attempts.is_empty()
            && self.machines.is_empty()
            && self.results.is_empty()
            && self.intents.is_empty()
            && self.view.news.is_empty()
    }

    /// Writes it and returns the ids of the news.
    async fn write(self, connection: &mut sqlx::SqliteConnection) -> Result<Vec<i64>, StoreError> {
        let run = &self.view.run;
        // The row of the run goes first: a stale generation is refused before anything is written.
        runs::run_check_generation(connection, run.id, self.expected).await?;
        if self.run {
            runs::run_update(connection, run).await?;
        }
        for i in self.attempts {
            runs::attempt_put(connection, i, &self.view.attempts[i]).await?;
        }
        for i in self.machines {
            runs::machine_put(connection, run.id, i, &self.view.machines[i]).await?;
        }
        for (action, outcome) in self.results {
            journal::result_write(
                connection,
                run.id,
                action.word(),
                &action.subject(),
                &outcome,
                self.now,
            )
            .await?;
        }
        for action in self.intents {
            journal::intent_write(
                connection,
                run.id,
                action.word(),
                &action.subject(),
                run.generation,
                self.now,
            )
            .await?;
        }
        for i in self.succeeded {
            let attempt = &self.view.attempts[i];
            let total_ms = self.now.since(attempt.created_at).as_secs_f64() * 1000.0;
            times::stage_time_put(
                connection,
                &run.chain,
                &attempt.stage,
                attempt.id,
                self.now,
                attempt.phases.work_ms,
                total_ms,
            )
            .await?;
        }
        if self.over {
            journal::open_close(connection, run.id, "not needed any more", self.now).await?;
        }
        let mut ids = Vec::new();
        for event in &self.view.news {
            ids.push(events::event_insert(connection, event).await?);
        }
        Ok(ids)
    }
}
