//! Personas beside the classes that their machines are of: families, shares, and forecasts that agree. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Forecast;
use crate::learn::forecast::Step;
use crate::learn::forecast::serve::Basis;
use crate::vocab::pool::Class;

/// A persona's forecast is made at most so many times larger or smaller to agree with its classes.
const MOST_MOVED: f64 = 3.0;
/// So many hours of its own weigh as much as a persona's family, as in [`crate::learn::forecast::prior`].
const OWN_HOURS: f64 = 24.0;

/// What is known of a persona beside its arrivals' times.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Persona {
    /// What it is written over.
    pub parent: Option<String>,
    pub arrivals: u64,
    /// First the arrivals of each class, then its share of all of them, the largest first.
    pub classes: Vec<(Class, f64)>,
}

impl Persona {
    pub fn add(&mut self, class: &Class, arrivals: u64) {
        self.arrivals += arrivals;
        match self.classes.iter_mut().find(|(known, _)| known == class) {
            Some((_, n)) => *n += arrivals as f64,
            None => self.classes.push((class.clone(), arrivals as f64)),
        }
    }

    /// With shares in place of numbers.
    pub fn weighed(mut self) -> Self {
        let all: f64 = self.classes.iter().map(|(_, n)| n).sum();
        self.classes.retain(|(_, n)| *n > 0.0);
        for (_, n) in &mut self.classes {
            *n /= all;
        }
        self.classes
            .sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
        self
    }
}

/// Its parent, its children, and those of the same parent.
pub fn family<'a>(of: &str, all: &'a BTreeMap<String, Persona>) -> BTreeSet<&'a str> {
    let parent = all.get(of).and_then(|persona| persona.parent.as_deref());
    all.iter()
        .filter(|(name, _)| !name.is_empty() && *name != of)
        .filter(|(name, persona)| {
            let theirs = persona.parent.as_deref();
            parent == Some(name) || theirs == Some(of) || (parent.is_some() && theirs == parent)
        })
        .map(|(name, _)| name.as_str())
        .collect()
}

/// Adds to each class what its newcomers are expected to ask for beyond what was seen of them, then makes
/// the personas' medians add up to the classes'.
pub fn align(personas: &mut [Forecast], classes: &mut BTreeMap<Class, Forecast>) {
    let mut moved: BTreeMap<&Class, Vec<f64>> = BTreeMap::new();
    for (class, forecast) in classes.iter_mut() {
        let parts: Vec<(f64, &Forecast)> = personas
            .iter()
            .filter_map(|persona| {
                let (_, share) = persona.classes.iter().find(|(of, _)| of == class)?;
                Some((*share, persona))
            })
            .collect();
        let unseen: Vec<(f64, &[Step])> = parts
            .iter()
            .filter(|(_, persona)| persona.basis == Basis::Family)
            .map(|(share, persona)| (share * unseen(persona.known_h), &*persona.steps))
            .collect();
        let before = total(&forecast.steps);
        forecast.steps = with(&forecast.steps, &unseen);
        let after = total(&forecast.steps);
        forecast.newcomers = if after > 0.0 {
            1.0 - before / after
        } else {
            0.0
        };
        let factors = forecast.steps.iter().enumerate().map(|(at, step)| {
            let of = |(share, persona): &(f64, &Forecast)| {
                persona.steps.get(at).map_or(0.0, |step| share * step[2])
            };
            let sum: f64 = parts.iter().map(of).sum();
            let factor = step[2] / sum;
            if factor.is_finite() {
                factor.clamp(1.0 / MOST_MOVED, MOST_MOVED)
            } else {
                1.0
            }
        });
        moved.insert(class, factors.collect());
    }
    for persona in personas {
        for (at, step) in persona.steps.iter_mut().enumerate() {
            let factor: f64 = persona
                .classes
                .iter()
                .map(|(class, share)| {
                    let of_class = moved.get(class).and_then(|factors| factors.get(at));
                    share * of_class.copied().unwrap_or(1.0)
                })
                .sum();
            if !persona.classes.is_empty() {
                *step = step.map(|quantile| factor * quantile);
            }
        }
    }
}

/// How much of what a family suggests is not in a history of so many hours yet.
fn unseen(known_h: usize) -> f64 {
    OWN_HOURS / (OWN_HOURS + known_h as f64)
}

fn total(steps: &[Step]) -> f64 {
    steps.iter().map(|step| step[2].max(0.0)).sum()
}

/// Independent forecasts together: medians add, and so do the squares of what lies beside them.
fn with(steps: &[Step], parts: &[(f64, &[Step])]) -> Vec<Step> {
    let mut all = steps.to_vec();
    for (share, part) in parts {
        for (step, other) in all.iter_mut().zip(*part) {
            let middle = step[2] + share * other[2];
            *step = std::array::from_fn(|q| {
                let (own, theirs) = (step[q] - step[2], share * (other[q] - other[2]));
                (middle + own.hypot(theirs) * (q as f64 - 2.0).signum() * f64::from(q != 2))
                    .max(0.0)
            });
        }
    }
    all
}
