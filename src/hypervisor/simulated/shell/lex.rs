//! From a script's text to tokens.

use super::word::{Piece, Word};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Word(Word),
    /// `;` or newline.
    End,
    And,
    Or,
    /// Descriptor and operator.
    Redirect(u8, &'static str),
}

/// A script's tokens, or what is wrong with it.
pub fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let chars = text.chars().collect();
    Lexer { chars, at: 0 }.all()
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn all(mut self) -> Result<Vec<Token>, String> {
        let mut tokens = Vec::new();
        while let Some(c) = self.peek(0) {
            let next = self.peek(1);
            let (length, token) = match (c, next) {
                (' ' | '\t' | '\r', _) => (1, None),
                ('\\', Some('\n')) => (2, None),
                ('#', _) => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                    (0, None)
                }
                ('\n' | ';', _) => (1, Some(Token::End)),
                ('&', Some('&')) => (2, Some(Token::And)),
                ('|', Some('|')) => (2, Some(Token::Or)),
                ('|' | '&' | '(' | ')' | '`', _) => {
                    return Err(format!("syntax error: '{c}' is not simulated"));
                }
                ('0'..='2', Some('<' | '>')) => {
                    self.at += 1;
                    let fd = c as u8 - b'0';
                    let (length, operator) = self.redirect()?;
                    (length, Some(Token::Redirect(fd, operator)))
                }
                ('<' | '>', _) => {
                    let (length, operator) = self.redirect()?;
                    (length, Some(Token::Redirect(u8::from(c == '>'), operator)))
                }
                _ => (0, Some(Token::Word(self.word()?))),
            };
            self.at += length;
            tokens.extend(token);
        }
        Ok(tokens)
    }

    fn redirect(&self) -> Result<(usize, &'static str), String> {
        match (self.peek(0), self.peek(1)) {
            (Some('>'), Some('>')) => Ok((2, ">>")),
            (Some('>'), Some('&')) => Ok((2, ">&")),
            (Some('<'), Some('<')) => Err("syntax error: here-documents are not simulated".into()),
            (Some('<'), _) => Ok((1, "<")),
            _ => Ok((1, ">")),
        }
    }

    fn word(&mut self) -> Result<Word, String> {
        let mut word = Word::new();
        while let Some(c) = self.peek(0) {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' | '`' => break,
                '\'' => {
                    let text: String = self.chars[self.at + 1..]
                        .iter()
                        .take_while(|c| **c != '\'')
                        .collect();
                    self.at += text.chars().count() + 2;
                    if self.at > self.chars.len() {
                        return Err("syntax error: missing '".into());
                    }
                    word.push(Piece::Text { text, quoted: true });
                }
                '"' => {
                    self.at += 1;
                    self.double_quoted(&mut word)?;
                }
                '\\' => {
                    let text = self
                        .peek(1)
                        .filter(|c| *c != '\n')
                        .map(String::from)
                        .unwrap_or_default();
                    self.at += 2;
                    word.push(Piece::Text { text, quoted: true });
                }
                '$' => word.push(self.dollar(false)?),
                _ => {
                    self.at += 1;
                    match word.last_mut() {
                        Some(Piece::Text {
                            text,
                            quoted: false,
                        }) => text.push(c),
                        _ => word.push(Piece::Text {
                            text: c.into(),
                            quoted: false,
                        }),
                    }
                }
            }
        }
        Ok(word)
    }

    fn double_quoted(&mut self, word: &mut Word) -> Result<(), String> {
        let mut text = String::new();
        // An empty pair of quotes is a word too.
        word.push(Piece::Text {
            text: String::new(),
            quoted: true,
        });
        loop {
            let c = self.peek(0).ok_or("syntax error: missing \"")?;
            match (c, self.peek(1)) {
                ('"', _) => {
                    self.at += 1;
                    word.push(Piece::Text { text, quoted: true });
                    return Ok(());
                }
                ('\\', Some(next @ ('"' | '\\' | '$' | '`'))) => {
                    text.push(next);
                    self.at += 2;
                }
                ('\\', Some('\n')) => self.at += 2,
                ('`', _) => return Err("syntax error: '`' is not simulated".into()),
                ('$', _) => {
                    word.push(Piece::Text {
                        text: std::mem::take(&mut text),
                        quoted: true,
                    });
                    word.push(self.dollar(true)?);
                }
                _ => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
    }

    fn dollar(&mut self, quoted: bool) -> Result<Piece, String> {
        self.at += 1;
        let until = |lexer: &mut Self, close: &str| -> Result<String, String> {
            let rest: String = lexer.chars[lexer.at..].iter().collect();
            let end = rest
                .find(close)
                .ok_or_else(|| format!("syntax error: missing {close}"))?;
            lexer.at += rest[..end].chars().count() + close.len();
            Ok(rest[..end].to_owned())
        };
        match (self.peek(0), self.peek(1)) {
            (Some('('), Some('(')) => {
                self.at += 2;
                Ok(Piece::Sum(until(self, "))")?))
            }
            (Some('('), _) => Err("syntax error: $(…) is not simulated".into()),
            (Some('{'), _) => {
                self.at += 1;
                let inner = until(self, "}")?;
                let (name, default) = match inner.split_once(":-") {
                    Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
                    None => (inner, None),
                };
                Ok(Piece::Var {
                    name,
                    default,
                    quoted,
                })
            }
            (Some(c @ ('?' | '$')), _) => {
                self.at += 1;
                Ok(Piece::Var {
                    name: c.into(),
                    default: None,
                    quoted,
                })
            }
            (Some(c), _) if c.is_ascii_alphabetic() || c == '_' => {
                let rest = &self.chars[self.at..];
                let name: String = rest
                    .iter()
                    .take_while(|c| c.is_ascii_alphanumeric() || **c == '_')
                    .collect();
                self.at += name.len();
                Ok(Piece::Var {
                    name,
                    default: None,
                    quoted,
                })
            }
            _ => Ok(Piece::Text {
                text: "$".into(),
                quoted,
            }),
        }
    }
}
