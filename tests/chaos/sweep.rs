//! The daemon ends at each action of a run, in each window, and is started again.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom::api::StartRun;
use greenroom::fault::Window;
use greenroom::runs::plan::Action;
use tokio::task::JoinSet;

use crate::chains;
use crate::ground::Ground;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// Both stages succeed.
    Marks,
    /// The second fails for good and the first is undone.
    Undone,
}

/// Where the daemon is killed: as `GREENROOM_FAULT` has it.
#[derive(Debug, Clone)]
struct Site {
    story: Story,
    fault: String,
}

impl Site {
    fn new(story: Story, action: &str, window: Window, nth: u32) -> Self {
        Self {
            story,
            fault: format!("{action}:{}:{nth}", window.word()),
        }
    }
}

/// What came of one site.
struct Report {
    site: Site,
    killed: bool,
    /// From the restart until the daemon answered, and until the run had come to its end.
    answers_ms: u128,
    ends_ms: u128,
    /// And until nothing was left of it.
    clean_ms: u128,
}

/// One site: kill, restart, wait for the end, judge.
async fn strike(site: Site) -> Option<Report> {
    let mut ground = Ground::open(&site.fault).await?;
    let chain = match site.story {
        Story::Marks => "marks",
        Story::Undone => "undone",
    };
    ground.start(Some(&site.fault)).await;
    ground
        .apply(&match site.story {
            Story::Marks => chains::marks(1),
            Story::Undone => chains::undone(),
        })
        .await;
    ground.add_device("d1").await;
    let order = StartRun {
        hold_s: Some(0),
        ..Ground::order("d1", chain)
    };
    // The daemon may be dead before it can answer.
    let accepted = ground.client().run_start(&order).await.ok();
    let killed = ground.dies(Duration::from_secs(180)).await;
    if !killed {
        ground.kill();
    }
    ground.start(None).await;
    let restarted = ground.started_at;
    let answers_ms = restarted.elapsed().as_millis();
    let known = ground
        .client()
        .run_list(None, None, 10, None)
        .await
        .expect("a list");
    assert!(known.len() <= 1, "one was asked for: {known:#?}");
    let run = match (known.first(), accepted.and_then(|answer| answer.run)) {
        (Some(run), _) => run.id,
        (None, None) => {
            let again = ground.client().run_start(&order).await.expect("a run");
            again.run.expect("not a dry run").id
        }
        (None, Some(run)) => panic!("run {} was accepted and is lost", run.id),
    };
    ground.rests(run, Duration::from_secs(180)).await;
    let ends_ms = restarted.elapsed().as_millis();
    let expected = match site.story {
        Story::Marks => chains::marks_done(run, 1),
        Story::Undone => chains::undone_done(run),
    };
    ground.is_clean(&[expected]).await;
    Some(Report {
        site,
        killed,
        answers_ms,
        ends_ms,
        clean_ms: restarted.elapsed().as_millis(),
    })
}

/// All sites, as many at a time as there are places; a table, and the complaints at its end.
async fn sweep(sites: Vec<Site>) {
    let begun = Instant::now();
    let all = sites.len();
    let mut strikes = JoinSet::new();
    let order: Arc<[Site]> = sites.into();
    for index in 0..order.len() {
        let site = order[index].clone();
        // Its own task, so that one site's panic is that site's result.
        strikes.spawn(async move { (index, tokio::spawn(strike(site)).await) });
    }
    let mut wrong = Vec::new();
    let (mut killed, mut clean) = (0, 0);
    eprintln!(
        "{:<28} {:<7} {:<7} {:>10} {:>9} {:>9}  result",
        "site", "story", "killed", "answers", "ends", "clean"
    );
    while let Some(struck) = strikes.join_next().await {
        let (index, result) = struck.expect("it only waits");
        match result {
            Ok(None) => return,
            Ok(Some(report)) => {
                eprintln!(
                    "{:<28} {:<7} {:<7} {:>7} ms {:>6} ms {:>6} ms  {}",
                    report.site.fault,
                    format!("{:?}", report.site.story).to_lowercase(),
                    if report.killed { "yes" } else { "no" },
                    report.answers_ms,
                    report.ends_ms,
                    report.clean_ms,
                    if report.killed { "ok" } else { "never passed" }
                );
                killed += usize::from(report.killed);
                clean += 1;
                if !report.killed {
                    wrong.push(format!("{} was never passed", report.site.fault));
                }
            }
            Err(error) => {
                let said = said(error.into_panic());
                eprintln!("{:<28} FAILED", order[index].fault);
                wrong.push(format!("{}: {said}", order[index].fault));
            }
        }
    }
    eprintln!(
        "{all} sites, {killed} times killed, {clean} times nothing wrong afterwards, {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn said(panic: Box<dyn Any + Send>) -> String {
    panic
        .downcast::<String>()
        .map(|text| *text)
        .unwrap_or_else(|_| "it panicked".to_owned())
}

/// A machine half made, work started and not known of, an output taken and not stored, and a disk
/// that is to go.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_at_four_points_of_a_run() {
    sweep(vec![
        Site::new(Story::Marks, "make_machine", Window::After, 1),
        Site::new(Story::Marks, "start", Window::After, 1),
        Site::new(Story::Marks, "collect", Window::After, 1),
        Site::new(Story::Undone, "start", Window::After, 4),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: `vagrant/lab chaos`"]
async fn killed_at_every_point_of_a_run() {
    let mut sites = Vec::new();
    for action in Action::WORDS {
        for window in Window::ALL {
            sites.push(Site::new(Story::Marks, action, window, 1));
        }
    }
    sweep(sites).await;
}

/// The points of the undo: what is done there for the n-th time is done for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: `vagrant/lab chaos`"]
async fn killed_at_every_point_of_an_undo() {
    let of_undo = [
        ("make_machine", 4),
        ("prepare_disk", 2),
        ("attach", 2),
        ("start", 4),
        ("watch", 4),
        ("detach", 2),
        ("release", 4),
        ("remove_disks", 1),
    ];
    let mut sites = Vec::new();
    for (action, nth) in of_undo {
        for window in Window::ALL {
            sites.push(Site::new(Story::Undone, action, window, nth));
        }
    }
    sweep(sites).await;
}
