//! Ending a daemon, or a part of one, at the n-th point that it passes, and choosing at which.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenroom::fault::{Faults, Hook, Window};
use tokio::sync::Notify;

/// An action's word and the window in it.
pub type Point = (String, Window);

/// Ends a life the n-th time that any point is passed, and writes down what was passed.
pub struct Killer {
    countdown: AtomicUsize,
    dead: AtomicBool,
    died: Notify,
    passed: Mutex<Vec<Point>>,
}

impl Killer {
    /// Strikes at the n-th point, from 0.
    pub fn at(n: usize) -> Arc<Self> {
        Arc::new(Self {
            countdown: AtomicUsize::new(n),
            dead: AtomicBool::new(false),
            died: Notify::new(),
            passed: Mutex::default(),
        })
    }

    /// Only counts.
    pub fn never() -> Arc<Self> {
        Self::at(usize::MAX)
    }

    pub fn passed(&self) -> Vec<Point> {
        self.passed.lock().unwrap().clone()
    }

    pub fn has_struck(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn hook(self: &Arc<Self>) -> Hook {
        let this = self.clone();
        Arc::new(move |action, window| {
            if this.has_struck() {
                return true;
            }
            this.passed
                .lock()
                .unwrap()
                .push((action.to_owned(), window));
            let count = |n: usize| n.checked_sub(1);
            let dies = this
                .countdown
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, count)
                == Err(0);
            if dies {
                this.dead.store(true, Ordering::SeqCst);
                this.died.notify_one();
            }
            dies
        })
    }
}

/// One life on a runtime of its own: when it ends or the killer strikes, everything of it is gone,
/// wherever it was. None when it was ended.
pub fn life<T, F: Future<Output = T>>(
    killer: Option<&Arc<Killer>>,
    live: impl FnOnce(Faults) -> F,
) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let result = runtime.block_on(async {
        let faults = killer.map_or_else(Faults::none, |killer| Faults::hooked(killer.hook()));
        let death = async {
            match killer {
                Some(killer) => killer.died.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            value = live(faults) => Some(value),
            () = death => None,
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

/// `GREENROOM_EVERY_POINT=1` asks for all of them; `vagrant/lab chaos` does.
pub fn every_point() -> bool {
    std::env::var("GREENROOM_EVERY_POINT").is_ok_and(|value| value == "1")
}

/// At which of the points to strike: the first of each kind, and of the others every `stride`-th.
pub fn chosen(points: &[Point], stride: usize) -> Vec<usize> {
    let mut kinds = BTreeSet::new();
    let (first, others): (Vec<usize>, Vec<usize>) = (0..points.len()).partition(|n| {
        let (action, window) = &points[*n];
        kinds.insert((action, window.word()))
    });
    let stride = if every_point() { 1 } else { stride };
    let mut chosen = first;
    chosen.extend(others.into_iter().step_by(stride));
    chosen.sort_unstable();
    chosen
}

/// A sweep whose killer does not strike shows nothing. A life may pass a point less than the one that was
/// counted, so that one in ten may survive.
pub fn has_killed(struck: usize, planned: usize) {
    assert!(
        struck * 10 >= planned * 9,
        "of {planned} planned deaths only {struck} came"
    );
}

/// Does all of it on so many threads: most of the time of a life is waited.
pub fn side_by_side<T: Sync>(threads: usize, all: &[T], one: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(this) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
                    one(this);
                }
            });
        }
    });
}

#[test]
fn it_strikes_at_the_point_that_was_planned() {
    for n in [0, 1, 5] {
        let killer = Killer::at(n);
        let survived = life(Some(&killer), async |faults| {
            for at in 0..10 {
                faults.point(&format!("action {at}"), Window::After).await;
            }
        });
        assert_eq!((survived, killer.has_struck()), (None, true));
        let last = killer.passed().pop();
        assert_eq!(last, Some((format!("action {n}"), Window::After)));
    }
}
