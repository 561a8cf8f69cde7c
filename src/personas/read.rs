//! A persona file becomes a layer: what it says itself, in canonical form, with the place of each value.
//!
//! Each value is judged here on its own (its alphabet, its bounds); what values mean together is left
//! to [`super::check`], after merging. The reading is that of chains (`chain::read`): spanned, strict,
//! all faults at once.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::facets::{LAYER, REMOVABLE};
use super::shape::{Field, Shape, Word};
use crate::chain::check::Checker;
use crate::chain::check::fields::Fields;
use crate::chain::faults::{Fault, nearest, quoted};
use crate::chain::read::{self, Content, Node, Span};
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
        self.values.get(at).map(|(span, path)| (*span, path.as_str()))
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
        let name = fields.need(&mut self.checker, "persona", "the persona's name", |c, node, path| {
            c.plain_name(node, path)
        });
        let description = fields.may(&mut self.checker, "description", |c, node, path| c.prose(node, path));
        let parent = fields.may(&mut self.checker, "parent", |c, node, path| {
            let text = c.text(node, path)?;
            match text.parse::<PersonaRef>() {
                Ok(parent) => Some(parent),
                Err(_) => {
                    let fault = Fault::new(node.span, path, format!("{} is not a persona", quoted(&text)));
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
                    self.places.put(&format!("remove.{word}[{name}]"), item.span, &path);
                    names.push(name);
                }
            }
            found.insert(word.to_owned(), names);
        }
        found
    }

    /// The entries of an open mapping, by the table of its keys.
    fn entries(&mut self, fields: &Fields<'_>, table: &'static [Field], at: &str) -> Map<String, Value> {
        let mut object = Map::new();
        for field in table {
            let Some(entry) = fields.entry(field.key) else {
                if let Some(what) = field.need {
                    fields.missing(&mut self.checker, field.key, what);
                }
                continue;
            };
            let path = fields.at(&entry.key);
            let place = join(at, field.name);
            if entry.value.is_null() {
                let message = format!("{} has no value", quoted(field.key));
                let fault = Fault::new(entry.key_span, path, message);
                self.checker.report(fault.suggesting("give it one, or remove the key"));
                continue;
            }
            if let Some(value) = self.value(&field.shape, &entry.value, &path, &place) {
                object.insert(field.name.to_owned(), value);
            }
        }
        object
    }

    fn value(&mut self, shape: &'static Shape, node: &Node, path: &str, at: &str) -> Option<Value> {
        self.places.put(at, node.span, path);
        match shape {
            Shape::Text(word) => self.word(word, node, path).map(Value::from),
            Shape::Scalar(word) => self.scalar(word, node, path),
            Shape::Flag => self.checker.boolean(node, path).map(Value::from),
            Shape::Count { least, most } => self.checker.count(node, path, *least, *most).map(Value::from),
            Shape::SizeMib { least, most } => self.checker.size_mib(node, path, *least, *most).map(Value::from),
            Shape::Seconds { least, most } => {
                let seconds = self.checker.seconds(node, path, *least, *most)?;
                Some(if seconds.fract() == 0.0 {
                    Value::from(seconds as u64)
                } else {
                    Value::from(seconds)
                })
            }
            Shape::Choice(what, words) => {
                let table: Vec<(&'static str, &'static str)> = words.iter().map(|word| (*word, *word)).collect();
                self.checker.word(node, path, what, &table).map(Value::from)
            }
            Shape::Fields(table) => {
                let known: Vec<&'static str> = table.iter().map(|field| field.key).collect();
                let fields = Fields::open(&mut self.checker, node, path, &known)?;
                Some(Value::Object(self.entries(&fields, table, at)))
            }
            Shape::AtLeast(table) => self.at_least(table, node, path, at),
            Shape::Named { what, key, fields, most } => self.named(what, *key, fields, *most, node, path, at),
            Shape::List { of, most } => self.list(of, *most, node, path, at),
            Shape::Table { key, value, most } => self.table(key, value, *most, node, path, at),
        }
    }

    fn at_least(&mut self, table: &'static [Field], node: &Node, path: &str, at: &str) -> Option<Value> {
        if matches!(node.content, Content::Scalar(_)) {
            let least = self.value(&table[0].shape, node, path, &join(at, table[0].name))?;
            return Some(Value::Object(Map::from_iter([(table[0].name.to_owned(), least)])));
        }
        let known: Vec<&'static str> = table.iter().map(|field| field.key).collect();
        let fields = Fields::open(&mut self.checker, node, path, &known)?;
        Some(Value::Object(self.entries(&fields, table, at)))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one shape, and one place")]
    fn named(
        &mut self,
        what: &str,
        key: fn(&Value) -> String,
        table: &'static [Field],
        most: usize,
        node: &Node,
        path: &str,
        at: &str,
    ) -> Option<Value> {
        let items = self.checker.list(node, path, &format!("a list of {what}s, each a mapping"))?;
        self.at_most(items.len(), most, node, path);
        let known: Vec<&'static str> = table.iter().map(|field| field.key).collect();
        let mut found: Vec<(String, usize)> = Vec::new();
        let mut values = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(fields) = Fields::open(&mut self.checker, item, &path, &known) else {
                continue;
            };
            // The name decides the item's place, and is read first for that; its faults come later.
            let name = self.name_of(&fields, table, key);
            let value = Value::Object(self.entries(&fields, table, &format!("{at}[{name}]")));
            self.places.put(&format!("{at}[{name}]"), item.span, &path);
            let twin = found.iter().find(|(earlier, _)| *earlier == name && !name.is_empty());
            if let Some((_, line)) = twin {
                let message = format!("a second {what} is called {}", quoted(&name));
                let fault = Fault::new(fields.start(), path.clone(), message);
                self.checker.report(fault.suggesting(format!("the first one is in line {line}")));
                continue;
            }
            found.push((name, fields.start().line));
            values.push(value);
        }
        Some(Value::Array(values))
    }

    /// The key of an item as it will be, read in silence.
    fn name_of(&self, fields: &Fields<'_>, table: &'static [Field], key: fn(&Value) -> String) -> String {
        let mut object = Map::new();
        for field in table {
            let Some(entry) = fields.entry(field.key) else {
                continue;
            };
            let Content::Scalar(scalar) = &entry.value.content else {
                continue;
            };
            let value = match field.shape {
                Shape::Count { .. } => scalar.text.parse::<u64>().ok().map(Value::from),
                Shape::Text(word) => Some(Value::from((word.parse)(&scalar.text).unwrap_or_else(|_| scalar.text.clone()))),
                Shape::Choice(..) => Some(Value::from(scalar.text.clone())),
                _ => None,
            };
            if let Some(value) = value {
                object.insert(field.name.to_owned(), value);
            }
        }
        key(&Value::Object(object))
    }

    fn list(&mut self, word: &Word, most: usize, node: &Node, path: &str, at: &str) -> Option<Value> {
        let items = self.checker.list(node, path, &format!("a list; each: {}", word.expected))?;
        self.at_most(items.len(), most, node, path);
        let mut values: Vec<Value> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.places.put(&format!("{at}[{index}]"), item.span, &path);
            let Some(value) = self.word(word, item, &path).map(Value::from) else {
                continue;
            };
            if values.contains(&value) {
                let message = format!("{} stands here again", quoted(value.as_str().unwrap_or_default()));
                self.checker.report(Fault::new(item.span, path, message).suggesting("once is enough"));
                continue;
            }
            values.push(value);
        }
        Some(Value::Array(values))
    }

    fn table(
        &mut self,
        key: &Word,
        shape: &'static Shape,
        most: usize,
        node: &Node,
        path: &str,
        at: &str,
    ) -> Option<Value> {
        let Content::Map(entries) = &node.content else {
            self.checker.mismatch(node, path, &format!("a mapping; each key {}", key.expected));
            return None;
        };
        self.at_most(entries.len(), most, node, path);
        let mut object = Map::new();
        for entry in entries {
            let path = format!("{path}.{}", entry.key);
            if let Err(wrong) = (key.parse)(&entry.key) {
                let mut fault = Fault::new(entry.key_span, path.clone(), wrong.message).expecting(key.expected);
                fault.suggestion = wrong.suggestion;
                self.checker.report(fault);
                continue;
            }
            if let Some(value) = self.value(shape, &entry.value, &path, &join(at, &entry.key)) {
                object.insert(entry.key.clone(), value);
            }
        }
        Some(Value::Object(object))
    }

    fn word(&mut self, word: &Word, node: &Node, path: &str) -> Option<String> {
        let text = self.checker.scalar_text(node, path, word.expected)?;
        match (word.parse)(&text) {
            Ok(text) => Some(text),
            Err(wrong) => {
                let mut fault = Fault::new(node.span, path, wrong.message).expecting(word.expected);
                fault.suggestion = wrong.suggestion;
                self.checker.report(fault);
                None
            }
        }
    }

    /// Kept as text: kernel settings and those of applications are read by other programs.
    fn scalar(&mut self, word: &Word, node: &Node, path: &str) -> Option<Value> {
        self.word(word, node, path).map(Value::from)
    }

    fn at_most(&mut self, count: usize, most: usize, node: &Node, path: &str) {
        if count > most {
            let fault = Fault::new(node.span, path, format!("there are {count}"));
            self.checker.report(fault.expecting(format!("at most {most}")));
        }
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
