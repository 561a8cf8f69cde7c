//! The rows of demand, on a real database.

use greenroom::store::demand as rows;
use greenroom::vocab::demand::{Arrival, Policy, Series, Watched};
use greenroom::vocab::pool::Tier;

use crate::ground::{TINY, class};
use crate::world::{World, at};

fn by(client: &str) -> Series {
    Series::of_class(&class(TINY)).by(Some(client))
}

pub const HOT: Tier = Tier::Hot;

pub fn arrival(key: &str, second: i64, tier: Tier) -> Arrival {
    Arrival {
        key: key.into(),
        class: class(TINY),
        client: "acme".into(),
        persona: None,
        at: at(second),
        tier,
        wait_ms: (tier <= Tier::Warm).then_some(10.0),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrivals_are_counted_once_whatever_their_order() {
    let world = World::new().await;
    world
        .write(|connection| {
            Box::pin(async move {
                for (key, second, tier, is_new) in [
                    ("b", 7200, Tier::Hot, true),
                    ("a", 10, Tier::Warm, true),
                    ("a", 10, Tier::Warm, false),
                    ("c", 299, Tier::Cool, true),
                    ("a", 300, Tier::Hot, true),
                ] {
                    let new = rows::arrival_insert(connection, &arrival(key, second, tier)).await?;
                    assert_eq!(new, is_new, "{key} {second}");
                }
                Ok(())
            })
        })
        .await;
    let mut connection = world.store.read().await.unwrap();
    let short = rows::count_list(&mut connection, &Series::of_class(&class(TINY)), 300, 0).await;
    let short = short.unwrap();
    let starts: Vec<(i64, u64)> = short.iter().map(|c| (c.start_s, c.arrivals)).collect();
    assert_eq!(starts, [(0, 2), (300, 1), (7200, 1)]);
    assert_eq!(
        (short[0].warm, short[0].cold, short[0].wait_ms),
        (1, 1, 10.0)
    );
    let hours = rows::count_list(&mut connection, &by("acme"), 3600, 0).await;
    let hours: Vec<u64> = hours.unwrap().iter().map(|c| c.arrivals).collect();
    assert_eq!(hours, [3, 1]);
    let none = rows::count_list(&mut connection, &by("other"), 3600, 0).await;
    assert!(none.unwrap().is_empty());
    let trace = rows::arrival_trace(&mut connection, &class(TINY), at(0), 3).await;
    let trace: Vec<i64> = trace
        .unwrap()
        .iter()
        .map(|(at, _)| at.0 / 1_000_000)
        .collect();
    assert_eq!(trace, [299, 300, 7200], "the newest, oldest first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_goes_and_hours_stay_longer() {
    let world = World::new().await;
    world
        .write(|connection| {
            Box::pin(async move {
                rows::arrival_insert(connection, &arrival("old", 10, Tier::Hot)).await?;
                rows::arrival_insert(connection, &arrival("new", 10_000, Tier::Hot)).await?;
                rows::watch_put(
                    connection,
                    Watched {
                        from: at(0),
                        until: at(20_000),
                    },
                )
                .await?;
                rows::demand_forget(connection, at(5000), at(0)).await
            })
        })
        .await;
    let mut connection = world.store.read().await.unwrap();
    for (step_s, left) in [(300, 1), (3600, 2)] {
        let counts =
            rows::count_list(&mut connection, &Series::of_class(&class(TINY)), step_s, 0).await;
        assert_eq!(counts.unwrap().len(), left, "{step_s}");
    }
    let trace = rows::arrival_trace(&mut connection, &class(TINY), at(0), 9).await;
    assert_eq!(trace.unwrap().len(), 1);
    let spans = rows::watch_list(&mut connection, at(0)).await.unwrap();
    assert_eq!(spans.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_and_watches_are_replaced_not_repeated() {
    let world = World::new().await;
    world
        .write(|connection| {
            Box::pin(async move {
                for most in [3, 5] {
                    let policy = Policy {
                        most,
                        ..Policy::of(class(TINY))
                    };
                    rows::policy_put(connection, &policy).await?;
                }
                for until in [100, 50, 200] {
                    let watched = Watched {
                        from: at(0),
                        until: at(until),
                    };
                    rows::watch_put(connection, watched).await?;
                }
                Ok(())
            })
        })
        .await;
    let mut connection = world.store.read().await.unwrap();
    let policies = rows::policy_list(&mut connection).await.unwrap();
    assert_eq!((policies.len(), policies[0].most), (1, 5));
    let spans = rows::watch_list(&mut connection, at(0)).await.unwrap();
    assert_eq!((spans.len(), spans[0].until), (1, at(200)));
}
