//! JMESPath in process (jmespath.org/specification.html).
//!
//! Two things keep it harmless. It parses and evaluates recursively, and 2 KiB of brackets would
//! overflow an ordinary stack, so it gets a thread with a roomy one. And it terminates, but
//! `[@,@]|[@,@]|…` doubles its input with every step: [`growth`] bounds from the expression alone
//! how far that can go, and a product with the document's size that is too large is refused.

use std::collections::BTreeMap;

use jmespath::ast::{Ast, KeyValuePair};
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
/// Growth times size of the document, bytes: what one evaluation may build.
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
        if growth(&ast) > MAX_GROWTH {
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
        let size = input.to_string().len() as f64;
        if growth(compiled.as_ast()) * size > MAX_WORK {
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

/// An upper bound of size of result and of work, as a multiple of the input's size.
///
/// Parts that begin with different fields of the same object share its size between them, so that
/// `{a: a, b: b, …}` counts once, however many members it has.
fn growth(ast: &Ast) -> f64 {
    match ast {
        Ast::Identity { .. }
        | Ast::Field { .. }
        | Ast::Index { .. }
        | Ast::Slice { .. }
        | Ast::Literal { .. } => 1.0,
        Ast::Expref { ast, .. } => growth(ast),
        Ast::Not { node, .. } | Ast::Flatten { node, .. } | Ast::ObjectValues { node, .. } => {
            growth(node)
        }
        Ast::Comparison { lhs, rhs, .. } | Ast::And { lhs, rhs, .. } | Ast::Or { lhs, rhs, .. } => {
            growth(lhs).max(growth(rhs))
        }
        Ast::Condition {
            predicate, then, ..
        } => growth(predicate).max(growth(then)),
        Ast::Subexpr { lhs, rhs, .. } | Ast::Projection { lhs, rhs, .. } => {
            growth(lhs) * growth(rhs)
        }
        Ast::MultiList { elements, .. } => 1.0 + together(elements.iter()),
        Ast::MultiHash { elements, .. } => {
            1.0 + together(elements.iter().map(|KeyValuePair { value, .. }| value))
        }
        Ast::Function { name, args, .. } => {
            let by_expression: f64 = args
                .iter()
                .filter(|arg| matches!(arg, Ast::Expref { .. }))
                .map(growth)
                .product();
            let values = args.iter().filter(|arg| !matches!(arg, Ast::Expref { .. }));
            // Writing text inside text doubles its escapes.
            let own = if matches!(name.as_str(), "to_string" | "to_array") {
                2.0
            } else {
                1.0
            };
            own * by_expression * together(values).max(1.0)
        }
    }
}

fn together<'a>(parts: impl Iterator<Item = &'a Ast>) -> f64 {
    let mut by_field: BTreeMap<&str, f64> = BTreeMap::new();
    let mut rest = 0.0;
    for part in parts {
        match leading_field(part) {
            Some(field) => *by_field.entry(field).or_default() += growth(part),
            None if matches!(part, Ast::Literal { .. }) => {}
            None => rest += growth(part),
        }
    }
    rest + by_field.into_values().fold(0.0, f64::max)
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
