//! Single values: text, names, words, numbers, quantities.
//!
//! All have one shape: a node and its path in, the value out, or none and a fault.

use super::Checker;
use crate::chain::faults::{Fault, nearest, quoted};
use crate::chain::model::Bounds;
use crate::chain::read::{Content, Node};
use crate::chain::scalar::Meaning;
use crate::chain::units;
use crate::vocab::device::is_plain_name;

use super::fields::{Fields, list};

/// Longest description, bytes.
const MAX_PROSE_BYTES: usize = 4096;

/// Words that other tools use for ours.
const WORDS: [(&str, &str); 8] = [
    ("timeout", "deadline"),
    ("crash", "lost"),
    ("overwrite", "replace"),
    ("set", "replace"),
    ("add", "append"),
    ("merge", "patch"),
    ("text", "binary"),
    ("file", "binary"),
];

impl Checker<'_> {
    pub fn mismatch(&mut self, node: &Node, path: &str, expected: &str) {
        if node.content != Content::Refused {
            let message = format!("this is {}", node.describe());
            self.report(Fault::new(node.span, path, message).expecting(expected));
        }
    }

    /// The text of any scalar, as it was written.
    pub fn scalar_text(&mut self, node: &Node, path: &str, expected: &str) -> Option<String> {
        match &node.content {
            Content::Scalar(scalar) => Some(scalar.text.clone()),
            _ => {
                self.mismatch(node, path, expected);
                None
            }
        }
    }

    /// Text. Numbers and words such as `no` need no quotes where text is expected.
    pub fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        self.scalar_text(node, path, "text")
    }

    pub fn prose(&mut self, node: &Node, path: &str) -> Option<String> {
        let text = self.text(node, path)?;
        if text.len() > MAX_PROSE_BYTES {
            let message = format!("the description has {} bytes", text.len());
            self.report(Fault::new(node.span, path, message).expecting("at most 4 KiB"));
        }
        Some(text.trim_end().to_owned())
    }

    pub fn plain_name(&mut self, node: &Node, path: &str) -> Option<String> {
        self.name_up_to(node, path, 64)
    }

    pub fn name_up_to(&mut self, node: &Node, path: &str, longest: usize) -> Option<String> {
        let expected =
            format!("letters, digits, `.`, `_`, `-`; at most {longest}; first a letter or digit");
        let text = self.scalar_text(node, path, &expected)?;
        if is_plain_name(&text) && text.len() <= longest {
            return Some(text);
        }
        let message = match text.len() {
            0 => "the name is empty".to_owned(),
            long if long > longest => format!("the name has {long} characters"),
            _ => format!("{} is not a plain name", quoted(&text)),
        };
        let mut fault = Fault::new(node.span, path, message).expecting(expected);
        let mended: String = text
            .trim()
            .chars()
            .map(|c| {
                if c.is_whitespace() || c == '/' {
                    '-'
                } else {
                    c
                }
            })
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            .take(longest)
            .collect();
        let mended = mended.trim_start_matches(['.', '_', '-']);
        if is_plain_name(mended) {
            fault = fault.suggesting(format!("for example `{mended}`"));
        }
        self.report(fault);
        None
    }

    pub fn boolean(&mut self, node: &Node, path: &str) -> Option<bool> {
        if let Content::Scalar(scalar) = &node.content {
            if let Meaning::Bool(value) = scalar.meaning() {
                return Some(value);
            }
            if scalar.is_old_boolean() {
                let yes = matches!(
                    scalar.text.to_ascii_lowercase().as_str(),
                    "yes" | "on" | "y"
                );
                let message = format!("{} is text, not a boolean", quoted(&scalar.text));
                let fault = Fault::new(node.span, path, message).expecting("true or false");
                self.report(fault.suggesting(format!("write `{yes}`")));
                return None;
            }
            if !scalar.plain && matches!(scalar.text.as_str(), "true" | "false") {
                let fault = Fault::new(node.span, path, "this is text, because of its quotes");
                let fault = fault.expecting("true or false");
                self.report(fault.suggesting(format!("write `{}` without quotes", scalar.text)));
                return None;
            }
        }
        self.mismatch(node, path, "true or false");
        None
    }

    /// A whole number within bounds; its unit is part of the key's meaning.
    pub fn count(&mut self, node: &Node, path: &str, least: u64, most: u64) -> Option<u64> {
        let expected = format!("a whole number from {least} to {most}");
        let Content::Scalar(scalar) = &node.content else {
            self.mismatch(node, path, &expected);
            return None;
        };
        match scalar.meaning() {
            Meaning::Number(number) if number.as_u64().is_some() => {
                self.within(node, path, &expected, number.as_u64()?, least, most)
            }
            Meaning::Doubtful(why) => {
                let message = format!("{} is not a clear number: {why}", quoted(&scalar.text));
                let mended = scalar.text.trim_start_matches('0');
                let mut fault = Fault::new(node.span, path, message).expecting(expected);
                if !mended.is_empty() && mended.bytes().all(|digit| digit.is_ascii_digit()) {
                    fault = fault.suggesting(format!("write `{mended}`"));
                }
                self.report(fault);
                None
            }
            _ => {
                self.mismatch(node, path, &expected);
                None
            }
        }
    }

    pub fn decimal(&mut self, node: &Node, path: &str, least: f64, most: f64) -> Option<f64> {
        let expected = format!("a number from {least} to {most}");
        if let Content::Scalar(scalar) = &node.content
            && let Meaning::Number(number) = scalar.meaning()
            && let Some(value) = number.as_f64()
        {
            return self.within(node, path, &expected, value, least, most);
        }
        self.mismatch(node, path, &expected);
        None
    }

    /// One of a closed set of words.
    pub fn word<T: Copy>(
        &mut self,
        node: &Node,
        path: &str,
        what: &str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let expected = format!("one of {}", list(&names));
        let text = self.scalar_text(node, path, &expected)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let message = format!("{} is not {what}", quoted(&text));
        let mut fault = Fault::new(node.span, path, message).expecting(expected);
        let synonym = WORDS
            .iter()
            .find(|(theirs, ours)| *theirs == text && names.contains(ours));
        if let Some(near) = nearest(&text, names.iter().copied()).or(synonym.map(|(_, ours)| *ours))
        {
            fault = fault.suggesting(format!("did you mean `{near}`?"));
        }
        self.report(fault);
        None
    }

    pub fn list<'n>(&mut self, node: &'n Node, path: &str, expected: &str) -> Option<&'n [Node]> {
        match &node.content {
            Content::List(items) => Some(items),
            _ => {
                self.mismatch(node, path, expected);
                None
            }
        }
    }

    /// Mebibytes, rounded up.
    pub fn size_mib(&mut self, node: &Node, path: &str, least: u64, most: u64) -> Option<u64> {
        let expected = format!("a size from {} to {}", mib(least), mib(most));
        let bytes = self.quantity(node, path, &expected, units::size_bytes)?;
        self.within(node, path, &expected, bytes.div_ceil(1 << 20), least, most)
    }

    pub fn size_bytes(&mut self, node: &Node, path: &str, least: u64, most: u64) -> Option<u64> {
        let expected = format!("a size from {least} B to {}", mib(most >> 20));
        let bytes = self.quantity(node, path, &expected, units::size_bytes)?;
        self.within(node, path, &expected, bytes, least, most)
    }

    /// Kilobytes (1000) a second, rounded up.
    pub fn rate(&mut self, node: &Node, path: &str) -> Option<u64> {
        let expected = "a rate from 1 kB/s to 100 GB/s";
        let bytes = self.quantity(node, path, expected, units::rate_bytes_per_s)?;
        self.within(node, path, expected, bytes.div_ceil(1000), 1, 100_000_000)
    }

    pub fn seconds(&mut self, node: &Node, path: &str, least: f64, most: f64) -> Option<f64> {
        let expected = format!("a duration from {} to {}", span(least), span(most));
        let seconds = self.quantity(node, path, &expected, units::duration_s)?;
        self.within(node, path, &expected, seconds, least, most)
    }

    /// Whole seconds, rounded up.
    pub fn whole_seconds(&mut self, node: &Node, path: &str, least: u32, most: u32) -> Option<u64> {
        self.seconds(node, path, least.into(), most.into())
            .map(|seconds| seconds.ceil() as u64)
    }

    fn within<T: PartialOrd>(
        &mut self,
        node: &Node,
        path: &str,
        expected: &str,
        value: T,
        least: T,
        most: T,
    ) -> Option<T> {
        if value >= least && value <= most {
            return Some(value);
        }
        let text = match &node.content {
            Content::Scalar(scalar) => quoted(&scalar.text),
            _ => "this".into(),
        };
        let problem = if value < least {
            "too small"
        } else {
            "too large"
        };
        self.report(
            Fault::new(node.span, path, format!("{text} is {problem}")).expecting(expected),
        );
        None
    }

    /// A scalar, or `{ min: …, max: … }`.
    pub fn bounds(
        &mut self,
        node: &Node,
        path: &str,
        decode: impl Fn(&mut Self, &Node, &str) -> Option<u64>,
    ) -> Option<Bounds> {
        if let Content::List(_) = node.content {
            self.mismatch(node, path, "one value, or `{ min: …, max: … }`");
            return None;
        }
        if !matches!(node.content, Content::Map(_)) {
            return decode(self, node, path).map(|value| Bounds {
                min: value,
                max: value,
            });
        }
        let fields = Fields::open(self, node, path, &["min", "max"])?;
        let min = fields.need(self, "min", "the lower bound", |checker, node, path| {
            decode(checker, node, path)
        });
        let max = fields.need(self, "max", "the upper bound", |checker, node, path| {
            decode(checker, node, path)
        });
        let (min, max) = (min?, max?);
        if min > max {
            let span = fields
                .entry("min")
                .map_or(node.span, |entry| entry.value.span);
            let fault = Fault::new(span, path, "`min` is larger than `max`");
            self.report(fault.suggesting("swap them"));
            return None;
        }
        Some(Bounds { min, max })
    }
}

fn mib(size: u64) -> String {
    match size {
        size if size >= 1 << 20 && size.is_multiple_of(1 << 20) => format!("{} TiB", size >> 20),
        size if size >= 1 << 10 && size.is_multiple_of(1 << 10) => format!("{} GiB", size >> 10),
        size => format!("{size} MiB"),
    }
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s >= 86_400.0 && s % 86_400.0 == 0.0 => format!("{} d", s / 86_400.0),
        s if s >= 3600.0 && s % 3600.0 == 0.0 => format!("{} h", s / 3600.0),
        s => format!("{s} s"),
    }
}
