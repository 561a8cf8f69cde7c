//! A chain file becomes a [`Chain`], or the list of all that is wrong with it.
//!
//! Decoding and checking are one walk over the spanned tree. Each place either gives its value or
//! leaves a fault and a harmless stand-in, so that one mistake neither hides another nor causes a
//! second; a chain comes out only when no fault was left.
//!
//! The file's surface is told by the tables of keys in [`stage`] and below; `chains/` has examples.

mod after;
pub(crate) mod fields;
mod output;
mod stage;
mod values;
mod work;

use std::path::Path;

use super::faults::{Fault, Faults, quoted};
use super::files::{FileRefusal, ScriptFiles, ScriptFolder};
use super::model::{Chain, HandoffDisk, OnFailure};
use super::read::{self, Content, Node, Span};
use super::trigger::Trigger;
use super::units;
use fields::Fields;

/// Most stages of one chain.
pub const MAX_STAGES: usize = 64;

/// Checks the text of a chain file (YAML or JSON). Scripts and schemas come from `files`.
pub fn check(source: &str, files: &dyn ScriptFiles) -> Result<Chain, Faults> {
    check_bytes(source.as_bytes(), files)
}

/// Checks a chain file, with its scripts and schemas beside it.
///
/// The outer error is that of reading the file itself. A file that is larger than 1 MiB is read no
/// further than that.
pub fn check_file(path: &Path) -> std::io::Result<Result<Chain, Faults>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    file.take(read::MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let outcome = check_bytes(&bytes, &ScriptFolder::new(folder));
    Ok(outcome.map_err(|faults| faults.in_file(path.display().to_string())))
}

fn check_bytes(bytes: &[u8], files: &dyn ScriptFiles) -> Result<Chain, Faults> {
    let reading = read::read(bytes);
    let source = String::from_utf8_lossy(&bytes[..bytes.len().min(read::MAX_BYTES)]);
    let mut checker = Checker {
        source: &source,
        files,
        faults: reading.faults,
    };
    let chain = reading.tree.as_ref().and_then(|tree| checker.chain(tree));
    match chain {
        Some(chain) if checker.faults.is_empty() => Ok(chain),
        _ => Err(Faults::new(&source, checker.faults)),
    }
}

/// Collects faults on the walk. Other languages of the house (personas) walk their trees with it too.
pub(crate) struct Checker<'a> {
    source: &'a str,
    files: &'a dyn ScriptFiles,
    faults: Vec<Fault>,
}

const CHAIN_KEYS: &[&str] = &[
    "chain",
    "description",
    "when",
    "handoff_disk",
    "on_failure",
    "stages",
];

/// For files that name no others.
struct NoFiles;

impl ScriptFiles for NoFiles {
    fn text(&self, _: &str) -> Result<String, FileRefusal> {
        Err(FileRefusal::Missing)
    }
}

impl<'a> Checker<'a> {
    /// A walk over a text that names no other files, with the faults of its reading.
    pub(crate) fn of_text(source: &'a str, faults: Vec<Fault>) -> Self {
        Self {
            source,
            files: &NoFiles,
            faults,
        }
    }

    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }
}

impl Checker<'_> {
    pub(crate) fn report(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn chain(&mut self, tree: &Node) -> Option<Chain> {
        let fields = Fields::open(self, tree, "", CHAIN_KEYS)?;
        let name = fields.need(self, "chain", "the chain's name", Self::plain_name);
        let description = fields.may(self, "description", Self::prose);
        let when = fields.may(self, "when", Self::trigger);
        let handoff_disk = fields.may(self, "handoff_disk", Self::handoff_disk);
        let on_failure = fields.may(self, "on_failure", Self::on_failure);
        let stages = fields.need(self, "stages", "at least one stage", Self::stages);
        let stages = stages.unwrap_or_default();
        self.disk_is_used(&fields, &stages);
        self.device_gets_something(&stages);
        Some(Chain {
            name: name.unwrap_or_default(),
            description: description.unwrap_or_default(),
            when,
            handoff_disk,
            on_failure: on_failure.unwrap_or(OnFailure {
                hold_s: 3600,
                keep_machine: false,
            }),
            stages: stages.into_iter().map(|found| found.stage).collect(),
        })
    }

    pub(crate) fn trigger(&mut self, node: &Node, path: &str) -> Option<String> {
        let text = self.text(node, path)?;
        if let Err(error) = Trigger::parse(&text) {
            let span = self.inside(node, &text, error.bytes());
            let mut fault =
                Fault::new(span, path, error.to_string()).expecting("a condition over `device`");
            if let Some(suggestion) = error.suggestion() {
                fault = fault.suggesting(suggestion);
            }
            self.report(fault);
        }
        Some(text)
    }

    fn handoff_disk(&mut self, node: &Node, path: &str) -> Option<HandoffDisk> {
        let fields = Fields::open(self, node, path, &["size", "checkpoint", "keep"])?;
        let size = fields.need(
            self,
            "size",
            "the disk's size, such as `2 GiB`",
            |checker, node, path| checker.size_mib(node, path, 1, 1 << 20),
        );
        let checkpoint = fields.may(self, "checkpoint", Self::boolean);
        let keep = fields.may(self, "keep", Self::boolean);
        Some(HandoffDisk {
            size_mib: size.unwrap_or_default(),
            checkpoint: checkpoint.unwrap_or(true),
            keep: keep.unwrap_or(false),
        })
    }

    fn on_failure(&mut self, node: &Node, path: &str) -> Option<OnFailure> {
        let fields = Fields::open(self, node, path, &["hold", "keep_machine"])?;
        let hold = fields.may(self, "hold", |checker, node, path| {
            checker.whole_seconds(node, path, 0, 30 * 86_400)
        });
        let keep_machine = fields.may(self, "keep_machine", Self::boolean);
        Some(OnFailure {
            hold_s: hold.unwrap_or(3600),
            keep_machine: keep_machine.unwrap_or(false),
        })
    }

    fn stages(&mut self, node: &Node, path: &str) -> Option<Vec<stage::Found>> {
        let items = self.list(node, path, "a list of stages")?;
        if items.is_empty() {
            self.report(
                Fault::new(node.span, path, "there are no stages").expecting("at least one stage"),
            );
        }
        if items.len() > MAX_STAGES {
            let message = format!("there are {} stages", items.len());
            self.report(
                Fault::new(node.span, path, message).expecting(format!("at most {MAX_STAGES}")),
            );
        }
        let mut found: Vec<stage::Found> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Some(next) = self.stage(item, &format!("{path}[{index}]")) else {
                continue;
            };
            let twin = found.iter().find(|earlier| {
                !next.stage.name.is_empty() && earlier.stage.name == next.stage.name
            });
            if let Some(twin) = twin {
                let message = format!("a second stage has the name {}", quoted(&next.stage.name));
                let fault = Fault::new(next.name_span, format!("{path}[{index}].name"), message)
                    .expecting("a name of its own")
                    .suggesting(format!("the first one is in line {}", twin.name_span.line));
                self.report(fault);
            }
            found.push(next);
        }
        Some(found)
    }

    /// A stage wants a disk that is not there, or a disk is there that no stage wants.
    fn disk_is_used(&mut self, fields: &Fields<'_>, stages: &[stage::Found]) {
        let disk = fields.entry("handoff_disk");
        for found in stages {
            if let (Some(span), None) = (found.wants_disk, disk) {
                let path = format!("{}.handoff_disk", found.path);
                let fault = Fault::new(span, path, "the chain has no handoff disk")
                    .suggesting("give the chain one: `handoff_disk: { size: 1 GiB }`");
                self.report(fault);
            }
        }
        let any_refused = matches!(fields.entry("stages").map(|e| &e.value.content), Some(Content::List(items))
            if items.len() != stages.len());
        if let Some(disk) = disk
            && !stages.is_empty()
            && !any_refused
            && stages
                .iter()
                .all(|found| found.wants_disk.is_none() && !found.stage.handoff_disk)
        {
            let fault = Fault::new(
                disk.key_span,
                "handoff_disk",
                "no stage has the handoff disk",
            )
            .suggesting("write `handoff_disk: true` in the stages that use it, or remove this");
            self.report(fault);
        }
    }

    /// The span of a part of a scalar's text, where the text stands in the source as it is; else
    /// that of the whole scalar.
    fn inside(&self, node: &Node, text: &str, part: Option<std::ops::Range<usize>>) -> Span {
        let whole = node.span;
        let (Some(part), Some(raw)) = (part, self.source.get(whole.bytes())) else {
            return whole;
        };
        let Some(at) = raw.find(text).filter(|_| !text.contains('\n')) else {
            return whole;
        };
        let Some(before) = raw.get(..at + part.start) else {
            return whole;
        };
        Span {
            start: whole.start + at + part.start,
            end: whole.start + at + part.end.min(text.len()).max(part.start),
            line: whole.line,
            column: whole.column + before.chars().count(),
        }
    }

    fn quantity<T>(
        &mut self,
        node: &Node,
        path: &str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, units::NotAQuantity>,
    ) -> Option<T> {
        let text = self.scalar_text(node, path, expected)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                let message = format!("{} is not a quantity: {error}", quoted(&text));
                let mut fault = Fault::new(node.span, path, message).expecting(expected);
                if let Some(suggestion) = error.suggestion {
                    fault = fault.suggesting(suggestion);
                }
                self.report(fault);
                None
            }
        }
    }
}
