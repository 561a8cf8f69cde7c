//! JSON, where the text is JSON (RFC 8259).
//!
//! YAML 1.2 means to include JSON, but its readers do not quite: tabs after a colon and escapes in
//! surrogate pairs (`"\ud83d\ude00"`), which other programs write, fail. So text that is valid JSON
//! as a whole is read by this scanner, into the same tree under the same limits. It may trust the
//! shape of its input and only keeps count of where it is.

use std::str::Chars;

use super::{Builder, Open, Span};
use crate::chain::faults::{Fault, quoted};

/// Whether the text is one JSON object or list.
pub fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Reads text of which [`is_json`] is true.
pub fn build(builder: &mut Builder<'_>, text: &str) -> Result<(), Box<Fault>> {
    let mut scanner = Scanner {
        rest: text.chars(),
        length: text.len(),
        line: 1,
        column: 1,
    };
    while let Some(c) = scanner.peek() {
        let from = scanner.here();
        match c {
            '{' => {
                scanner.advance();
                builder.push(Open::map(from), from)?;
            }
            '[' => {
                scanner.advance();
                builder.push(Open::List(from, Vec::new()), from)?;
            }
            '}' | ']' => {
                scanner.advance();
                builder.close(scanner.since(from))?;
            }
            '"' => {
                scanner.skip_string();
                let span = scanner.since(from);
                let raw = &text[span.start..span.end];
                match serde_json::from_str::<String>(raw) {
                    Ok(value) => builder.take_scalar(span, &value, false)?,
                    Err(_) => {
                        let message = format!("{} is not a JSON string", quoted(raw));
                        return Err(Box::new(Fault::new(span, "", message)));
                    }
                }
            }
            ',' | ':' | ' ' | '\t' | '\n' | '\r' => scanner.advance(),
            _ => {
                while scanner
                    .peek()
                    .is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'))
                {
                    scanner.advance();
                }
                let span = scanner.since(from);
                if span.start == span.end {
                    return Err(Box::new(Fault::new(span, "", "this is not JSON")));
                }
                builder.take_scalar(span, &text[span.start..span.end], true)?;
            }
        }
    }
    Ok(())
}

struct Scanner<'a> {
    rest: Chars<'a>,
    length: usize,
    line: usize,
    column: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn advance(&mut self) {
        match self.rest.next() {
            Some('\n') => {
                self.line += 1;
                self.column = 1;
            }
            Some(_) => self.column += 1,
            None => {}
        }
    }

    fn skip_string(&mut self) {
        self.advance();
        while let Some(c) = self.peek() {
            self.advance();
            match c {
                '\\' => self.advance(),
                '"' => return,
                _ => {}
            }
        }
    }

    fn here(&self) -> Span {
        let at = self.length - self.rest.as_str().len();
        Span {
            start: at,
            end: at,
            line: self.line,
            column: self.column,
        }
    }

    fn since(&self, from: Span) -> Span {
        Span {
            end: self.here().end,
            ..from
        }
    }
}
