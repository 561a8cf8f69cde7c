//! How far what was said of each stage was from what it needed, day by day.

use super::super::marks::Markup;
use super::super::plot::{self, Plot, Series};
use crate::api::Time;
use crate::api::models::{RecordView, StageDayView};

/// Stages with the most tries, which are drawn; a plot has some ten kilobytes.
const DRAWN: usize = 4;
/// Stages that are told of.
const TOLD: usize = 40;
/// What is drawn: as many as a plot has colours.
const RESOURCES: [(&str, &str); 3] = [
    ("memory", "memory"),
    ("cpu", "processor"),
    ("duration", "duration"),
];

/// One stage.
pub struct StageErrors {
    pub chain: String,
    pub stage: String,
    pub tries: usize,
    /// Percent off per resource of all its days: what was said, and the plain rule.
    pub off: Vec<Off>,
    /// Nothing while there is one day only, and of the stages that are seldom tried.
    pub plot: Markup,
}

pub struct Off {
    pub what: &'static str,
    pub said: Option<f64>,
    pub plain: Option<f64>,
    /// Share of the tries of which a model said it.
    pub by_model: f64,
}

/// Most tried first.
pub fn of(record: &RecordView, now: Time) -> Vec<StageErrors> {
    let mut stages: Vec<(&str, &str, Vec<&StageDayView>)> = Vec::new();
    for day in &record.days {
        match stages.last_mut() {
            Some((chain, stage, days)) if *chain == day.chain && *stage == day.stage => {
                days.push(day);
            }
            _ => stages.push((&day.chain, &day.stage, vec![day])),
        }
    }
    let tries = |days: &[&StageDayView]| days.iter().map(|day| day.tries).sum::<usize>();
    stages.sort_by_key(|(.., days)| std::cmp::Reverse(tries(days)));
    stages.truncate(TOLD);
    let told = stages.into_iter().enumerate();
    told.map(|(at, (chain, stage, days))| StageErrors {
        chain: chain.to_owned(),
        stage: stage.to_owned(),
        tries: days
            .iter()
            .filter(|day| day.resource == "duration")
            .map(|day| day.tries)
            .sum(),
        off: RESOURCES
            .iter()
            .map(|(word, what)| off(&days, word, what))
            .collect(),
        plot: match at < DRAWN {
            true => draw(chain, stage, &days, now),
            false => Markup::default(),
        },
    })
    .collect()
}

/// Weighted by tries, as percent.
fn off(days: &[&StageDayView], resource: &str, what: &'static str) -> Off {
    let days: Vec<_> = days.iter().filter(|day| day.resource == resource).collect();
    let all: usize = days.iter().map(|day| day.tries).sum();
    let by_model: usize = days.iter().map(|day| day.by_model).sum();
    let mean = |of: &dyn Fn(&StageDayView) -> Option<f64>| {
        let known = days
            .iter()
            .filter_map(|day| Some((of(day)?, day.tries as f64)));
        let (sum, weight) = known.fold((0.0, 0.0), |(sum, weight), (value, tries)| {
            (sum + (value - 1.0) * tries, weight + tries)
        });
        (weight > 0.0).then(|| 100.0 * sum / weight)
    };
    Off {
        what,
        said: mean(&|day| Some(day.off)),
        plain: mean(&|day| day.plain_off),
        by_model: by_model as f64 / all.max(1) as f64,
    }
}

fn draw(chain: &str, stage: &str, days: &[&StageDayView], now: Time) -> Markup {
    let series: Vec<Series> = RESOURCES
        .iter()
        .map(|(word, what)| Series {
            name: what,
            points: days
                .iter()
                .filter(|day| day.resource == *word)
                .map(|day| {
                    (
                        day.day.seconds_from(now) / 86_400.0,
                        100.0 * (day.off - 1.0),
                    )
                })
                .collect(),
        })
        .collect();
    if series.iter().all(|series| series.points.len() < 2) {
        return Markup::default();
    }
    plot::draw(&Plot {
        label: format!("Percent off by day of stage {stage} of chain {chain}"),
        x: "days from now",
        y: "% off",
        series,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::models::SavedView;
    use crate::vocab::Timestamp;

    #[test]
    fn a_stage_is_told_after_a_day_and_drawn_after_two() {
        let day = |n: i64, resource: &str, off: f64| StageDayView {
            chain: "c".into(),
            stage: "s".into(),
            resource: resource.into(),
            day: Time::of(Timestamp(n * 86_400_000_000)),
            tries: 10,
            by_model: 5,
            off,
            plain_off: Some(1.5),
        };
        let record = |days: Vec<StageDayView>| RecordView {
            days,
            calibration: vec![],
            saved: SavedView {
                tries: 0,
                vcpu_hours: 0.0,
                gib_hours: 0.0,
                seconds: 0.0,
            },
        };
        let now = Time::of(Timestamp(5 * 86_400_000_000));
        let one = of(&record(vec![day(1, "memory", 1.1)]), now);
        assert!(one[0].plot.0.is_empty());
        assert!((one[0].off[0].said.unwrap() - 10.0).abs() < 1e-9);
        assert!((one[0].off[0].plain.unwrap() - 50.0).abs() < 1e-9);
        assert_eq!((one[0].off[0].by_model, one[0].off[1].said), (0.5, None));
        let two = of(
            &record(vec![day(1, "memory", 1.1), day(2, "memory", 1.3)]),
            now,
        );
        assert!(two[0].plot.0.starts_with("<svg"));
        assert!((two[0].off[0].said.unwrap() - 20.0).abs() < 1e-9);
        assert!(of(&record(vec![]), now).is_empty());
    }
}
