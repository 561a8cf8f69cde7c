//! The first page: what runs, what is stuck and why, what is ready, how full the host is.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::frame::{Frame, Page, Part, Visitor};
use super::marks::{self, Bar, Markup};
use crate::access::{Access, Caller};
use crate::api::{PoolStatusView, RunSummary, StageView, StatusView, StuckRun, Time};
use crate::runs::drive;
use crate::runs::explain::{explain, stages};
use crate::store::boot;
use crate::store::pages::{self, EventOfClient, WhichEvents};
use crate::vocab::access::{Role, Scope};
use crate::vocab::boot::BootEvent;
use crate::vocab::{RunId, Timestamp};
use crate::web::extract::Params;
use crate::web::refusal::Refusal;
use crate::web::routes::{Op, Routes};
use crate::web::{App, Shared, host, pool, present, runs};

/// Runs under way that are shown with their stages.
const ACTIVE: usize = 8;
const NEWS: i64 = 12;
/// Things out of the ordinary.
const UNUSUAL: i64 = 8;

pub fn routes() -> Routes {
    Routes::of("pages", "The web interface.").at_root().with(
        Op::get("page_overview", "/", Access::per_client(Role::Viewer), show)
            .says("What runs, what is stuck, what is ready"),
    )
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    now: Time,
    active: Vec<Active>,
    queued: usize,
    stuck: Vec<StuckRun>,
    last: Vec<RunSummary>,
    news: Vec<EventOfClient>,
    boot_news: Vec<BootEvent>,
    unusual: Vec<Unusual>,
    /// None for who is bound to one client.
    site: Option<Site>,
    has_devices: bool,
    has_chains: bool,
}

struct Site {
    status: StatusView,
    pool: PoolStatusView,
}

/// Something that is not as it should be: a try that failed, a device that is silent.
struct Unusual {
    at: Timestamp,
    kind: String,
    message: String,
    /// Name of a device, or an address.
    subject: String,
    /// None: it is of the network boot.
    run: Option<i64>,
}

/// The latest of runs and of the network boot, newest first.
async fn unusual(app: &App, scope: &Scope) -> Result<Vec<Unusual>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let client = scope.client().unwrap_or("");
    let of_runs = pages::event_unusual(&mut connection, client, UNUSUAL).await?;
    let of_boot = match scope {
        Scope::Everyone => boot::event_unusual(&mut connection, UNUSUAL).await?,
        Scope::Client(_) => Vec::new(),
    };
    let of_runs = of_runs.into_iter().map(|told| Unusual {
        at: told.event.at,
        kind: told.event.kind,
        message: told.event.message,
        subject: told.device,
        run: Some(told.event.run.0),
    });
    let of_boot = of_boot.into_iter().map(|told| Unusual {
        at: told.at,
        kind: told.kind,
        message: told.message,
        subject: told.subject,
        run: None,
    });
    let mut all: Vec<Unusual> = of_runs.chain(of_boot).collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.at));
    all.truncate(UNUSUAL as usize);
    Ok(all)
}

/// A run under way.
pub struct Active {
    pub run: RunSummary,
    pub doing: String,
    pub next: String,
    pub stages: Vec<StageView>,
    pub scale_s: f64,
}

impl Active {
    pub fn bar(&self, stage: &StageView) -> Markup {
        Bar {
            elapsed_s: stage.elapsed_s,
            expected_s: stage.expected_s,
            scale_s: self.scale_s,
            state: &stage.state,
        }
        .draw()
    }
}

/// The end of the scale on which stages are drawn together, seconds.
pub fn scale_of(stages: &[StageView]) -> f64 {
    stages
        .iter()
        .map(|stage| stage.expected_s.unwrap_or(0.0).max(stage.elapsed_s) * 1.1)
        .fold(1.0, f64::max)
}

async fn show(State(app): Shared, visitor: Visitor) -> Result<Response, Refusal> {
    let caller = visitor.caller()?;
    let now = present::time(app.state.services.now());
    let (running, queued) = under_way(&app, &caller).await?;
    let mut active = Vec::new();
    for run in running.into_iter().take(ACTIVE) {
        active.extend(followed(&app, run).await?);
    }
    let last = listed(&app, &caller, None, 8).await?;
    let site = match caller.scope {
        Scope::Everyone => Some(Site {
            status: host::status(State(app.clone())).await?.0,
            pool: pool::status(State(app.clone())).await?.0,
        }),
        Scope::Client(_) => None,
    };
    let stuck = match &site {
        Some(site) => site.status.stuck.clone(),
        None => held(&app, &caller, now).await?,
    };
    let client = caller.scope.client().unwrap_or("").to_owned();
    let unusual = unusual(&app, &caller.scope).await?;
    let mut connection = app.state.services.store.read().await?;
    let which = WhichEvents {
        client: client.clone(),
        run: None,
    };
    let news = pages::event_latest(&mut connection, &which, NEWS).await?;
    let boot_news = match site {
        Some(_) => boot::event_latest(&mut connection, NEWS / 2).await?,
        None => Vec::new(),
    };
    let own = caller.scope.client();
    let has_devices = !pages::device_page(&mut connection, own, "", "", 1)
        .await?
        .is_empty();
    let has_chains = !crate::store::chains::chain_list(&mut connection)
        .await?
        .is_empty();
    Ok(Page::of(Overview {
        frame: visitor
            .frame(Part::Overview, "Overview")
            .follows("/api/v1/events"),
        now,
        active,
        queued,
        stuck,
        last,
        news,
        boot_news,
        unusual,
        site,
        has_devices,
        has_chains,
    })
    .into_response())
}

async fn listed(
    app: &std::sync::Arc<App>,
    caller: &Caller,
    state: Option<&str>,
    limit: i64,
) -> Result<Vec<RunSummary>, Refusal> {
    let which = runs::Which {
        state: state.map(str::to_owned),
        limit: Some(limit),
        ..runs::Which::default()
    };
    let page = runs::list(State(app.clone()), caller.clone(), Params(which)).await?;
    Ok(page.0.items)
}

/// Runs under way, newest first, and how many wait for their turn.
async fn under_way(
    app: &std::sync::Arc<App>,
    caller: &Caller,
) -> Result<(Vec<RunSummary>, usize), Refusal> {
    let mut all = listed(app, caller, Some("running"), 50).await?;
    for state in ["undoing", "waiting", "paused"] {
        all.extend(listed(app, caller, Some(state), 50).await?);
    }
    all.sort_by_key(|run| std::cmp::Reverse(run.id));
    let queued = listed(app, caller, Some("queued"), 1000).await?.len();
    Ok((all, queued))
}

async fn followed(app: &App, run: RunSummary) -> Result<Option<Active>, Refusal> {
    let services = &app.state.services;
    let Some(view) = drive::load(services, RunId(run.id)).await? else {
        return Ok(None);
    };
    let now = services.now();
    let why = explain(&view, now);
    let stages: Vec<StageView> = stages(&view, now).into_iter().map(present::stage).collect();
    Ok(Some(Active {
        run,
        doing: why.doing,
        next: why.next,
        scale_s: scale_of(&stages),
        stages,
    }))
}

/// What waits for a person, of one client's.
async fn held(
    app: &std::sync::Arc<App>,
    caller: &Caller,
    now: Time,
) -> Result<Vec<StuckRun>, Refusal> {
    let held = listed(app, caller, Some("held"), 50).await?;
    Ok(held
        .into_iter()
        .map(|run| StuckRun {
            run: run.id,
            device: run.device,
            age_s: -run.state_since.seconds_from(now),
            state: run.state,
            why: run
                .failure
                .map_or_else(String::new, |failure| format!("is held: {failure}")),
            next: "is given up and cleaned away when the hold ends".into(),
            you_can: Vec::new(),
        })
        .collect())
}
