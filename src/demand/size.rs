//! Sizes: what is expected, weighed against what waiting costs, and the pool is told.

use std::sync::Arc;

use super::decide::{Candidate, Decision, decide};
use super::look::Known6Weeks;
use super::{Demand, DemandError, STEP_S, Standing, history};
use crate::learn::forecast::Step;
use crate::learn::psim::known::Known;
use crate::learn::psim::recent::{LEAST_SHARE, Recent};
use crate::learn::psim::{FORK_S, MOST, TICK_S};
use crate::learn::robust;
use crate::learn::sizing::tiers::Waits;
use crate::learn::sizing::{Expected, peakedness, share_of_recent};
use crate::pool::PoolStatus;
use crate::store::demand as rows;
use crate::vocab::Timestamp;
use crate::vocab::demand::{BUCKET_S, Mode, Policy};
use crate::vocab::pool::{Class, ShellState, Tier};

/// What a shell takes until one was measured, MiB.
const EXPECTED_PSS_MIB: f64 = 62.0;
/// Days of waits that tell what a shortage costs.
const WAITS_DAYS: i64 = 14;
/// Arrivals that a replay looks at, at most.
const MOST_ARRIVALS: i64 = 200_000;
/// Newcomers that are expected to add more than this share to a class are told by no replay of its past.
const NEWCOMERS: f64 = 0.1;

impl Demand {
    /// Sizes of the classes whose policy says so, and the pool is told where they are others.
    pub(super) async fn decide(
        &self,
        known: &Known6Weeks,
        until_s: i64,
    ) -> Result<(), DemandError> {
        let mut policies: Vec<Policy> = self.policies().await?.into_values().collect();
        policies.retain(|policy| policy.mode == Mode::Forecast);
        let pool = &self.services.pool;
        if policies.is_empty() || pool.settings().budget_mib == 0 {
            return Ok(());
        }
        let status = pool.status().await?;
        let standing = |class: &Class| {
            let views = &status.pools;
            let view = views.iter().find(|view| view.class == *class);
            view.and_then(|view| view.target)
        };
        let mut kept = Vec::new();
        for mut policy in policies {
            let by_hand = self.decision(&policy.class).is_some()
                && policy
                    .told
                    .is_some_and(|told| standing(&policy.class) != Some(told));
            if by_hand {
                tracing::info!(class = %policy.class, "its number was set by hand, so the forecast no longer chooses it");
                policy.mode = Mode::Fixed;
                policy.told = None;
                policy.before = None;
                self.write_policy(policy).await?;
            } else {
                kept.push(policy);
            }
        }
        let mut expected = Vec::new();
        for policy in &kept {
            let (curves, steps, source) = self.expected(known, policy, until_s).await?;
            expected.push((curves, steps, source, self.waits(&policy.class).await?));
        }
        let candidates: Vec<Candidate> = kept
            .iter()
            .zip(&expected)
            .map(|(policy, (expected, steps, source, waits))| Candidate {
                policy,
                expected,
                steps,
                source,
                standing: standing(&policy.class),
                each_mib: each_mib(&status, &policy.class),
                waits,
            })
            .collect();
        let decisions = decide(&candidates, budget_left(&status, &kept));
        for (policy, decision) in kept.into_iter().zip(decisions) {
            self.tell(policy, standing(&decision.class), decision)
                .await?;
        }
        Ok(())
    }

    /// Tells the pool, then writes down that it was told. After a crash in between the first look of the
    /// next life has told nothing itself yet, and so takes no number for one that was set by hand.
    async fn tell(
        &self,
        mut policy: Policy,
        standing: Option<crate::vocab::pool::Target>,
        decision: Decision,
    ) -> Result<(), DemandError> {
        if standing != Some(decision.target) {
            let (class, target) = (&decision.class, decision.target);
            tracing::info!(%class, hot = target.hot, floor = %target.floor, why = %decision.why, "the forecast chooses another size");
            self.services.pool.set(class.clone(), Some(target)).await?;
        }
        if policy.told != Some(decision.target) {
            policy.told = Some(decision.target);
            self.write_policy(policy).await?;
        }
        let mut inner = self.inner();
        let class = decision.class.clone();
        inner.classes.entry(class).or_default().decision = Some(decision);
        Ok(())
    }

    /// Curves to decide from: replayed weeks where they were learned and nothing is planned, else the
    /// forecast.
    async fn expected(
        &self,
        known: &Known6Weeks,
        policy: &Policy,
        until_s: i64,
    ) -> Result<(Expected, Vec<Step>, &'static str), DemandError> {
        let standing: Standing = {
            let inner = self.inner();
            inner
                .classes
                .get(&policy.class)
                .cloned()
                .unwrap_or_default()
        };
        let Some(forecast) = standing.forecast else {
            return Ok((Expected::default(), Vec::new(), ""));
        };
        let lead_s = self.lead_s(&policy.class).await?;
        let arrivals = self.arrivals(&policy.class, until_s, 6 * 7).await?;
        let Some((trace, zero_s)) = history::trace(&arrivals) else {
            let expected =
                Expected::of_forecast(&forecast.steps, STEP_S as f64, TICK_S, lead_s, 1.0, MOST);
            return Ok((expected, forecast.steps, forecast.basis.words()));
        };
        let foresight = standing
            .foresight
            .filter(|_| forecast.events.is_empty() && forecast.newcomers <= NEWCOMERS)
            .filter(|_| known.is_whole_since(until_s - 3 * STEP_S));
        if let Some((_, foresight)) = foresight {
            let until = usize::try_from((until_s - zero_s) / BUCKET_S).unwrap_or(0);
            let foresight: Arc<_> = foresight;
            let expected = crate::blocking::run(move || {
                let known = Known::until(&trace, lead_s, until, []);
                foresight.ask(&known.row(until))
            })
            .await;
            return Ok((
                expected,
                forecast.steps,
                "what like moments of the last weeks needed",
            ));
        }
        let recent = (until_s - zero_s) as f64 - 14.0 * 86_400.0;
        let from = trace.at_s.partition_point(|at| *at < recent);
        let clumped = peakedness(&trace.at_s[from..], lead_s);
        let steps = &forecast.steps;
        let expected = Expected::of_forecast(steps, STEP_S as f64, TICK_S, lead_s, clumped, MOST);
        let share = share_of_recent(clumped);
        // What is planned is not told by what was.
        if share < LEAST_SHARE || !forecast.events.is_empty() {
            return Ok((expected, forecast.steps, forecast.basis.words()));
        }
        let gaps = history::gaps(&known.spans, zero_s, until_s);
        let recent = crate::blocking::run(move || {
            let until = usize::try_from((until_s - zero_s) / BUCKET_S).unwrap_or(0);
            Recent::until(&trace, lead_s, until, gaps).ask(until)
        })
        .await;
        let expected = match &recent {
            Some(recent) => expected.mixed(recent, share),
            None => expected,
        };
        Ok((expected, forecast.steps, forecast.basis.words()))
    }

    /// Arrivals of the last days, before `until_s`.
    pub(super) async fn arrivals(
        &self,
        class: &Class,
        until_s: i64,
        days: i64,
    ) -> Result<Vec<(Timestamp, Option<f64>)>, DemandError> {
        let since = Timestamp((until_s - days * 86_400).saturating_mul(1_000_000));
        let mut connection = self.services.store.read().await?;
        let mut arrivals =
            rows::arrival_trace(&mut connection, class, since, MOST_ARRIVALS).await?;
        // A clock that went back leaves arrivals in the future.
        arrivals.retain(|(at, _)| at.0 < until_s.saturating_mul(1_000_000));
        Ok(arrivals)
    }

    /// How long each tier made people wait for a class lately.
    pub(super) async fn waits(&self, class: &Class) -> Result<Waits, DemandError> {
        let since = self.now().0.saturating_sub(WAITS_DAYS * 86_400_000_000);
        let mut connection = self.services.store.read().await?;
        let seen = rows::wait_list(&mut connection, class, Timestamp(since)).await?;
        let of: Vec<Vec<f64>> = Tier::ALL
            .iter()
            .map(|tier| {
                let of_tier = seen.iter().filter(|(of, _)| of == tier);
                of_tier.map(|(_, ms)| ms / 1000.0).collect()
            })
            .collect();
        Ok(Waits::of([&of[0], &of[1], &of[2], &of[3]]))
    }

    /// Seconds until an ordered shell of the class is ready: the median of those that are there.
    pub(super) async fn lead_s(&self, class: &Class) -> Result<f64, DemandError> {
        let took: Vec<f64> = self
            .services
            .pool
            .shells()
            .await?
            .iter()
            .filter(|shell| shell.class == *class)
            .filter(|shell| matches!(shell.state, ShellState::Ready | ShellState::Claimed))
            .map(|shell| shell.phases.iter().map(|(_, ms)| ms / 1000.0).sum())
            .collect();
        let lead_s = robust::median(&took);
        Ok(if lead_s.is_finite() {
            lead_s.clamp(0.05, 3600.0)
        } else {
            FORK_S
        })
    }
}

fn each_mib(status: &PoolStatus, class: &Class) -> f64 {
    let view = status.pools.iter().find(|view| view.class == *class);
    view.and_then(|view| view.pss_mib)
        .unwrap_or(EXPECTED_PSS_MIB)
}

/// What the classes with fixed numbers and the claimed shells leave of the budget.
fn budget_left(status: &PoolStatus, by_forecast: &[Policy]) -> f64 {
    let taken: f64 = status
        .pools
        .iter()
        .map(|view| {
            let is_ours = by_forecast.iter().any(|policy| policy.class == view.class);
            let hot = match (is_ours, view.target) {
                (false, Some(target)) => target.hot,
                _ => 0,
            };
            let each = view.pss_mib.unwrap_or(EXPECTED_PSS_MIB);
            f64::from(hot + view.claimed) * each
        })
        .sum();
    (status.budget_mib as f64 - taken).max(0.0)
}
