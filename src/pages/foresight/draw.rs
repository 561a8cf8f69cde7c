//! The plots of demand and of calibration.

use super::super::marks::Markup;
use super::super::plot::{self, Band, Plot, Series};
use crate::api::Time;
use crate::api::demand::{ComparedView, ForecastStep, ForecastView, LevelsView};
use crate::api::models::{ModelSummary, RecordView};

fn hours(at: Time, now: Time) -> f64 {
    at.seconds_from(now) / 3600.0
}

/// What came, what had been expected an hour before, and what is expected of the coming day.
pub fn expected(compared: &ComparedView, forecast: &ForecastView, now: Time) -> Markup {
    let then = compared.hours.iter().filter_map(|hour| hour.expected);
    let steps: Vec<(f64, ForecastStep)> = then
        .chain(forecast.steps.iter().copied())
        .map(|step| (hours(step.at, now), step))
        .collect();
    let band = |name, of: fn(&ForecastStep) -> (f64, f64)| Band {
        name,
        points: steps
            .iter()
            .map(|(x, step)| {
                let (low, high) = of(step);
                (*x, low.max(0.0), high.max(0.0))
            })
            .collect(),
    };
    let came = compared.hours.iter();
    let came = came.filter_map(|hour| Some((hours(hour.at, now), hour.actual?)));
    plot::banded(
        &Plot {
            label: format!(
                "Requests per hour for {}, expected and come",
                forecast.name()
            ),
            x: "hours from now",
            y: "requests per hour",
            series: vec![
                Series {
                    name: "expected",
                    points: steps.iter().map(|(x, step)| (*x, step.median)).collect(),
                },
                Series {
                    name: "came",
                    points: came.collect(),
                },
            ],
        },
        &[
            band("95 of 100", |step| (step.low95, step.high95)),
            band("80 of 100", |step| (step.low80, step.high80)),
        ],
    )
}

/// Machines that waited and were to wait, beside who came.
pub fn levels(levels: &LevelsView, now: Time) -> Markup {
    let line = |of: &dyn Fn(&crate::api::demand::LevelStep) -> Option<f64>| -> Vec<(f64, f64)> {
        let steps = levels.steps.iter();
        steps
            .filter_map(|step| Some((hours(step.at, now), of(step)?)))
            .collect()
    };
    // Nothing is stored of five minutes in which nobody came.
    let mut came: Vec<(f64, f64)> = Vec::new();
    let step_h = levels.step_s as f64 / 3600.0;
    for (x, count) in line(&|step| Some((step.hot + step.warm + step.cold) as f64)) {
        match came.last() {
            Some(&(before, _)) if x - before > 1.5 * step_h => {
                came.extend([(before + step_h, 0.0), (x - step_h, 0.0)]);
            }
            _ => {}
        }
        came.push((x, count));
    }
    plot::draw(&Plot {
        label: format!("Machines of {} that waited, and requests", levels.class),
        x: "hours from now",
        y: "machines, requests",
        series: vec![
            Series {
                name: "waited",
                points: line(&|step| step.ready.map(f64::from)),
            },
            Series {
                name: "came within five minutes",
                points: came,
            },
            Series {
                name: "to wait",
                points: line(&|step| step.wanted.map(f64::from)),
            },
        ],
    })
}

/// What intervals and confidences promised against what they held; nothing where nothing was promised.
pub fn calibration(record: &RecordView, models: &[ModelSummary]) -> Markup {
    let tries: f64 = record.calibration.iter().map(|of| of.tries as f64).sum();
    let mean = |of: fn(&crate::api::models::CalibrationView) -> f64| {
        let sum = record
            .calibration
            .iter()
            .map(|one| of(one) * one.tries as f64);
        100.0 * sum.sum::<f64>() / tries.max(1.0)
    };
    let mut series = vec![Series {
        name: "as promised",
        points: vec![(0.0, 0.0), (100.0, 100.0)],
    }];
    if tries > 0.0 {
        series.push(Series {
            name: "needs of stages",
            points: vec![
                (10.0, mean(|one| one.below_low)),
                (50.0, mean(|one| one.below_middle)),
                (90.0, mean(|one| one.below_high)),
            ],
        });
    }
    let personas = personas(models);
    if personas.len() > 1 {
        series.push(Series {
            name: "personas",
            points: personas,
        });
    }
    if series.len() < 2 {
        return Markup::default();
    }
    plot::draw(&Plot {
        label: "How often promises were kept".into(),
        x: "promised, %",
        y: "kept, %",
        series,
    })
}

/// Bins of the classifier's confidence with enough answers: promised, right, in percent.
fn personas(models: &[ModelSummary]) -> Vec<(f64, f64)> {
    const ENOUGH: f64 = 5.0;
    let model = models.iter().find(|model| model.name == "persona");
    let judged = model.and_then(|model| Some(&model.serving.as_ref()?.judged));
    let bins = judged.and_then(|judged| judged["quality"]["bins"].as_array());
    let bins = bins.map(Vec::as_slice).unwrap_or_default();
    bins.iter()
        .filter_map(|bin| Some((bin[0].as_f64()?, bin[1].as_f64()?, bin[2].as_f64()?)))
        .filter(|(count, ..)| *count >= ENOUGH)
        .map(|(_, said, right)| (100.0 * said, 100.0 * right))
        .collect()
}

/// With as many digits as tell it: `1.2 h`, `−0.50 h`.
pub fn signed(value: &f64, unit: &str) -> String {
    let value = if value.is_finite() { *value } else { 0.0 };
    let sign = if value < 0.0 { "−" } else { "" };
    let digits = match value.abs() {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    };
    format!("{sign}{digits} {unit}")
}

/// Seconds as hours.
pub fn hours_of(seconds: &f64) -> String {
    signed(&(seconds / 3600.0), "h")
}

pub fn percent(share: &f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::models::{CalibrationView, SavedView};

    #[test]
    fn nothing_promised_draws_nothing_and_promises_beside_what_they_held() {
        let mut record = RecordView {
            days: vec![],
            calibration: vec![],
            saved: SavedView {
                tries: 0,
                vcpu_hours: 0.0,
                gib_hours: 0.0,
                seconds: 0.0,
            },
        };
        assert!(calibration(&record, &[]).0.is_empty());
        record.calibration.push(CalibrationView {
            resource: "memory".into(),
            tries: 30,
            below_low: 0.12,
            below_middle: 0.5,
            below_high: 0.93,
        });
        let drawn = calibration(&record, &[]).0;
        assert!(
            drawn.contains("needs of stages") && !drawn.contains("personas"),
            "{drawn}"
        );
    }

    #[test]
    fn what_was_saved_has_a_sign_and_as_many_digits_as_it_needs() {
        let told = [0.0, 1.234, -0.5, 321.0, f64::NAN].map(|value| signed(&value, "h"));
        assert_eq!(told, ["0.00 h", "1.2 h", "−0.50 h", "321 h", "0.00 h"]);
    }
}
