//! Policies: who chooses a class's number, with what costs and bounds, and what that would come to.

use super::preview::{Preview, preview};
use super::{Decision, Demand, DemandError, history};
use crate::learn::sizing::tiers::Waits;
use crate::store::demand as rows;
use crate::vocab::demand::{BUCKET_S, Mode, Policy};
use crate::vocab::pool::{Class, Target, Tier};

/// Days of arrivals that a preview reads: those that it replays, and before them those that forecasts
/// are made from.
const PREVIEW_DAYS: i64 = 35;

/// What is to change; what is none stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChangePolicy {
    pub mode: Option<Mode>,
    pub idle_hour_cost: Option<f64>,
    pub cold_cost: Option<f64>,
    pub least: Option<u32>,
    pub most: Option<u32>,
    /// Says what it would come to, and changes nothing.
    pub dry_run: bool,
}

/// A policy, what it does now, and what it would have done.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyNow {
    pub policy: Policy,
    pub standing: Option<Target>,
    pub decision: Option<Decision>,
    pub previews: Vec<Preview>,
    /// Seconds until an ordered shell is ready, as previews take it.
    pub lead_s: f64,
    /// How long each tier made people wait.
    pub waits: Waits,
    /// What serves a request that finds no shell.
    pub instead: Tier,
}

impl PolicyNow {
    /// What a request costs that each tier serves, in the policy's currency.
    pub fn costs(&self) -> [f64; 4] {
        [0, 1, 2, 3].map(|tier| self.policy.cold_cost * self.waits.cold_starts(tier))
    }
}

/// As the decision says; without one, as the number that is set says.
fn instead(decision: Option<&Decision>, standing: Option<Target>) -> Tier {
    match (decision, standing) {
        (Some(decision), _) => decision.instead,
        (None, Some(target)) if target.hot == 0 && target.floor > Tier::Warm => Tier::Cool,
        // A class that anything is wanted of has a template.
        _ => Tier::Warm,
    }
}

impl Demand {
    /// The policy of a class; of one of which nobody said anything, what holds by default.
    pub async fn policy(&self, class: &Class) -> Result<PolicyNow, DemandError> {
        let policy = self.policies().await?.remove(class);
        self.policy_now(policy.unwrap_or_else(|| Policy::of(class.clone())))
            .await
    }

    /// Of every class of the pool and every class that has one; without previews.
    pub async fn all_policies(&self) -> Result<Vec<PolicyNow>, DemandError> {
        let mut policies = self.policies().await?;
        let status = self.services.pool.status().await?;
        for view in &status.pools {
            policies
                .entry(view.class.clone())
                .or_insert_with(|| Policy::of(view.class.clone()));
        }
        let mut all = Vec::new();
        for (class, policy) in policies {
            let view = status.pools.iter().find(|view| view.class == class);
            let is_forecast = policy.mode == Mode::Forecast;
            let standing = view.and_then(|view| view.target);
            let decision = self.decision(&class).filter(|_| is_forecast);
            all.push(PolicyNow {
                instead: instead(decision.as_ref(), standing),
                waits: self.waits(&class).await?,
                standing,
                decision,
                previews: Vec::new(),
                lead_s: self.lead_s(&class).await?,
                policy,
            });
        }
        Ok(all)
    }

    pub async fn change_policy(
        &self,
        class: &Class,
        change: ChangePolicy,
    ) -> Result<PolicyNow, DemandError> {
        let looking = self.looking.lock().await;
        let before = self.policies().await?.remove(class);
        let before = before.unwrap_or_else(|| Policy {
            since: self.now(),
            ..Policy::of(class.clone())
        });
        let mut policy = changed(&before, &change)?;
        if change.dry_run {
            return self.policy_now(policy).await;
        }
        match (before.mode, policy.mode) {
            (Mode::Fixed, Mode::Forecast) => {
                policy.before = self.standing(class).await?;
                policy.told = None;
            }
            (Mode::Forecast, Mode::Fixed) => {
                policy.told = None;
                if let Some(target) = policy.before.take() {
                    self.services.pool.set(class.clone(), Some(target)).await?;
                }
                let mut inner = self.inner();
                if let Some(standing) = inner.classes.get_mut(class) {
                    standing.decision = None;
                }
            }
            _ => {}
        }
        self.write_policy(policy).await?;
        drop(looking);
        self.look_again().await?;
        self.policy(class).await
    }

    pub(super) async fn write_policy(&self, policy: Policy) -> Result<(), DemandError> {
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { rows::policy_put(connection, &policy).await })
            })
            .await?;
        Ok(())
    }

    async fn standing(&self, class: &Class) -> Result<Option<Target>, DemandError> {
        let status = self.services.pool.status().await?;
        let view = status.pools.into_iter().find(|view| view.class == *class);
        Ok(view.and_then(|view| view.target))
    }

    async fn policy_now(&self, policy: Policy) -> Result<PolicyNow, DemandError> {
        let class = policy.class.clone();
        let until_s = self.now().0.div_euclid(BUCKET_S * 1_000_000) * BUCKET_S;
        let (lead_s, standing) = (self.lead_s(&class).await?, self.standing(&class).await?);
        let arrivals = self.arrivals(&class, until_s, PREVIEW_DAYS).await?;
        let fixed = policy.before.or(standing).map_or(0, |target| target.hot);
        let of = policy.clone();
        let decision = match policy.mode {
            Mode::Forecast => self.decision(&class),
            Mode::Fixed => None,
        };
        let waits = self.waits(&class).await?;
        let instead = instead(decision.as_ref(), standing);
        let cold_starts = waits.cold_starts(instead as usize);
        let previews = crate::blocking::run(move || match history::trace(&arrivals) {
            Some((trace, zero_s)) => preview(
                &trace,
                (until_s - zero_s) as f64,
                &of,
                fixed,
                (lead_s, cold_starts),
            ),
            None => Vec::new(),
        })
        .await;
        Ok(PolicyNow {
            policy,
            standing,
            decision,
            previews,
            lead_s,
            waits,
            instead,
        })
    }
}

fn changed(before: &Policy, change: &ChangePolicy) -> Result<Policy, DemandError> {
    let cost = |what: &str, value: f64| {
        if value.is_finite() && (1e-6..=1e9).contains(&value) {
            Ok(value)
        } else {
            Err(DemandError::Refused(format!(
                "{value} is no cost of {what}: expected a number from 0.000001 to 1000000000"
            )))
        }
    };
    let mut policy = before.clone();
    if let Some(value) = change.idle_hour_cost {
        policy.idle_hour_cost = cost("an idle hour", value)?;
    }
    if let Some(value) = change.cold_cost {
        policy.cold_cost = cost("a cold start", value)?;
    }
    policy.mode = change.mode.unwrap_or(policy.mode);
    policy.least = change.least.unwrap_or(policy.least);
    policy.most = change.most.unwrap_or(policy.most);
    let limit = crate::learn::psim::MOST as u32;
    if policy.most > limit || policy.least > policy.most {
        return Err(DemandError::Refused(format!(
            "{} to {} is no range of shells: expected the least first, and at most {limit}",
            policy.least, policy.most
        )));
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_keeps_what_it_does_not_name_and_refuses_nonsense() {
        let before = Policy::of("tiny:1x128".parse().unwrap());
        let with = |change: ChangePolicy| changed(&before, &change);
        let forecast = with(ChangePolicy {
            mode: Some(Mode::Forecast),
            ..ChangePolicy::default()
        })
        .unwrap();
        assert_eq!((forecast.mode, forecast.most), (Mode::Forecast, 64));
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e12] {
            let idle = ChangePolicy {
                idle_hour_cost: Some(value),
                ..ChangePolicy::default()
            };
            let cold = ChangePolicy {
                cold_cost: Some(value),
                ..ChangePolicy::default()
            };
            assert!(with(idle).is_err() && with(cold).is_err(), "{value}");
        }
        for (least, most) in [(3, 2), (0, 65)] {
            let bounds = ChangePolicy {
                least: Some(least),
                most: Some(most),
                ..ChangePolicy::default()
            };
            assert!(with(bounds).is_err(), "{least} {most}");
        }
    }
}
