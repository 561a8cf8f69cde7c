//! A persona file becomes a layer: what it says itself, in canonical form, with the place of each value.
//!
//! Each value is judged here on its own (its alphabet, its bounds); what values mean together is left
//! to [`super::check`], after merging. The reading is that of chains (`chain::read`): spanned, strict,
//! all faults at once.

mod walk;

use std::collections::BTreeMap;

use serde_json::Value;

use super::facets::{LAYER, REMOVABLE};
use super::shape::Shape;
use crate::chain::check::Checker;
use crate::chain::check::fields::Fields;
use crate::chain::faults::{Fault, nearest, quoted};
use crate::chain::read::{self, Node, Span};
use crate::vocab::persona::PersonaRef;

/// What one file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    pub name: String,
    pub description: String,
    pub parent: Option<PersonaRef>,
    /// By facet.
    pub facets: Value,
    /// Things to take out of what is inherited: the word of [`REMOVABLE`], then their names.
    pub remove: BTreeMap<String, Vec<String>>,
    pub places: Places,
}

/// Where in the file each value stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Places {
    /// By canonical place, such as `preferences.users[anna].keys`.
    values: BTreeMap<String, (Span, String)>,
}

impl Places {
    /// Span and path in the file of exactly this value.
    pub fn get(&self, at: &str) -> Option<(Span, &str)> {
        self.values
            .get(at)
            .map(|(span, path)| (*span, path.as_str()))
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    fn put(&mut self, at: &str, span: Span, path: &str) {
        self.values.insert(at.to_owned(), (span, path.to_owned()));
    }
}

/// A reading: a layer when the file has the shape of one, and the faults so far.
pub struct Reading {
    pub layer: Option<Layer>,
    pub faults: Vec<Fault>,
}

/// Keys of a file beside the facets.
const TOP: &[&str] = &["persona", "description", "parent", "remove"];

/// Reads a persona file. Pure; never panics, whatever the text.
pub fn read(source: &str) -> Reading {
    let reading = read::read(source.as_bytes());
    let mut faults = reading.faults;
    for fault in &mut faults {
        // The reader's only word about what it reads.
        if fault.message == "the file is empty" {
            fault.expected = Some("a persona: `persona: <name>` and its facets".into());
        }
    }
    let mut walk = Walk {
        checker: Checker::of_text(source, faults),
        places: Places::default(),
    };
    let layer = reading.tree.as_ref().and_then(|tree| walk.layer(tree));
    let layer = layer.map(|layer| Layer {
        places: std::mem::take(&mut walk.places),
        ..layer
    });
    Reading {
        layer,
        faults: walk.checker.into_faults(),
    }
}

struct Walk<'a> {
    checker: Checker<'a>,
    places: Places,
}

impl Walk<'_> {
    fn layer(&mut self, tree: &Node) -> Option<Layer> {
        let Shape::Fields(facets) = &LAYER else {
            return None;
        };
        let mut known = TOP.to_vec();
        known.extend(facets.iter().map(|field| field.key));
        let fields = Fields::open(&mut self.checker, tree, "", &known)?;
        let name = fields.need(
            &mut self.checker,
            "persona",
            "the persona's name",
            |c, node, path| c.plain_name(node, path),
        );
        let description = fields.may(&mut self.checker, "description", |c, node, path| {
            c.prose(node, path)
        });
        let parent = fields.may(&mut self.checker, "parent", |c, node, path| {
            let text = c.text(node, path)?;
            match text.parse::<PersonaRef>() {
                Ok(parent) => Some(parent),
                Err(_) => {
                    let fault = Fault::new(
                        node.span,
                        path,
                        format!("{} is not a persona", quoted(&text)),
                    );
                    c.report(fault.expecting("a name such as `base`, or `base@3` for one version"));
                    None
                }
            }
        });
        if let Some(entry) = fields.entry("persona") {
            self.places.put("persona", entry.value.span, "persona");
        }
        if let Some(entry) = fields.entry("parent") {
            self.places.put("parent", entry.value.span, "parent");
        }
        let remove = match fields.entry("remove") {
            Some(entry) => self.removals(&entry.value),
            None => BTreeMap::new(),
        };
        let facets = self.entries(&fields, facets, "");
        Some(Layer {
            name: name.unwrap_or_default(),
            description: description.unwrap_or_default(),
            parent,
            facets: Value::Object(facets),
            remove,
            places: Places::default(),
        })
    }

    fn removals(&mut self, node: &Node) -> BTreeMap<String, Vec<String>> {
        let known: Vec<&'static str> = REMOVABLE.iter().map(|(word, _)| *word).collect();
        let Some(fields) = Fields::open(&mut self.checker, node, "remove", &known) else {
            return BTreeMap::new();
        };
        let mut found = BTreeMap::new();
        for word in known {
            let Some(entry) = fields.entry(word) else {
                continue;
            };
            let path = fields.at(word);
            let Some(items) = self.checker.list(&entry.value, &path, "a list of names") else {
                continue;
            };
            let mut names = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                if let Some(name) = self.checker.text(item, &path) {
                    self.places
                        .put(&format!("remove.{word}[{name}]"), item.span, &path);
                    names.push(name);
                }
            }
            found.insert(word.to_owned(), names);
        }
        found
    }
}

/// `a.b`, or `b` at the top.
pub fn join(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

/// "did you mean …?" among names that are only known at run time.
pub fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let names: Vec<&str> = names.into_iter().collect();
    // `nearest` compares with `_` in place of `-`, as keys have it.
    let same: Vec<String> = names.iter().map(|name| name.replace('-', "_")).collect();
    let near = nearest(word, same.iter().map(String::as_str))?;
    let at = same.iter().position(|name| name == near)?;
    Some(format!("did you mean `{}`?", names[at]))
}
