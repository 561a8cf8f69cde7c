//! One look at everything: counts, forecasts, decides, tells the pool. May be repeated at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::decide::{Candidate, Decision, decide};
use super::history::{self, Hours, SHAPE};
use super::{
    Demand, DemandError, Forecast, HORIZON, HOURS_KEPT, KEPT, STEP_S, Standing, WEEKS, compare,
    watch,
};
use crate::learn::forecast::prior::Habit;
use crate::learn::forecast::serve::{self, FULL_AGE_S, Learned, MODEL, Past};
use crate::learn::forecast::{Step, events};
use crate::learn::psim::known::Known;
use crate::learn::psim::recent::{LEAST_SHARE, Recent};
use crate::learn::psim::{FORK_S, MOST, TICK_S};
use crate::learn::robust;
use crate::learn::sizing::{Expected, peakedness, share_of_recent};
use crate::pool::PoolStatus;
use crate::store::demand as rows;
use crate::store::demand::Told;
use crate::vocab::Timestamp;
use crate::vocab::demand::{BUCKET_S, Count, Mode, PlannedEvent, Policy, Watched};
use crate::vocab::pool::{Class, ShellState};

/// What a shell takes until one was measured, MiB.
const EXPECTED_PSS_MIB: f64 = 62.0;
/// Arrivals that a replay looks at, at most.
pub(super) const MOST_ARRIVALS: i64 = 200_000;
/// A client has forecasts of its own from so many arrivals on, beside which there are others of the class.
const CLIENT_ARRIVALS: u64 = 100;
/// Clients with forecasts of their own, at most.
const MOST_CLIENTS: usize = 50;

/// The store's rows that a look needs.
pub(super) struct Known6Weeks {
    pub spans: Vec<Watched>,
    pub events: Vec<PlannedEvent>,
    /// Counts by class.
    pub counts: BTreeMap<Class, Vec<Count>>,
    /// When a policy of a class was first set, Unix seconds.
    born: BTreeMap<Class, i64>,
    /// Clients with enough arrivals of their own.
    pub clients: Vec<(Class, String)>,
}

impl Demand {
    /// Writes the arrivals that came, and that somebody watches. A database that does not take them
    /// keeps them waiting.
    pub(super) async fn count(&self) {
        let mut arrivals = self.services.pool.take_arrivals();
        if arrivals.is_empty() {
            return;
        }
        let written = self.services.store.write(move |connection| {
            Box::pin(async move {
                for arrival in &mut arrivals {
                    // What waited in the queue was wanted when the run was submitted.
                    let asked = rows::run_of_first_machine(connection, &arrival.key).await?;
                    if let Some(asked) = asked.filter(|asked| *asked < arrival.at) {
                        arrival.wait_ms = arrival
                            .wait_ms
                            .map(|ms| ms + arrival.at.since(asked).as_secs_f64() * 1000.0);
                        arrival.at = asked;
                    }
                    rows::arrival_insert(connection, arrival).await?;
                }
                Ok(())
            })
        });
        if let Err(error) = written.await {
            tracing::warn!(%error, "some arrivals could not be counted");
            // A time of which not all is known is a gap.
            self.inner().watched = None;
        }
    }

    /// Looks; what was looked at in this bucket already is left.
    pub async fn look(&self) -> Result<(), DemandError> {
        let _one_at_a_time = self.looking.lock().await;
        self.count().await;
        let now = self.now();
        let (watched, is_new) = {
            let mut inner = self.inner();
            let watched = watch::extended(inner.watched, now);
            inner.watched = Some(watched);
            let bucket_s = now.0.div_euclid(BUCKET_S * 1_000_000) * BUCKET_S;
            (watched, inner.bucket_s.replace(bucket_s) != Some(bucket_s))
        };
        if !is_new {
            return Ok(());
        }
        let looked = self.look_at_bucket(now, watched).await;
        if looked.is_err() {
            self.inner().bucket_s = None;
        }
        looked
    }

    async fn look_at_bucket(&self, now: Timestamp, watched: Watched) -> Result<(), DemandError> {
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { rows::watch_put(connection, watched).await })
            })
            .await?;
        let until_s = now.0.div_euclid(BUCKET_S * 1_000_000) * BUCKET_S;
        let mut known = self.read_known(until_s).await?;
        self.add_months(&mut known, until_s).await?;
        self.learn_widths(&known, until_s).await?;
        self.foretell(&known, now, until_s).await?;
        self.note_levels(until_s).await?;
        self.decide(&known, until_s).await?;
        self.forget(now).await?;
        Ok(())
    }

    pub(super) async fn read_known(&self, until_s: i64) -> Result<Known6Weeks, DemandError> {
        let since_s = until_s - WEEKS * 604_800;
        let mut connection = self.services.store.read().await?;
        let since = Timestamp(since_s.saturating_mul(1_000_000));
        let spans = rows::watch_list(&mut connection, since).await?;
        let events = rows::event_list(&mut connection).await?;
        let totals = rows::count_totals(&mut connection, since_s).await?;
        let policies = rows::policy_list(&mut connection).await?;
        let mut classes: BTreeSet<Class> = totals.keys().map(|(class, _)| class.clone()).collect();
        let born: BTreeMap<Class, i64> = policies
            .into_iter()
            .map(|policy| (policy.class, policy.since.0.div_euclid(1_000_000)))
            .collect();
        classes.extend(born.keys().cloned());
        let mut counts = BTreeMap::new();
        for class in classes {
            let of = rows::count_list(&mut connection, &class, None, BUCKET_S, since_s).await?;
            counts.insert(class, of);
        }
        let mut clients: Vec<(u64, (Class, String))> = totals
            .iter()
            .filter(|((class, client), n)| {
                let shared = totals
                    .keys()
                    .any(|(other, by)| other == class && by != client);
                **n >= CLIENT_ARRIVALS && shared
            })
            .map(|(key, n)| (*n, key.clone()))
            .collect();
        clients.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
        clients.truncate(MOST_CLIENTS);
        Ok(Known6Weeks {
            spans,
            events,
            counts,
            born,
            clients: clients.into_iter().map(|(_, key)| key).collect(),
        })
    }

    /// A forecast of every class, in memory, and at each hour's begin on disk too.
    async fn foretell(
        &self,
        known: &Known6Weeks,
        now: Timestamp,
        until_s: i64,
    ) -> Result<(), DemandError> {
        let series: BTreeMap<&Class, (Hours, Vec<f64>, crate::learn::series::Faults)> = known
            .counts
            .iter()
            .map(|(class, counts)| {
                let hours = Hours::of(counts, &known.spans, known.born_s(class), until_s);
                let (cleaned, faults) = hours.cleaned(&known.events_of(class));
                (class, (hours, cleaned, faults))
            })
            .collect();
        let habits: BTreeMap<&Class, Habit> = series
            .iter()
            .filter_map(|(class, (hours, cleaned, _))| Some((*class, hours.habit(cleaned)?)))
            .collect();
        let mut told = Vec::new();
        for (class, (hours, cleaned, faults)) in &series {
            let others = |same_image: bool| -> Vec<Habit> {
                habits
                    .iter()
                    .filter(|(other, _)| {
                        *other != class && (!same_image || other.image == class.image)
                    })
                    .map(|(_, habit)| habit.clone())
                    .collect()
            };
            let learned = self.learned(class);
            let past = Past {
                own: cleaned,
                family: &others(true),
                everyone: &others(false),
                first: history::step_of_week(until_s),
                shape: SHAPE,
                now_s: until_s,
            };
            let (steps, basis) = serve::forecast(&past, &learned, HORIZON);
            let planned = known.events_of(class);
            let forecast = Forecast {
                class: (*class).clone(),
                made_at: Timestamp(until_s.saturating_mul(1_000_000)),
                steps: finished(&steps, &learned, &planned, until_s),
                basis,
                choice: learned
                    .full
                    .as_ref()
                    .map(|full| (Timestamp(full.made_s * 1_000_000), full.choice.clone())),
                faults: *faults,
                known_h: hours.values.len(),
                last_day: hours.last(24).to_vec(),
                events: history::names_ahead(&planned, until_s),
            };
            told.push(((*class).clone(), String::new(), forecast.clone()));
            self.inner()
                .classes
                .entry((*class).clone())
                .or_default()
                .forecast = Some(forecast);
        }
        for (class, standing) in &mut self.inner().classes {
            if !series.contains_key(class) {
                standing.forecast = None;
            }
        }
        if until_s % STEP_S != 0 {
            return Ok(());
        }
        for (class, client) in &known.clients {
            if let Some(forecast) = self.of_client(class, client, now).await? {
                told.push((class.clone(), client.clone(), forecast));
            }
        }
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move {
                    for (class, client, forecast) in &told {
                        let made_at = forecast.made_at;
                        let told = Told {
                            start_s: until_s,
                            step_s: STEP_S,
                            steps: forecast.steps.clone(),
                            how: forecast.basis.words().to_owned(),
                        };
                        rows::forecast_put(connection, class, client, made_at, MODEL, &told)
                            .await?;
                    }
                    Ok(())
                })
            })
            .await?;
        Ok(())
    }

    /// What is expected of one client of a class, by the cheap path; none where too little is known.
    pub async fn of_client(
        &self,
        class: &Class,
        client: &str,
        now: Timestamp,
    ) -> Result<Option<Forecast>, DemandError> {
        let until_s = now.0.div_euclid(BUCKET_S * 1_000_000) * BUCKET_S;
        let since_s = until_s - WEEKS * 604_800;
        let mut connection = self.services.store.read().await?;
        let counts =
            rows::count_list(&mut connection, class, Some(client), BUCKET_S, since_s).await?;
        if counts.is_empty() {
            return Ok(None);
        }
        let since = Timestamp(since_s.saturating_mul(1_000_000));
        let spans = rows::watch_list(&mut connection, since).await?;
        let events = rows::event_list(&mut connection).await?;
        drop(connection);
        let planned: Vec<&PlannedEvent> = events.iter().filter(|e| e.concerns(class)).collect();
        let hours = Hours::of(&counts, &spans, None, until_s);
        let (cleaned, faults) = hours.cleaned(&planned);
        let past = Past {
            own: &cleaned,
            family: &[],
            everyone: &[],
            first: history::step_of_week(until_s),
            shape: SHAPE,
            now_s: until_s,
        };
        let learned = Learned::default();
        let (steps, basis) = serve::forecast(&past, &learned, HORIZON);
        Ok(Some(Forecast {
            class: class.clone(),
            made_at: Timestamp(until_s.saturating_mul(1_000_000)),
            steps: finished(&steps, &learned, &planned, until_s),
            basis,
            choice: None,
            faults,
            known_h: hours.values.len(),
            last_day: hours.last(24).to_vec(),
            events: history::names_ahead(&planned, until_s),
        }))
    }

    /// Yesterday's intervals against what came, once a day.
    async fn learn_widths(&self, known: &Known6Weeks, until_s: i64) -> Result<(), DemandError> {
        let day = until_s.div_euclid(86_400);
        for (class, counts) in &known.counts {
            let mut learned = self.learned(class);
            if learned.width_day >= day {
                continue;
            }
            let is_first = learned.width_day == 0;
            learned.width_day = day;
            if !is_first {
                let begin_s = (day - 1) * 86_400;
                let since = Timestamp((begin_s - 86_400).saturating_mul(1_000_000));
                let mut connection = self.services.store.read().await?;
                let told = rows::forecast_list(&mut connection, class, "", since).await?;
                drop(connection);
                let hourly = hourly(counts);
                // As it was told when the day began.
                let begun = |made: &Timestamp| made.0 <= begin_s.saturating_mul(1_000_000);
                let told: Vec<_> = told.into_iter().filter(|(made, _)| begun(made)).collect();
                let hours = compare::hours(&told, &hourly, &known.spans, day * 86_400, 24, 0);
                let (steps, actual): (Vec<Step>, Vec<f64>) = hours
                    .iter()
                    .filter_map(|hour| Some((hour.expected?, hour.actual?)))
                    .unzip();
                learned.width.learn(&steps, &actual);
            }
            self.keep_learned(class, learned).await?;
        }
        Ok(())
    }

    pub(super) fn learned(&self, class: &Class) -> Learned {
        let inner = self.inner();
        inner
            .classes
            .get(class)
            .map(|standing| standing.learned.clone())
            .unwrap_or_default()
    }

    /// In memory and on disk.
    pub(super) async fn keep_learned(
        &self,
        class: &Class,
        learned: Learned,
    ) -> Result<(), DemandError> {
        let body = serde_json::to_string(&learned).map_err(crate::store::StoreError::from)?;
        let (of, now) = (class.clone(), self.now());
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { rows::model_put(connection, &of, MODEL, &body, now).await })
            })
            .await?;
        let mut inner = self.inner();
        inner.classes.entry(class.clone()).or_default().learned = learned;
        Ok(())
    }

    /// Sizes of the classes whose policy says so, and the pool is told where they are others.
    async fn decide(&self, known: &Known6Weeks, until_s: i64) -> Result<(), DemandError> {
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
            expected.push(self.expected(known, policy, until_s).await?);
        }
        let candidates: Vec<Candidate> = kept
            .iter()
            .zip(&expected)
            .map(|(policy, (expected, steps, source))| Candidate {
                policy,
                expected,
                steps,
                source,
                standing: standing(&policy.class),
                each_mib: each_mib(&status, &policy.class),
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
            .filter(|_| forecast.events.is_empty() && known.is_whole_since(until_s - 3 * STEP_S));
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

    /// Once a day, what is too old goes.
    async fn forget(&self, now: Timestamp) -> Result<(), DemandError> {
        let day = now.0.div_euclid(86_400_000_000);
        if std::mem::replace(&mut self.inner().forgotten_day, day) == day {
            return Ok(());
        }
        let before =
            |span: std::time::Duration| Timestamp(now.0.saturating_sub(span.as_micros() as i64));
        let (short, long) = (before(KEPT), before(HOURS_KEPT));
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { rows::demand_forget(connection, short, long).await })
            })
            .await?;
        Ok(())
    }
}

impl Known6Weeks {
    pub fn born_s(&self, class: &Class) -> Option<i64> {
        self.born.get(class).copied()
    }

    pub fn events_of(&self, class: &Class) -> Vec<&PlannedEvent> {
        self.events.iter().filter(|e| e.concerns(class)).collect()
    }

    /// Whether all from then on was watched; the running bucket's begin is what is known of the end.
    fn is_whole_since(&self, from_s: i64) -> bool {
        let newest = self.spans.iter().map(|span| span.until.0).max();
        let until_s = newest.map_or(from_s, |at| at.div_euclid(1_000_000));
        let span = until_s - from_s;
        span > 0 && watch::covered_s(&self.spans, from_s, span) >= span as f64 - 1.0
    }
}

/// Counts in hours of the clock.
fn hourly(counts: &[Count]) -> Vec<Count> {
    let mut hours: BTreeMap<i64, u64> = BTreeMap::new();
    for count in counts {
        let start_s = count.start_s.div_euclid(STEP_S) * STEP_S;
        *hours.entry(start_s).or_default() += count.arrivals;
    }
    let of = |(start_s, arrivals)| Count {
        start_s,
        arrivals,
        ..Count::default()
    };
    hours.into_iter().map(of).collect()
}

/// With what the calendar knows and the width that was learned.
fn finished(
    steps: &[Step],
    learned: &Learned,
    planned: &[&PlannedEvent],
    until_s: i64,
) -> Vec<Step> {
    let steps: Vec<Step> = steps.iter().map(|step| learned.width.apply(step)).collect();
    let ahead = history::steps_of(planned, until_s, steps.len());
    events::with(&steps, 0, &ahead)
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

/// A full forecast is made anew when half of its life is over.
pub(super) fn is_full_due(learned: &Learned, now_s: i64) -> bool {
    learned
        .full
        .as_ref()
        .is_none_or(|full| !(0..FULL_AGE_S / 2).contains(&(now_s - full.made_s)))
}
