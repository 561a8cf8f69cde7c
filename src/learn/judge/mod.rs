//! Who may serve: models are judged on what came after their training, beside the plain rule and each
//! other, and replaced only by a rival that is clearly better. [`drift`] says when the judgement is out
//! of date.

pub mod drift;

use serde::{Deserialize, Serialize};

/// One judged prediction: the losses of all candidates on the same later observation, in the order of
/// [`Trial::names`]. Smaller is better; the unit is the same for all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The plain rule first, then the one that serves (if another), then rivals.
    pub names: Vec<String>,
    pub losses: Vec<Vec<f64>>,
}

/// How much better and how surely a rival has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Its mean loss is lower by this share.
    pub margin: f64,
    /// Judged predictions at least.
    pub fewest: usize,
    /// The difference is this many standard errors.
    pub deviations: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            margin: 0.03,
            fewest: 20,
            deviations: 1.64,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which of the trial's names serves from now on.
    pub serves: usize,
    pub reason: Reason,
    /// Mean loss of each, trimmed.
    pub means: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Too few judged predictions to change anything.
    TooFew,
    /// Nobody beats the one that serves by the margin.
    Kept,
    /// The rival won by the margin.
    Promoted,
    /// The one that serves no longer beats the plain rule.
    SwitchedOff,
}

/// Judges a trial; `serving` is the one in charge (0: the plain rule). Falling back to the plain rule
/// needs no margin: a model has to earn its place.
pub fn judge(trial: &Trial, serving: usize, rules: Rules) -> Verdict {
    let candidates = trial.names.len();
    let whole: Vec<&Vec<f64>> = trial
        .losses
        .iter()
        .filter(|losses| losses.len() == candidates && losses.iter().all(|l| l.is_finite()))
        .collect();
    let column = |at: usize| -> Vec<f64> { whole.iter().map(|losses| losses[at]).collect() };
    let means: Vec<f64> = (0..candidates)
        .map(|at| trimmed_mean(&column(at)))
        .collect();
    let serving = serving.min(candidates.saturating_sub(1));
    let verdict = |serves, reason| Verdict {
        serves,
        reason,
        means: means.clone(),
    };
    if whole.len() < rules.fewest || candidates == 0 {
        return verdict(serving, Reason::TooFew);
    }
    // Is `a` better than `b`, pair by pair, by the margin and surely?
    let beats = |a: usize, b: usize, margin: f64| {
        let mut gains: Vec<f64> = whole.iter().map(|losses| losses[b] - losses[a]).collect();
        winsorise(&mut gains);
        let n = gains.len() as f64;
        let mean = gains.iter().sum::<f64>() / n;
        let spread =
            (gains.iter().map(|g| (g - mean) * (g - mean)).sum::<f64>() / (n - 1.0)).sqrt();
        means[a] < (1.0 - margin) * means[b] && mean > rules.deviations * spread / n.sqrt()
    };
    let rival = (0..candidates)
        .filter(|at| *at != serving && *at != 0 && beats(*at, serving, rules.margin))
        .filter(|at| means[*at] < means[0])
        .min_by(|a, b| means[*a].total_cmp(&means[*b]));
    match rival {
        Some(rival) => verdict(rival, Reason::Promoted),
        None if serving != 0 && means[serving] >= means[0] => verdict(0, Reason::SwitchedOff),
        None => verdict(serving, Reason::Kept),
    }
}

/// Values beyond the 1 % and 99 % quantiles count as those: bounded influence.
fn winsorise(values: &mut [f64]) {
    let ascending = super::robust::ascending(values);
    let (low, high) = (
        super::robust::quantile_sorted(&ascending, 0.01),
        super::robust::quantile_sorted(&ascending, 0.99),
    );
    for value in values {
        *value = value.clamp(low, high);
    }
}

fn trimmed_mean(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    if values.is_empty() {
        return f64::NAN;
    }
    winsorise(&mut values);
    super::robust::mean(&values)
}

/// Cuts a history of `n` observations in order of time into (train, judge) ranges: trained on all
/// before, judged on the next `step`; the first training has `first` observations.
pub fn walk_forward(
    n: usize,
    first: usize,
    step: usize,
) -> impl Iterator<Item = (std::ops::Range<usize>, std::ops::Range<usize>)> {
    let step = step.max(1);
    (first.max(1)..n)
        .step_by(step)
        .map(move |at| (0..at, at..(at + step).min(n)))
}

#[cfg(test)]
mod tests {
    use super::super::random::Seeded;
    use super::*;

    /// Losses around the given means.
    fn trial(means: &[f64], n: usize) -> Trial {
        let mut random = Seeded::new(11);
        Trial {
            names: means.iter().map(|m| format!("of {m}")).collect(),
            losses: (0..n)
                .map(|_| {
                    let hard = 0.5 + random.unit();
                    means
                        .iter()
                        .map(|m| m * hard * (0.9 + 0.2 * random.unit()))
                        .collect()
                })
                .collect(),
        }
    }

    fn verdict(means: &[f64], serving: usize, n: usize) -> (usize, Reason) {
        let verdict = judge(&trial(means, n), serving, Rules::default());
        (verdict.serves, verdict.reason)
    }

    #[test]
    fn a_clear_winner_is_promoted_and_a_close_one_waits() {
        assert_eq!(verdict(&[1.0, 0.8, 0.7], 1, 60), (2, Reason::Promoted));
        assert_eq!(verdict(&[1.0, 0.8, 0.79], 1, 60), (1, Reason::Kept));
        assert_eq!(verdict(&[1.0, 0.8, 0.5], 1, 10), (1, Reason::TooFew));
    }

    #[test]
    fn who_loses_to_the_plain_rule_is_switched_off() {
        assert_eq!(verdict(&[1.0, 1.2, 1.1], 1, 60), (0, Reason::SwitchedOff));
        assert_eq!(verdict(&[1.0, 1.2], 0, 60), (0, Reason::Kept));
    }

    #[test]
    fn one_poisoned_loss_decides_nothing() {
        let mut poisoned = trial(&[1.0, 0.8, 0.7], 200);
        poisoned.losses[7][2] = 1e12;
        poisoned.losses[8][2] = f64::NAN;
        assert_eq!(judge(&poisoned, 1, Rules::default()).serves, 2);
    }

    #[test]
    fn nobody_is_judged_on_what_it_saw() {
        let folds: Vec<_> = walk_forward(10, 4, 3).collect();
        assert_eq!(folds, [(0..4, 4..7), (0..7, 7..10)]);
        assert_eq!(walk_forward(3, 5, 2).count(), 0);
        assert_eq!(
            judge(&trial(&[], 0), 0, Rules::default()).reason,
            Reason::TooFew
        );
    }
}
