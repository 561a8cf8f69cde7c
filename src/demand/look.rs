//! One look at everything: counts, forecasts, decides, tells the pool. May be repeated at any time.

use std::collections::{BTreeMap, BTreeSet};

use super::shares::Persona;
use super::{Demand, DemandError, HOURS_KEPT, KEPT, WEEKS, watch};
use crate::learn::forecast::serve::{FULL_AGE_S, Learned};
use crate::store::demand as rows;
use crate::store::personas;
use crate::vocab::Timestamp;
use crate::vocab::demand::{BUCKET_S, Count, PlannedEvent, Series, Watched};
use crate::vocab::pool::Class;

/// A client has forecasts of its own from so many arrivals on, beside which there are others of the
/// class or persona.
const CLIENT_ARRIVALS: u64 = 100;
/// Clients with forecasts of their own, at most.
const MOST_CLIENTS: usize = 50;

/// Personas with forecasts of their own, at most: those that are asked for most.
const MOST_PERSONAS: usize = 200;
/// A persona that nobody has asked for yet is expected to be like its family for so long, seconds.
const NEW_S: i64 = 14 * 86_400;

/// The store's rows that a look needs.
pub(super) struct Known6Weeks {
    pub spans: Vec<Watched>,
    pub events: Vec<PlannedEvent>,
    /// Counts by class.
    pub counts: BTreeMap<Class, Vec<Count>>,
    /// When a policy of a class was first set, Unix seconds.
    born: BTreeMap<Class, i64>,
    /// Clients with enough arrivals of their own.
    pub clients: Vec<Series>,
    /// Personas with arrivals, the new ones, and under the empty name what came without one.
    pub personas: BTreeMap<String, Persona>,
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
                    arrival.persona = rows::persona_of_machine(connection, &arrival.key).await?;
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
        let kin = personas::kin_list(&mut connection).await?;
        let mut classes: BTreeSet<Class> = totals.iter().map(|(class, ..)| class.clone()).collect();
        let born: BTreeMap<Class, i64> = policies
            .into_iter()
            .map(|policy| (policy.class, policy.since.0.div_euclid(1_000_000)))
            .collect();
        classes.extend(born.keys().cloned());
        let mut counts = BTreeMap::new();
        for class in classes {
            let of = rows::count_list(
                &mut connection,
                &Series::of_class(&class),
                BUCKET_S,
                since_s,
            )
            .await?;
            counts.insert(class, of);
        }
        let mut all: BTreeMap<String, Persona> = BTreeMap::new();
        for (class, persona, _, n) in &totals {
            let persona = all.entry(persona.clone()).or_default();
            persona.add(class, *n);
        }
        for one in kin {
            let age_s = until_s - one.applied_at.0.div_euclid(1_000_000);
            if (one.is_current && age_s < NEW_S) || all.contains_key(&one.name) {
                all.entry(one.name).or_default().parent = one.parent;
            }
        }
        let mut busiest: Vec<(String, Persona)> = all.into_iter().collect();
        busiest.sort_by_key(|(_, persona)| std::cmp::Reverse(persona.arrivals));
        busiest.truncate(MOST_PERSONAS);
        Ok(Known6Weeks {
            spans,
            events,
            counts,
            born,
            clients: clients_of(&totals),
            personas: busiest
                .into_iter()
                .map(|(name, p)| (name, p.weighed()))
                .collect(),
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

    /// Those that concern the class of most of its machines.
    pub fn events_of_persona(&self, persona: &Persona) -> Vec<&PlannedEvent> {
        match persona.classes.first() {
            Some((class, _)) => self.events_of(class),
            None => self.events.iter().filter(|e| e.of.is_none()).collect(),
        }
    }

    /// Whether all from then on was watched; the running bucket's begin is what is known of the end.
    pub fn is_whole_since(&self, from_s: i64) -> bool {
        let newest = self.spans.iter().map(|span| span.until.0).max();
        let until_s = newest.map_or(from_s, |at| at.div_euclid(1_000_000));
        let span = until_s - from_s;
        span > 0 && watch::covered_s(&self.spans, from_s, span) >= span as f64 - 1.0
    }
}

/// Clients that have asked often enough for a class, or for a persona, beside others who have.
fn clients_of(totals: &[(Class, String, String, u64)]) -> Vec<Series> {
    let mut of: BTreeMap<Series, BTreeMap<&str, u64>> = BTreeMap::new();
    for (class, persona, client, n) in totals {
        let both = [Series::of_class(class), Series::of_persona(persona)];
        for series in both
            .into_iter()
            .filter(|s| s.persona.as_deref() != Some(""))
        {
            *of.entry(series).or_default().entry(client).or_default() += n;
        }
    }
    let mut clients: Vec<(u64, Series)> = of
        .into_iter()
        .filter(|(_, clients)| clients.len() > 1)
        .flat_map(|(series, clients)| {
            let by = move |(client, n)| (n, series.clone().by(Some(client)));
            clients.into_iter().map(by)
        })
        .filter(|(n, _)| *n >= CLIENT_ARRIVALS)
        .collect();
    clients.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    clients.truncate(MOST_CLIENTS);
    clients.into_iter().map(|(_, series)| series).collect()
}

/// A full forecast is made anew when half of its life is over.
pub(super) fn is_full_due(learned: &Learned, now_s: i64) -> bool {
    learned
        .full
        .as_ref()
        .is_none_or(|full| !(0..FULL_AGE_S / 2).contains(&(now_s - full.made_s)))
}
