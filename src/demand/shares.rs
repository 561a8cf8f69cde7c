//! Personas beside the classes that their machines are of: families, shares, and forecasts that agree. Pure.

use std::cmp::Ordering;
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
            let (before, middle) = (*step, step[2] + share * other[2]);
            for (q, quantile) in step.iter_mut().enumerate() {
                let beside = (before[q] - before[2]).hypot(share * (other[q] - other[2]));
                *quantile = match q.cmp(&2) {
                    Ordering::Less => (middle - beside).max(0.0),
                    Ordering::Equal => middle,
                    Ordering::Greater => middle + beside,
                };
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::series::Faults;
    use crate::vocab::Timestamp;
    use crate::vocab::demand::Series;

    fn forecast(series: Series, medians: &[f64], basis: Basis) -> Forecast {
        let steps = medians
            .iter()
            .map(|m| [0.0, m - 3.0, *m, m + 3.0, m + 6.0].map(|q: f64| q.max(0.0)));
        Forecast {
            series,
            made_at: Timestamp(0),
            steps: steps.collect(),
            basis,
            choice: None,
            faults: Faults::default(),
            known_h: 500,
            last_day: Vec::new(),
            events: Vec::new(),
            parent: None,
            classes: Vec::new(),
            newcomers: 0.0,
        }
    }

    fn persona(name: &str, medians: &[f64], classes: &[(&str, f64)]) -> Forecast {
        Forecast {
            classes: classes
                .iter()
                .map(|(class, share)| (class.parse().unwrap(), *share))
                .collect(),
            ..forecast(Series::of_persona(name), medians, Basis::Cheap)
        }
    }

    fn classes(of: &[(&str, &[f64])]) -> BTreeMap<Class, Forecast> {
        of.iter()
            .map(|(name, medians)| {
                let class: Class = name.parse().unwrap();
                let series = Series::of_class(&class);
                (class, forecast(series, medians, Basis::Combined))
            })
            .collect()
    }

    fn medians(forecast: &Forecast) -> Vec<f64> {
        forecast.steps.iter().map(|step| step[2]).collect()
    }

    #[test]
    fn personas_add_up_to_the_class_and_keep_their_shapes() {
        let mut classes = classes(&[("a:1x128", &[20.0, 30.0, 0.0])]);
        let mut personas = [
            persona("x", &[10.0, 0.0, 0.0], &[("a:1x128", 1.0)]),
            persona("y", &[6.0, 20.0, 0.0], &[("a:1x128", 1.0)]),
        ];
        align(&mut personas, &mut classes);
        assert_eq!(medians(&personas[0]), [12.5, 0.0, 0.0]);
        assert_eq!(medians(&personas[1]), [7.5, 30.0, 0.0]);
        let class = classes.values().next().unwrap();
        assert_eq!((medians(class)[0], class.newcomers), (20.0, 0.0));
        assert!(
            personas
                .iter()
                .all(|p| p.steps.iter().all(|s| s.is_sorted()))
        );
    }

    #[test]
    fn what_a_class_says_moves_a_persona_by_its_share_and_never_far() {
        let mut classes = classes(&[("a:1x128", &[10.0]), ("b:1x128", &[1000.0])]);
        let of = [("a:1x128", 0.5), ("b:1x128", 0.5)];
        let mut personas = [persona("x", &[10.0], &of), persona("new", &[5.0], &[])];
        align(&mut personas, &mut classes);
        // Half of it twice as much, half of it three times: not the two hundred times of b.
        assert_eq!(medians(&personas[0]), [25.0]);
        assert_eq!(medians(&personas[1]), [5.0], "it has no machines yet");
    }

    #[test]
    fn newcomers_add_to_their_class_what_was_not_seen_of_them_yet() {
        let mut classes = classes(&[("a:1x128", &[20.0, 0.0])]);
        let mut personas = [
            persona("old", &[20.0, 0.0], &[("a:1x128", 1.0)]),
            Forecast {
                basis: Basis::Family,
                known_h: 24,
                ..persona("new", &[8.0, 8.0], &[("a:1x128", 1.0)])
            },
        ];
        align(&mut personas, &mut classes);
        let class = classes.values().next().unwrap();
        // Half of what its family suggests: a day of its own is in the class's history.
        assert_eq!(medians(class), [24.0, 4.0]);
        assert!((class.newcomers - 8.0 / 28.0).abs() < 1e-9, "{class:?}");
        assert!(class.steps.iter().all(|step| step.is_sorted()), "{class:?}");
        // Independent parts: a band of 3 and one of 1.5 are one of 3.35, not of 4.5.
        assert!((class.steps[0][3] - 24.0 - 3.0f64.hypot(1.5)).abs() < 1e-9);
        let sum = medians(&personas[0])[0] + medians(&personas[1])[0];
        assert!((sum - 24.0).abs() < 1e-9);
    }

    #[test]
    fn a_family_is_parent_children_and_siblings() {
        let of = |parent: Option<&str>| Persona {
            parent: parent.map(str::to_owned),
            ..Persona::default()
        };
        let all = BTreeMap::from([
            (String::new(), of(None)),
            ("base".into(), of(None)),
            ("till".into(), of(Some("base"))),
            ("till-north".into(), of(Some("till"))),
            ("till-south".into(), of(Some("till"))),
            ("odd".into(), of(None)),
        ]);
        let family = |name: &str| family(name, &all).into_iter().collect::<Vec<_>>();
        assert_eq!(family("till-north"), ["till", "till-south"]);
        assert_eq!(family("till"), ["base", "till-north", "till-south"]);
        assert_eq!(family("odd"), [""; 0]);
        assert_eq!(family(""), [""; 0]);
        assert_eq!(family("gone"), [""; 0]);
    }
}
