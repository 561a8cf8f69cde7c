//! How many shells each class gets of a budget that may not do for all. Pure.

use std::collections::BTreeMap;

use crate::vocab::Timestamp;
use crate::vocab::pool::Class;

/// What a class should have, and what that costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    pub class: Class,
    pub hot: u32,
    /// One shell, MiB.
    pub each_mib: f64,
    pub last_used: Option<Timestamp>,
}

/// What a class gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    pub hot: u32,
    /// Why it is less than asked for.
    pub shortfall: Option<String>,
}

/// Shares out `left_mib`: the classes used last are served first, and those never used come last. The
/// one that cannot be served in full gets what is left.
pub fn share_out(mut demands: Vec<Demand>, left_mib: f64) -> BTreeMap<Class, Share> {
    demands.sort_by(|a, b| {
        b.last_used
            .cmp(&a.last_used)
            .then_with(|| a.class.cmp(&b.class))
    });
    let mut left = left_mib.max(0.0);
    let mut shares = BTreeMap::new();
    for demand in demands {
        let each = demand.each_mib.max(1.0);
        // Never more than a u32 was asked for.
        let fits = (left / each).floor().min(f64::from(demand.hot)) as u32;
        left -= f64::from(fits) * each;
        let shortfall = (fits < demand.hot).then(|| {
            format!(
                "{fits} of {} hot shells: the memory budget has no room for more ({each:.0} MiB each); raise pool.budget_mib or lower a target",
                demand.hot
            )
        });
        shares.insert(
            demand.class,
            Share {
                hot: fits,
                shortfall,
            },
        );
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(class: &str, hot: u32, last_used: Option<i64>) -> Demand {
        Demand {
            class: class.parse().unwrap(),
            hot,
            each_mib: 50.0,
            last_used: last_used.map(Timestamp),
        }
    }

    #[test]
    fn the_class_that_was_used_least_recently_loses_first() {
        let demands = vec![
            demand("never:1x128", 2, None),
            demand("old:1x128", 2, Some(1)),
            demand("new:1x128", 2, Some(2)),
        ];
        let shares = share_out(demands, 160.0);
        let hot = |class: &str| shares[&class.parse::<Class>().unwrap()].hot;
        assert_eq!(
            (hot("new:1x128"), hot("old:1x128"), hot("never:1x128")),
            (2, 1, 0)
        );
        assert!(
            shares
                .values()
                .filter(|share| share.shortfall.is_some())
                .count()
                == 2
        );
    }

    #[test]
    fn nothing_is_short_where_there_is_room() {
        let shares = share_out(vec![demand("a:1x128", 3, None)], 150.0);
        assert!(
            shares
                .values()
                .all(|share| share.hot == 3 && share.shortfall.is_none())
        );
        let shares = share_out(vec![demand("a:1x128", 1, None)], -10.0);
        assert!(shares.values().all(|share| share.hot == 0));
    }
}
