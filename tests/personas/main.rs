//! The persona library from outside: good files, broken files, merging, rendering, choosing.

mod broken;
mod choosing;
mod circles;
mod documents;
mod merging;
mod rendering;
mod shipped;
mod store;

use greenroom::chain::faults::Colour;
use greenroom::personas::catalogue::Catalogue;
use greenroom::personas::compile::{Known, Means, Outcome, Source, compile};
use greenroom::personas::nft::Nft;
use greenroom::vocab::persona::Compiled;

/// The shipped catalogue, and no nft: what a test compares must not hang on what is installed.
pub fn means() -> Means {
    Means {
        catalogue: Catalogue::shipped().clone(),
        nft: Nft::absent(),
    }
}

pub fn batch(files: &[(&str, &str)], known: &Known) -> Vec<Outcome> {
    let sources: Vec<Source> = files
        .iter()
        .map(|(file, text)| Source {
            file: (*file).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    compile(&sources, known, &means(), &|_| 1)
}

/// Compiles one file that must be good.
pub fn persona_over(known: &Known, text: &str) -> Compiled {
    let outcome = batch(&[("test.yaml", text)], known).remove(0);
    outcome
        .compiled
        .unwrap_or_else(|faults| panic!("{}", faults.render(Colour::Plain)))
}

pub fn persona(text: &str) -> Compiled {
    persona_over(&Known::default(), text)
}

/// The faults of a file that must be bad.
pub fn faults(text: &str) -> Vec<String> {
    let outcome = batch(&[("test.yaml", text)], &Known::default()).remove(0);
    let faults = outcome.compiled.expect_err("it should have faults");
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

/// These files as versions 2 of their personas, promoted.
pub fn library(files: &[&str]) -> Known {
    let mut known = Known::default();
    for text in files {
        let compiled = persona_over(&known, text);
        known.current.insert(compiled.name.clone(), 2);
        known
            .versions
            .entry(compiled.name.clone())
            .or_default()
            .insert(2, compiled);
    }
    known
}
