//! How full the pool was, beside who came: noted at each bucket's begin.

use std::collections::BTreeMap;

use super::{Demand, DemandError};
use crate::store::demand as rows;
use crate::vocab::Timestamp;
use crate::vocab::demand::{BUCKET_S, Count, Level, Series};
use crate::vocab::pool::Class;

/// One bucket of a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub at_s: i64,
    /// None where nobody looked when it began.
    pub level: Option<Level>,
    pub count: Count,
}

impl Demand {
    pub(super) async fn note_levels(&self, until_s: i64) -> Result<(), DemandError> {
        let status = self.services.pool.status().await?;
        let levels: Vec<(Class, Level)> = status
            .pools
            .into_iter()
            .map(|view| {
                let level = Level {
                    at_s: until_s,
                    ready: view.ready,
                    claimed: view.claimed,
                    wanted: view.target.map(|target| target.hot),
                };
                (view.class, level)
            })
            .collect();
        if levels.is_empty() {
            return Ok(());
        }
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move {
                    for (class, level) in &levels {
                        rows::level_put(connection, class, *level).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        Ok(())
    }

    /// The buckets of the last `hours` of which anything is known, oldest first.
    pub async fn levels(&self, class: &Class, hours: usize) -> Result<Vec<Step>, DemandError> {
        let Timestamp(now) = self.now();
        let since_s = now.div_euclid(1_000_000) - hours as i64 * 3600;
        let mut connection = self.services.store.read().await?;
        let levels = rows::level_list(&mut connection, class, since_s).await?;
        let counts =
            rows::count_list(&mut connection, &Series::of_class(class), BUCKET_S, since_s).await?;
        Ok(steps(&levels, &counts))
    }
}

fn steps(levels: &[Level], counts: &[Count]) -> Vec<Step> {
    let empty = |at_s: i64| Step {
        at_s,
        level: None,
        count: Count {
            start_s: at_s,
            ..Count::default()
        },
    };
    let mut steps: BTreeMap<i64, Step> = BTreeMap::new();
    for level in levels {
        let step = steps.entry(level.at_s).or_insert_with(|| empty(level.at_s));
        step.level = Some(*level);
    }
    for count in counts {
        let step = steps
            .entry(count.start_s)
            .or_insert_with(|| empty(count.start_s));
        step.count = *count;
    }
    steps.into_values().collect()
}
