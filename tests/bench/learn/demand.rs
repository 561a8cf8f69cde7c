//! Forecasts: scaled pinball loss on origins that no constant was chosen on, coverage, cost.

use std::time::Instant;

use greenroom::learn::forecast::combine::Cheap;
use greenroom::learn::forecast::width::Width;
use greenroom::learn::forecast::{Forecaster, Step, naive, select};
use greenroom::learn::score::{self, Score};
use greenroom::learn::trees::boost::Boost;
use greenroom::learn::trees::{Binned, Plan, Table};

use crate::traces::{self, Origin};
use crate::{Figure, figure, median};

pub fn measure() -> Vec<Figure> {
    let mut figures = Vec::new();
    let (mut cheap_ms, mut full_s) = (Vec::new(), Vec::new());
    let sets: [(&str, Vec<Origin>, &str); 4] = [
        (
            "calls",
            traces::origins("calls", (1..=70).rev().step_by(3)),
            "≤ .256",
        ),
        (
            "surf",
            traces::origins("surf", (1..=70).rev().step_by(3)),
            "≤ .400",
        ),
        (
            "taxi",
            traces::origins("taxi", (5..=140).rev().step_by(5)),
            "≤ .193",
        ),
        ("m4h30", traces::m4(), "≤ .525"),
    ];
    for (name, origins, goal) in &sets {
        let mut plain = Vec::new();
        let mut cheap = Vec::new();
        let mut full = Vec::new();
        for Origin {
            history,
            actual,
            shape,
        } in origins
        {
            let judged = |forecast: &[Step]| score::score(history, actual, forecast, shape.day);
            plain.push(judged(&naive::Week.forecast(history, actual.len(), *shape)));
            let begun = Instant::now();
            let forecast = Cheap.forecast(history, actual.len(), *shape);
            cheap_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
            cheap.push(judged(&forecast));
            let begun = Instant::now();
            let (forecast, _) = select::forecast(history, actual.len(), *shape);
            full_s.push(begun.elapsed().as_secs_f64());
            full.push(judged(&forecast));
        }
        let spl = |scores: &[Score]| score::mean(scores).spl;
        let n = origins.len();
        figures.push(figure(&format!("spl_{name}"), spl(&full), "sPL", goal, n));
        figures.push(figure(
            &format!("spl_{name}_cheap"),
            spl(&cheap),
            "sPL",
            "",
            n,
        ));
        figures.push(figure(
            &format!("spl_{name}_plain"),
            spl(&plain),
            "sPL",
            "",
            n,
        ));
    }
    for (name, days) in [("calls", 70), ("surf", 70), ("taxi", 140)] {
        let covered = daily(name, days);
        let n = days;
        let label = format!("cover80_{name}");
        figures.push(figure(&label, covered.cover80, "share", ".78–.82", n));
    }
    let n = cheap_ms.len();
    figures.push(figure(
        "forecast_cheap_ms",
        median(cheap_ms),
        "ms",
        "≤ 1",
        n,
    ));
    figures.push(figure("forecast_full_s", median(full_s), "s", "≤ 10", n));
    figures.extend(training());
    figures
}

/// A forecast each day, with the width learned from the days before.
fn daily(name: &str, days: usize) -> Score {
    let mut width = Width::default();
    let scores: Vec<Score> = traces::origins(name, (1..=days).rev())
        .iter()
        .map(
            |Origin {
                 history,
                 actual,
                 shape,
             }| {
                let forecast: Vec<_> = Cheap
                    .forecast(history, actual.len(), *shape)
                    .iter()
                    .map(|step| width.apply(step))
                    .collect();
                width.learn(&forecast, actual);
                score::score(history, actual, &forecast, shape.day)
            },
        )
        .collect();
    score::mean(&scores)
}

/// A quantile of 100,000 observations with 20 features.
fn training() -> Vec<Figure> {
    let mut random = greenroom::learn::random::Seeded::new(3);
    let rows = 100_000;
    let columns: Vec<Vec<f64>> = (0..20)
        .map(|_| (0..rows).map(|_| random.normal()).collect())
        .collect();
    let target: Vec<f64> = (0..rows)
        .map(|row| columns[0][row] + columns[1][row].abs() * random.normal())
        .collect();
    let table = Table { columns };
    let begun = Instant::now();
    let data = Binned::new(&table, 128);
    let plan = Plan {
        trees: 250,
        leaves: 31,
        min_leaf: 40.0,
        ..Plan::default()
    };
    let model = Boost::fit(&data, &target, None, 0.95, &plan);
    let seconds = begun.elapsed().as_secs_f64();
    let row = table.row(7);
    let begun = Instant::now();
    let asked = 1000;
    for _ in 0..asked {
        std::hint::black_box(model.predict(std::hint::black_box(&row)));
    }
    let each_ms = begun.elapsed().as_secs_f64() * 1000.0 / f64::from(asked);
    vec![
        figure("train_100k_s", seconds, "s", "≤ 60", rows),
        figure("predict_ms", each_ms, "ms", "≤ 1", asked as usize),
    ]
}
