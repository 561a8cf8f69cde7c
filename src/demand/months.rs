//! What months do to a class, once a day learned from its hours of the last year, told as planned events.

use super::look::Known6Weeks;
use super::watch::covered_s;
use super::{Demand, DemandError, HORIZON, STEP_S, WEEKS};
use crate::learn::forecast::month;
use crate::store::demand as rows;
use crate::vocab::Timestamp;
use crate::vocab::demand::{Count, PlannedEvent, Series, Watched};
use crate::vocab::pool::Class;

const DAY_S: i64 = 86_400;
/// Days that are looked back: a year and a month.
const DAYS: i64 = 400;

impl Demand {
    /// Adds to the events what months do to the classes; reckoned anew when a day begins.
    pub(super) async fn add_months(
        &self,
        known: &mut Known6Weeks,
        until_s: i64,
    ) -> Result<(), DemandError> {
        let today = until_s.div_euclid(DAY_S);
        let classes: Vec<Class> = known.counts.keys().cloned().collect();
        for class in classes {
            let kept = {
                let inner = self.inner();
                let standing = inner.classes.get(&class);
                let months = standing.map(|standing| standing.months.clone());
                months.filter(|(day, _)| *day == today)
            };
            let events = match kept {
                Some((_, events)) => events,
                None => {
                    let events = self.months_of(&class, today).await?;
                    let mut inner = self.inner();
                    let standing = inner.classes.entry(class).or_default();
                    standing.months = (today, events.clone());
                    events
                }
            };
            known.events.extend(events);
        }
        Ok(())
    }

    async fn months_of(&self, class: &Class, today: i64) -> Result<Vec<PlannedEvent>, DemandError> {
        let since_s = (today - DAYS) * DAY_S;
        let mut connection = self.services.store.read().await?;
        let counts =
            rows::count_list(&mut connection, &Series::of_class(class), STEP_S, since_s).await?;
        let since = Timestamp(since_s.saturating_mul(1_000_000));
        let spans = rows::watch_list(&mut connection, since).await?;
        let planned = rows::event_list(&mut connection).await?;
        drop(connection);
        Ok(told(class, &counts, &spans, &planned, today))
    }
}

/// Effects on the days that forecasts look at, as events. Days on which something was planned are none to
/// learn from.
fn told(
    class: &Class,
    counts: &[Count],
    spans: &[Watched],
    planned: &[PlannedEvent],
    today: i64,
) -> Vec<PlannedEvent> {
    let Some(first) = counts.first().map(|count| count.start_s.div_euclid(DAY_S)) else {
        return Vec::new();
    };
    let days = usize::try_from(today - first).unwrap_or(0);
    let mut totals: Vec<f64> = (0..days as i64)
        .map(|day| {
            let begin_s = (first + day) * DAY_S;
            let is_planned = planned.iter().any(|event| {
                event.concerns(class)
                    && event.from.0 < (begin_s + DAY_S).saturating_mul(1_000_000)
                    && event.until.0 > begin_s.saturating_mul(1_000_000)
            });
            let watched = covered_s(spans, begin_s, DAY_S) >= 0.9 * DAY_S as f64;
            if watched && !is_planned {
                0.0
            } else {
                f64::NAN
            }
        })
        .collect();
    for count in counts {
        let day = count.start_s.div_euclid(DAY_S) - first;
        if let Some(total) = usize::try_from(day)
            .ok()
            .and_then(|day| totals.get_mut(day))
        {
            *total += count.arrivals as f64;
        }
    }
    let ahead = HORIZON as i64 * STEP_S / DAY_S + 1;
    month::effects(&totals, first, today - 7 * WEEKS - 1..today + ahead + 1)
        .into_iter()
        .map(|effect| PlannedEvent {
            name: effect.what,
            of: Some(class.to_string()),
            from: Timestamp(effect.day * DAY_S * 1_000_000),
            until: Timestamp((effect.day + 1) * DAY_S * 1_000_000),
            factor: effect.factor,
            doubt: effect.doubt,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_each_month_is_an_event_once_it_was_seen_thrice() {
        let class: Class = "tiny:1x128".parse().unwrap();
        // From 2026-01-01 to 2026-06-29, twenty requests a day, three times that on the 30th of months
        // whose 30th is the last working day.
        let (first, today) = (20_454, 20_454 + 179);
        let ends = [29, 57, 89, 119, 148];
        let counts: Vec<Count> = (0..179)
            .map(|day| Count {
                start_s: (first + day) * DAY_S + 43_200,
                arrivals: if ends.contains(&day) { 60 } else { 20 },
                ..Count::default()
            })
            .collect();
        let span = |until: i64| Watched {
            from: Timestamp(first * DAY_S * 1_000_000),
            until: Timestamp(until * DAY_S * 1_000_000),
        };
        let events = told(&class, &counts, &[span(today)], &[], today);
        let begins: Vec<i64> = events
            .iter()
            .map(|event| event.from.0 / 86_400_000_000 - first)
            .collect();
        assert_eq!(begins, [148, 180], "{events:#?}");
        assert!(
            events
                .iter()
                .all(|event| event.concerns(&class) && event.factor > 2.0)
        );
        assert!(
            told(&class, &counts, &[span(first + 40)], &[], today).is_empty(),
            "not watched"
        );
        assert!(told(&class, &[], &[], &[], today).is_empty());
    }
}
