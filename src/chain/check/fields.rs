//! The entries of one mapping: known keys, missing keys, keys without a value.

use super::Checker;
use crate::chain::faults::{Fault, nearest, quoted};
use crate::chain::read::{Content, Entry, Node, Span};

pub struct Fields<'n> {
    span: Span,
    path: String,
    entries: &'n [Entry],
    /// Unknown keys, each with the known one that was probably meant.
    meant: Vec<(&'static str, &'n Entry)>,
}

/// Words that other tools use for ours.
const SYNONYMS: [(&str, &str); 26] = [
    ("name", "chain"),
    ("steps", "stages"),
    ("tasks", "stages"),
    ("if", "when"),
    ("trigger", "when"),
    ("disk", "handoff_disk"),
    ("type", "kind"),
    ("timeout", "deadline"),
    ("retries", "retry"),
    ("cmd", "command"),
    ("exec", "command"),
    ("args", "command"),
    ("shell", "run"),
    ("file", "script"),
    ("rollback", "undo"),
    ("cpu", "vcpus"),
    ("cpus", "vcpus"),
    ("cores", "vcpus"),
    ("ram", "memory"),
    ("mem", "memory"),
    ("bandwidth", "network"),
    ("query", "select"),
    ("transform", "select"),
    ("jmespath", "select"),
    ("max_size", "max"),
    ("tries", "attempts"),
];

/// Keys that exist, but further in.
const HOMES: [(&str, &str); 19] = [
    ("vcpus", "resources"),
    ("cpu", "resources"),
    ("cpus", "resources"),
    ("memory", "resources"),
    ("ram", "resources"),
    ("disk", "resources"),
    ("predict", "resources"),
    ("select", "input"),
    ("schema", "input"),
    ("format", "output"),
    ("merge", "output"),
    ("max", "output"),
    ("attempts", "retry"),
    ("backoff", "retry"),
    ("image", "stages"),
    ("timeout", "stages"),
    ("deadline", "stages"),
    ("retry", "stages"),
    ("hold", "on_failure"),
];

impl<'n> Fields<'n> {
    /// Opens a mapping and reports the keys that do not belong there. None when it is no mapping.
    pub fn open(
        checker: &mut Checker<'_>,
        node: &'n Node,
        path: &str,
        known: &[&'static str],
    ) -> Option<Self> {
        let entries = match &node.content {
            Content::Map(entries) => entries,
            Content::Refused => return None,
            _ => {
                let message = format!("this is {}", node.describe());
                let expected = format!("a mapping with {}", list(known));
                checker.report(Fault::new(node.span, path, message).expecting(expected));
                return None;
            }
        };
        let mut fields = Self {
            span: node.span,
            path: path.to_owned(),
            entries,
            meant: Vec::new(),
        };
        for entry in entries
            .iter()
            .filter(|entry| !known.contains(&entry.key.as_str()))
        {
            let message = format!("there is no key {} here", quoted(&entry.key));
            let fault = Fault::new(entry.key_span, fields.at(&entry.key), message);
            checker.report(match fields.probably(&entry.key, known) {
                Some(near) => {
                    fields.meant.push((near, entry));
                    fault.suggesting(format!("did you mean `{near}`?"))
                }
                None => match HOMES
                    .iter()
                    .find(|(word, home)| *word == entry.key && known.contains(home))
                {
                    Some((_, home)) => fault.suggesting(format!("it belongs under `{home}`")),
                    None => fault.suggesting(format!("the keys are {}", list(known))),
                },
            });
        }
        Some(fields)
    }

    /// The known key that was probably meant, unless it is there besides.
    fn probably(&self, word: &str, known: &[&'static str]) -> Option<&'static str> {
        let synonym = SYNONYMS
            .iter()
            .find(|(theirs, ours)| *theirs == word.to_lowercase() && known.contains(ours));
        nearest(word, known.iter().copied())
            .or(synonym.map(|(_, ours)| *ours))
            .filter(|near| self.entry(near).is_none())
    }

    pub fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The entry of this key, or the one that was probably meant as it: that has had its fault, and
    /// its value deserves to be looked at all the same.
    pub fn entry(&self, key: &str) -> Option<&'n Entry> {
        let meant = || {
            self.meant
                .iter()
                .find(|(near, _)| *near == key)
                .map(|(_, entry)| *entry)
        };
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .or_else(meant)
    }

    /// The value of an optional key.
    pub fn may<'c, T>(
        &self,
        checker: &mut Checker<'c>,
        key: &str,
        decode: impl FnOnce(&mut Checker<'c>, &'n Node, &str) -> Option<T>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        let path = self.at(&entry.key);
        if entry.value.is_null() {
            let fault = Fault::new(
                entry.key_span,
                path,
                format!("{} has no value", quoted(key)),
            );
            checker.report(fault.suggesting("give it one, or remove the key"));
            return None;
        }
        decode(checker, &entry.value, &path)
    }

    /// The value of a key that must be there; `what` says what it is.
    pub fn need<'c, T>(
        &self,
        checker: &mut Checker<'c>,
        key: &str,
        what: &str,
        decode: impl FnOnce(&mut Checker<'c>, &'n Node, &str) -> Option<T>,
    ) -> Option<T> {
        if self.entry(key).is_none() {
            self.missing(checker, key, what);
            return None;
        }
        self.may(checker, key, decode)
    }

    pub fn missing(&self, checker: &mut Checker<'_>, key: &str, what: &str) {
        let span = self.start();
        let fault = Fault::new(
            span,
            self.at(key),
            format!("the key {} is missing", quoted(key)),
        );
        checker.report(fault.expecting(what));
    }

    /// Where the mapping begins, for what is missing in it.
    pub fn start(&self) -> Span {
        self.entries
            .first()
            .map_or(self.span, |entry| entry.key_span)
    }

    pub fn path(&self) -> &str {
        &self.path
    }
}

pub fn list(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
