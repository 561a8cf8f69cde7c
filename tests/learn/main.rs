//! The learning core against recorded traces: baselines that others measured come out the same, and
//! foresight beats the plain rules. Each test says so and passes where there are no traces.

#[path = "../support/personas.rs"]
mod personas;
#[path = "../support/traces.rs"]
mod traces;

use greenroom::learn::forecast::combine::Cheap;
use greenroom::learn::forecast::{Forecaster, Step, naive, seasonal};
use greenroom::learn::psim::{self, Host, MOST, Trace, WEEK, policies};
use greenroom::learn::score;

/// The traces, or why the test ends here.
macro_rules! needs_traces {
    () => {
        if traces::folder().is_none() {
            eprintln!("{}", traces::ABSENT);
            return;
        }
    };
}

fn mean_spl(origins: &[traces::Origin], forecaster: &dyn Forecaster) -> f64 {
    let scores: Vec<score::Score> = origins
        .iter()
        .map(|origin| {
            let forecast: Vec<Step> =
                forecaster.forecast(&origin.history, origin.actual.len(), origin.shape);
            score::score(&origin.history, &origin.actual, &forecast, origin.shape.day)
        })
        .collect();
    score::mean(&scores).spl
}

fn near(found: f64, known: f64, within: f64) {
    assert!(
        (found - known).abs() <= within,
        "{found}, but others measured {known}"
    );
}

/// Every third of the last 70 days.
fn long_test(name: &str) -> Vec<traces::Origin> {
    traces::origins(name, (1..=70).rev().step_by(3))
}

#[test]
fn published_forecasting_baselines_come_out_the_same() {
    needs_traces!();
    near(mean_spl(&long_test("calls"), &naive::Week), 0.321, 0.001);
    near(
        mean_spl(&long_test("calls"), &seasonal::Multiplicative),
        0.274,
        0.001,
    );
    near(
        mean_spl(&long_test("surf"), &seasonal::Multiplicative),
        0.441,
        0.001,
    );
    let taxi = traces::origins("taxi", (5..=140).rev().step_by(5));
    near(mean_spl(&taxi, &seasonal::Multiplicative), 0.214, 0.001);
}

#[test]
fn the_cheap_mix_beats_the_plain_rule_everywhere() {
    needs_traces!();
    for name in ["calls", "surf"] {
        let origins = long_test(name);
        let (mix, plain) = (mean_spl(&origins, &Cheap), mean_spl(&origins, &naive::Week));
        assert!(mix < 0.95 * plain, "{name}: {mix} against {plain}");
    }
}

/// Whether a further member of the mixture pays, on origins that no reported figure uses. For people:
/// `cargo test --release --test learn -- --ignored --nocapture members`.
#[test]
#[ignore = "takes minutes, and is for whoever changes the roster"]
fn members_on_origins_that_no_figure_uses() {
    needs_traces!();
    use greenroom::learn::forecast::{arx, select};
    for (name, days) in [
        ("calls", (2..=68).step_by(9).collect::<Vec<_>>()),
        ("surf", (2..=68).step_by(9).collect()),
        ("taxi", (7..=139).step_by(15).collect()),
    ] {
        let origins = traces::origins(name, days.into_iter().rev());
        let spl = |members: &[&'static dyn Forecaster]| {
            let scores: Vec<score::Score> = origins
                .iter()
                .map(|origin| {
                    let horizon = origin.actual.len();
                    let (forecast, _) =
                        select::forecast_with(members, &origin.history, horizon, origin.shape);
                    let day = origin.shape.day;
                    score::score(&origin.history, &origin.actual, &forecast, day)
                })
                .collect();
            score::mean(&scores).spl
        };
        let roster = select::roster();
        let without: Vec<_> = roster
            .iter()
            .copied()
            .filter(|member| member.name() != arx::Net.name())
            .collect();
        eprintln!(
            "{name}: roster {:.4}, without net-log {:.4}, net-log alone {:.4}, linear-log alone {:.4}",
            spl(&roster),
            spl(&without),
            mean_spl(&origins, &arx::Net),
            mean_spl(&origins, &greenroom::learn::forecast::linear::Linear),
        );
    }
}

fn cold_and_idle(trace: &Trace, name: &str, host: Host, targets: &[usize]) -> (f64, f64) {
    let ticks = traces::training_weeks(name) * WEEK..trace.ticks() - 1;
    let outcome = psim::run(trace, host, ticks, |tick| targets[tick].min(MOST));
    (outcome.cold_percent(), outcome.idle_per_request())
}

#[test]
fn published_pool_baselines_come_out_the_same() {
    needs_traces!();
    let surf = traces::surf();
    let boot = Host {
        lead_s: 6.7,
        reuse_s: None,
    };
    let fixed = |shells| vec![shells; surf.ticks()];
    for (shells, cold, idle) in [(2, 48.0, 108.0), (8, 17.2, 442.0), (16, 7.2, 889.0)] {
        let found = cold_and_idle(&surf, "surf", boot, &fixed(shells));
        near(found.0, cold, 0.2);
        near(found.1, idle, 2.0);
    }
    let average = policies::moving_average(&surf.needs(6.7), 0.0);
    let reuse = Host {
        reuse_s: Some(120.0),
        ..boot
    };
    let found = cold_and_idle(&surf, "surf", reuse, &average);
    near(found.0, 12.3, 0.2);
    near(found.1, 132.0, 2.0);
}

#[test]
fn a_small_draw_of_personas_is_learned_as_well_as_others_did() {
    needs_traces!();
    use greenroom::learn::classify::{Classifier, Plan, judge};
    let (train, test) = personas::examples();
    let classifier = Classifier::fit(&train[..300], &Plan::default()).expect("a classifier");
    near(judge(&classifier, &test[..1000]).top1, 0.590, 0.04);
}
