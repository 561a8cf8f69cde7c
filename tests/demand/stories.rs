//! What somebody who watches the pool sees over a day.

use std::time::Duration;

use greenroom::demand::ChangePolicy;
use greenroom::learn::forecast::serve::Basis;
use greenroom::pool::Answer;
use greenroom::vocab::demand::{Mode, PlannedEvent, Series};

use crate::ground::{TINY, Verbs, class, hot};
use crate::world::{World, at};

fn by_forecast() -> ChangePolicy {
    ChangePolicy {
        mode: Some(Mode::Forecast),
        ..ChangePolicy::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_fills_before_the_daily_burst_and_drains_after_it() {
    let world = World::new().await;
    world.lived(TINY, "acme", 21, 12, 300).await;
    world.clock_to(9, 0);
    world.watched(21, world.midnight_s + 9 * 3600).await;
    world.pool.set(class(TINY), hot(2)).await.unwrap();
    world.pool.until_hot(2).await;
    let now = world
        .demand
        .change_policy(&class(TINY), by_forecast())
        .await
        .unwrap();
    assert_eq!(now.policy.before, hot(2));
    assert_eq!(world.hot(TINY).await, Some(0), "nobody comes at nine");
    world.pool.until_hot(0).await;
    let preview = &now.previews[0];
    assert!(preview.is_asked, "{preview:?}");
    assert_eq!(preview.requests, 7 * 300);
    // Five minutes before the burst.
    world.clock_to(11, 55);
    world.demand.look().await.unwrap();
    let wanted = world.hot(TINY).await.unwrap();
    let decision = world.demand.decision(&class(TINY)).unwrap();
    assert!(wanted >= 1, "{decision:?}");
    world.pool.until_hot(wanted as usize).await;
    let claim = world.pool.take(&world.ground.want("first")).await;
    assert_eq!(claim.tier, greenroom::vocab::pool::Tier::Hot);
    world.pool.release("first").await.unwrap();
    // After it.
    world.clock_to(14, 0);
    world.demand.look().await.unwrap();
    assert_eq!(world.hot(TINY).await, Some(0));
    world.pool.until_hot(0).await;
    // Back to what was set.
    let fixed = ChangePolicy {
        mode: Some(Mode::Fixed),
        ..ChangePolicy::default()
    };
    world
        .demand
        .change_policy(&class(TINY), fixed)
        .await
        .unwrap();
    assert_eq!(world.hot(TINY).await, Some(2));
    assert!(world.demand.decision(&class(TINY)).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_served_and_who_is_sent_away_are_counted_alike() {
    let world = World::new().await;
    let away = world.pool.claim(&world.ground.want("away")).await.unwrap();
    assert!(matches!(away, Answer::Nothing { .. }));
    // Asking again is not another arrival.
    world.pool.claim(&world.ground.want("away")).await.unwrap();
    world.pool.set(class(TINY), hot(1)).await.unwrap();
    world.pool.until_hot(1).await;
    world.pool.take(&world.ground.want("served")).await;
    world.pool.take(&world.ground.want("served")).await;
    world.demand.look_again().await.unwrap();
    let mut connection = world.store.read().await.unwrap();
    let counts = greenroom::store::demand::count_list(
        &mut connection,
        &Series::of_class(&class(TINY)),
        300,
        0,
    )
    .await;
    let counts = counts.unwrap();
    let sum = |of: fn(&greenroom::vocab::demand::Count) -> u64| counts.iter().map(of).sum::<u64>();
    assert_eq!(
        (sum(|c| c.arrivals), sum(|c| c.hot), sum(|c| c.cold)),
        (2, 1, 1)
    );
    assert!(counts.iter().map(|c| c.wait_ms).sum::<f64>() > 0.0);
    world.pool.release("served").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_set_by_hand_ends_the_forecasts_say() {
    let world = World::new().await;
    world.lived(TINY, "acme", 15, 12, 300).await;
    world.clock_to(11, 56);
    world
        .watched(15, world.midnight_s + 11 * 3600 + 56 * 60)
        .await;
    world
        .demand
        .change_policy(&class(TINY), by_forecast())
        .await
        .unwrap();
    assert!(world.hot(TINY).await.unwrap() >= 1);
    world.pool.set(class(TINY), hot(7)).await.unwrap();
    world.clock_to(14, 1);
    world.demand.look().await.unwrap();
    assert_eq!(world.hot(TINY).await, Some(7));
    let policies = world.demand.policies().await.unwrap();
    assert_eq!(policies[&class(TINY)].mode, Mode::Fixed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_the_forecast_goes_on_and_a_gap_is_no_zero() {
    let world = World::new().await;
    world.lived(TINY, "acme", 21, 12, 300).await;
    world.clock_to(8, 0);
    // Nobody watched during the last three days, in which nothing was counted either.
    world.watched(21, world.midnight_s - 3 * 86_400).await;
    world
        .write({
            let from = world.midnight_s - 3 * 86_400;
            move |connection| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM arrival_counts WHERE start_s >= $1")
                        .bind(from)
                        .execute(&mut *connection)
                        .await?;
                    sqlx::query("DELETE FROM arrivals WHERE at >= $1")
                        .bind(from * 1_000_000)
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            }
        })
        .await;
    world.demand.look().await.unwrap();
    let forecast = world.demand.forecasts().remove(0);
    assert!(forecast.faults.gaps >= 72, "{:?}", forecast.faults);
    assert_eq!(forecast.basis, Basis::Cheap);
    let noon = forecast.steps[4][2];
    assert!((noon - 300.0).abs() < 30.0, "noon without zeros: {noon}");
    world
        .demand
        .change_policy(&class(TINY), by_forecast())
        .await
        .unwrap();
    let again = world.again().await;
    world.clock_to(11, 57);
    again.look().await.unwrap();
    assert!(world.hot(TINY).await.unwrap() >= 1);
    assert_eq!(
        again.policies().await.unwrap()[&class(TINY)].mode,
        Mode::Forecast,
        "what the former life told is no number by hand"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_class_is_expected_to_be_like_its_family() {
    let world = World::new().await;
    world.lived(TINY, "acme", 21, 12, 300).await;
    let new = "tiny:2x128";
    world.clock_to(10, 0);
    world.watched(21, world.midnight_s + 10 * 3600).await;
    world
        .demand
        .change_policy(&class(new), by_forecast())
        .await
        .unwrap();
    let forecasts = world.demand.forecasts();
    let found = forecasts
        .iter()
        .find(|f| f.series.class == Some(class(new)))
        .unwrap();
    assert_eq!(found.basis, Basis::Family);
    let noon = found.steps[2][2];
    assert!((noon - 300.0).abs() < 60.0, "{noon}");
    assert!(found.steps[6][2] < 1.0, "{:?}", found.steps[6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planned_events_change_what_is_expected() {
    let world = World::new().await;
    world.lived(TINY, "acme", 15, 12, 300).await;
    world.clock_to(8, 0);
    world.watched(15, world.midnight_s + 8 * 3600).await;
    world.demand.look().await.unwrap();
    let noon = |world: &World| world.demand.forecasts().remove(0).steps[4][2];
    let usual = noon(&world);
    let event = PlannedEvent {
        name: "release".into(),
        of: Some("tiny".into()),
        from: at(world.midnight_s + 11 * 3600),
        until: at(world.midnight_s + 14 * 3600),
        factor: 3.0,
        doubt: 0.1,
    };
    world.demand.add_event(event).await.unwrap();
    let with = noon(&world);
    assert!((with / usual - 3.0).abs() < 0.01, "{usual} {with}");
    assert_eq!(world.demand.forecasts()[0].events, ["release"]);
    world.demand.remove_event("release").await.unwrap();
    assert_eq!(noon(&world), usual);
    assert!(world.demand.remove_event("release").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forecasts_are_stored_and_compared_with_what_came() {
    let world = World::new().await;
    world.lived(TINY, "acme", 15, 12, 300).await;
    world.clock_to(0, 0);
    world.watched(15, world.midnight_s).await;
    world.demand.look().await.unwrap();
    // A day passes as those before it, and the daemon looks now and then.
    for bucket in 1..=13 * 12 {
        world.clock_to(bucket / 12, bucket % 12 * 5);
        if bucket % 2 == 0 {
            world.demand.look().await.unwrap();
        }
    }
    let found = world
        .demand
        .compared(&Series::of_class(&class(TINY)), 12, 3600)
        .await;
    let (hours, scores) = found.unwrap();
    assert_eq!(scores.hours, 12, "{hours:#?}");
    // Nobody came at noon on this day: the last hour is the surprise.
    assert!(hours[11].expected.unwrap()[2] <= 300.0);
    assert!(scores.within95 >= 11.0 / 12.0 - 1e-9, "{scores:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_jump_do_no_harm() {
    let world = World::new().await;
    world.lived(TINY, "acme", 10, 12, 50).await;
    world.clock_to(8, 0);
    world.watched(10, world.midnight_s + 8 * 3600).await;
    world
        .demand
        .change_policy(&class(TINY), by_forecast())
        .await
        .unwrap();
    // Years ahead, with arrivals that are then in the far past.
    world
        .ground
        .clock
        .forward(Duration::from_secs(5 * 366 * 86_400));
    world.demand.look().await.unwrap();
    let wanted = world.hot(TINY).await.unwrap_or(0);
    assert!(wanted <= 64);
    for forecast in world.demand.forecasts() {
        assert!(forecast.steps.iter().flatten().all(|q| q.is_finite()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_studied_chooses_the_number_and_the_full_forecast_outlives_a_restart() {
    let world = World::new().await;
    world.lived(TINY, "acme", 15, 12, 120).await;
    world.clock_to(9, 0);
    // A little longer than until now, so that no moment is missing before it looks itself.
    world.watched(15, world.midnight_s + 9 * 3600 + 30).await;
    // A wait of half a second matters here.
    let dear = ChangePolicy {
        cold_cost: Some(6.0),
        ..by_forecast()
    };
    world
        .demand
        .change_policy(&class(TINY), dear)
        .await
        .unwrap();
    let forecast = world.demand.forecasts().remove(0);
    assert_eq!((forecast.basis, forecast.choice), (Basis::Cheap, None));
    let by_forecast_alone = world.demand.decision(&class(TINY)).unwrap();
    assert!(
        !by_forecast_alone.why.contains("like moments"),
        "{}",
        by_forecast_alone.why
    );
    world.demand.study().await.unwrap();
    assert!(
        !world.demand.study_one().await.unwrap(),
        "nothing more is due"
    );
    world.demand.look_again().await.unwrap();
    let forecast = world.demand.forecasts().remove(0);
    let (made_at, choice) = forecast.choice.expect("methods were compared");
    assert!(made_at >= at(world.midnight_s + 9 * 3600), "{made_at:?}");
    assert!(
        choice.losses.iter().any(|(name, _)| name == "combined"),
        "{choice:?}"
    );
    assert!(
        choice.weights.iter().all(|(_, weight)| *weight > 0.0),
        "{choice:?}"
    );
    assert!(matches!(forecast.basis, Basis::Combined | Basis::PlainRule));
    let decision = world.demand.decision(&class(TINY)).unwrap();
    assert!(
        decision
            .why
            .contains("what like moments of the last weeks needed"),
        "{}",
        decision.why
    );
    assert_eq!(
        decision.target.hot, 0,
        "nobody comes at nine: {}",
        decision.why
    );
    // The daemon looks on. What like moments needed is asked while all of the last hours was watched.
    for bucket in 9 * 12 + 1..12 * 12 {
        world.clock_to(bucket / 12, bucket % 12 * 5);
        world.demand.look().await.unwrap();
    }
    let decision = world.demand.decision(&class(TINY)).unwrap();
    assert!(
        decision.target.hot >= 1,
        "the burst is five minutes ahead: {}",
        decision.why
    );
    assert!(decision.why.contains("like moments"), "{}", decision.why);
    // Another life knows the full forecast, and learns the moments anew when it is told to.
    let again = world.again().await;
    again.look().await.unwrap();
    let forecast = again.forecasts().remove(0);
    assert_eq!(forecast.choice.map(|(at, _)| at), Some(made_at));
    assert!(
        !again
            .decision(&class(TINY))
            .unwrap()
            .why
            .contains("like moments")
    );
    again.study().await.unwrap();
    again.look_again().await.unwrap();
    // It has watched for a moment only, so the forecast still serves; the levels of before are there.
    let levels = again.levels(&class(TINY), 2).await.unwrap();
    assert!(levels.len() >= 23, "{levels:#?}");
    assert!(
        levels.iter().all(|step| step.level.is_some()),
        "{levels:#?}"
    );
}
