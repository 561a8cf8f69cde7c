//! The walk over a persona's tree, by the tables of keys: each place gives its value or leaves a fault.

use serde_json::{Map, Value};

use super::{Walk, join};
use crate::chain::check::fields::Fields;
use crate::chain::faults::{Fault, quoted};
use crate::chain::read::{Content, Node};
use crate::personas::shape::{Field, Shape, Word};

impl Walk<'_> {
    /// The entries of an open mapping, by the table of its keys.
    pub(super) fn entries(
        &mut self,
        fields: &Fields<'_>,
        table: &'static [Field],
        at: &str,
    ) -> Map<String, Value> {
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
                self.checker
                    .report(fault.suggesting("give it one, or remove the key"));
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
            Shape::Count { least, most } => self
                .checker
                .count(node, path, *least, *most)
                .map(Value::from),
            Shape::SizeMib { least, most } => self
                .checker
                .size_mib(node, path, *least, *most)
                .map(Value::from),
            Shape::Seconds { least, most } => {
                let seconds = self.checker.seconds(node, path, *least, *most)?;
                Some(if seconds.fract() == 0.0 {
                    Value::from(seconds as u64)
                } else {
                    Value::from(seconds)
                })
            }
            Shape::Choice(what, words) => {
                let table: Vec<(&'static str, &'static str)> =
                    words.iter().map(|word| (*word, *word)).collect();
                self.checker.word(node, path, what, &table).map(Value::from)
            }
            Shape::Fields(table) => {
                let known: Vec<&'static str> = table.iter().map(|field| field.key).collect();
                let fields = Fields::open(&mut self.checker, node, path, &known)?;
                Some(Value::Object(self.entries(&fields, table, at)))
            }
            Shape::AtLeast(table) => self.at_least(table, node, path, at),
            Shape::Named {
                what,
                key,
                fields,
                most,
            } => self.named(what, *key, fields, *most, node, path, at),
            Shape::List { of, most } => self.list(of, *most, node, path, at),
            Shape::Table { key, value, most } => self.table(key, value, *most, node, path, at),
        }
    }

    fn at_least(
        &mut self,
        table: &'static [Field],
        node: &Node,
        path: &str,
        at: &str,
    ) -> Option<Value> {
        if matches!(node.content, Content::Scalar(_)) {
            let least = self.value(&table[0].shape, node, path, &join(at, table[0].name))?;
            return Some(Value::Object(Map::from_iter([(
                table[0].name.to_owned(),
                least,
            )])));
        }
        let known: Vec<&'static str> = table.iter().map(|field| field.key).collect();
        let fields = Fields::open(&mut self.checker, node, path, &known)?;
        Some(Value::Object(self.entries(&fields, table, at)))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one shape, and one place"
    )]
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
        let items = self
            .checker
            .list(node, path, &format!("a list of {what}s, each a mapping"))?;
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
            let twin = found
                .iter()
                .find(|(earlier, _)| *earlier == name && !name.is_empty());
            if let Some((_, line)) = twin {
                let message = format!("a second {what} is called {}", quoted(&name));
                let fault = Fault::new(fields.start(), path.clone(), message);
                self.checker
                    .report(fault.suggesting(format!("the first one is in line {line}")));
                continue;
            }
            found.push((name, fields.start().line));
            values.push(value);
        }
        Some(Value::Array(values))
    }

    /// The key of an item as it will be, read in silence.
    fn name_of(
        &self,
        fields: &Fields<'_>,
        table: &'static [Field],
        key: fn(&Value) -> String,
    ) -> String {
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
                Shape::Text(word) => Some(Value::from(
                    (word.parse)(&scalar.text).unwrap_or_else(|_| scalar.text.clone()),
                )),
                Shape::Choice(..) => Some(Value::from(scalar.text.clone())),
                _ => None,
            };
            if let Some(value) = value {
                object.insert(field.name.to_owned(), value);
            }
        }
        key(&Value::Object(object))
    }

    fn list(
        &mut self,
        word: &Word,
        most: usize,
        node: &Node,
        path: &str,
        at: &str,
    ) -> Option<Value> {
        let items = self
            .checker
            .list(node, path, &format!("a list; each: {}", word.expected))?;
        self.at_most(items.len(), most, node, path);
        let mut values: Vec<Value> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.places.put(&format!("{at}[{index}]"), item.span, &path);
            let Some(value) = self.word(word, item, &path).map(Value::from) else {
                continue;
            };
            if values.contains(&value) {
                let message = format!(
                    "{} stands here again",
                    quoted(value.as_str().unwrap_or_default())
                );
                self.checker
                    .report(Fault::new(item.span, path, message).suggesting("once is enough"));
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
            self.checker
                .mismatch(node, path, &format!("a mapping; each key {}", key.expected));
            return None;
        };
        self.at_most(entries.len(), most, node, path);
        let mut object = Map::new();
        for entry in entries {
            let path = format!("{path}.{}", entry.key);
            if let Err(wrong) = (key.parse)(&entry.key) {
                let mut fault =
                    Fault::new(entry.key_span, path.clone(), wrong.message).expecting(key.expected);
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
            self.checker
                .report(fault.expecting(format!("at most {most}")));
        }
    }
}
