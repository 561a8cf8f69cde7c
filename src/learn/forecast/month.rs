//! The month's season: what the first and the last working days of a month do to demand, learned from
//! months of daily totals. Six weeks of hours, which the other methods look at, have one month's end.
//!
//! A day's total is set against the same weekday around it. A place in the month counts once it has held
//! in at least [`FEWEST`] months, clearly, and would have made the later of those months' forecasts
//! better; else the month says nothing. Effects are told as planned events are, day by day.

use std::ops::Range;

use super::super::robust;

/// Months in which a place was seen before it says anything.
const FEWEST: usize = 3;
/// Smaller effects are left out: a logarithm, a tenth.
const LEAST: f64 = 0.095;
/// Standard errors that an effect has to be away from none: there are six places to be wrong about.
const CLEAR: f64 = 2.6;
/// Working days at either end of a month that have a place of their own.
const PLACES: usize = 3;
/// Weeks to either side that a day is set against.
const WEEKS: i64 = 2;
/// No month changes a day by more than this factor.
const MOST: f64 = 8.0;

/// What the month does to one day.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Unix day.
    pub day: i64,
    pub factor: f64,
    /// Standard deviation of the factor's logarithm.
    pub doubt: f64,
    pub what: String,
}

/// A place in the month, counted in working days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First(usize),
    Last(usize),
}

/// Effects of the days `of`, learned from daily totals that begin with Unix day `first` (NaN: not watched)
/// and end before today.
pub fn effects(totals: &[f64], first: i64, of: Range<i64>) -> Vec<Effect> {
    let ratios: Vec<(Place, f64)> = (0..totals.len())
        .filter_map(|at| {
            let place = place(first + at as i64)?;
            Some((place, ratio(totals, first, at)?))
        })
        .collect();
    let places = (0..PLACES).flat_map(|n| [Place::First(n), Place::Last(n)]);
    let known: Vec<(Place, f64, f64)> = places
        .filter_map(|place| {
            let seen: Vec<f64> = ratios
                .iter()
                .filter(|(of, _)| *of == place)
                .map(|(_, ratio)| *ratio)
                .collect();
            let (log, doubt) = effect(&seen)?;
            Some((place, log, doubt))
        })
        .collect();
    if known.is_empty() {
        return Vec::new();
    }
    of.filter_map(|day| {
        let here = place(day)?;
        let (_, log, doubt) = known.iter().find(|(place, ..)| *place == here)?;
        Some(Effect {
            day,
            factor: log.exp(),
            doubt: *doubt,
            what: words(here),
        })
    })
    .collect()
}

/// Logarithm of a place's effect, drawn towards none, and its doubt; none where it is not clear.
fn effect(seen: &[f64]) -> Option<(f64, f64)> {
    if seen.len() < FEWEST {
        return None;
    }
    // Half a month that never was counts as evidence for no effect.
    let drawn =
        |ratios: &[f64]| robust::median(ratios) * ratios.len() as f64 / (ratios.len() as f64 + 0.5);
    let n = seen.len() as f64;
    let middle = robust::median(seen);
    let squares: f64 = seen.iter().map(|r| (r - middle) * (r - middle)).sum();
    let spread = (squares / (n - 1.0)).sqrt();
    let is_clear = middle.abs() >= LEAST && middle.abs() > CLEAR * spread.max(0.03) / n.sqrt();
    // Each month from the second on, forecast from those before it.
    let (with, without) = (1..seen.len()).fold((0.0, 0.0), |(with, without), at| {
        let told = drawn(&seen[..at]);
        (with + (seen[at] - told).abs(), without + seen[at].abs())
    });
    let most = MOST.ln();
    (is_clear && with < 0.9 * without).then(|| (drawn(seen).clamp(-most, most), spread.min(1.0)))
}

/// Logarithm of a day's total against the same weekday around it, apart from other such places.
fn ratio(totals: &[f64], first: i64, at: usize) -> Option<f64> {
    let total = totals[at];
    let around: Vec<f64> = (-WEEKS..=WEEKS)
        .filter(|week| *week != 0)
        .filter_map(|week| {
            let other = at as i64 + 7 * week;
            let value = *totals.get(usize::try_from(other).ok()?)?;
            (value.is_finite() && place(first + other).is_none()).then_some(value)
        })
        .collect();
    if !total.is_finite() || around.len() < 2 {
        return None;
    }
    Some(((total.max(0.0) + 1.0) / (robust::mean(&around) + 1.0)).ln())
}

/// Where in its month a Unix day lies; none in the middle and on weekends.
fn place(day: i64) -> Option<Place> {
    let date = jiff::Timestamp::from_second(day.checked_mul(86_400)?)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    // 1970-01-01 was a Thursday; 0 is Monday.
    let works = |day: i64| (day + 3).rem_euclid(7) < 5;
    if !works(day) {
        return None;
    }
    let (number, all) = (i64::from(date.day()), i64::from(date.days_in_month()));
    let count = |days: Range<i64>| days.filter(|day| works(*day)).count();
    let before = count(day - (number - 1)..day);
    let after = count(day + 1..day + (all - number) + 1);
    match (before, after) {
        (n, _) if n < PLACES => Some(Place::First(n)),
        (_, n) if n < PLACES => Some(Place::Last(n)),
        _ => None,
    }
}

fn words(place: Place) -> String {
    const NUMBERS: [&str; PLACES] = ["", "second ", "third "];
    match place {
        Place::First(0) => "first working day of the month".to_owned(),
        Place::First(n) => format!("{}working day of the month", NUMBERS[n]),
        Place::Last(0) => "last working day of the month".to_owned(),
        Place::Last(n) => format!("{}last working day of the month", NUMBERS[n]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Seeded;
    use super::*;

    /// 2026-01-01, a Thursday.
    const FIRST: i64 = 20_454;

    /// Weeks with quiet weekends; the last working day of a month has `factor` times the usual.
    fn year(days: usize, factor: f64, noise: f64) -> Vec<f64> {
        let mut random = Seeded::new(12);
        (0..days as i64)
            .map(|at| {
                let day = FIRST + at;
                let usual = if (day + 3).rem_euclid(7) < 5 {
                    200.0
                } else {
                    40.0
                };
                let month = if place(day) == Some(Place::Last(0)) {
                    factor
                } else {
                    1.0
                };
                usual * month * (noise * random.normal()).exp()
            })
            .collect()
    }

    #[test]
    fn places_are_counted_in_working_days() {
        // Saturday 31 January 2026: the last working day is the 30th.
        let of = |date: i64| place(FIRST + date - 1);
        assert_eq!(
            (of(1), of(2), of(3)),
            (Some(Place::First(0)), Some(Place::First(1)), None)
        );
        assert_eq!((of(30), of(31), of(15)), (Some(Place::Last(0)), None, None));
        assert_eq!(of(28), Some(Place::Last(2)));
    }

    #[test]
    fn a_month_end_is_learned_and_told_of_the_next_one() {
        let totals = year(178, 2.5, 0.1);
        let today = FIRST + 178;
        let found = effects(&totals, FIRST, today..today + 4);
        // 30 June 2026 is a Tuesday, day 180 of the year's days from 0.
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].day, FIRST + 180);
        assert!(
            (found[0].factor / 2.4 - 1.0).abs() < 0.2 && found[0].doubt < 0.4,
            "{found:?}"
        );
        assert_eq!(found[0].what, "last working day of the month");
    }

    #[test]
    fn what_is_noise_or_seen_too_seldom_says_nothing() {
        let ahead = FIRST..FIRST + 400;
        assert!(effects(&year(360, 1.0, 0.25), FIRST, ahead.clone()).is_empty());
        assert!(effects(&year(50, 3.0, 0.05), FIRST, ahead.clone()).is_empty());
        for odd in [vec![], vec![f64::NAN; 300], vec![0.0; 300], vec![5.0]] {
            assert!(effects(&odd, FIRST, ahead.clone()).is_empty());
        }
        let mut wild = year(300, 1.0, 0.1);
        wild[100] = 1e300;
        assert!(
            effects(&wild, FIRST, ahead)
                .iter()
                .all(|one| one.factor <= MOST)
        );
        assert!(effects(&[1.0; 9], i64::MAX - 20, i64::MAX - 3..i64::MAX).is_empty());
    }
}
