//! JMESPath in process (jmespath.org/specification.html).
//!
//! Two things keep it harmless. It parses and evaluates recursively, and 2 KiB of brackets would
//! overflow an ordinary stack, so it gets a thread with a roomy one. And it terminates, but
//! `[@,@]|[@,@]|…` doubles its input with every step, and `map(&'long text', @)` puts a text in the
//! place of each element: [`growth`] bounds from the expression alone how far that can go, and a
//! product with the document's size that is too large is refused before anything is evaluated.

use std::collections::BTreeMap;

use jmespath::ast::Ast;
use jmespath::{ErrorReason, JmespathError, Variable};
use serde_json::Value;

use super::TransformError;
use crate::chain::document;
use crate::chain::faults::{nearest, quoted};

/// Bytes of stack. 2,048 nested operators take below 8 MiB in an unoptimised build; only what is
/// touched is ever real.
const STACK_BYTES: usize = 64 << 20;
/// An expression that could multiply its input further is refused when the chain is checked.
const MAX_GROWTH: f64 = 4096.0;
/// Bytes: what one evaluation may build out of its document.
const MAX_WORK: f64 = (64 << 20) as f64;

const FUNCTIONS: [&str; 26] = [
    "abs",
    "avg",
    "ceil",
    "contains",
    "ends_with",
    "floor",
    "join",
    "keys",
    "length",
    "map",
    "max",
    "max_by",
    "merge",
    "min",
    "min_by",
    "not_null",
    "reverse",
    "sort",
    "sort_by",
    "starts_with",
    "sum",
    "to_array",
    "to_number",
    "to_string",
    "type",
    "values",
];

pub fn check(expression: &str) -> Result<(), TransformError> {
    on_a_roomy_stack(|| {
        let ast = jmespath::parse(expression).map_err(|error| syntax_error(&error))?;
        check_functions(&ast)?;
        let bound = growth(&ast, Shape::UNKNOWN);
        if bound.times > MAX_GROWTH || bound.plus > MAX_WORK {
            return Err(TransformError::Expression {
                message: "the expression could multiply its input more than 4,096 times".into(),
                offset: None,
                suggestion: Some("build fewer lists and objects out of the whole input".into()),
            });
        }
        Ok(())
    })
}

pub fn apply(expression: &str, input: &Value) -> Result<Value, TransformError> {
    on_a_roomy_stack(|| {
        let compiled = jmespath::compile(expression).map_err(|error| syntax_error(&error))?;
        let shape = Shape::of(input);
        if growth(compiled.as_ast(), shape).of(shape) > MAX_WORK {
            return Err(TransformError::Limit(
                "the expression could build more than 64 MiB out of this document".into(),
            ));
        }
        let result = compiled
            .search(input)
            .map_err(|error| TransformError::Evaluation(explain(&error)))?;
        let mut room = document::MAX_BYTES;
        to_value(&result, 0, &mut room)
    })
}

/// Runs `work` on a thread with [`STACK_BYTES`]; a panic there becomes an error here.
fn on_a_roomy_stack<T: Send>(
    work: impl FnOnce() -> Result<T, TransformError> + Send,
) -> Result<T, TransformError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("jmespath".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| TransformError::Evaluation(format!("no thread for it: {error}")))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(TransformError::Evaluation("the evaluation broke".into())))
    })
}

/// Results share their parts, so a small one may be enormous once written out: count while copying.
fn to_value(found: &Variable, depth: usize, room: &mut usize) -> Result<Value, TransformError> {
    if depth > document::MAX_DEPTH {
        let message = format!(
            "the result is nested deeper than {} levels",
            document::MAX_DEPTH
        );
        return Err(TransformError::Limit(message));
    }
    let own = match found {
        Variable::String(text) => text.len() + 2,
        Variable::Object(members) => 2 + members.keys().map(|key| key.len() + 4).sum::<usize>(),
        Variable::Array(items) => 2 + items.len(),
        _ => 4,
    };
    *room = room
        .checked_sub(own)
        .ok_or_else(|| TransformError::Limit("the result is larger than 4 MiB".into()))?;
    Ok(match found {
        Variable::Null => Value::Null,
        Variable::Bool(flag) => Value::Bool(*flag),
        Variable::Number(number) => Value::Number(number.clone()),
        Variable::String(text) => Value::String(text.clone()),
        Variable::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| to_value(item, depth + 1, room))
                .collect::<Result<_, _>>()?,
        ),
        Variable::Object(members) => Value::Object(
            members
                .iter()
                .map(|(key, item)| Ok((key.clone(), to_value(item, depth + 1, room)?)))
                .collect::<Result<_, TransformError>>()?,
        ),
        Variable::Expref(_) => {
            return Err(TransformError::Evaluation(
                "the result is an expression (`&…`)".into(),
            ));
        }
    })
}

/// What the bound needs to know of the input.
#[derive(Debug, Clone, Copy)]
struct Shape {
    bytes: f64,
    /// Values and keys per byte: how often something can be put in the place of an element.
    density: f64,
}

impl Shape {
    /// When only the expression is known: what depends on the number of elements is left for later.
    const UNKNOWN: Self = Self {
        bytes: 0.0,
        density: 0.0,
    };

    fn of(input: &Value) -> Self {
        let bytes = input.to_string().len().max(1) as f64;
        Self {
            bytes,
            density: nodes(input) as f64 / bytes,
        }
    }
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(members) => members.values().map(|value| 1 + nodes(value)).sum(),
        _ => 0,
    }
}

/// An upper bound of size of result and of work: this many times the input's size, and so many bytes.
#[derive(Debug, Clone, Copy)]
struct Bound {
    times: f64,
    plus: f64,
}

impl Bound {
    const INPUT: Self = Self {
        times: 1.0,
        plus: 0.0,
    };

    fn of(self, shape: Shape) -> f64 {
        self.times * shape.bytes + self.plus
    }

    fn max(self, other: Self) -> Self {
        Self {
            times: self.times.max(other.times),
            plus: self.plus.max(other.plus),
        }
    }

    /// `next` is done with the result.
    fn then(self, next: Self) -> Self {
        Self {
            times: self.times * next.times,
            plus: self.plus * next.times + next.plus,
        }
    }

    /// `next` is done with each element of the result. Elements that stem from the expression itself
    /// may be as small as a byte.
    fn for_each(self, next: Self, shape: Shape) -> Self {
        Self {
            times: self.times * (next.times + next.plus * shape.density),
            plus: self.plus * (next.times + next.plus),
        }
    }
}

/// The bound of an expression.
///
/// Parts that begin with different fields of the same object share its size between them, so that
/// `{a: a, b: b, …}` counts once, however many members it has.
fn growth(ast: &Ast, shape: Shape) -> Bound {
    match ast {
        Ast::Identity { .. } | Ast::Field { .. } | Ast::Index { .. } | Ast::Slice { .. } => {
            Bound::INPUT
        }
        Ast::Literal { value, .. } => Bound {
            times: 1.0,
            plus: value.to_string().len().max(1) as f64,
        },
        Ast::Expref { ast: node, .. }
        | Ast::Not { node, .. }
        | Ast::Flatten { node, .. }
        | Ast::ObjectValues { node, .. } => growth(node, shape),
        Ast::Comparison { lhs, rhs, .. } => compared(lhs, shape).max(compared(rhs, shape)),
        Ast::And { lhs, rhs, .. } | Ast::Or { lhs, rhs, .. } => {
            growth(lhs, shape).max(growth(rhs, shape))
        }
        Ast::Condition {
            predicate, then, ..
        } => growth(predicate, shape).max(growth(then, shape)),
        Ast::Subexpr { lhs, rhs, .. } => growth(lhs, shape).then(growth(rhs, shape)),
        Ast::Projection { lhs, rhs, .. } => growth(lhs, shape).for_each(growth(rhs, shape), shape),
        Ast::MultiList { elements, .. } => {
            let parts = together(elements.iter(), shape);
            Bound {
                times: 1.0 + parts.times,
                plus: elements.len() as f64 + parts.plus,
            }
        }
        Ast::MultiHash { elements, .. } => {
            let parts = together(elements.iter().map(|pair| &pair.value), shape);
            let keys: usize = elements.iter().map(|pair| pair.key.len() + 1).sum();
            Bound {
                times: 1.0 + parts.times,
                plus: keys as f64 + parts.plus,
            }
        }
        Ast::Function { name, args, .. } => {
            let values = together(
                args.iter().filter(|arg| !matches!(arg, Ast::Expref { .. })),
                shape,
            );
            let mut bound = Bound {
                times: values.times.max(1.0),
                plus: values.plus,
            };
            for by in args.iter().filter(|arg| matches!(arg, Ast::Expref { .. })) {
                bound = bound.for_each(growth(by, shape), shape);
            }
            match (name.as_str(), args.first()) {
                // Writing text inside text doubles its escapes.
                ("to_string" | "to_array", _) => Bound {
                    times: 2.0 * bound.times,
                    plus: 2.0 * bound.plus,
                },
                // The glue stands between all elements.
                ("join", Some(glue)) => {
                    let plus = match glue {
                        Ast::Literal { .. } => growth(glue, shape).plus,
                        _ => growth(glue, shape).of(shape),
                    };
                    bound.for_each(Bound { times: 1.0, plus }, shape)
                }
                _ => bound,
            }
        }
    }
}

/// The result of a comparison is small: a literal in it is only looked at.
fn compared(side: &Ast, shape: Shape) -> Bound {
    match side {
        Ast::Literal { .. } => Bound::INPUT,
        _ => growth(side, shape),
    }
}

fn together<'a>(parts: impl Iterator<Item = &'a Ast>, shape: Shape) -> Bound {
    let mut by_field: BTreeMap<&str, f64> = BTreeMap::new();
    let mut rest = 0.0;
    let mut plus = 0.0;
    for part in parts {
        let bound = growth(part, shape);
        plus += bound.plus;
        match leading_field(part) {
            Some(field) => *by_field.entry(field).or_default() += bound.times,
            None if matches!(part, Ast::Literal { .. }) => {}
            None => rest += bound.times,
        }
    }
    Bound {
        times: rest + by_field.into_values().fold(0.0, f64::max),
        plus,
    }
}

fn leading_field(ast: &Ast) -> Option<&str> {
    match ast {
        Ast::Field { name, .. } => Some(name),
        Ast::Subexpr { lhs, .. } | Ast::Projection { lhs, .. } => leading_field(lhs),
        Ast::Flatten { node, .. } | Ast::ObjectValues { node, .. } => leading_field(node),
        _ => None,
    }
}

fn check_functions(ast: &Ast) -> Result<(), TransformError> {
    if let Ast::Function { name, offset, .. } = ast
        && !FUNCTIONS.contains(&name.as_str())
    {
        return Err(TransformError::Expression {
            message: format!("there is no function {}", quoted(name)),
            offset: Some(*offset),
            suggestion: Some(match nearest(name, FUNCTIONS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are: {}", FUNCTIONS.join(", ")),
            }),
        });
    }
    children(ast).into_iter().try_for_each(check_functions)
}

fn children(ast: &Ast) -> Vec<&Ast> {
    match ast {
        Ast::Identity { .. }
        | Ast::Field { .. }
        | Ast::Index { .. }
        | Ast::Slice { .. }
        | Ast::Literal { .. } => vec![],
        Ast::Expref { ast: node, .. }
        | Ast::Not { node, .. }
        | Ast::Flatten { node, .. }
        | Ast::ObjectValues { node, .. } => vec![node],
        Ast::Comparison { lhs, rhs, .. }
        | Ast::And { lhs, rhs, .. }
        | Ast::Or { lhs, rhs, .. }
        | Ast::Subexpr { lhs, rhs, .. }
        | Ast::Projection { lhs, rhs, .. } => vec![lhs, rhs],
        Ast::Condition {
            predicate, then, ..
        } => vec![predicate, then],
        Ast::MultiList { elements, .. } => elements.iter().collect(),
        Ast::MultiHash { elements, .. } => elements.iter().map(|pair| &pair.value).collect(),
        Ast::Function { args, .. } => args.iter().collect(),
    }
}

fn syntax_error(error: &JmespathError) -> TransformError {
    // The parser counts characters in some places and bytes in others: only trust what cannot differ.
    let offset = error
        .expression
        .is_ascii()
        .then_some(error.offset.min(error.expression.len()));
    TransformError::Expression {
        message: explain(error),
        offset,
        suggestion: error
            .expression
            .contains('"')
            .then(|| "text stands in single quotes: `kind == 'disk'`".to_owned()),
    }
}

fn explain(error: &JmespathError) -> String {
    match &error.reason {
        ErrorReason::Parse(message) => message.trim().replace('\n', " "),
        ErrorReason::Runtime(reason) => reason.to_string(),
    }
}
