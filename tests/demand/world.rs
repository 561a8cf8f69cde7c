//! A pool with demand beside it, and weeks that went before.

use std::sync::Arc;
use std::time::Duration;

use greenroom::clock::Clock;
use greenroom::demand::{Demand, DemandServices};
use greenroom::fault::Faults;
use greenroom::pool::Pool;
use greenroom::store::{Store, demand as rows};
use greenroom::vocab::Timestamp;
use greenroom::vocab::demand::{Arrival, Watched};
use greenroom::vocab::pool::{Class, Tier};

use crate::ground::{Ground, Shifted};

pub const DAY_S: i64 = 86_400;

pub struct World {
    pub ground: Ground,
    pub pool: Arc<Pool>,
    pub demand: Arc<Demand>,
    pub store: Store,
    /// Midnight (UTC) of the day on which the story takes place.
    pub midnight_s: i64,
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

fn now_s(clock: &Shifted) -> i64 {
    clock.now().0.div_euclid(1_000_000)
}

impl World {
    /// The story's day begins tomorrow.
    pub async fn new() -> Self {
        let ground = Ground::new();
        let pool = ground.pool(Faults::none()).await;
        let store = Store::open(&ground.state.path().join("greenroom.db"))
            .await
            .expect("a database");
        let midnight_s = (now_s(&ground.clock).div_euclid(DAY_S) + 1) * DAY_S;
        let demand = opened(&ground, &pool, &store).await;
        Self {
            ground,
            pool,
            demand,
            store,
            midnight_s,
        }
    }

    /// The same database, looked at by another life of the daemon.
    pub async fn again(&self) -> Arc<Demand> {
        opened(&self.ground, &self.pool, &self.store).await
    }

    /// Puts the clock to a time of the story's day. It goes forward only.
    pub fn clock_to(&self, hour: i64, minute: i64) {
        let to = self.midnight_s + hour * 3600 + minute * 60;
        let ahead = to - now_s(&self.ground.clock);
        let ahead = u64::try_from(ahead).expect("the clock goes forward");
        // A little more, so that it is past the border.
        self.ground.clock.forward(Duration::from_secs(ahead + 1));
    }

    pub async fn hot(&self, class: &str) -> Option<u32> {
        let status = self.pool.status().await.expect("a status");
        let of = |view: &&greenroom::pool::PoolView| view.class.to_string() == class;
        let view = status.pools.iter().find(of)?;
        view.target.map(|target| target.hot)
    }

    /// `count` requests of each of the `days` before the story's day, evenly within the hour from `hour` on.
    pub async fn lived(&self, class: &str, client: &str, days: i64, hour: i64, count: i64) {
        self.lived_as(None, class, client, days, hour, count).await;
    }

    /// The same for devices that become a persona.
    pub async fn lived_as(
        &self,
        persona: Option<&str>,
        class: &str,
        client: &str,
        days: i64,
        hour: i64,
        count: i64,
    ) {
        let class: Class = class.parse().expect("a class");
        let (client, persona) = (client.to_owned(), persona.map(str::to_owned));
        let midnight_s = self.midnight_s;
        self.write(move |connection| {
            Box::pin(async move {
                for day in 1..=days {
                    for number in 0..count {
                        let second = midnight_s - day * DAY_S + hour * 3600 + number * 3600 / count;
                        let arrival = Arrival {
                            key: format!("{class}-{client}-{persona:?}-{hour}-{day}-{number}"),
                            class: class.clone(),
                            client: client.clone(),
                            persona: persona.clone(),
                            at: at(second),
                            tier: Tier::Warm,
                            wait_ms: Some(500.0),
                        };
                        rows::arrival_insert(connection, &arrival).await?;
                    }
                }
                Ok(())
            })
        })
        .await;
    }

    /// Somebody watched from so many days before the story's day until `until_s`.
    pub async fn watched(&self, days: i64, until_s: i64) {
        let watched = Watched {
            from: at(self.midnight_s - days * DAY_S),
            until: at(until_s),
        };
        self.write(move |connection| {
            Box::pin(async move { rows::watch_put(connection, watched).await })
        })
        .await;
    }

    pub async fn write<F>(&self, work: F)
    where
        F: for<'c> FnOnce(
                &'c mut sqlx::sqlite::SqliteConnection,
            ) -> futures::future::BoxFuture<
                'c,
                Result<(), greenroom::store::StoreError>,
            > + Send
            + 'static,
    {
        self.store.write(work).await.expect("a write");
    }
}

async fn opened(ground: &Ground, pool: &Arc<Pool>, store: &Store) -> Arc<Demand> {
    Demand::open(DemandServices {
        store: store.clone(),
        clock: ground.clock.clone(),
        pool: pool.clone(),
    })
    .await
    .expect("demand")
}
