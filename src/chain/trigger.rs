//! Triggers: the `when:` of a chain, an expression over `device` that is true or false.
//!
//! The syntax is that of Jinja expressions, which Ansible users know, evaluated by `minijinja` in an
//! environment that starts empty: no functions, no globals, no output, only filters and tests whose
//! work is bounded by the size of the facts. What is not defined is an error and never silently
//! false, so that a typing mistake cannot make a chain quietly stop matching; ask with
//! `is defined` or give a `default`.

use std::ops::Range;
use std::sync::LazyLock;

use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind, Expression, UndefinedBehavior, filters, tests};

use super::faults::{nearest, quoted};

/// Longest expression, bytes.
pub const MAX_BYTES: usize = 2048;
/// Instructions that one evaluation may take.
const FUEL: u64 = 50_000;

const FILTERS: [&str; 26] = [
    "abs",
    "bool",
    "default",
    "first",
    "float",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "round",
    "select",
    "selectattr",
    "sort",
    "string",
    "sum",
    "trim",
    "unique",
    "upper",
];

const TESTS: [&str; 26] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.add_filter("abs", filters::abs);
    env.add_filter("bool", filters::bool);
    env.add_filter("default", filters::default);
    env.add_filter("first", filters::first);
    env.add_filter("float", filters::float);
    env.add_filter("int", filters::int);
    env.add_filter("items", filters::items);
    env.add_filter("join", filters::join);
    env.add_filter("last", filters::last);
    env.add_filter("length", filters::length);
    env.add_filter("list", filters::list);
    env.add_filter("lower", filters::lower);
    env.add_filter("map", filters::map);
    env.add_filter("max", filters::max);
    env.add_filter("min", filters::min);
    env.add_filter("reject", filters::reject);
    env.add_filter("rejectattr", filters::rejectattr);
    env.add_filter("round", filters::round);
    env.add_filter("select", filters::select);
    env.add_filter("selectattr", filters::selectattr);
    env.add_filter("sort", filters::sort);
    env.add_filter("string", filters::string);
    env.add_filter("sum", filters::sum);
    env.add_filter("trim", filters::trim);
    env.add_filter("unique", filters::unique);
    env.add_filter("upper", filters::upper);
    env.add_test("boolean", tests::is_boolean);
    env.add_test("defined", tests::is_defined);
    env.add_test("divisibleby", tests::is_divisibleby);
    env.add_test("endingwith", tests::is_endingwith);
    env.add_test("eq", tests::is_eq);
    env.add_test("even", tests::is_even);
    env.add_test("false", tests::is_false);
    env.add_test("float", tests::is_float);
    env.add_test("ge", tests::is_ge);
    env.add_test("gt", tests::is_gt);
    env.add_test("in", tests::is_in);
    env.add_test("integer", tests::is_integer);
    env.add_test("le", tests::is_le);
    env.add_test("lower", tests::is_lower);
    env.add_test("lt", tests::is_lt);
    env.add_test("mapping", tests::is_mapping);
    env.add_test("ne", tests::is_ne);
    env.add_test("none", tests::is_none);
    env.add_test("number", tests::is_number);
    env.add_test("odd", tests::is_odd);
    env.add_test("sequence", tests::is_sequence);
    env.add_test("startingwith", tests::is_startingwith);
    env.add_test("string", tests::is_string);
    env.add_test("true", tests::is_true);
    env.add_test("undefined", tests::is_undefined);
    env.add_test("upper", tests::is_upper);
    env
});

/// A checked trigger expression.
#[derive(Debug)]
pub struct Trigger {
    expression: Expression<'static, 'static>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    #[error("the expression is empty")]
    Empty,
    #[error("the expression is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("{message}")]
    Syntax {
        message: String,
        /// Offending bytes of the expression, where they are known.
        bytes: Option<Range<usize>>,
    },
    /// A name, filter, test or method that does not exist.
    #[error("there is no {what} {name}")]
    Unknown {
        what: &'static str,
        /// In backticks.
        name: String,
        suggestion: Option<String>,
        bytes: Option<Range<usize>>,
    },
    /// It could not be evaluated over these facts.
    #[error("{0}")]
    Evaluation(String),
    #[error("the result is {got}, not true or false")]
    NotBoolean { got: String },
}

impl TriggerError {
    /// The offending bytes of the expression, where they are known.
    pub fn bytes(&self) -> Option<Range<usize>> {
        match self {
            Self::Syntax { bytes, .. } | Self::Unknown { bytes, .. } => bytes.clone(),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn suggestion(&self) -> Option<String> {
        match self {
            Self::Unknown { suggestion, .. } => suggestion.clone(),
            Self::NotBoolean { .. } => {
                Some("compare it with something, for example `… > 0`".into())
            }
            Self::Evaluation(text) if text.contains("undefined") => {
                Some("ask with `is defined`, or give a `| default(…)`".into())
            }
            _ => None,
        }
    }
}

impl Trigger {
    /// Checks syntax, names, filters and tests; needs no device.
    pub fn parse(text: &str) -> Result<Self, TriggerError> {
        if text.trim().is_empty() {
            return Err(TriggerError::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(TriggerError::TooLong);
        }
        let expression = ENVIRONMENT
            .compile_expression_owned(text.to_owned())
            .map_err(|error| TriggerError::Syntax {
                message: error
                    .detail()
                    .unwrap_or("this is not an expression")
                    .to_owned(),
                bytes: error.range(),
            })?;
        check_words(text)?;
        let mut roots: Vec<String> = expression.undeclared_variables(false).into_iter().collect();
        roots.sort();
        if let Some(root) = roots.into_iter().find(|root| root != "device") {
            return Err(TriggerError::Unknown {
                what: "name",
                bytes: find_word(text, &root),
                suggestion: Some(match nearest(&root, ["device"]) {
                    Some(_) => "did you mean `device`?".into(),
                    None => format!("facts stand under `device`: `device.{root}`, if it is one"),
                }),
                name: quoted(&root),
            });
        }
        Ok(Self { expression })
    }

    /// Whether the expression is true of a device with these facts.
    pub fn holds(
        &self,
        facts: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<bool, TriggerError> {
        let context = Value::from(Serde(serde_json::json!({ "device": facts })));
        let result = self
            .expression
            .eval(context)
            .map_err(|error| TriggerError::Evaluation(explain(&error)))?;
        match result.kind() {
            ValueKind::Bool => Ok(result.is_true()),
            ValueKind::Undefined => Err(TriggerError::Evaluation("the result is undefined".into())),
            kind => Err(TriggerError::NotBoolean {
                got: format!("{kind} {}", quoted(&result.to_string())),
            }),
        }
    }
}

fn explain(error: &minijinja::Error) -> String {
    let detail = error.detail().unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::UndefinedError if detail.is_empty() => "a value is undefined".to_owned(),
        ErrorKind::OutOfFuel => "it takes too many steps".to_owned(),
        kind if detail.is_empty() => kind.to_string(),
        _ => detail.to_owned(),
    };
    let place = error
        .range()
        .and_then(|range| error.template_source()?.get(range))
        .map(|part| format!(", at {}", quoted(part)))
        .unwrap_or_default();
    format!("{message}{place}")
}

/// Filters, tests and methods are looked up by the engine only when evaluation reaches them; a
/// mistyped one must not wait for the first device that gets that far.
fn check_words(text: &str) -> Result<(), TriggerError> {
    let words = words(text);
    for (index, (token, bytes)) in words.iter().enumerate() {
        let next = |ahead: usize| words.get(index + ahead).map(|(token, _)| *token);
        let (what, known, at): (_, &[&str], _) = match *token {
            "|" => ("filter", &FILTERS, 1),
            "is" if next(1) == Some("not") => ("test", &TESTS, 2),
            "is" => ("test", &TESTS, 1),
            "." if next(2) == Some("(") => ("method", &[], 1),
            _ => continue,
        };
        let Some((name, place)) = words.get(index + at) else {
            continue;
        };
        let is_word = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if !is_word
            || known.contains(name)
            || (*token == "is" && bytes.start > 0 && is_member(&words, index))
        {
            continue;
        }
        return Err(TriggerError::Unknown {
            what,
            name: quoted(name),
            suggestion: match synonym(name)
                .filter(|word| known.contains(word))
                .or(nearest(name, known.iter().copied()))
            {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None if known.is_empty() => Some("use a filter: `value | length`".into()),
                None => Some(format!("there are: {}", known.join(", "))),
            },
            bytes: Some(place.clone()),
        });
    }
    Ok(())
}

/// Words of Jinja, Ansible and Python for what has another name here.
fn synonym(name: &str) -> Option<&'static str> {
    match name {
        "len" | "count" | "size" => Some("length"),
        "d" => Some("default"),
        "startswith" => Some("startingwith"),
        "endswith" => Some("endingwith"),
        "null" | "empty" => Some("none"),
        _ => None,
    }
}

/// `device.is`: a member that happens to be called like an operator.
fn is_member(words: &[(&str, Range<usize>)], index: usize) -> bool {
    index > 0 && words[index - 1].0 == "."
}

/// Names and punctuation of an expression, strings left out.
fn words(text: &str) -> Vec<(&str, Range<usize>)> {
    let mut found = Vec::new();
    let mut characters = text.char_indices().peekable();
    while let Some((start, c)) = characters.next() {
        if c == '"' || c == '\'' {
            while let Some((_, inner)) = characters.next() {
                match inner {
                    '\\' => drop(characters.next()),
                    _ if inner == c => break,
                    _ => {}
                }
            }
            found.push((&text[start..start + 1], start..start + 1));
            continue;
        }
        if c.is_whitespace() {
            continue;
        }
        let mut end = start + c.len_utf8();
        if c.is_alphanumeric() || c == '_' {
            while let Some((at, inner)) = characters.peek().copied() {
                if !inner.is_alphanumeric() && inner != '_' {
                    break;
                }
                end = at + inner.len_utf8();
                characters.next();
            }
        }
        found.push((&text[start..end], start..end));
    }
    found
}

fn find_word(text: &str, word: &str) -> Option<Range<usize>> {
    let words = words(text);
    let at = words
        .iter()
        .enumerate()
        .position(|(index, (token, _))| *token == word && !is_member(&words, index));
    at.map(|at| words[at].1.clone())
}
