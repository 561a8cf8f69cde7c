//! How often a classifier is right, and whether it knows when it is not.

use serde::{Deserialize, Serialize};

use super::{Classifier, Decision, Example};

/// How good answers were on devices whose persona is known.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Quality {
    pub top1: f64,
    pub top3: f64,
    pub log_loss: f64,
    /// Expected calibration error over 15 bins of the confidence.
    pub calibration_error: f64,
    /// Share that would be assigned without asking, and how many of those are right.
    pub assigned: f64,
    pub assigned_right: f64,
    /// By confidence, in 15 equal bins: answers, their mean confidence, the share that is right.
    #[serde(default)]
    pub bins: [[f64; 3]; BINS],
}

const BINS: usize = 15;

/// Judges a classifier on examples it has not seen.
pub fn judge(classifier: &Classifier, unseen: &[Example]) -> Quality {
    let mut quality = Quality::default();
    let mut bins = [(0.0, 0.0, 0.0); BINS];
    let n = unseen.len().max(1) as f64;
    let (mut assigned, mut right) = (0.0, 0.0);
    for example in unseen {
        let answer = classifier.ask(&example.facts);
        let rank = answer
            .ranked
            .iter()
            .position(|(persona, _)| *persona == example.persona);
        let hit = f64::from(u8::from(rank == Some(0)));
        let confidence = answer.ranked[0].1;
        quality.top1 += hit / n;
        quality.top3 += f64::from(u8::from(rank.is_some_and(|rank| rank < 3))) / n;
        let p = rank.map_or(1e-9, |rank| answer.ranked[rank].1.max(1e-9));
        quality.log_loss -= p.ln() / n;
        let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += hit;
        bin.1 += confidence;
        bin.2 += 1.0;
        if answer.decision == Decision::Assign {
            assigned += 1.0;
            right += hit;
        }
    }
    quality.calibration_error = bins
        .iter()
        .map(|(hits, sum, _)| (hits - sum).abs() / n)
        .sum();
    quality.bins = bins.map(|(hits, sum, count)| {
        let of = |sum: f64| sum / f64::max(count, 1.0);
        [count, of(sum), of(hits)]
    });
    quality.assigned = assigned / n;
    quality.assigned_right = right / f64::max(assigned, 1.0);
    quality
}

#[cfg(test)]
mod tests {
    use super::super::{Facts, Plan};
    use super::*;

    fn example(role: &str, persona: &str) -> Example {
        Example {
            facts: Facts {
                words: [("role".to_owned(), role.to_owned())].into(),
                ..Facts::default()
            },
            persona: persona.to_owned(),
            corrected: false,
        }
    }

    #[test]
    fn right_and_wrong_answers_are_counted() {
        let train: Vec<Example> = (0..60)
            .map(|i| [example("cook", "kitchen"), example("clerk", "office")][i % 2].clone())
            .collect();
        let classifier = Classifier::fit(&train, &Plan::default()).unwrap();
        let unseen = [
            example("cook", "kitchen"),
            example("clerk", "office"),
            example("clerk", "kitchen"),
            example("cook", "garage"),
        ];
        let quality = judge(&classifier, &unseen);
        assert_eq!((quality.top1, quality.top3), (0.5, 0.75));
        assert_eq!((quality.assigned, quality.assigned_right), (1.0, 0.5));
        assert!(quality.calibration_error > 0.3, "{quality:?}");
        assert_eq!(judge(&classifier, &[]), Quality::default());
    }
}
