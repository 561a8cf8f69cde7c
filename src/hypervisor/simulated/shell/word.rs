//! Words and their expansion.

use std::collections::BTreeMap;

/// A piece of a word, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text {
        text: String,
        quoted: bool,
    },
    Var {
        name: String,
        default: Option<String>,
        quoted: bool,
    },
    Sum(String),
}

pub type Word = Vec<Piece>;

/// The word when it is plain unquoted text: only such words can be reserved.
pub fn plain(word: &Word) -> Option<&str> {
    match &word[..] {
        [
            Piece::Text {
                text,
                quoted: false,
            },
        ] => Some(text),
        _ => None,
    }
}

pub fn lookup(vars: &BTreeMap<String, String>, name: &str, default: &Option<String>) -> String {
    match (vars.get(name), default) {
        (Some(value), _) if !value.is_empty() => value.clone(),
        (_, Some(default)) => default.clone(),
        (value, None) => value.cloned().unwrap_or_default(),
    }
}

/// One text, without splitting: as in an assignment or a redirection.
pub fn expand_one(word: &Word, vars: &BTreeMap<String, String>) -> Result<String, String> {
    word.iter()
        .map(|piece| match piece {
            Piece::Text { text, .. } => Ok(text.clone()),
            Piece::Var { name, default, .. } => Ok(lookup(vars, name, default)),
            Piece::Sum(sum) => evaluate(sum, vars).map(|value| value.to_string()),
        })
        .collect()
}

/// Any number of words: an unquoted variable is split at blanks, and gives none when empty.
pub fn expand(
    word: &Word,
    vars: &BTreeMap<String, String>,
    into: &mut Vec<String>,
) -> Result<(), String> {
    let mut current: Option<String> = None;
    for piece in word {
        match piece {
            Piece::Text { text, .. } => current.get_or_insert_default().push_str(text),
            Piece::Var {
                name,
                default,
                quoted: true,
            } => {
                current
                    .get_or_insert_default()
                    .push_str(&lookup(vars, name, default));
            }
            Piece::Var {
                name,
                default,
                quoted: false,
            } => {
                let value = lookup(vars, name, default);
                let blank = |c: char| matches!(c, ' ' | '\t' | '\n');
                if value.starts_with(blank) {
                    into.extend(current.take());
                }
                let mut fields = value
                    .split(blank)
                    .filter(|field| !field.is_empty())
                    .peekable();
                while let Some(field) = fields.next() {
                    current.get_or_insert_default().push_str(field);
                    if fields.peek().is_some() || value.ends_with(blank) {
                        into.extend(current.take());
                    }
                }
            }
            Piece::Sum(sum) => current
                .get_or_insert_default()
                .push_str(&evaluate(sum, vars)?.to_string()),
        }
    }
    into.extend(current);
    Ok(())
}

/// Integer arithmetic: `+ - * / %`, parentheses, names with or without `$`.
pub fn evaluate(text: &str, vars: &BTreeMap<String, String>) -> Result<i64, String> {
    let mut sum = Sum {
        rest: text.chars().filter(|c| !c.is_whitespace()).collect(),
        vars,
    };
    let value = sum.terms()?;
    if sum.rest.is_empty() {
        Ok(value)
    } else {
        Err(format!("arithmetic syntax error: {text}"))
    }
}

struct Sum<'a> {
    rest: std::collections::VecDeque<char>,
    vars: &'a BTreeMap<String, String>,
}

impl Sum<'_> {
    fn terms(&mut self) -> Result<i64, String> {
        let mut value = self.factors()?;
        while let Some(sign @ ('+' | '-')) = self.rest.front().copied() {
            self.rest.pop_front();
            let right = self.factors()?;
            value = if sign == '+' {
                value.wrapping_add(right)
            } else {
                value.wrapping_sub(right)
            };
        }
        Ok(value)
    }

    fn factors(&mut self) -> Result<i64, String> {
        let mut value = self.atom()?;
        while let Some(sign @ ('*' | '/' | '%')) = self.rest.front().copied() {
            self.rest.pop_front();
            let right = self.atom()?;
            value = match sign {
                '*' => Some(value.wrapping_mul(right)),
                '/' => value.checked_div(right),
                _ => value.checked_rem(right),
            }
            .ok_or("division by zero")?;
        }
        Ok(value)
    }

    fn atom(&mut self) -> Result<i64, String> {
        match self.rest.front().copied() {
            Some('-') => {
                self.rest.pop_front();
                Ok(self.atom()?.wrapping_neg())
            }
            Some('(') => {
                self.rest.pop_front();
                let value = self.terms()?;
                self.rest
                    .pop_front()
                    .filter(|c| *c == ')')
                    .ok_or("arithmetic: missing )")?;
                Ok(value)
            }
            Some('$') => {
                self.rest.pop_front();
                self.atom()
            }
            _ => {
                let mut word = String::new();
                while let Some(c) = self
                    .rest
                    .front()
                    .filter(|c| c.is_ascii_alphanumeric() || **c == '_')
                {
                    word.push(*c);
                    self.rest.pop_front();
                }
                if word.starts_with(|c: char| c.is_ascii_digit()) {
                    return word
                        .parse()
                        .map_err(|_| format!("arithmetic: bad number {word}"));
                }
                if word.is_empty() {
                    return Err("arithmetic: operand expected".into());
                }
                let value = self.vars.get(&word).map_or("0", String::as_str);
                value
                    .trim()
                    .parse()
                    .map_err(|_| format!("arithmetic: bad number {value}"))
            }
        }
    }
}
