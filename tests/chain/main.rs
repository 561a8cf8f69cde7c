//! The chain language from outside: good chains, broken chains, hostile input, and the handoff.

mod broken;
mod files;
mod good;
mod handoff;
mod lessons;
mod reading;
mod schemas;
mod transforms;
mod triggers;
mod units;
mod xml;

use greenroom::chain::files::FilesInMemory;
use greenroom::chain::model::Chain;

/// Checks a chain that must be good.
fn chain(source: &str) -> Chain {
    greenroom::chain::check(source, &FilesInMemory::default()).unwrap_or_else(|faults| {
        panic!("{}", faults.render(greenroom::chain::faults::Colour::Plain))
    })
}

/// The messages of a chain that must be bad, each with its place.
fn faults(source: &str) -> Vec<String> {
    let faults = greenroom::chain::check(source, &FilesInMemory::default())
        .expect_err("it should have faults");
    faults
        .faults
        .iter()
        .map(|fault| {
            format!(
                "{}:{} {}: {}",
                fault.line, fault.column, fault.path, fault.message
            )
        })
        .collect()
}
