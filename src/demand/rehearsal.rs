//! A rule of sizes played through the pool's own plan, on a recorded trace. Pure.

use std::time::Duration;

use crate::learn::psim::{Host, Outcome, TICK_S, Trace};
use crate::pool::rehearse::{Script, rehearse};

/// What a pool is like where nobody set it otherwise: shells are replaced after half an hour.
const MAX_AGE: Duration = Duration::from_secs(1800);
/// Room for all that a rule may want.
const BUDGET_MIB: u64 = 64 * 1024;

/// Plays the ticks with the targets of each. Cold is what found no shell; an empty fork may still have
/// halved its wait.
pub fn rehearsed(
    trace: &Trace,
    host: Host,
    ticks: std::ops::Range<usize>,
    targets: &[usize],
) -> Outcome {
    let begin = ticks.start;
    let script = Script {
        at_s: &trace.at_s,
        tick_s: TICK_S,
        ticks,
        lead_s: host.lead_s,
        budget_mib: BUDGET_MIB,
        max_age: MAX_AGE,
    };
    let outcome = rehearse(&script, |tick| {
        targets.get(tick - begin).copied().unwrap_or(0)
    });
    Outcome {
        requests: outcome.requests,
        cold: outcome.requests - outcome.hot,
        idle_s: outcome.idle_s,
        boots: outcome.fills,
    }
}
