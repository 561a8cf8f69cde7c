//! What plain text means: the scalars of YAML 1.2's core schema (section 10.3.2), strictly.
//!
//! Three traps are named rather than sprung: `no`, `off`, `yes` and `on` were booleans in YAML 1.1
//! and are text now; `0755` was octal and is ambiguous; `.inf` and `.nan` do not exist in JSON.

use serde_json::{Map, Number, Value};

use super::faults::{Fault, quoted};
use super::read::{Content, Node, Scalar};

/// A scalar, resolved.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// Text that people read as different numbers, or that no JSON number can hold.
    Doubtful(&'static str),
}

impl Scalar {
    pub fn meaning(&self) -> Meaning {
        if !self.plain {
            return Meaning::Text(self.text.clone());
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
            "true" | "True" | "TRUE" => Meaning::Bool(true),
            "false" | "False" | "FALSE" => Meaning::Bool(false),
            text => number(text).unwrap_or_else(|| Meaning::Text(text.to_owned())),
        }
    }

    /// A word that YAML 1.1 took for a boolean.
    pub fn is_old_boolean(&self) -> bool {
        const WORDS: [&str; 6] = ["yes", "no", "on", "off", "y", "n"];
        self.plain && WORDS.contains(&self.text.to_ascii_lowercase().as_str())
    }
}

fn number(text: &str) -> Option<Meaning> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(
        unsigned,
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"
    ) {
        return Some(Meaning::Doubtful("JSON has no such number"));
    }
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_digit(radix))
        {
            return Some(match u64::from_str_radix(digits, radix) {
                Ok(value) => Meaning::Number(value.into()),
                Err(_) => Meaning::Doubtful("the number is too large"),
            });
        }
    }
    if !looks_decimal(unsigned) {
        return None;
    }
    let whole = unsigned.chars().all(|c| c.is_ascii_digit());
    if unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.as_bytes()[1].is_ascii_digit() {
        return Some(Meaning::Doubtful(
            "a leading zero means octal to some and nothing to others",
        ));
    }
    if whole {
        let value = text.strip_prefix('+').unwrap_or(text);
        let parsed = value.parse::<u64>().map(Number::from);
        let parsed = parsed.or_else(|_| value.parse::<i64>().map(Number::from));
        return Some(parsed.map_or(
            Meaning::Doubtful("the number is too large"),
            Meaning::Number,
        ));
    }
    let finite = text.parse::<f64>().ok().and_then(Number::from_f64);
    Some(finite.map_or(
        Meaning::Doubtful("the number is too large"),
        Meaning::Number,
    ))
}

/// `[0-9]+(\.[0-9]*)?` or `\.[0-9]+`, then an optional exponent.
fn looks_decimal(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_ok = exponent.is_none_or(|exponent| {
        let figures = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !figures.is_empty() && digits(figures)
    });
    exponent_ok && digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty())
}

impl Node {
    /// The tree as a JSON value, for places that take any document (schemas). A doubtful scalar is
    /// a fault and becomes its text.
    pub fn to_value(&self, path: &str, faults: &mut Vec<Fault>) -> Value {
        match &self.content {
            Content::Refused => Value::Null,
            Content::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => Value::Null,
                Meaning::Bool(value) => Value::Bool(value),
                Meaning::Number(value) => Value::Number(value),
                Meaning::Text(text) => Value::String(text),
                Meaning::Doubtful(why) => {
                    let message = format!("{} is not a clear number: {why}", quoted(&scalar.text));
                    faults.push(
                        Fault::new(self.span, path, message)
                            .expecting("a number, or text in quotes")
                            .suggesting(format!("write \"{}\" if text is meant", scalar.text)),
                    );
                    Value::String(scalar.text.clone())
                }
            },
            Content::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| item.to_value(&format!("{path}[{index}]"), faults))
                .collect(),
            Content::Map(entries) => {
                let mut object = Map::new();
                for entry in entries {
                    let place = format!("{path}.{}", entry.key);
                    object.insert(entry.key.clone(), entry.value.to_value(&place, faults));
                }
                Value::Object(object)
            }
        }
    }

    /// "a list", "the number 5", …: what was found where something else was expected.
    pub fn describe(&self) -> String {
        match &self.content {
            Content::Refused => "something refused".into(),
            Content::List(_) => "a list".into(),
            Content::Map(_) => "a mapping".into(),
            Content::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => "nothing".into(),
                Meaning::Bool(value) => format!("the boolean {value}"),
                Meaning::Number(value) => format!("the number {value}"),
                Meaning::Text(text) => format!("the text {}", quoted(&text)),
                Meaning::Doubtful(_) => format!("the text {}", quoted(&scalar.text)),
            },
        }
    }
}
