//! Weeks of demand, of stages with what was said of them, and of models: what the page of foresight draws.

use greenroom::daemon::Running;
use greenroom::learn::features::{self, Case};
use greenroom::learn::random::Seeded;
use greenroom::learn::resources::observation::{End, Observation};
use greenroom::store::demand::{self as rows, Told};
use greenroom::store::models::{ModelRow, ModelState};
use greenroom::store::{StoreError, models, observations};
use greenroom::vocab::demand::{Arrival, Level, Series, Watched};
use greenroom::vocab::machine::Size;
use greenroom::vocab::pool::{Class, Tier};
use greenroom::vocab::prediction::{Expected, Source, Spread, StageExpectation, Used};
use greenroom::vocab::run::AttemptPhases;
use greenroom::vocab::{AttemptId, RunId, Timestamp};
use serde_json::json;

const CLASS: &str = "tiny:1x128";
const DAYS: i64 = 9;
const HOUR_S: i64 = 3600;

fn at(second: i64) -> Timestamp {
    Timestamp(second * 1_000_000)
}

/// Requests of an hour of the day.
fn usual(hour: i64) -> f64 {
    let hour = hour.rem_euclid(24) as f64;
    2.0 + 14.0 * (-(hour - 13.0) * (hour - 13.0) / 18.0).exp()
}

/// What such weeks leave behind, until now.
/// `odd` is the name of a stage and the reason of a training.
pub async fn lived(running: &Running, odd: &'static str) {
    let services = &running.services;
    let now_s = services.now().0.div_euclid(1_000_000);
    let written = services.store.write(move |connection| {
        Box::pin(async move {
            demand(connection, now_s).await?;
            stages(connection, now_s, odd).await?;
            trained(connection, now_s, odd).await
        })
    });
    written.await.expect("rows");
    running.demand.look_again().await.expect("a look");
}

async fn demand(
    connection: &mut sqlx::sqlite::SqliteConnection,
    now_s: i64,
) -> Result<(), StoreError> {
    let class: Class = CLASS.parse().expect("a class");
    let mut random = Seeded::new(6);
    let hour_s = now_s.div_euclid(HOUR_S) * HOUR_S;
    let begin_s = hour_s - DAYS * 86_400;
    rows::watch_put(
        connection,
        Watched {
            from: at(begin_s),
            until: at(now_s),
        },
    )
    .await?;
    for start_s in (begin_s..hour_s).step_by(HOUR_S as usize) {
        let middle = usual(start_s / HOUR_S);
        let count = (middle * (1.0 + 0.3 * random.normal())).round().max(0.0) as i64;
        for n in 0..count {
            let arrival = Arrival {
                key: format!("lived-{start_s}-{n}"),
                class: class.clone(),
                client: "default".into(),
                persona: Some(if n % 3 == 0 { "desk" } else { "kiosk" }.into()),
                at: at(start_s + n * HOUR_S / count),
                tier: if n % 5 == 4 { Tier::Cool } else { Tier::Hot },
                wait_ms: Some(45.0),
            };
            rows::arrival_insert(connection, &arrival).await?;
        }
        if start_s < hour_s - 3 * 86_400 {
            continue;
        }
        let step =
            |hour: i64| [0.3, 0.7, 1.0, 1.4, 1.9].map(|f| f * usual(start_s / HOUR_S + hour));
        let told = Told {
            start_s,
            step_s: HOUR_S,
            steps: (0..24).map(step).collect(),
            how: "a test".into(),
        };
        for of in [Series::of_class(&class), Series::of_persona("kiosk")] {
            rows::forecast_put(connection, &of, at(start_s), "demand-1", &told).await?;
        }
        for bucket in 0..12 {
            let wanted = (middle / 3.0).ceil() as u32;
            let level = Level {
                at_s: start_s + bucket * 300,
                ready: wanted.saturating_sub(u32::from(bucket % 4 == 1)),
                claimed: 1,
                wanted: Some(wanted),
            };
            rows::level_put(connection, &class, level).await?;
        }
    }
    Ok(())
}

async fn stages(
    connection: &mut sqlx::sqlite::SqliteConnection,
    now_s: i64,
    odd: &'static str,
) -> Result<(), StoreError> {
    let mut random = Seeded::new(7);
    for day in 0..DAYS {
        for n in 0..6 {
            for (stage, memory_mib, work_s) in [
                ("partition", 90.0, 4.0),
                ("install", 310.0, 41.0),
                (odd, 60.0, 2.0),
            ] {
                // They learn: the later, the nearer.
                let off = 1.0 + 0.4 * random.normal() / (1.0 + day as f64);
                let noise = 1.0 + 0.04 * random.normal();
                let said = |value: f64| Expected {
                    amount: 1.2 * value,
                    spread: Some(Spread {
                        low: 0.9 * value * off,
                        middle: value * off,
                        high: 1.1 * value * off,
                    }),
                    source: if day < 2 {
                        Source::History
                    } else {
                        Source::Model
                    },
                    model: None,
                    observations: 40,
                    reason: "a test".into(),
                };
                let one = Observation {
                    attempt: AttemptId::fresh(),
                    run: RunId(1_000_000 + day * 100 + n),
                    at: at(now_s - (DAYS - day) * 86_400 + n * 600),
                    case: Case {
                        chain: "onboard".into(),
                        stage: stage.into(),
                        ..Case::default()
                    },
                    features: features::VERSION,
                    given: Size {
                        vcpus: 1,
                        memory_mib: (1.2 * memory_mib) as u64,
                        disk_mib: 64,
                        network_kbytes_per_s: None,
                    },
                    end: End::Done,
                    used: Used {
                        memory_mib: memory_mib * noise,
                        cpu_peak_percent: 70.0 * noise,
                        looks: 9,
                        watched_s: work_s,
                        ..Used::default()
                    },
                    work_s: work_s * noise,
                    phases: AttemptPhases::default(),
                    expected: Some(StageExpectation {
                        memory: said(memory_mib),
                        cpu: said(70.0),
                        network: said(1.0),
                        duration: said(work_s),
                        features: features::VERSION,
                    }),
                    replay: false,
                };
                observations::observation_put(connection, &one).await?;
            }
        }
    }
    Ok(())
}

async fn trained(
    connection: &mut sqlx::sqlite::SqliteConnection,
    now_s: i64,
    odd: &'static str,
) -> Result<(), StoreError> {
    let bins: Vec<[f64; 3]> = (3..15)
        .map(|bin| {
            let said = (bin as f64 + 0.5) / 15.0;
            [20.0, said, (said + 0.03 * (bin % 3) as f64 - 0.03).min(1.0)]
        })
        .collect();
    let row = |name: &str, state, judged, verdict: &str| ModelRow {
        id: 0,
        name: name.into(),
        state,
        made_at: at(now_s - 7200),
        why: odd.into(),
        features: features::VERSION,
        until: 0,
        rows: 240,
        took_ms: 812.0,
        digest: None,
        judged,
        verdict: verdict.into(),
    };
    let words =
        "it beats the plain rule and serves: loss 1.204 against 1.631 on 96 later observations";
    for row in [
        row("memory", ModelState::Serving, json!(null), words),
        row(
            "persona",
            ModelState::Serving,
            json!({ "quality": { "bins": bins } }),
            words,
        ),
        row(
            "cpu",
            ModelState::Beaten,
            json!(null),
            "it does not beat the plain rule, which serves",
        ),
    ] {
        models::model_insert(connection, row).await?;
    }
    Ok(())
}
