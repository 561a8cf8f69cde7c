//! Files become compiled personas, or the list of all that is wrong with them.
//!
//! A batch of files may name each other as parents; a parent is looked for in the batch first, then in
//! the library. Parents are compiled before their children, whatever the order of the files.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::catalogue::Catalogue;
use super::check::{self, Matter};
use super::nft::{Nft, Verdict};
use super::read::{Layer, Places, did_you_mean, read};
use super::{defaults, merge, render};
use crate::chain::faults::{Fault, Faults, quoted};
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
            None => self.current.get(&wanted.name).or_else(|| versions.keys().next_back()).copied()?,
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
pub fn compile(sources: &[Source], known: &Known, means: &Means, next_version: &dyn Fn(&Compiled) -> i64) -> Vec<Outcome> {
    let mut readings: Vec<(Option<Layer>, Vec<Fault>)> = sources
        .iter()
        .map(|source| {
            let reading = read(&source.text);
            (reading.layer, reading.faults)
        })
        .collect();
    twins(sources, &mut readings);
    circles(&mut readings);
    let mut outcomes: Vec<Option<Outcome>> = sources.iter().map(|_| None).collect();
    let mut known = known.clone();
    let mut broken: BTreeSet<String> = BTreeSet::new();
    for index in parents_first(&readings) {
        let source = &sources[index];
        let (layer, faults) = std::mem::take(&mut readings[index]);
        let outcome = match layer {
            None => failed(source, String::new(), faults, Vec::new()),
            // In a circle: there is nothing that it could be built on.
            Some(layer) if faults.iter().any(|fault| fault.path == "parent") => failed(source, layer.name, faults, Vec::new()),
            Some(layer) => one(source, layer, faults, &known, &broken, means),
        };
        match &outcome.compiled {
            Ok(compiled) => {
                let version = next_version(compiled);
                known.versions.entry(compiled.name.clone()).or_default().insert(version, compiled.clone());
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

/// Two files of one batch with one name.
fn twins(sources: &[Source], readings: &mut [(Option<Layer>, Vec<Fault>)]) {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (source, (layer, faults)) in sources.iter().zip(readings) {
        let Some(layer) = layer.as_ref().filter(|layer| !layer.name.is_empty()) else { continue };
        if let Some(first) = seen.insert(layer.name.clone(), source.file.clone()) {
            let span = layer.places.get("persona").map_or_else(Span::default, |(span, _)| span);
            let fault = Fault::new(span, "persona", format!("{} has the persona {} too", quoted(&first), quoted(&layer.name)));
            faults.push(fault.expecting("one file for a persona"));
        }
    }
}

/// Parents within the batch that lead back to where they started, each told in its own file.
fn circles(readings: &mut [(Option<Layer>, Vec<Fault>)]) {
    let parents: BTreeMap<String, String> = readings
        .iter()
        .filter_map(|(layer, _)| {
            let layer = layer.as_ref()?;
            let parent = layer.parent.as_ref().filter(|parent| parent.version.is_none())?;
            Some((layer.name.clone(), parent.name.clone()))
        })
        .collect();
    for (layer, faults) in readings {
        let Some(layer) = layer else { continue };
        let mut path = vec![layer.name.as_str()];
        while let Some(next) = path.last().and_then(|name| parents.get(*name)) {
            let seen = path.contains(&next.as_str());
            path.push(next);
            if seen {
                break;
            }
        }
        if path.len() > 1 && path.last() == path.first() {
            let span = layer.places.get("parent").map_or_else(Span::default, |(span, _)| span);
            let fault = Fault::new(span, "parent", format!("the parents go in a circle: {}", path.join(" → ")));
            faults.push(fault.suggesting("a persona cannot build on what builds on it"));
        }
    }
}

/// An order in which each parent within the batch comes before its children; members of a circle
/// come in any order.
fn parents_first(readings: &[(Option<Layer>, Vec<Fault>)]) -> Vec<usize> {
    let index_of = |name: &str| readings.iter().position(|(layer, _)| layer.as_ref().is_some_and(|layer| layer.name == name));
    let mut order = Vec::new();
    for start in 0..readings.len() {
        let mut path = vec![start];
        while let Some(parent) = path.last().and_then(|at| readings[*at].0.as_ref()?.parent.as_ref()).and_then(|parent| index_of(&parent.name)) {
            if path.contains(&parent) || order.contains(&parent) {
                break;
            }
            path.push(parent);
        }
        for at in path.into_iter().rev() {
            if !order.contains(&at) {
                order.push(at);
            }
        }
    }
    order
}

fn failed(source: &Source, name: String, faults: Vec<Fault>, warnings: Vec<Fault>) -> Outcome {
    let file = if source.file.is_empty() { "the persona" } else { &source.file };
    Outcome {
        file: source.file.clone(),
        name,
        compiled: Err(Faults::new(&source.text, faults).in_file(file)),
        warnings,
        parent: None,
    }
}

fn one(source: &Source, layer: Layer, mut faults: Vec<Fault>, known: &Known, broken: &BTreeSet<String>, means: &Means) -> Outcome {
    let parent = match &layer.parent {
        None => None,
        Some(wanted) => match find_parent(&layer, wanted, known, broken) {
            Ok(parent) => Some(parent),
            Err(fault) => {
                faults.push(fault);
                // What is inherited is not known, so nothing is said about how it all fits together.
                return failed(source, layer.name, faults, Vec::new());
            }
        },
    };
    let nothing = json!({});
    let base = parent.as_ref().map_or(&nothing, |parent| &parent.compiled.layer);
    faults.extend(idle_removals(&layer, base));
    let merged = merge::apply(base, &layer.facets, &layer.remove);
    let origins = origins(&layer, parent.as_ref(), &merged);
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
                ask_nft(&document, &layer.places, &origins, &means.nft, &mut faults, &mut warnings);
            }
            Some(document)
        }
        // Only a value that has had its fault can be missing: a name, say.
        Err(why) if faults.is_empty() => {
            faults.push(Fault::new(Span { line: 1, column: 1, ..Span::default() }, "", format!("the persona cannot be put together: {why}")));
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

fn find_parent(layer: &Layer, wanted: &PersonaRef, known: &Known, broken: &BTreeSet<String>) -> Result<Ancestor, Fault> {
    let span = layer.places.get("parent").map_or_else(Span::default, |(span, _)| span);
    let fault = |message: String| Fault::new(span, "parent", message);
    if wanted.name == layer.name {
        return Err(fault(format!("a persona cannot be its own parent: {0} → {0}", layer.name)).suggesting("name another one, or leave `parent` out"));
    }
    if broken.contains(&wanted.name) {
        return Err(fault(format!("the parent {} has faults", quoted(&wanted.name))).suggesting("mend the parent first"));
    }
    let Some(parent) = known.find(wanted) else {
        let names = known.versions.keys().map(String::as_str);
        return Err(match known.versions.get(&wanted.name) {
            Some(versions) => {
                let numbers: Vec<String> = versions.keys().map(i64::to_string).collect();
                fault(format!("{} has no version {}", quoted(&wanted.name), wanted.version.unwrap_or_default()))
                    .expecting(format!("one of {}", numbers.join(", ")))
            }
            None => {
                let fault = fault(format!("there is no persona {}", quoted(&wanted.name)));
                match did_you_mean(&wanted.name, names) {
                    Some(near) => fault.suggesting(near),
                    None => fault.suggesting("give its file too, or apply it first"),
                }
            }
        });
    };
    let mut path = vec![layer.name.clone(), wanted.name.clone()];
    for ancestor in &parent.compiled.lineage {
        path.push(ancestor.name.clone());
        if ancestor.name == layer.name {
            return Err(fault(format!("the parents go in a circle: {}", path.join(" → "))).suggesting("a persona cannot build on what builds on it"));
        }
    }
    Ok(parent)
}

fn idle_removals(layer: &Layer, base: &Value) -> Vec<Fault> {
    merge::idle_removals(base, &layer.remove)
        .into_iter()
        .map(|(word, name)| {
            let at = format!("remove.{word}[{name}]");
            let (span, path) = layer.places.get(&at).unwrap_or((Span::default(), "remove"));
            let there = merge::names_of(base, word);
            let fault = Fault::new(span, path, format!("{} is not inherited, so it cannot be removed", quoted(name)));
            match did_you_mean(name, there.iter().map(String::as_str)) {
                Some(near) => fault.suggesting(near),
                None if there.is_empty() => fault.suggesting(format!("nothing is inherited under `{word}`")),
                None => fault.suggesting(format!("there are {}", there.join(", "))),
            }
        })
        .collect()
}

/// Who wrote each value of the merged layer: this file where it has a place for it, else whoever wrote
/// it for the parent.
fn origins(layer: &Layer, parent: Option<&Ancestor>, merged: &Value) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    if let Some(parent) = parent {
        let name = PersonaRef::exact(&parent.compiled.name, parent.version).to_string();
        for (at, whose) in &parent.compiled.origins {
            // Its own values are known there by its bare name: the version is given when it is stored.
            let whose = if *whose == parent.compiled.name { &name } else { whose };
            origins.insert(at.clone(), whose.clone());
        }
        let gone = |at: &str| layer.remove.iter().any(|(word, names)| names.iter().any(|name| is_below(at, word, name)));
        origins.retain(|at, _| !gone(at));
    }
    for at in layer.places.keys() {
        if !at.starts_with("remove") && !matches!(at, "persona" | "parent") {
            // A plain list is replaced as a whole: what is left of a longer one is not there any more.
            let list = format!("{at}[");
            if is_plain_list(merged, at) {
                origins.retain(|there, _| !there.starts_with(&list));
            }
            origins.insert(at.to_owned(), layer.name.clone());
        }
    }
    origins
}

fn is_below(at: &str, word: &str, name: &str) -> bool {
    let Some((_, path)) = super::facets::REMOVABLE.iter().find(|(known, _)| *known == word) else {
        return false;
    };
    let list = path.join(".");
    at.starts_with(&format!("{list}[{name}]")) || at == format!("{list}.{name}") || at.starts_with(&format!("{list}[{name} from "))
}

fn is_plain_list(merged: &Value, at: &str) -> bool {
    let pointer = format!("/{}", at.replace('.', "/"));
    merged.pointer(&pointer).and_then(Value::as_array).is_some_and(|items| items.iter().any(Value::is_string))
}

/// nft's word on the whole file, told at the rule that it is about.
fn ask_nft(document: &Document, places: &Places, origins: &BTreeMap<String, String>, nft: &Nft, faults: &mut Vec<Fault>, warnings: &mut Vec<Fault>) {
    let firewall = &document.security.firewall;
    if firewall.rules.is_empty() {
        return;
    }
    const RULES: &str = "security.firewall.rules";
    let place = |at: &str| places.get(at).or_else(|| places.get(RULES)).or_else(|| places.get("parent"));
    let whose = match places.get(RULES) {
        Some(_) => String::new(),
        None => origins.get(RULES).map(|whose| format!(" (from {whose})")).unwrap_or_default(),
    };
    match nft.check(&render::nftables(firewall, &document.security.ssh.from)) {
        Verdict::Good => {}
        Verdict::Unknown(why) => {
            let (span, path) = place(RULES).unwrap_or((Span::default(), RULES));
            warnings.push(Fault::new(span, path, format!("the firewall's rules were not checked{whose}: {why}")));
        }
        Verdict::Wrong(wrong) => {
            for (line, column, words) in wrong {
                let index = line.checked_sub(render::FIRST_RULE_LINE).filter(|index| *index < firewall.rules.len());
                let at = index.map_or_else(|| RULES.to_owned(), |index| format!("{RULES}[{index}]"));
                let (span, path) = place(&at).unwrap_or((Span::default(), RULES));
                let near = index.and_then(|index| {
                    let rule = &firewall.rules[index];
                    rule.get(column.saturating_sub(9)..).and_then(|rest| rest.split(' ').next()).filter(|word| !word.is_empty())
                });
                let near = near.map(|word| format!(", at {}", quoted(word))).unwrap_or_default();
                faults.push(Fault::new(span, path, format!("nft refuses this rule: {words}{near}{whose}")).expecting("a rule such as `tcp dport 8080 accept`"));
            }
        }
    }
}
