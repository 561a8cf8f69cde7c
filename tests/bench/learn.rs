//! The learning core on recorded traces: forecasts, pool sizes, resources, personas.
//!
//! The traces are not part of this repository; see `support/traces.rs` for where they are looked for.
//! Definitions are those of `learn::score`, `learn::psim` and, for resources, of [`resources`] here.

#[path = "learn/chains.rs"]
mod chains;
#[path = "learn/demand.rs"]
mod demand;
#[path = "learn/persona.rs"]
mod persona;
#[path = "learn/pool.rs"]
mod pool;
#[path = "learn/resources.rs"]
mod resources;
#[path = "learn/training.rs"]
mod training;

use crate::Figure;
use crate::traces;

/// All of it takes a quarter of an hour: parts may be named, such as GREENROOM_BENCH_PARTS=pool,demand.
pub fn measure() -> Vec<Figure> {
    type Part = (&'static str, Needs, fn() -> Vec<Figure>);
    let parts: [Part; 6] = [
        ("training", Needs::Nothing, training::measure),
        ("pool", Needs::Traces, pool::measure),
        ("persona", Needs::Traces, persona::measure),
        ("demand", Needs::Traces, demand::measure),
        ("resources", Needs::Traces, resources::measure),
        // Says so and passes where there is no lab.
        ("chains", Needs::Nothing, chains::measure),
    ];
    let named = std::env::var("GREENROOM_BENCH_PARTS").unwrap_or_default();
    let traces = traces::folder().is_some();
    if !traces {
        eprintln!("{}", traces::ABSENT);
    }
    parts
        .iter()
        .filter(|(name, ..)| named.is_empty() || named.split(',').any(|part| part == *name))
        .filter(|(_, needs, _)| traces || *needs == Needs::Nothing)
        .flat_map(|(.., measure)| measure())
        .collect()
}

/// Whether a part can be measured without the public traces.
#[derive(PartialEq)]
enum Needs {
    Nothing,
    Traces,
}
