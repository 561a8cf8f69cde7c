//! `/pools`, `/pool/status`: classes, what is wanted of them, and what there is.

use axum::Json;
use axum::extract::State;

use super::class::{self, Named};
use super::extract::{Body, InPath, Params, Part};
use super::refusal::{Refusal, Why};
use super::routes::{Op, Routes};
use super::{App, Shared, cursor, present};
use crate::access::Access;
use crate::api::{
    ClaimView, Page, PoolBrief, PoolDetail, PoolStatusView, PoolView, ProblemFault, SetPool,
    ShellView, TargetView, TemplateView,
};
use crate::pool::{self, Pool};
use crate::vocab::access::Role;
use crate::vocab::pool::{Target, Tier};

/// More hot shells of one class than this are a slip of the finger.
const MOST_HOT: u32 = 10_000;

/// Classes name the clients whose machines they are, so all of this is for those who may see everyone's.
pub fn routes() -> Routes {
    let see = Access::whole_site(Role::Viewer);
    Routes::of("pool", "Machines that wait before they are asked for.")
        .with(
            Op::get("pool_list", "/pools", see, list)
                .says("Classes: what is wanted of them, and what there is")
                .query::<Part>()
                .answers::<Page<PoolView>>(200),
        )
        .with(
            Op::put("pool_set", "/pools", Access::whole_site(Role::Author), set)
                .says("Sets what is wanted of a class, or lets it go")
                .takes::<SetPool>()
                .answers::<PoolDetail>(200),
        )
        .with(
            Op::get("pool_show", "/pools/{class}", see, show)
                .says("One class with its machines, by class or by an image of which there is one")
                .answers::<PoolDetail>(200),
        )
        .with(
            Op::get("pool_status", "/pool/status", see, status)
                .says("The whole pool with its last claims")
                .answers::<PoolStatusView>(200),
        )
}

/// The pool, unless it is switched off.
pub fn working(app: &App) -> Result<&Pool, Refusal> {
    let pool = &app.state.pool;
    if pool.settings().budget_mib == 0 {
        return Err(Refusal::new(
            Why::Refused,
            "the pool is switched off; set pool.enabled in the daemon's configuration, or start it without --no-pool",
        ));
    }
    Ok(pool)
}

pub(crate) async fn status(State(app): Shared) -> Result<Json<PoolStatusView>, Refusal> {
    let status = app.state.pool.status().await?;
    Ok(Json(PoolStatusView {
        now: present::time(app.state.services.now()),
        pools: status.pools.iter().map(view).collect(),
        budget_mib: status.budget_mib,
        used_mib: status.used_mib,
        forks: status.forks,
        forks_reason: status.forks_reason,
        recent: status
            .recent
            .iter()
            .map(|claim| ClaimView::of(claim, None))
            .collect(),
    }))
}

/// The pool in a line; none where it cannot be asked.
pub async fn brief(app: &App) -> Option<PoolBrief> {
    let status = match app.state.pool.status().await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(%error, "the pool cannot be asked");
            return None;
        }
    };
    let sum = |of: fn(&pool::PoolView) -> u32| status.pools.iter().map(of).sum();
    Some(PoolBrief {
        ready: sum(|pool| pool.ready),
        filling: sum(|pool| pool.filling),
        claimed: sum(|pool| pool.claimed),
        budget_mib: status.budget_mib,
        used_mib: status.used_mib,
        forks: status.forks,
        forks_reason: status.forks_reason,
    })
}

pub(crate) async fn list(
    State(app): Shared,
    Params(part): Params<Part>,
) -> Result<Json<Page<PoolView>>, Refusal> {
    let status = app.state.pool.status().await?;
    let key = |pool: &pool::PoolView| pool.class.to_string();
    let (limit, cursor) = (part.limit, part.cursor.as_deref());
    cursor::cut("pools", status.pools, limit, cursor, key, view).map(Json)
}

pub(crate) async fn show(
    State(app): Shared,
    InPath(which): InPath<String>,
) -> Result<Json<PoolDetail>, Refusal> {
    detail(&app, &which).await.map(Json)
}

pub(crate) async fn set(
    State(app): Shared,
    Body(order): Body<SetPool>,
) -> Result<Json<PoolDetail>, Refusal> {
    let pool = working(&app)?;
    let target = target(order.target.as_ref());
    let named = class::read(&order.class);
    let (target, named) = match (target, named) {
        (Ok(target), Ok(named)) => (target, named),
        (target, named) => {
            let mut faults = named.err().unwrap_or_default();
            faults.extend(target.err().unwrap_or_default());
            return Err(class::invalid(faults));
        }
    };
    let class = match named {
        // A class can be let go although its image is no longer there.
        Named::Class(class) if target.is_none() => class,
        named => class::with_image(&app, named).await?.0,
    };
    pool.set(class.clone(), target).await?;
    tracing::info!(%class, ?target, "what is wanted of a class has changed");
    match detail(&app, &class.to_string()).await {
        Ok(detail) => Ok(Json(detail)),
        // What was let go may be gone at once.
        Err(_) if target.is_none() => Ok(Json(gone(class.to_string()))),
        Err(refusal) => Err(refusal),
    }
}

fn target(wanted: Option<&TargetView>) -> Result<Option<Target>, Vec<ProblemFault>> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    if wanted.hot > MOST_HOT {
        let detail = format!("{} hot shells are more than {MOST_HOT}", wanted.hot);
        return Err(vec![class::fault("target.hot", detail, "fewer")]);
    }
    let floor = match wanted.floor.as_str() {
        "warm" => Tier::Warm,
        "cool" => Tier::Cool,
        other => {
            let detail = format!("{other:?} is no floor of a class");
            let expected = "\"warm\", which keeps a template, or \"cool\"";
            return Err(vec![class::fault("target.floor", detail, expected)]);
        }
    };
    Ok(Some(Target {
        hot: wanted.hot,
        floor,
    }))
}

pub(crate) async fn detail(app: &App, which: &str) -> Result<PoolDetail, Refusal> {
    let pool = &app.state.pool;
    let status = pool.status().await?;
    let found = pick(&status.pools, which)?;
    let shells = pool.shells().await?;
    Ok(PoolDetail {
        pool: view(found),
        shells: shells
            .iter()
            .filter(|shell| shell.class == found.class)
            .map(ShellView::of)
            .collect(),
        why: app
            .state
            .demand
            .decision(&found.class)
            .map(|decision| decision.why),
    })
}

/// The class that is named, or the only one of the image that is named.
fn pick<'a>(pools: &'a [pool::PoolView], which: &str) -> Result<&'a pool::PoolView, Refusal> {
    // The form in which people write a class need not be the shortest.
    let class = match which.parse() {
        Ok(class) => Some(class),
        Err(_) => {
            let classes = pools.iter().map(|pool| &pool.class);
            let of_image = classes.filter(|class| class.image == which).collect();
            let meant = class::meant_by_image(of_image);
            meant
                .map_err(|several| class::ambiguous(which, &several))?
                .cloned()
        }
    };
    pools
        .iter()
        .find(|pool| Some(&pool.class) == class.as_ref())
        .ok_or_else(|| {
            Refusal::not_found(format!(
                "the pool has no class {which:?}; see `greenroom pool list`, and set one with `greenroom pool set`"
            ))
        })
}

fn view(pool: &pool::PoolView) -> PoolView {
    PoolView {
        class: pool.class.to_string(),
        target: pool.target.as_ref().map(TargetView::of),
        tier: pool.tier.to_string(),
        shortfall: pool.shortfall.clone(),
        template: pool.template.as_ref().map(TemplateView::of),
        ready: pool.ready,
        filling: pool.filling,
        claimed: pool.claimed,
        served: pool
            .served
            .iter()
            .map(|(tier, count)| (tier.to_string(), *count))
            .collect(),
        pss_mib: pool.pss_mib,
        failures: pool.failures,
        pauses_until: pool.pauses_until.map(present::time),
    }
}

/// A class of which nothing is left.
fn gone(class: String) -> PoolDetail {
    PoolDetail {
        pool: PoolView {
            class,
            target: None,
            tier: Tier::Cool.to_string(),
            shortfall: None,
            template: None,
            ready: 0,
            filling: 0,
            claimed: 0,
            served: [].into(),
            pss_mib: None,
            failures: 0,
            pauses_until: None,
        },
        shells: Vec::new(),
        why: None,
    }
}
