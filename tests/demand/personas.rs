//! Demand by persona: what each is asked for, and that a class is the sum of them.

use greenroom::demand::{ChangePolicy, Forecast};
use greenroom::learn::forecast::serve::Basis;
use greenroom::personas::compile::Source;
use greenroom::personas::library::{Act, Mode as Applying, apply};
use greenroom::store::demand as rows;
use greenroom::vocab::demand::{Mode, Series};

use crate::ground::{TINY, Verbs, class, hot};
use crate::rows::HOT;
use crate::world::World;

fn of<'a>(forecasts: &'a [Forecast], persona: &str) -> &'a Forecast {
    let series = Series::of_persona(persona);
    let found = forecasts.iter().find(|one| one.series == series);
    found.unwrap_or_else(|| panic!("nothing of {persona}: {forecasts:#?}"))
}

/// Medians of the coming day.
fn medians(forecast: &Forecast) -> Vec<f64> {
    forecast.steps.iter().map(|step| step[2]).collect()
}

async fn applied(world: &World, texts: &[&str]) {
    let source = |text: &&str| Source {
        file: String::new(),
        text: (*text).to_owned(),
    };
    let act = Act {
        by: "a test".into(),
        reason: "a test".into(),
        now: world.demand.now(),
    };
    let sources = texts.iter().map(source).collect();
    let applied = apply(&world.store, sources, Applying::StoreAndPromote, act).await;
    for one in applied.unwrap() {
        assert_eq!(one.faults, None, "{}", one.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_personas_on_one_image_each_keep_their_own_hours() {
    let world = World::new().await;
    world
        .lived_as(Some("kiosk"), TINY, "acme", 21, 9, 200)
        .await;
    world.lived_as(Some("desk"), TINY, "acme", 21, 18, 80).await;
    world
        .lived_as(Some("desk"), TINY, "globex", 21, 18, 40)
        .await;
    world.clock_to(6, 0);
    world.watched(21, world.midnight_s + 6 * 3600).await;
    world.demand.look().await.unwrap();
    let personas = world.demand.personas();
    let (kiosk, desk) = (of(&personas, "kiosk"), of(&personas, "desk"));
    let (morning, evening) = (3, 12);
    assert!((kiosk.steps[morning][2] - 200.0).abs() < 20.0, "{kiosk:?}");
    assert!(kiosk.steps[evening][2] < 2.0, "{kiosk:?}");
    assert!((desk.steps[evening][2] - 120.0).abs() < 12.0, "{desk:?}");
    assert!(desk.steps[morning][2] < 2.0, "{desk:?}");
    for one in [kiosk, desk] {
        assert_eq!(one.classes, [(class(TINY), 1.0)]);
        assert!(one.steps.iter().all(|step| step.is_sorted()), "{one:?}");
    }
    // The class is the sum of both, hour by hour.
    let classes = world.demand.forecasts();
    let sum = medians(kiosk).into_iter().zip(medians(desk));
    for ((kiosk, desk), class) in sum.zip(medians(&classes[0])) {
        assert!(
            (kiosk + desk - class).abs() < 1e-6,
            "{kiosk} {desk} {class}"
        );
    }
    // One client of a persona.
    let globex = Series::of_persona("desk").by(Some("globex"));
    let found = world.demand.of_series(&globex, world.demand.now()).await;
    let found = found.unwrap().expect("it has asked");
    assert!((found.steps[evening][2] - 40.0).abs() < 6.0, "{found:?}");
    let none = Series::of_persona("kiosk").by(Some("globex"));
    let none = world.demand.of_series(&none, world.demand.now()).await;
    assert_eq!(none.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_persona_is_expected_to_be_like_its_family_not_like_everyone() {
    let world = World::new().await;
    applied(
        &world,
        &[
            "persona: till\n",
            "persona: till-north\nparent: till\n",
            "persona: till-south\nparent: till\n",
            "persona: desk\n",
        ],
    )
    .await;
    world
        .lived_as(Some("till-north"), TINY, "acme", 21, 9, 100)
        .await;
    world
        .lived_as(Some("desk"), TINY, "acme", 21, 18, 300)
        .await;
    world.clock_to(6, 0);
    world.watched(21, world.midnight_s + 6 * 3600).await;
    world.demand.look().await.unwrap();
    let personas = world.demand.personas();
    let new = of(&personas, "till-south");
    assert_eq!((new.basis, new.known_h), (Basis::Family, 0));
    assert_eq!(new.parent.as_deref(), Some("till"));
    assert!((new.steps[3][2] - 100.0).abs() < 20.0, "{new:?}");
    assert!(new.steps[12][2] < 2.0, "not like the desks: {new:?}");
    // Nobody has asked for it yet, so it feeds no class.
    assert_eq!(new.classes, []);
    let before = medians(&world.demand.forecasts()[0]);
    // Its first devices come: what is expected of it is added to their class.
    world
        .write({
            let first = world.midnight_s + 5 * 3600 + 3000;
            move |connection| {
                Box::pin(async move {
                    let mut arrival = crate::rows::arrival("first", first, HOT);
                    arrival.persona = Some("till-south".into());
                    rows::arrival_insert(connection, &arrival).await?;
                    Ok(())
                })
            }
        })
        .await;
    world.demand.look_again().await.unwrap();
    let classes = world.demand.forecasts();
    let after = medians(&classes[0]);
    assert!(after[3] > before[3] + 50.0, "{before:?} {after:?}");
    assert!(
        (after[12] - before[12]).abs() < 10.0,
        "{before:?} {after:?}"
    );
    assert!(classes[0].newcomers > 0.1, "{}", classes[0].newcomers);
    let personas = world.demand.personas();
    let sum: f64 = ["till-north", "till-south", "desk"]
        .iter()
        .map(|name| of(&personas, name).steps[3][2])
        .sum();
    assert!((sum - after[3]).abs() < 1e-6, "{sum} {after:?}");
    // The desk is nobody's family: another new persona without one is like everyone.
    applied(&world, &["persona: odd\n"]).await;
    world.demand.look_again().await.unwrap();
    let personas = world.demand.personas();
    assert_eq!(of(&personas, "odd").basis, Basis::Everyone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_is_sized_for_the_sum_of_personas() {
    let world = World::new().await;
    world
        .lived_as(Some("kiosk"), TINY, "acme", 21, 9, 300)
        .await;
    world
        .lived_as(Some("desk"), TINY, "acme", 21, 18, 300)
        .await;
    world.clock_to(8, 55);
    world
        .watched(21, world.midnight_s + 8 * 3600 + 55 * 60)
        .await;
    let by_forecast = ChangePolicy {
        mode: Some(Mode::Forecast),
        ..ChangePolicy::default()
    };
    world
        .demand
        .change_policy(&class(TINY), by_forecast)
        .await
        .unwrap();
    assert!(world.hot(TINY).await.unwrap() >= 1, "the kiosks come");
    world.clock_to(13, 0);
    world.demand.look().await.unwrap();
    assert_eq!(world.hot(TINY).await, Some(0), "nobody comes at one");
    world.clock_to(17, 55);
    world.demand.look().await.unwrap();
    assert!(world.hot(TINY).await.unwrap() >= 1, "the desks come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runs_machine_counts_for_the_persona_that_the_run_pins() {
    let world = World::new().await;
    let now = world.demand.now();
    world
        .write(move |connection| {
            Box::pin(async move {
                for sql in [
                    "INSERT INTO devices (id, name, client, facts, added_at) VALUES ('d', 'box', 'acme', '{}', $1)",
                    "INSERT INTO runs (id, device, client, chain, state, generation, body, created_at)
                     VALUES (1, 'd', 'acme', 'onboard', 'running', 1, '{}', $1)",
                    r#"INSERT INTO plans (run, body) SELECT 1, '{"chain": "x", "persona": {"name": "kiosk", "version": 3}}' WHERE $1 > 0"#,
                    "INSERT INTO machines (id, run, name, generation, state, body, made_at, position)
                     VALUES ('of-a-run', 1, 'm', 1, 'up', '{}', $1, 0)",
                ] {
                    sqlx::query(sql).bind(now.0).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .await;
    world.pool.set(class(TINY), hot(1)).await.unwrap();
    world.pool.until_hot(1).await;
    world.pool.take(&world.ground.want("of-a-run")).await;
    world.pool.until_hot(1).await;
    world.pool.take(&world.ground.want("of-nobody")).await;
    world.demand.look_again().await.unwrap();
    let mut connection = world.store.read().await.unwrap();
    for (series, n) in [
        (Series::of_persona("kiosk"), 1),
        (Series::of_persona(""), 1),
        (Series::of_persona("desk"), 0),
        (Series::of_class(&class(TINY)), 2),
        (Series::default(), 2),
    ] {
        let counts = rows::count_list(&mut connection, &series, 3600, 0).await;
        let sum: u64 = counts.unwrap().iter().map(|count| count.arrivals).sum();
        assert_eq!(sum, n, "{series}");
    }
    drop(connection);
    let personas = world.demand.personas();
    assert_eq!(of(&personas, "kiosk").classes, [(class(TINY), 1.0)]);
    for key in ["of-a-run", "of-nobody"] {
        world.pool.release(key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_personas_forecasts_are_stored_and_compared_with_what_came() {
    let world = World::new().await;
    world
        .lived_as(Some("kiosk"), TINY, "acme", 15, 9, 100)
        .await;
    world
        .lived_as(Some("desk"), TINY, "acme", 15, 18, 100)
        .await;
    world.clock_to(0, 0);
    world.watched(15, world.midnight_s).await;
    world.demand.look().await.unwrap();
    // A day passes as those before it, but twice as many kiosks come.
    let nine = world.midnight_s + 9 * 3600;
    world
        .write(move |connection| {
            Box::pin(async move {
                for n in 0..200 {
                    let mut kiosk = crate::rows::arrival(&n.to_string(), nine + n * 18, HOT);
                    kiosk.persona = Some("kiosk".into());
                    rows::arrival_insert(connection, &kiosk).await?;
                }
                Ok(())
            })
        })
        .await;
    for bucket in 1..=12 * 12 {
        world.clock_to(bucket / 12, bucket % 12 * 5);
        if bucket % 2 == 0 {
            world.demand.look().await.unwrap();
        }
    }
    let kiosk = Series::of_persona("kiosk");
    let (hours, scores) = world.demand.compared(&kiosk, 11, 3600).await.unwrap();
    assert_eq!(scores.hours, 11, "{hours:#?}");
    let found = hours.iter().find(|hour| hour.start_s == nine).unwrap();
    assert_eq!(found.actual, Some(200.0));
    let expected = found.expected.expect("it was foreseen");
    assert!((expected[2] - 100.0).abs() < 20.0, "{expected:?}");
    // The desks' evening is none of the kiosks' business.
    let desk = Series::of_persona("desk");
    let (hours, _) = world.demand.compared(&desk, 12, 3600).await.unwrap();
    assert!(hours.iter().all(|hour| hour.actual == Some(0.0)));
}
