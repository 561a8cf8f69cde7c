//! The pool as people see it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::core::Core;
use super::plan::{hot_target, mean_pss, pss_of};
use super::{PoolStatus, PoolView, selftest};
use crate::store::StoreError;
use crate::store::pool::{claim_recent, claim_served};
use crate::vocab::Timestamp;
use crate::vocab::pool::{Class, ShellState, Template, TemplateState, Tier};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Claims that the status shows.
const RECENT: i64 = 20;

pub async fn status(core: &Core) -> Result<PoolStatus, StoreError> {
    let now = core.now();
    let since = Timestamp(
        now.0
            .saturating_sub(i64::try_from(DAY.as_micros()).unwrap_or(i64::MAX)),
    );
    let mut connection = core.services.store.read().await?;
    let recent = claim_recent(&mut connection, RECENT).await?;
    let served = claim_served(&mut connection, since).await?;
    drop(connection);
    let images = core.services.images.clone();
    let local: BTreeSet<String> = crate::blocking::run(move || images.list())
        .await
        .map(|images| images.into_iter().map(|image| image.name).collect())
        .unwrap_or_default();
    let rows = core.ledger.look(Clone::clone);
    let known = core.known();
    let classes: BTreeSet<&Class> = rows
        .wanted
        .keys()
        .chain(rows.templates.values().map(|template| &template.class))
        .chain(rows.shells.values().map(|shell| &shell.class))
        .filter(|class| !selftest::is_own(class))
        .collect();
    let pools = classes
        .into_iter()
        .map(|class| {
            let template = newest(
                rows.templates
                    .values()
                    .filter(|template| template.class == *class),
            );
            let count = |state| {
                let shells = rows.shells.values();
                shells
                    .filter(|shell| shell.class == *class && shell.state == state)
                    .count() as u32
            };
            let ready = count(ShellState::Ready);
            let forkable = template.is_some_and(|template| template.state == TemplateState::Ready);
            let tier = match () {
                () if ready > 0 => Tier::Hot,
                () if forkable => Tier::Warm,
                () if local.contains(&class.image) => Tier::Cool,
                () => Tier::Cold,
            };
            let breakers = template.and_then(|template| known.fills.get(&template.id));
            let breaker = breakers.or_else(|| known.builds.get(class));
            PoolView {
                class: class.clone(),
                target: rows.wanted.get(class).and_then(|wanted| wanted.target),
                tier,
                shortfall: known.shortfalls.get(class).cloned(),
                template: template.cloned(),
                ready,
                filling: count(ShellState::Filling),
                claimed: count(ShellState::Claimed),
                served: served
                    .iter()
                    .filter(|((of, _), _)| *of == class.to_string())
                    .map(|((_, tier), n)| (*tier, *n))
                    .collect::<BTreeMap<Tier, u64>>(),
                pss_mib: (hot_target(rows.wanted.get(class)) > 0 || ready > 0)
                    .then(|| mean_pss(&rows, class)),
                failures: breaker.map_or(0, |breaker| breaker.failures),
                pauses_until: breaker.and_then(|breaker| breaker.pauses_until),
            }
        })
        .collect();
    let (forks, forks_reason) = match (&known.verdict, &known.untested) {
        (Some(verdict), _) => (verdict.forks, verdict.reason.clone()),
        (None, Some(words)) => (false, format!("it could not be tried: {words}")),
        (None, None) => (
            false,
            "not tried yet: that is done before the first template is built".to_owned(),
        ),
    };
    Ok(PoolStatus {
        pools,
        budget_mib: core.services.settings.budget_mib,
        used_mib: rows.shells.values().map(pss_of).sum(),
        forks,
        forks_reason,
        recent,
    })
}

/// The one to fork from, else the one that is being built, else the last.
fn newest<'a>(templates: impl Iterator<Item = &'a Template>) -> Option<&'a Template> {
    templates.max_by_key(|template| {
        let rank = match template.state {
            TemplateState::Ready => 3,
            TemplateState::Building => 2,
            TemplateState::Draining => 1,
            TemplateState::Failed | TemplateState::Gone => 0,
        };
        (rank, template.generation)
    })
}
