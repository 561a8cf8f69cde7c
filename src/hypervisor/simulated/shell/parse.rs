//! From a script's text to steps.

use super::word::{Piece, Word, plain};

#[derive(Debug, Clone)]
pub enum Step {
    /// `checked`: its failure ends the script under `set -e`.
    Run {
        command: Simple,
        checked: bool,
    },
    Jump(usize),
    JumpIfOk(usize),
    JumpIfFailed(usize),
    Invert,
    SetOk,
}

/// Assignments, words and redirections of one command.
#[derive(Debug, Clone, Default)]
pub struct Simple {
    pub assignments: Vec<(String, Word)>,
    pub words: Vec<Word>,
    pub redirects: Vec<Redirect>,
}

#[derive(Debug, Clone)]
pub struct Redirect {
    pub fd: u8,
    pub to: Target,
}

#[derive(Debug, Clone)]
pub enum Target {
    Read(Word),
    Write(Word),
    Append(Word),
    Same(u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Word),
    /// `;` or newline.
    End,
    And,
    Or,
    /// Descriptor and operator.
    Redirect(u8, &'static str),
}

/// The script's steps, or its syntax error.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let tokens = Lexer {
        chars: text.chars().collect(),
        at: 0,
    }
    .tokens()?;
    let mut parser = Parser {
        tokens,
        at: 0,
        steps: Vec::new(),
        loops: Vec::new(),
    };
    parser.list(&[], true)?;
    match parser.tokens.get(parser.at) {
        None => Ok(parser.steps),
        Some(token) => Err(format!("syntax error near {token:?}")),
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn tokens(mut self) -> Result<Vec<Token>, String> {
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

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    steps: Vec<Step>,
    /// Per open loop: its start, and the jumps that leave it.
    loops: Vec<(usize, Vec<usize>)>,
}

impl Parser {
    fn skip_ends(&mut self) {
        while self.tokens.get(self.at) == Some(&Token::End) {
            self.at += 1;
        }
    }

    fn keyword(&self) -> Option<&str> {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) => plain(word),
            _ => None,
        }
    }

    fn expect(&mut self, keyword: &str) -> Result<(), String> {
        self.skip_ends();
        if self.keyword() != Some(keyword) {
            return Err(format!("syntax error: expecting \"{keyword}\""));
        }
        self.at += 1;
        Ok(())
    }

    /// Commands up to one of the closing words, which is left.
    fn list(&mut self, close: &[&str], checked: bool) -> Result<(), String> {
        loop {
            self.skip_ends();
            if self.at == self.tokens.len()
                || self.keyword().is_some_and(|word| close.contains(&word))
            {
                return Ok(());
            }
            self.and_or(checked)?;
            match self.tokens.get(self.at) {
                None | Some(Token::End) => {}
                Some(token) => return Err(format!("syntax error near {token:?}")),
            }
        }
    }

    /// `&&` and `||` bind equally and to the left: each jumps over the next command only.
    fn and_or(&mut self, checked: bool) -> Result<(), String> {
        let mut last = self.steps.len();
        self.command(checked)?;
        loop {
            let jump: fn(usize) -> Step = match self.tokens.get(self.at) {
                Some(Token::And) => Step::JumpIfFailed,
                Some(Token::Or) => Step::JumpIfOk,
                _ => return Ok(()),
            };
            // Only the last command of such a list counts under `set -e`.
            for step in &mut self.steps[last..] {
                if let Step::Run { checked, .. } = step {
                    *checked = false;
                }
            }
            self.at += 1;
            self.skip_ends();
            let hole = self.steps.len();
            self.steps.push(jump(0));
            last = self.steps.len();
            self.command(checked)?;
            let end = self.steps.len();
            self.steps[hole] = jump(end);
        }
    }

    fn command(&mut self, checked: bool) -> Result<(), String> {
        match self.keyword() {
            Some("if") => self.if_command(checked),
            Some(word @ ("while" | "until")) => {
                let until = word == "until";
                self.while_command(until, checked)
            }
            Some("!") => {
                self.at += 1;
                self.command(false)?;
                self.steps.push(Step::Invert);
                Ok(())
            }
            Some(word @ ("break" | "continue")) => {
                let leave = word == "break";
                self.at += 1;
                let hole = self.steps.len();
                let (start, leaves) = self
                    .loops
                    .last_mut()
                    .ok_or("break or continue outside of a loop")?;
                self.steps.push(Step::Jump(*start));
                if leave {
                    leaves.push(hole);
                }
                Ok(())
            }
            Some(
                word @ ("then" | "else" | "elif" | "fi" | "do" | "done" | "for" | "case" | "{"
                | "}"),
            ) => Err(format!(
                "syntax error: \"{word}\" is unexpected, or not simulated"
            )),
            _ => self.simple(checked),
        }
    }

    fn if_command(&mut self, checked: bool) -> Result<(), String> {
        let mut ends = Vec::new();
        loop {
            self.at += 1;
            self.list(&["then"], false)?;
            self.expect("then")?;
            let hole = self.steps.len();
            self.steps.push(Step::JumpIfFailed(0));
            self.list(&["elif", "else", "fi"], checked)?;
            ends.push(self.steps.len());
            self.steps.push(Step::Jump(0));
            let next = self.steps.len();
            self.steps[hole] = Step::JumpIfFailed(next);
            if self.keyword() != Some("elif") {
                break;
            }
        }
        if self.keyword() == Some("else") {
            self.at += 1;
            self.list(&["fi"], checked)?;
        } else {
            self.steps.push(Step::SetOk);
        }
        self.expect("fi")?;
        for end in ends {
            self.steps[end] = Step::Jump(self.steps.len());
        }
        Ok(())
    }

    fn while_command(&mut self, until: bool, checked: bool) -> Result<(), String> {
        self.at += 1;
        let start = self.steps.len();
        self.list(&["do"], false)?;
        self.expect("do")?;
        let hole = self.steps.len();
        self.steps.push(Step::Jump(0));
        self.loops.push((start, Vec::new()));
        self.list(&["done"], checked)?;
        self.expect("done")?;
        self.steps.push(Step::Jump(start));
        let end = self.steps.len();
        self.steps[hole] = if until {
            Step::JumpIfOk(end)
        } else {
            Step::JumpIfFailed(end)
        };
        for leave in self
            .loops
            .pop()
            .map(|(_, leaves)| leaves)
            .unwrap_or_default()
        {
            self.steps[leave] = Step::Jump(end);
        }
        self.steps.push(Step::SetOk);
        Ok(())
    }

    fn simple(&mut self, checked: bool) -> Result<(), String> {
        let mut command = Simple::default();
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Word(word) => {
                    match assignment(word).filter(|_| command.words.is_empty()) {
                        Some(pair) => command.assignments.push(pair),
                        None => command.words.push(word.clone()),
                    }
                    self.at += 1;
                }
                Token::Redirect(fd, operator) => {
                    let Some(Token::Word(word)) = self.tokens.get(self.at + 1) else {
                        return Err("syntax error: redirection to nothing".into());
                    };
                    let to = match *operator {
                        "<" => Target::Read(word.clone()),
                        ">" => Target::Write(word.clone()),
                        ">>" => Target::Append(word.clone()),
                        _ => match plain(word) {
                            Some("1") => Target::Same(1),
                            Some("2") => Target::Same(2),
                            _ => return Err("syntax error: only >&1 and >&2 are simulated".into()),
                        },
                    };
                    command.redirects.push(Redirect { fd: *fd, to });
                    self.at += 2;
                }
                Token::End | Token::And | Token::Or => break,
            }
        }
        if command.words.is_empty()
            && command.assignments.is_empty()
            && command.redirects.is_empty()
        {
            return Err("syntax error: a command is missing".into());
        }
        self.steps.push(Step::Run { command, checked });
        Ok(())
    }
}

fn assignment(word: &Word) -> Option<(String, Word)> {
    let (
        Piece::Text {
            text,
            quoted: false,
        },
        rest,
    ) = word.split_first()?
    else {
        return None;
    };
    let (name, value) = text.split_once('=')?;
    let mut letters = name.chars();
    let valid = letters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    valid.then(|| {
        let mut value_word = vec![Piece::Text {
            text: value.to_owned(),
            quoted: false,
        }];
        value_word.extend_from_slice(rest);
        (name.to_owned(), value_word)
    })
}
