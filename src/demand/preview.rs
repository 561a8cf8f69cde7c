//! What a policy would have cost and served on the recent arrivals: the same simulation and the same
//! sizes as `greenroom simulate`. Pure.

use crate::learn::psim::rule::{Ground, Rule};
use crate::learn::psim::{DAY, Host, MOST, TICK_S, Trace};
use crate::vocab::demand::{Mode, Policy};

use super::decide::HYSTERESIS;

/// Days of arrivals that are replayed, and that forecasts are made from before.
pub const REPLAYED_DAYS: usize = 7;
/// Ticks between two forecasts of a preview: an hour.
const EVERY: usize = 12;

/// One way of choosing the size, replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// As `greenroom simulate` names it.
    pub rule: String,
    /// Whether this is what the policy says.
    pub is_asked: bool,
    pub requests: usize,
    pub cold: usize,
    /// Seconds that shells waited, all together, per day.
    pub idle_s_per_day: f64,
    /// What that costs per day, in the policy's currency.
    pub cost_per_day: f64,
}

/// Replays the last days before `until_s` (seconds of the trace) with what the policy says, and with
/// fixed numbers beside it. `lead_s` is the time until an ordered shell is ready, `cold_starts` what a
/// request that finds none costs, in the policy's cold starts. Empty where nothing was asked for in them.
pub fn preview(
    trace: &Trace,
    until_s: f64,
    policy: &Policy,
    fixed: u32,
    (lead_s, cold_starts): (f64, f64),
) -> Vec<Preview> {
    if !until_s.is_finite() || until_s < TICK_S || !lead_s.is_finite() || lead_s <= 0.0 {
        return Vec::new();
    }
    let end = (until_s / TICK_S) as usize;
    let first = trace.at_s.first().map_or(end, |at| (at / TICK_S) as usize);
    let begin = end.saturating_sub(REPLAYED_DAYS * DAY).max(first.min(end));
    if begin >= end {
        return Vec::new();
    }
    let mut trace = trace.clone();
    let known = trace.at_s.partition_point(|at| *at < end as f64 * TICK_S);
    trace.at_s.truncate(known);
    trace.hold_s.truncate(known);
    // The rules know all ticks of the trace; a quiet end is made part of it by clipping the span.
    let end = end.min(trace.ticks());
    if begin >= end {
        return Vec::new();
    }
    let host = Host {
        lead_s,
        reuse_s: None,
    };
    let ground = Ground::new(&trace, host, begin..end, HYSTERESIS).forecasting_each(EVERY);
    let by_forecast = Rule::Forecast((policy.miss_s() * cold_starts).round().max(1.0));
    let asked = match policy.mode {
        Mode::Fixed => Rule::Fixed(fixed as usize),
        Mode::Forecast => by_forecast,
    };
    let mut rules = vec![asked];
    if policy.mode == Mode::Fixed {
        rules.push(by_forecast);
    }
    let bounds = policy.least as usize..=(policy.most as usize).min(MOST);
    for count in [0, 1, 2, 4, 8, 16, 32, fixed as usize] {
        let rule = Rule::Fixed(count);
        if !rules.contains(&rule) && (bounds.contains(&count) || count == fixed as usize) {
            rules.push(rule);
        }
    }
    let days = (end - begin) as f64 / DAY as f64;
    rules
        .into_iter()
        .enumerate()
        .map(|(at, rule)| {
            let outcome = ground.judge_within(rule, bounds.clone());
            let idle_s_per_day = outcome.idle_s / days;
            let cold_per_day = outcome.cold as f64 / days;
            Preview {
                rule: rule.to_string(),
                is_asked: at == 0,
                requests: outcome.requests,
                cold: outcome.cold,
                idle_s_per_day,
                cost_per_day: idle_s_per_day / 3600.0 * policy.idle_hour_cost
                    + cold_per_day * policy.cold_cost * cold_starts,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty requests around noon of every day, at random distances of a second or more.
    fn noon(days: u32) -> Trace {
        let at_s: Vec<f64> = (0..days)
            .flat_map(|day| {
                (0..20).map(move |i| f64::from(day) * 86_400.0 + 43_200.0 + f64::from(i * i) * 5.0)
            })
            .collect();
        Trace {
            hold_s: vec![60.0; at_s.len()],
            at_s,
        }
    }

    #[test]
    fn a_forecast_waits_less_than_the_fixed_number_that_serves_alike() {
        let policy = Policy {
            mode: Mode::Forecast,
            cold_cost: 2.0,
            ..Policy::of("tiny:1x128".parse().unwrap())
        };
        let trace = noon(28);
        let previews = preview(&trace, 28.0 * 86_400.0, &policy, 1, (10.0, 1.0));
        let asked = &previews[0];
        assert!(asked.is_asked && asked.rule.starts_with("forecast:"));
        let fixed = previews.iter().find(|p| p.rule == "fixed:1").unwrap();
        assert!(asked.requests >= 100 && asked.requests == fixed.requests);
        assert!(
            asked.idle_s_per_day < 0.5 * fixed.idle_s_per_day,
            "{previews:#?}"
        );
        assert!(asked.cost_per_day < fixed.cost_per_day, "{previews:#?}");
    }

    #[test]
    fn nothing_to_replay_shows_nothing() {
        let policy = Policy::of("tiny:1x128".parse().unwrap());
        for until_s in [0.0, 1e9, f64::NAN, -5.0] {
            assert!(
                preview(&Trace::default(), until_s, &policy, 1, (1.0, 1.0)).is_empty(),
                "{until_s}"
            );
        }
        assert!(preview(&noon(2), 86_400.0, &policy, 1, (f64::INFINITY, 1.0)).is_empty());
    }
}
