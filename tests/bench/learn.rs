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
#[path = "learn/training.rs"]
mod training;

use crate::Figure;
use crate::traces;

pub fn measure() -> Vec<Figure> {
    let mut figures = training::measure();
    if traces::folder().is_none() {
        eprintln!("{}", traces::ABSENT);
        return figures;
    }
    let on_traces = [
        pool::measure,
        persona::measure,
        demand::measure,
        resources::measure,
    ]
    .iter()
    .flat_map(|measure| measure());
    figures.extend(on_traces);
    figures
}
