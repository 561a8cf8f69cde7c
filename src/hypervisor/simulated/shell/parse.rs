//! From a script's text to steps.

use super::lex::{Token, tokens};
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

/// The script's steps, or its syntax error.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let tokens = tokens(text)?;
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
