//! One connection to libvirt that heals itself.
//!
//! ```text
//!            open                    end of file, keep-alive, overdue call
//!  (start) ────────▶ Up ─────────────────────────────────────────▶ Down ──┐
//!                    ▲                                             ▲      │ back-off
//!                    └────────────── opened again ─────────────────┴──────┘ 50 ms … 2 s
//! ```
//!
//! While it is down every call fails at once with [`HvError::Unreachable`]; nobody queues for an
//! outage. A call that is overdue takes the whole connection down with it: libvirt answers a
//! client's calls independently, so that a new connection works while the old call hangs, and the
//! old one is closed when its last call has come back.
//!
//! libvirtd works on `max_client_requests` calls of one connection at a time (5 by default) and
//! leaves the others unread. So a link lets at most [`LANES`] through, and of those at most
//! [`SLOW_LANES`] that change something, so that a question never waits behind four creations.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use virt::connect::Connect;

use super::bridge::{Bridge, Outcome};
use super::{errors, events, ffi};
use crate::hypervisor::{HvError, MachineEvent};

/// One less than libvirtd's default for one client.
pub const LANES: usize = 4;
const SLOW_LANES: usize = 3;

/// A libvirtd that is stopped accepts the socket and never answers.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// libvirt's client asks after 5 s of silence and gives up after three unanswered questions, so that
/// a dead host is known after 20 s at the latest.
const KEEP_ALIVE: (i32, u32) = (5, 3);

/// What a call is and how long its caller waits for it, queueing included.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Named in errors and the thread's name.
    pub what: &'static str,
    pub patience: Duration,
    pub kind: CallKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// Answered from libvirt's memory in a millisecond.
    Read,
    /// May take seconds.
    Change,
    /// Answered by a guest, which may hang: being overdue says nothing about the connection until
    /// [`AGENT_GRACE`] has passed as well.
    Agent,
}

/// libvirt's own synchronisation with an agent may add 5 s to a command's timeout.
const AGENT_GRACE: Duration = Duration::from_secs(30);

impl Call {
    pub const fn read(what: &'static str) -> Self {
        Self {
            what,
            patience: Duration::from_secs(15),
            kind: CallKind::Read,
        }
    }

    pub const fn change(what: &'static str, patience: Duration) -> Self {
        Self {
            what,
            patience,
            kind: CallKind::Change,
        }
    }
}

pub struct Link {
    uri: String,
    bridge: Bridge,
    current: Mutex<Current>,
    /// The keeper waits for it; set off whenever the connection goes down.
    down: Arc<Notify>,
    /// Where the control link posts events; agent links have none.
    channel: Option<broadcast::Sender<MachineEvent>>,
}

enum Current {
    Up(Arc<Open>),
    Down(String),
}

/// One open connection. Closed on a thread of its own when the last call lets go of it.
struct Open {
    generation: u64,
    connect: Option<Connect>,
    subscriptions: Option<ffi::Subscriptions>,
    lanes: Arc<Semaphore>,
    slow_lanes: Arc<Semaphore>,
}

/// Ends the keeping when dropped; the link itself ends with its last user.
pub struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Opens the connection; when that fails there is no link.
    pub async fn open(
        uri: &str,
        bridge: Bridge,
        channel: Option<broadcast::Sender<MachineEvent>>,
    ) -> Result<(Arc<Self>, Keeper), HvError> {
        events::start_loop()?;
        let link = Arc::new(Self {
            uri: uri.to_owned(),
            bridge,
            current: Mutex::new(Current::Down("not connected yet".to_owned())),
            down: Arc::new(Notify::new()),
            channel,
        });
        link.connect(1).await?;
        let keeper = Keeper(tokio::spawn(keep(Arc::downgrade(&link), link.down.clone())));
        Ok((link, keeper))
    }

    /// Runs `work` with the connection on a thread of its own. The error is `work`'s, or says that
    /// the host is unreachable, or that the answer is overdue.
    pub async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        call: Call,
        work: impl FnOnce(&Connect) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        let open = self.current()?;
        let generation = open.generation;
        let asked = Instant::now();
        let lane = open.lane(call).await?;
        let left = call.patience.saturating_sub(asked.elapsed());
        let outcome = self.bridge.run(call.what, left, move || {
            let _lane = lane;
            work(open.connection())
        });
        match outcome.await? {
            Outcome::Done(result) => {
                if let Err(HvError::Unreachable(why)) = &result {
                    self.lost(generation, why);
                }
                result
            }
            Outcome::Overdue(later) => {
                let late = format!(
                    "libvirt did not answer \"{}\" within {:?}",
                    call.what, call.patience
                );
                // What did not answer may or may not have happened, as with a lost connection; all our
                // calls may be repeated.
                if call.kind == CallKind::Agent {
                    let link = Arc::downgrade(self);
                    let why = late.clone();
                    tokio::spawn(async move {
                        if tokio::time::timeout(AGENT_GRACE, later).await.is_err()
                            && let Some(link) = link.upgrade()
                        {
                            link.lost(generation, &why);
                        }
                    });
                } else {
                    self.lost(generation, &late);
                    return Err(HvError::Unreachable(late));
                }
                Err(HvError::Host(late))
            }
        }
    }

    /// Calls that could start right now without waiting; none while it is down.
    pub fn free_lanes(&self) -> usize {
        self.current()
            .map_or(0, |open| open.lanes.available_permits())
    }

    fn current(&self) -> Result<Arc<Open>, HvError> {
        match &*self.current.lock().unwrap_or_else(PoisonError::into_inner) {
            Current::Up(open) => Ok(open.clone()),
            Current::Down(why) => Err(HvError::Unreachable(why.clone())),
        }
    }

    /// Takes the connection of that generation down. Later news of older generations is ignored.
    fn lost(&self, generation: u64, why: &str) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Current::Up(open) = &*current else { return };
        if open.generation != generation {
            return;
        }
        *current = Current::Down(why.to_owned());
        drop(current);
        if let Some(channel) = &self.channel {
            tracing::warn!(uri = self.uri, why, "the connection to libvirt is lost");
            let _ = channel.send(MachineEvent::Disconnected);
        }
        self.down.notify_one();
    }

    async fn connect(self: &Arc<Self>, generation: u64) -> Result<(), HvError> {
        let (uri, link) = (self.uri.clone(), Arc::downgrade(self));
        let listener = self.channel.clone().map(events::listener);
        let outcome = self.bridge.run("libvirt-open", OPEN_PATIENCE, move || {
            Open::new(&uri, generation, listener, link)
        });
        let open = match outcome.await? {
            Outcome::Done(open) => open?,
            Outcome::Overdue(_) => {
                return Err(HvError::Unreachable(format!(
                    "no answer from {} within {OPEN_PATIENCE:?}",
                    self.uri
                )));
            }
        };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Current::Up(Arc::new(open));
        Ok(())
    }
}

/// Opens the link again whenever it goes down, until the link is gone.
async fn keep(link: Weak<Link>, down: Arc<Notify>) {
    let mut generation = 1;
    loop {
        down.notified().await;
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(link) = link.upgrade() else { return };
            generation += 1;
            match link.connect(generation).await {
                Ok(()) => {
                    if let Some(channel) = &link.channel {
                        tracing::info!(uri = link.uri, "connected to libvirt again");
                        let _ = channel.send(MachineEvent::Reconnected);
                    }
                    break;
                }
                Err(error) => {
                    let why = match error {
                        HvError::Unreachable(why) => why,
                        other => other.to_string(),
                    };
                    *link.current.lock().unwrap_or_else(PoisonError::into_inner) =
                        Current::Down(why);
                }
            }
            drop(link);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Open {
    fn new(
        uri: &str,
        generation: u64,
        listener: Option<ffi::Listener>,
        link: Weak<Link>,
    ) -> Result<Self, HvError> {
        let connect = Connect::open(Some(uri)).map_err(|error| errors::of(&error))?;
        let on_close = Box::new(move |reason| {
            if let Some(link) = link.upgrade() {
                link.lost(generation, close_word(reason));
            }
        });
        let subscriptions =
            ffi::subscribe(&connect, listener, on_close).map_err(|error| errors::of(&error))?;
        // Without keep-alive only calls would notice a dead host, each after its whole patience.
        if let Err(error) = connect.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1) {
            tracing::debug!(%error, "this libvirt connection has no keep-alive");
        }
        Ok(Self {
            generation,
            connect: Some(connect),
            subscriptions: Some(subscriptions),
            lanes: Arc::new(Semaphore::new(LANES)),
            slow_lanes: Arc::new(Semaphore::new(SLOW_LANES)),
        })
    }

    fn connection(&self) -> &Connect {
        self.connect.as_ref().expect("taken only when dropped")
    }

    async fn lane(&self, call: Call) -> Result<Lane, HvError> {
        let wait = async {
            let slow = match call.kind {
                CallKind::Change => Some(
                    self.slow_lanes
                        .clone()
                        .acquire_owned()
                        .await
                        .expect("never closed"),
                ),
                CallKind::Read | CallKind::Agent => None,
            };
            let lane = self
                .lanes
                .clone()
                .acquire_owned()
                .await
                .expect("never closed");
            Lane {
                _lane: lane,
                _slow: slow,
            }
        };
        let busy = |_| {
            HvError::Host(format!(
                "\"{}\" waited {:?} for its turn at libvirt",
                call.what, call.patience
            ))
        };
        tokio::time::timeout(call.patience, wait)
            .await
            .map_err(busy)
    }
}

struct Lane {
    _lane: OwnedSemaphorePermit,
    _slow: Option<OwnedSemaphorePermit>,
}

impl Drop for Open {
    /// Closing is a round trip, and of no interest to whoever happened to be the last user.
    fn drop(&mut self) {
        let (Some(connect), subscriptions) = (self.connect.take(), self.subscriptions.take())
        else {
            return;
        };
        let close = move || {
            if let Some(subscriptions) = subscriptions {
                ffi::unsubscribe(&connect, subscriptions);
            }
        };
        // When no thread can be had, the closure and the connection with it are dropped here.
        let _ = std::thread::Builder::new()
            .name("libvirt-close".to_owned())
            .spawn(close);
    }
}

/// `virConnectCloseReason` in words.
fn close_word(reason: u32) -> &'static str {
    match reason {
        virt::sys::VIR_CONNECT_CLOSE_REASON_EOF => "libvirt closed the connection",
        virt::sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE => {
            "libvirt did not answer keep-alive questions"
        }
        virt::sys::VIR_CONNECT_CLOSE_REASON_CLIENT => "the connection was closed here",
        _ => "the connection broke",
    }
}
