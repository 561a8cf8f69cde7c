//! The learning core on recorded traces: forecasts, pool sizes, resources, personas.
//!
//! The traces are not part of this repository; see `support/traces.rs` for where they are looked for.
//! Definitions are those of `learn::score`, `learn::psim` and, for resources, of [`resources`] here.

#[path = "learn/demand.rs"]
mod demand;
#[path = "learn/persona.rs"]
mod persona;
#[path = "learn/pool.rs"]
mod pool;
#[path = "learn/resources.rs"]
mod resources;

use crate::Figure;
use crate::traces;

pub fn measure() -> Vec<Figure> {
    if traces::folder().is_none() {
        eprintln!("{}", traces::ABSENT);
        return Vec::new();
    }
    // All of it takes a quarter of an hour: parts may be named, such as GREENROOM_BENCH_PARTS=pool,demand.
    let parts: [(&str, fn() -> Vec<Figure>); 4] = [
        ("pool", pool::measure),
        ("persona", persona::measure),
        ("demand", demand::measure),
        ("resources", resources::measure),
    ];
    let named = std::env::var("GREENROOM_BENCH_PARTS").unwrap_or_default();
    parts
        .iter()
        .filter(|(name, _)| named.is_empty() || named.split(',').any(|part| part == *name))
        .flat_map(|(_, measure)| measure())
        .collect()
}
