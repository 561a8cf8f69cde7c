//! The daemon ends at each point of the pool, in each window, and is started again. One deployment
//! goes through many deaths in a row: what a death leaves has to be good enough for the next.

use std::any::Any;
use std::time::{Duration, Instant};

use greenroom::api::TakeClaim;
use greenroom::fault::Window;
use greenroom::pool::WORDS;
use tokio::task::JoinSet;

use crate::ground::Ground;
use crate::pool_verbs::{FILLS_WITHIN, claim, force, hot};
use crate::pooled::Kept;

const HOT: usize = 2;

/// What is done for the point to be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// The first target of a new deployment: the host is tried, with a template and two forks.
    Begin,
    /// Another generation takes the place of the one before.
    Renew,
    /// A shell is claimed for a command, thrown away after it and filled up again.
    Claim,
    /// The same with more claims than shells wait: a fork on demand.
    Demand,
}

#[derive(Debug, Clone)]
struct Site {
    story: Story,
    /// As `GREENROOM_FAULT` has it.
    fault: String,
}

impl Site {
    fn new(story: Story, word: &str, window: Window, nth: u32) -> Self {
        Self {
            story,
            fault: format!("{word}:{}:{nth}", window.word()),
        }
    }

    /// Under which claims are made here.
    fn key(&self) -> String {
        self.fault.replace(':', "-")
    }
}

/// What came of one site; times from the restart.
struct Report {
    site: Site,
    killed: bool,
    answers_ms: u128,
    full_ms: u128,
    clean_ms: u128,
}

/// Does what the site's story is until the daemon is dead; `false` when it survived that.
async fn meets_its_end(ground: &mut Ground, site: &Site) -> bool {
    let client = ground.client();
    let (story, key) = (site.story, site.key());
    let story = tokio::spawn(async move {
        // The daemon may be dead before it can answer, at any time.
        match story {
            Story::Begin => _ = client.pool_set(&hot(HOT as u32)).await,
            Story::Renew => _ = client.template_build(&force()).await,
            Story::Claim => _ = client.claim_take(&claim(&key)).await,
            Story::Demand => {
                for n in 0..HOT + 1 {
                    let kept = TakeClaim {
                        keep: true,
                        ..claim(&format!("{key}-{n}"))
                    };
                    if client.claim_take(&kept).await.is_err() {
                        break;
                    }
                }
                let other = claim(&key);
                _ = client.claim_take(&other).await;
            }
        }
    });
    let begun = Instant::now();
    let mut idle_since: Option<Instant> = None;
    let died = loop {
        if ground.was_aborted() {
            break true;
        }
        assert!(
            begun.elapsed() < FILLS_WITHIN,
            "after {FILLS_WITHIN:?} the daemon is neither dead nor done\n{}",
            ground.log_tail()
        );
        let idle =
            story.is_finished() && ground.stock().await.is_some_and(|stock| stock.is_full(HOT));
        match idle_since {
            _ if !idle => idle_since = None,
            None => idle_since = Some(Instant::now()),
            Some(since) if since.elapsed() > Duration::from_secs(6) => break false,
            Some(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    story.abort();
    died
}

/// One site: kill, restart, wait until the pool is full, claim, judge.
async fn strike(ground: &mut Ground, site: &Site) -> Report {
    ground.start(Some(&site.fault)).await;
    let killed = meets_its_end(ground, site).await;
    if !killed {
        ground.kill();
    }
    ground.start(None).await;
    let restarted = ground.started_at;
    let answers_ms = restarted.elapsed().as_millis();
    // Asked again, in case that the daemon died before it heard it.
    ground.want(&hot(HOT as u32)).await;
    for taken in ground.client().claim_list().await.expect("a list") {
        if taken.key.starts_with(&site.key()) && taken.key != site.key() {
            let released = ground.client().claim_release(&taken.key).await;
            released.expect("an end of the claim");
        }
    }
    if matches!(site.story, Story::Claim | Story::Demand) {
        // The claimant asks again with its key, as one does who got no answer.
        ground.claims(&site.key()).await;
    }
    ground.until_full(HOT).await;
    let full_ms = restarted.elapsed().as_millis();
    ground.keeps(Kept::hot(HOT), &[]).await;
    let taken = ground.claims(&format!("{}-after", site.key())).await;
    assert_eq!(taken.tier, "hot", "{taken:#?}");
    ground.until_full(HOT).await;
    ground.keeps(Kept::hot(HOT), &[]).await;
    Report {
        site: site.clone(),
        killed,
        answers_ms,
        full_ms,
        clean_ms: restarted.elapsed().as_millis(),
    }
}

/// One deployment through all of these, and then to its end.
async fn walk(sites: Vec<Site>) -> Option<Vec<Result<Report, (Site, String)>>> {
    let mut reports = Vec::new();
    let mut ground: Option<Ground> = None;
    for site in sites {
        let mut here = match ground.take() {
            Some(here) => here,
            None => {
                let mut here = Ground::open_with_pool(&site.fault).await?;
                if site.story != Story::Begin {
                    here.start(None).await;
                    here.want(&hot(HOT as u32)).await;
                    here.until_full(HOT).await;
                    here.kill();
                }
                here
            }
        };
        // Its own task, so that one site's panic is that site's result; the next gets new ground.
        let (struck, task) = (site.clone(), async move {
            let report = strike(&mut here, &site).await;
            here.kill();
            (here, report)
        });
        match tokio::spawn(task).await {
            Ok((here, report)) => {
                print(&report);
                ground = Some(here);
                reports.push(Ok(report));
            }
            Err(error) => {
                eprintln!("{:<28} FAILED", struck.fault);
                reports.push(Err((struck, said(error.into_panic()))));
            }
        }
    }
    if let Some(mut here) = ground {
        here.start(None).await;
        here.lets_go().await;
    }
    Some(reports)
}

fn print(report: &Report) {
    eprintln!(
        "{:<28} {:<7} {:<7} {:>7} ms {:>6} ms {:>6} ms  {}",
        report.site.fault,
        format!("{:?}", report.site.story).to_lowercase(),
        if report.killed { "yes" } else { "no" },
        report.answers_ms,
        report.full_ms,
        report.clean_ms,
        if report.killed { "ok" } else { "never passed" }
    );
}

fn said(panic: Box<dyn Any + Send>) -> String {
    panic
        .downcast::<String>()
        .map(|text| *text)
        .unwrap_or_else(|_| "it panicked".to_owned())
}

async fn sweep(walks: Vec<Vec<Site>>) {
    let begun = Instant::now();
    let all: usize = walks.iter().map(Vec::len).sum();
    eprintln!(
        "{:<28} {:<7} {:<7} {:>10} {:>9} {:>9}  result",
        "site", "story", "killed", "answers", "full", "clean"
    );
    let mut under_way = JoinSet::new();
    for sites in walks {
        under_way.spawn(walk(sites));
    }
    let (mut killed, mut clean) = (0, 0);
    let mut wrong = Vec::new();
    while let Some(walked) = under_way.join_next().await {
        let reports = match walked {
            Ok(Some(reports)) => reports,
            Ok(None) => return,
            Err(error) => {
                wrong.push(said(error.into_panic()));
                continue;
            }
        };
        for report in reports {
            match report {
                Ok(report) => {
                    killed += usize::from(report.killed);
                    clean += 1;
                    if !report.killed {
                        wrong.push(format!("{} was never passed", report.site.fault));
                    }
                }
                Err((site, said)) => wrong.push(format!("{}: {said}", site.fault)),
            }
        }
    }
    eprintln!(
        "{all} sites, {killed} times killed, {clean} times nothing wrong afterwards, {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: `vagrant/lab chaos`"]
async fn killed_at_every_point_of_the_pool() {
    // The self-test first: the only thing that a deployment does only once.
    let mut templates = vec![
        Site::new(Story::Begin, "template_capture", Window::After, 1),
        Site::new(Story::Begin, "template_seal", Window::Stored, 1),
        Site::new(Story::Begin, "shell_load", Window::After, 1),
    ];
    // Each of them begins on new ground.
    let mut walks: Vec<Vec<Site>> = templates.drain(..).map(|site| vec![site]).collect();
    let (mut renewed, mut claimed) = (Vec::new(), Vec::new());
    for word in WORDS {
        for window in Window::ALL {
            if word.starts_with("template_") {
                renewed.push(Site::new(Story::Renew, word, window, 1));
            } else {
                claimed.push(Site::new(Story::Claim, word, window, 1));
            }
        }
    }
    for window in Window::ALL {
        // Usually the standby's: two hot shells are taken, and nothing is filled right after a claim.
        claimed.push(Site::new(Story::Demand, "shell_activate", window, 3));
    }
    walks.extend([renewed, claimed]);
    sweep(walks).await;
}
