//! What is expected of each series: of classes by all that was learned, of personas and clients by the cheap path.

use std::collections::BTreeMap;

use super::history::{self, Hours, SHAPE};
use super::look::Known6Weeks;
use super::{Demand, DemandError, Forecast, HORIZON, STEP_S, WEEKS, compare, shares};
use crate::learn::forecast::prior::Habit;
use crate::learn::forecast::serve::{self, Learned, MODEL, Past};
use crate::learn::forecast::{Step, events};
use crate::learn::series::Faults;
use crate::store::demand as rows;
use crate::store::demand::Told;
use crate::vocab::Timestamp;
use crate::vocab::demand::{BUCKET_S, Count, PlannedEvent, Series};
use crate::vocab::pool::Class;

/// A series as methods take it.
pub(super) struct Cleaned {
    pub hours: Hours,
    pub values: Vec<f64>,
    pub faults: Faults,
}

impl Cleaned {
    pub fn of(hours: Hours, planned: &[&PlannedEvent]) -> Self {
        let (values, faults) = hours.cleaned(planned);
        Self {
            hours,
            values,
            faults,
        }
    }

    pub fn habit(&self) -> Option<Habit> {
        self.hours.habit(&self.values)
    }

    /// The forecast of the coming day, events and width applied.
    pub fn forecast(
        &self,
        series: Series,
        learned: &Learned,
        planned: &[&PlannedEvent],
        (family, everyone): (&[Habit], &[Habit]),
    ) -> Forecast {
        let until_s = self.hours.until_s;
        let past = Past {
            own: &self.values,
            family,
            everyone,
            first: history::step_of_week(until_s),
            shape: SHAPE,
            now_s: until_s,
        };
        let (steps, basis) = serve::forecast(&past, learned, HORIZON);
        Forecast {
            series,
            made_at: Timestamp(until_s.saturating_mul(1_000_000)),
            steps: finished(&steps, learned, planned, until_s),
            basis,
            choice: learned
                .full
                .as_ref()
                .map(|full| (Timestamp(full.made_s * 1_000_000), full.choice.clone())),
            faults: self.faults,
            known_h: self.hours.values.len(),
            last_day: self.hours.last(24).to_vec(),
            events: history::names_ahead(planned, until_s),
            parent: None,
            classes: Vec::new(),
            newcomers: 0.0,
        }
    }
}

impl Demand {
    /// Forecasts of every class and persona, in memory, and at each hour's begin on disk too.
    pub(super) async fn foretell(
        &self,
        known: &Known6Weeks,
        now: Timestamp,
        until_s: i64,
    ) -> Result<(), DemandError> {
        let mut classes = self.of_classes(known, until_s);
        let personas = self.of_personas(known, until_s, &mut classes).await?;
        let mut told: Vec<Forecast> = classes.values().chain(&personas).cloned().collect();
        // Requests without a persona are no persona.
        told.retain(|forecast| forecast.series.persona.as_deref() != Some(""));
        {
            let mut inner = self.inner();
            for (class, standing) in &mut inner.classes {
                if !classes.contains_key(class) {
                    standing.forecast = None;
                }
            }
            for (class, forecast) in classes {
                inner.classes.entry(class).or_default().forecast = Some(forecast);
            }
            inner.personas = personas;
        }
        if until_s % STEP_S != 0 {
            return Ok(());
        }
        for series in &known.clients {
            told.extend(self.of_series(series, now).await?);
        }
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move {
                    for forecast in &told {
                        let (of, made_at) = (&forecast.series, forecast.made_at);
                        let told = Told {
                            start_s: until_s,
                            step_s: STEP_S,
                            steps: forecast.steps.clone(),
                            how: forecast.because().to_owned(),
                        };
                        rows::forecast_put(connection, of, made_at, MODEL, &told).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        Ok(())
    }

    fn of_classes(&self, known: &Known6Weeks, until_s: i64) -> BTreeMap<Class, Forecast> {
        let series: BTreeMap<&Class, Cleaned> = known
            .counts
            .iter()
            .map(|(class, counts)| {
                let hours = Hours::of(counts, &known.spans, known.born_s(class), until_s);
                (class, Cleaned::of(hours, &known.events_of(class)))
            })
            .collect();
        let habits: Vec<(&Class, Habit)> = series
            .iter()
            .filter_map(|(class, cleaned)| Some((*class, cleaned.habit()?)))
            .collect();
        let forecast = |class: &Class, cleaned: &Cleaned| {
            let others = |is_family: bool| -> Vec<Habit> {
                habits
                    .iter()
                    .filter(|(other, _)| *other != class)
                    .filter(|(other, _)| !is_family || other.image == class.image)
                    .map(|(_, habit)| habit.clone())
                    .collect()
            };
            cleaned.forecast(
                Series::of_class(class),
                &self.learned(class),
                &known.events_of(class),
                (&others(true), &others(false)),
            )
        };
        series
            .iter()
            .map(|(class, cleaned)| ((*class).clone(), forecast(class, cleaned)))
            .collect()
    }

    /// Forecasts of the personas, by name, in line with those of the classes: what a class is expected to
    /// be asked for is the sum over the personas that its machines become. What a newcomer is expected to
    /// ask for beyond what was seen of it is added to its classes.
    async fn of_personas(
        &self,
        known: &Known6Weeks,
        until_s: i64,
        classes: &mut BTreeMap<Class, Forecast>,
    ) -> Result<Vec<Forecast>, DemandError> {
        let mut series: BTreeMap<&str, Cleaned> = BTreeMap::new();
        let mut connection = self.services.store.read().await?;
        let since_s = until_s - WEEKS * 604_800;
        for (name, persona) in &known.personas {
            let of = Series::of_persona(name);
            let counts = rows::count_list(&mut connection, &of, BUCKET_S, since_s).await?;
            let hours = Hours::of(&counts, &known.spans, None, until_s);
            let planned = known.events_of_persona(persona);
            series.insert(name, Cleaned::of(hours, &planned));
        }
        drop(connection);
        // Requests without a persona are nobody's example.
        let habits: Vec<(&str, Habit)> = series
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .filter_map(|(name, cleaned)| Some((*name, cleaned.habit()?)))
            .collect();
        let mut forecasts: Vec<Forecast> = series
            .iter()
            .map(|(name, cleaned)| {
                let family = shares::family(name, &known.personas);
                let others = |of_family: bool| -> Vec<Habit> {
                    habits
                        .iter()
                        .filter(|(other, _)| other != name && !name.is_empty())
                        .filter(|(other, _)| !of_family || family.contains(other))
                        .map(|(_, habit)| habit.clone())
                        .collect()
                };
                let persona = &known.personas[*name];
                let planned = known.events_of_persona(persona);
                let groups = (&*others(true), &*others(false));
                let series = Series::of_persona(name);
                Forecast {
                    parent: persona.parent.clone(),
                    classes: persona.classes.clone(),
                    ..cleaned.forecast(series, &Learned::default(), &planned, groups)
                }
            })
            .collect();
        shares::align(&mut forecasts, classes);
        Ok(forecasts)
    }

    /// What is expected of a series that is not among those that every look forecasts, such as one
    /// client's; by the cheap path. None where nobody of it came within six weeks.
    pub async fn of_series(
        &self,
        series: &Series,
        now: Timestamp,
    ) -> Result<Option<Forecast>, DemandError> {
        let until_s = now.0.div_euclid(BUCKET_S * 1_000_000) * BUCKET_S;
        let since_s = until_s - WEEKS * 604_800;
        let mut connection = self.services.store.read().await?;
        let counts = rows::count_list(&mut connection, series, BUCKET_S, since_s).await?;
        if counts.is_empty() {
            return Ok(None);
        }
        let since = Timestamp(since_s.saturating_mul(1_000_000));
        let spans = rows::watch_list(&mut connection, since).await?;
        let events = rows::event_list(&mut connection).await?;
        drop(connection);
        let concerns = |event: &&PlannedEvent| match &series.class {
            Some(class) => event.concerns(class),
            None => event.of.is_none(),
        };
        let planned: Vec<&PlannedEvent> = events.iter().filter(concerns).collect();
        let cleaned = Cleaned::of(Hours::of(&counts, &spans, None, until_s), &planned);
        let nobody = (&[][..], &[][..]);
        Ok(Some(cleaned.forecast(
            series.clone(),
            &Learned::default(),
            &planned,
            nobody,
        )))
    }

    /// Yesterday's intervals against what came, once a day.
    pub(super) async fn learn_widths(
        &self,
        known: &Known6Weeks,
        until_s: i64,
    ) -> Result<(), DemandError> {
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
                let of = Series::of_class(class);
                let mut connection = self.services.store.read().await?;
                let told = rows::forecast_list(&mut connection, &of, since).await?;
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
