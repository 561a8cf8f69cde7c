//! What is read is the same however far it is condensed.

use super::*;
use crate::store::{Store, devices};
use crate::vocab::Device;

const SECOND: i64 = 1_000_000;
/// On the edge of an hour.
const BEGIN: i64 = 1_800_000_000 / 3600 * 3600;

struct Room {
    _folder: tempfile::TempDir,
    store: Store,
    device: DeviceId,
}

impl Room {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db")).await.unwrap();
        let device = Device {
            id: DeviceId::fresh(),
            name: "box".into(),
            client: "lab".into(),
            facts: serde_json::Map::new(),
            added_at: Timestamp(0),
        };
        let id = device.id;
        store
            .write(|c| Box::pin(async move { devices::device_put(c, &device).await }))
            .await
            .unwrap();
        Self {
            _folder: folder,
            store,
            device: id,
        }
    }

    /// A report each 15 s, whose processor share says the minute of the hour.
    async fn report(&self, from_s: i64, until_s: i64) {
        let device = self.device;
        self.store
            .write(move |c| {
                Box::pin(async move {
                    for at in (from_s..until_s).step_by(15) {
                        let report = Report {
                            at: Timestamp((BEGIN + at) * SECOND),
                            measures: Measures::from([(
                                Metric::Cpu,
                                (at.rem_euclid(3600) / 60) as f64,
                            )]),
                            body: serde_json::json!({}),
                        };
                        report_insert(c, device, &report).await?;
                    }
                    Ok(())
                })
            })
            .await
            .unwrap();
    }

    async fn condense(&self, now_s: i64, keeping: Keeping) {
        let device = self.device;
        self.store
            .write(move |c| {
                Box::pin(async move {
                    condense(c, device, Timestamp((BEGIN + now_s) * SECOND), &keeping).await
                })
            })
            .await
            .unwrap();
    }

    async fn series(&self, now_s: i64, step: Duration) -> Series {
        let mut c = self.store.read().await.unwrap();
        let now = Timestamp((BEGIN + now_s) * SECOND);
        let since = Timestamp(BEGIN * SECOND);
        series(
            &mut c,
            self.device,
            since,
            now,
            Some(step),
            &Keeping::default(),
        )
        .await
        .unwrap()
    }

    async fn raw_rows(&self) -> usize {
        let mut c = self.store.read().await.unwrap();
        report_list(&mut c, self.device, i64::MAX)
            .await
            .unwrap()
            .len()
    }
}

#[tokio::test]
async fn what_is_read_is_the_same_before_between_and_after_condensing() {
    let room = Room::open().await;
    let keeping = Keeping::default();
    room.report(0, 3 * 3600 + 700).await;
    let now = 3 * 3600 + 700;
    let before = (
        room.series(now, keeping.fine).await,
        room.series(now, keeping.coarse).await,
    );
    assert_eq!(before.1.buckets.len(), 4);
    assert_eq!(before.1.buckets[0].values[&Metric::Cpu].n, 240);
    // A turn makes a part of it, and so the hours may not run ahead of what they are made of.
    for _ in 0..6 {
        room.condense(now, keeping).await;
        assert_eq!(room.series(now, keeping.fine).await, before.0);
        assert_eq!(room.series(now, keeping.coarse).await, before.1);
    }
    let raw = room.series(now, Duration::ZERO).await;
    assert_eq!(raw.buckets.len(), room.raw_rows().await);
    assert_eq!(raw.whole(), before.1.whole());
}

#[tokio::test]
async fn what_is_old_goes_once_it_is_condensed() {
    let room = Room::open().await;
    let keeping = Keeping {
        keep_raw: Duration::from_secs(3600),
        ..Keeping::default()
    };
    room.report(0, 4 * 3600).await;
    let all = room.series(4 * 3600, keeping.coarse).await;
    // The first turn condenses two hours, and nothing that is not condensed goes.
    room.condense(4 * 3600, keeping).await;
    assert_eq!(room.raw_rows().await, 2 * 240);
    for _ in 0..5 {
        room.condense(4 * 3600, keeping).await;
    }
    assert_eq!(room.raw_rows().await, 240, "the last hour");
    assert_eq!(room.series(4 * 3600, keeping.coarse).await, all);
    let device = room.device;
    room.store
        .write(move |c| Box::pin(async move { forget(c, device).await }))
        .await
        .unwrap();
    assert!(
        room.series(4 * 3600, keeping.coarse)
            .await
            .buckets
            .is_empty()
    );
}

#[tokio::test]
async fn a_gap_of_days_is_passed_over() {
    let room = Room::open().await;
    let keeping = Keeping::default();
    let later = 5 * 86_400;
    room.report(0, 600).await;
    room.report(later, later + 600).await;
    for _ in 0..4 {
        room.condense(later + 3600, keeping).await;
    }
    let series = room.series(later + 3600, keeping.coarse).await;
    assert_eq!(series.buckets.len(), 2);
    assert!(
        series
            .buckets
            .iter()
            .all(|bucket| bucket.values[&Metric::Cpu].n == 40)
    );
    assert_eq!(room.raw_rows().await, 40, "two days are kept");
}
