//! What takes seconds is learned here, one class at a time, beside the looking: the full forecast, and
//! what like moments of the last weeks needed.

use std::sync::Arc;
use std::time::Duration;

use super::history::{self, Hours, SHAPE};
use super::look::is_full_due;
use super::{Demand, DemandError, HORIZON, STEP_S};
use crate::learn::forecast::serve::{FULL_AGE_S, Full};
use crate::learn::psim::foresee::Foresight;
use crate::learn::psim::known::Known;
use crate::learn::psim::{Host, replay};
use crate::vocab::Timestamp;
use crate::vocab::demand::{BUCKET_S, Mode};
use crate::vocab::pool::Class;

/// Hours of history from which on methods can be compared.
const FULL_FROM: usize = 9 * 24;
/// Moments of the last weeks are learned from after so many days (AWS predictive scaling waits as
/// long), and anew each week.
const REPLAY_DAYS: i64 = 14;
const REPLAY_EACH: Duration = Duration::from_secs(7 * 86_400);
/// Arrivals below which there is nothing to learn from them.
const REPLAY_ARRIVALS: usize = 500;

impl Demand {
    /// Learns what is due of one class; whether there is more to do. Bounded by the six weeks that are
    /// looked at: up to ten seconds of one processor.
    pub async fn study_one(&self) -> Result<bool, DemandError> {
        let now = self.now();
        let until_s = now.0.div_euclid(BUCKET_S * 1_000_000) * BUCKET_S;
        let due: Vec<Class> = {
            let inner = self.inner();
            inner
                .classes
                .iter()
                .filter(|(_, standing)| {
                    let forecast = standing.forecast.as_ref();
                    forecast.is_some_and(|f| f.known_h >= FULL_FROM)
                        && is_full_due(&standing.learned, until_s)
                })
                .map(|(class, _)| class.clone())
                .collect()
        };
        if let Some(class) = due.first() {
            self.study_full(class, until_s).await?;
            // What like moments needed may be due as well.
            return Ok(true);
        }
        self.study_replay(now, until_s).await
    }

    /// Everything that is due; for tests, and for whoever is asked to learn now.
    pub async fn study(&self) -> Result<(), DemandError> {
        while self.study_one().await? {}
        Ok(())
    }

    async fn study_full(&self, class: &Class, until_s: i64) -> Result<(), DemandError> {
        let mut known = self.read_known(until_s).await?;
        self.add_months(&mut known, until_s).await?;
        let counts = known.counts.get(class).cloned().unwrap_or_default();
        let hours = Hours::of(&counts, &known.spans, known.born_s(class), until_s);
        let (cleaned, _) = hours.cleaned(&known.events_of(class));
        let horizon = HORIZON + (FULL_AGE_S / STEP_S) as usize + 1;
        let begun = std::time::Instant::now();
        let full =
            crate::blocking::run(move || Full::make(&cleaned, horizon, SHAPE, until_s, STEP_S))
                .await;
        let took_ms = begun.elapsed().as_millis() as u64;
        tracing::debug!(%class, took_ms, method = ?full.choice.method, "a full forecast was made");
        let mut learned = self.learned(class);
        learned.full = Some(full);
        self.keep_learned(class, learned).await
    }

    async fn study_replay(&self, now: Timestamp, until_s: i64) -> Result<bool, DemandError> {
        let policies = self.policies().await?;
        for class in policies
            .values()
            .filter(|policy| policy.mode == Mode::Forecast)
            .map(|policy| &policy.class)
        {
            let (is_due, known_h) = {
                let inner = self.inner();
                let standing = inner.classes.get(class);
                let learned = standing.and_then(|standing| standing.foresight.as_ref());
                let is_due =
                    learned.is_none_or(|(at, _)| now.since(*at) >= REPLAY_EACH || now < *at);
                let forecast = standing.and_then(|standing| standing.forecast.as_ref());
                (is_due, forecast.map_or(0, |f| f.known_h))
            };
            if !is_due || (known_h as i64) < REPLAY_DAYS * 24 {
                continue;
            }
            let arrivals = self.arrivals(class, until_s, 8 * 7).await?;
            if arrivals.len() < REPLAY_ARRIVALS {
                continue;
            }
            let Some((trace, zero_s)) = history::trace(&arrivals) else {
                continue;
            };
            let spans = self.read_known(until_s).await?.spans;
            let lead_s = self.lead_s(class).await?;
            let gaps = history::gaps(&spans, zero_s, until_s);
            let learned = crate::blocking::run(move || {
                let host = Host {
                    lead_s,
                    reuse_s: None,
                };
                let curves = replay::curves(&trace, host);
                let until = curves.len();
                let known = Known::until(&trace, lead_s, until, gaps);
                Foresight::learn(&known, &curves, until)
            })
            .await;
            if let Some(foresight) = learned {
                let mut inner = self.inner();
                let standing = inner.classes.entry(class.clone()).or_default();
                standing.foresight = Some((now, Arc::new(foresight)));
                return Ok(true);
            }
        }
        Ok(false)
    }
}
