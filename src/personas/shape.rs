//! What may stand in a persona file, as data: read by [`super::read`] (which value is right here) and
//! [`super::merge`] (how two layers become one). The tables are in [`super::facets`].

use serde_json::Value;

/// Why a text is refused, and what would be right.
pub struct Wrong {
    pub message: String,
    pub suggestion: Option<String>,
}

impl Wrong {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            suggestion: None,
        }
    }

    pub fn suggesting(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

/// One kind of text: parsed once here, and safe for the files it ends up in from then on.
pub struct Word {
    pub expected: &'static str,
    /// The value as it is kept.
    pub parse: fn(&str) -> Result<String, Wrong>,
}

pub enum Shape {
    Text(&'static Word),
    Flag,
    Count {
        least: u64,
        most: u64,
    },
    /// Kept in MiB.
    SizeMib {
        least: u64,
        most: u64,
    },
    /// Kept in seconds.
    Seconds {
        least: f64,
        most: f64,
    },
    /// One of a few words; what they are words for.
    Choice(&'static str, &'static [&'static str]),
    Fields(&'static [Field]),
    /// `{ min, max }`, or the minimum alone.
    AtLeast(&'static [Field]),
    /// Things with a name of their own; what they are called in messages.
    Named {
        what: &'static str,
        key: fn(&Value) -> String,
        fields: &'static [Field],
        most: usize,
    },
    List {
        of: &'static Word,
        most: usize,
    },
    /// Free keys.
    Table {
        key: &'static Word,
        value: &'static Shape,
        most: usize,
    },
    /// A text, a number or true/false, as it stands.
    Scalar(&'static Word),
}

pub struct Field {
    /// As people write it.
    pub key: &'static str,
    /// As the document has it, with its unit.
    pub name: &'static str,
    pub shape: Shape,
    /// What is said when it is missing; none: it may be.
    pub need: Option<&'static str>,
}

impl Field {
    pub const fn may(key: &'static str, shape: Shape) -> Self {
        Self {
            key,
            name: key,
            shape,
            need: None,
        }
    }

    pub const fn need(key: &'static str, what: &'static str, shape: Shape) -> Self {
        Self {
            key,
            name: key,
            shape,
            need: Some(what),
        }
    }

    pub const fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }
}

/// The key of a thing that has a `name`.
pub fn by_name(value: &Value) -> String {
    text_of(value, "name")
}

pub fn text_of(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
