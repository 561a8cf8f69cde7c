//! The persona classifier on generated devices whose best possible score is known.

use greenroom::learn::classify::{Classifier, Plan, judge};

use crate::personas;
use crate::{Figure, figure};

pub fn measure() -> Vec<Figure> {
    let (train, test) = personas::examples();
    let n = test.len();
    let plan = Plan {
        pairs: vec![("location".to_owned(), "role".to_owned())],
        ..Plan::default()
    };
    let quality = judge(
        &Classifier::fit(&train, &plan).expect("a classifier"),
        &test,
    );
    let few = judge(
        &Classifier::fit(&train[..300], &plan).expect("a classifier"),
        &test,
    );
    vec![
        figure(
            "persona_top1",
            quality.top1,
            "share",
            "≥ .733, ceiling .807",
            n,
        ),
        figure("persona_top3", quality.top3, "share", "≥ .941", n),
        figure("persona_log_loss", quality.log_loss, "nat", "≤ .775", n),
        figure(
            "persona_calibration_error",
            quality.calibration_error,
            "share",
            "< .045",
            n,
        ),
        figure("persona_assigned", quality.assigned, "share", "≥ .37", n),
        figure(
            "persona_assigned_right",
            quality.assigned_right,
            "share",
            "≥ .94",
            n,
        ),
        figure("persona_top1_of_300", few.top1, "share", "≥ .590", n),
    ]
}
