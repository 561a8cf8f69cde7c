//! Files become compiled personas, or the list of all that is wrong with them.
//!
//! A batch of files may name each other as parents; a parent is looked for in the batch first, then in
//! the library. Parents are compiled before their children, whatever the order of the files.

mod firewall;
mod origins;
mod parents;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::catalogue::Catalogue;
use super::check::{self, Matter};
use super::nft::Nft;
use super::read::{Layer, read};
use super::{defaults, merge};
use crate::chain::faults::{Fault, Faults};
use crate::chain::read::Span;
use crate::vocab::Digest;
use crate::vocab::persona::{Compiled, Document, PersonaRef};

/// What a check is made against.
#[derive(Debug, Clone)]
pub struct Means {
    pub catalogue: Catalogue,
    pub nft: Nft,
}

impl Means {
    /// The shipped catalogue, and this host's nft.
    pub fn shipped() -> Self {
        Self {
            catalogue: Catalogue::shipped().clone(),
            nft: Nft::of_system(),
        }
    }
}

/// A version that exists, as a parent.
#[derive(Debug, Clone)]
pub struct Ancestor {
    pub version: i64,
    pub compiled: Compiled,
}

/// The versions that children may build on.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// By name, then by version.
    pub versions: BTreeMap<String, BTreeMap<i64, Compiled>>,
    /// The promoted version of each name that has one.
    pub current: BTreeMap<String, i64>,
}

impl Known {
    /// The version that a reference means: the one it names, else the promoted one, else the newest.
    pub fn find(&self, wanted: &PersonaRef) -> Option<Ancestor> {
        let versions = self.versions.get(&wanted.name)?;
        let version = match wanted.version {
            Some(version) => version,
            None => self
                .current
                .get(&wanted.name)
                .or_else(|| versions.keys().next_back())
                .copied()?,
        };
        Some(Ancestor {
            version,
            compiled: versions.get(&version)?.clone(),
        })
    }
}

/// One file of a batch.
#[derive(Debug, Clone)]
pub struct Source {
    /// As people know it; may be empty.
    pub file: String,
    pub text: String,
}

/// What became of one file.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub file: String,
    /// As far as it could be read.
    pub name: String,
    pub compiled: Result<Compiled, Faults>,
    pub warnings: Vec<Fault>,
    /// Who the text is in a lineage: the version is only known when it is stored.
    pub parent: Option<PersonaRef>,
}

/// Compiles a batch. The outcomes are in the order of the files.
///
/// `next_version` says which version a name gets when it is stored (for the lineage of children).
/// Blocking: `nft` may be asked about hand-written rules.
pub fn compile(
    sources: &[Source],
    known: &Known,
    means: &Means,
    next_version: &dyn Fn(&Compiled) -> i64,
) -> Vec<Outcome> {
    let mut readings: Vec<(Option<Layer>, Vec<Fault>)> = sources
        .iter()
        .map(|source| {
            let reading = read(&source.text);
            (reading.layer, reading.faults)
        })
        .collect();
    parents::twins(sources, &mut readings);
    parents::circles(&mut readings);
    let mut outcomes: Vec<Option<Outcome>> = sources.iter().map(|_| None).collect();
    let mut known = known.clone();
    let mut broken: BTreeSet<String> = BTreeSet::new();
    for index in parents::parents_first(&readings) {
        let source = &sources[index];
        let (layer, faults) = std::mem::take(&mut readings[index]);
        let outcome = match layer {
            None => failed(source, String::new(), faults, Vec::new()),
            // In a circle: there is nothing that it could be built on.
            Some(layer) if faults.iter().any(|fault| fault.path == "parent") => {
                failed(source, layer.name, faults, Vec::new())
            }
            Some(layer) => one(source, layer, faults, &known, &broken, means),
        };
        match &outcome.compiled {
            Ok(compiled) => {
                let version = next_version(compiled);
                known
                    .versions
                    .entry(compiled.name.clone())
                    .or_default()
                    .insert(version, compiled.clone());
                // Within a batch a name means what the batch says.
                known.current.insert(compiled.name.clone(), version);
            }
            Err(_) => {
                broken.insert(outcome.name.clone());
            }
        }
        outcomes[index] = Some(outcome);
    }
    outcomes.into_iter().flatten().collect()
}

fn failed(source: &Source, name: String, faults: Vec<Fault>, warnings: Vec<Fault>) -> Outcome {
    let file = if source.file.is_empty() {
        "the persona"
    } else {
        &source.file
    };
    Outcome {
        file: source.file.clone(),
        name,
        compiled: Err(Faults::new(&source.text, faults).in_file(file)),
        warnings,
        parent: None,
    }
}

fn one(
    source: &Source,
    layer: Layer,
    mut faults: Vec<Fault>,
    known: &Known,
    broken: &BTreeSet<String>,
    means: &Means,
) -> Outcome {
    let parent = match &layer.parent {
        None => None,
        Some(wanted) => match parents::find_parent(&layer, wanted, known, broken) {
            Ok(parent) => Some(parent),
            Err(fault) => {
                faults.push(*fault);
                // What is inherited is not known, so nothing is said about how it all fits together.
                return failed(source, layer.name, faults, Vec::new());
            }
        },
    };
    let nothing = json!({});
    let base = parent
        .as_ref()
        .map_or(&nothing, |parent| &parent.compiled.layer);
    faults.extend(parents::idle_removals(&layer, base));
    let merged = merge::apply(base, &layer.facets, &layer.remove);
    let origins = origins::origins(&layer, parent.as_ref(), &merged);
    let mut warnings = Vec::new();
    let document = match defaults::fill(&merged) {
        Ok(document) => {
            let verdict = check::check(Matter {
                document: &document,
                places: &layer.places,
                origins: &origins,
                catalogue: &means.catalogue,
            });
            faults.extend(verdict.faults);
            warnings.extend(verdict.warnings);
            // A text that was refused is not worth a process; then the merged rules are not all there.
            if faults.is_empty() {
                firewall::ask_nft(
                    &document,
                    &layer.places,
                    &origins,
                    &means.nft,
                    &mut faults,
                    &mut warnings,
                );
            }
            Some(document)
        }
        // Only a value that has had its fault can be missing: a name, say.
        Err(why) if faults.is_empty() => {
            faults.push(Fault::new(
                Span {
                    line: 1,
                    column: 1,
                    ..Span::default()
                },
                "",
                format!("the persona cannot be put together: {why}"),
            ));
            None
        }
        Err(_) => None,
    };
    let Some(document) = document.filter(|_| faults.is_empty()) else {
        return failed(source, layer.name, faults, sorted(warnings));
    };
    let lineage = parent.as_ref().map_or_else(Vec::new, |parent| {
        let mut lineage = vec![PersonaRef::exact(&parent.compiled.name, parent.version)];
        lineage.extend(parent.compiled.lineage.iter().cloned());
        lineage
    });
    let digest = digest(&layer.description, &document);
    Outcome {
        file: source.file.clone(),
        name: layer.name.clone(),
        parent: lineage.first().cloned(),
        compiled: Ok(Compiled {
            name: layer.name,
            description: layer.description,
            lineage,
            layer: merged,
            origins,
            document,
            digest,
        }),
        warnings: sorted(warnings),
    }
}

fn sorted(mut faults: Vec<Fault>) -> Vec<Fault> {
    faults.sort_by(|a, b| (a.bytes.start, &a.message).cmp(&(b.bytes.start, &b.message)));
    faults.dedup();
    faults
}

/// Of everything that is given to a device or told to people; the text's layout and comments are not.
fn digest(description: &str, document: &Document) -> Digest {
    Digest::of_document(&json!({ "description": description, "document": document }))
}
