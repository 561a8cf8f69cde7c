//! The judge's part for the pool: templates, shells and claims against domains and files. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::checker::{Domain, Facts};

/// The rows of the pool, and its templates' files.
#[derive(Debug, Clone, Default)]
pub struct PoolFacts {
    pub templates: Vec<TemplateRow>,
    pub shells: Vec<ShellRow>,
    pub claims: Vec<ClaimRow>,
    /// What is below `templates/`, by the path in the state folder.
    pub files: BTreeMap<String, FileSeen>,
}

#[derive(Debug, Clone)]
pub struct TemplateRow {
    pub id: String,
    pub state: String,
    /// Sizes in bytes by `memory`, `state`, `disk`; empty before it is sealed.
    pub sealed: BTreeMap<String, u64>,
}

#[derive(Debug, Clone)]
pub struct ShellRow {
    pub id: String,
    pub name: String,
    pub state: String,
    pub template: String,
    pub claim: Option<String>,
    /// What its guest drew after the fork.
    pub draw: Option<String>,
    /// It says when it became ready.
    pub is_warm: bool,
}

#[derive(Debug, Clone)]
pub struct ClaimRow {
    pub key: String,
    pub shell: String,
    pub is_open: bool,
    pub ends_by_itself: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSeen {
    pub size_bytes: u64,
    pub mode: u32,
}

/// What a pool at rest is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub templates: usize,
    pub ready: usize,
    pub standby: usize,
    pub claimed: usize,
}

impl Kept {
    /// One class with its template, so many hot shells and a standby.
    pub fn hot(ready: usize) -> Self {
        Self {
            templates: 1,
            ready,
            standby: 1,
            claimed: 0,
        }
    }
}

impl PoolFacts {
    fn shell(&self, id: &str) -> Option<&ShellRow> {
        self.shells.iter().find(|shell| shell.id == id)
    }

    fn template(&self, id: &str) -> Option<&TemplateRow> {
        self.templates.iter().find(|template| template.id == id)
    }

    /// A shell that is not gone.
    pub fn is_shell(&self, id: &str) -> bool {
        self.shell(id).is_some_and(|shell| shell.state != "gone")
    }

    /// A template that is not gone.
    pub fn has_files(&self, id: &str) -> bool {
        self.template(id)
            .is_some_and(|template| template.state != "gone")
    }

    /// It may have a domain: a shell that is not gone, a template that is being built.
    pub fn is_alive(&self, id: &str) -> bool {
        let built = |template: &TemplateRow| template.state == "building";
        self.is_shell(id) || self.template(id).is_some_and(built)
    }

    /// It is, or was, of the pool.
    pub fn is_known(&self, id: &str) -> bool {
        self.shell(id).is_some() || self.template(id).is_some()
    }
}

/// Everything that is wrong with a pool at rest: what is half made or half gone has had its time.
pub fn judge(facts: &Facts, wrong: &mut Vec<String>) {
    for shell in &facts.pool.shells {
        judge_shell(facts, shell, wrong);
    }
    for template in &facts.pool.templates {
        judge_template(facts, template, wrong);
    }
    judge_claims(facts, wrong);
    let mut draws = BTreeSet::new();
    for shell in facts
        .pool
        .shells
        .iter()
        .filter(|shell| shell.draw.is_some())
    {
        if !draws.insert(&shell.draw) {
            wrong.push(format!("{} drew what another drew", shell.name));
        }
    }
}

fn judge_shell(facts: &Facts, shell: &ShellRow, wrong: &mut Vec<String>) {
    let ShellRow { id, name, .. } = shell;
    let power = match shell.state.as_str() {
        "ready" | "standby" => "paused",
        "claimed" => "running",
        "gone" => return,
        state => return wrong.push(format!("{name} is still {state}")),
    };
    match facts.domains.iter().find(|domain| domain.uuid == *id) {
        None => wrong.push(format!("{name} is {} and has no domain", shell.state)),
        Some(domain) if domain.deployment.as_ref() != Some(&facts.deployment) => {
            wrong.push(format!("the domain of {name} does not carry our tag"));
        }
        Some(Domain { state, .. }) if state != power => {
            wrong.push(format!("{name} is {} and its domain {state}", shell.state));
        }
        Some(_) => {}
    }
    if !facts.files.contains(&format!("vm/machine-{id}.qcow2")) {
        wrong.push(format!("{name} has no overlay"));
    }
    match facts.pool.template(&shell.template) {
        None => wrong.push(format!("the template of {name} is unknown")),
        Some(template) if template.state == "gone" => {
            wrong.push(format!("the template of {name} is gone"));
        }
        Some(template)
            if shell.state == "ready"
                && !["ready", "draining"].contains(&template.state.as_str()) =>
        {
            wrong.push(format!(
                "{name} waits, and its template is {}",
                template.state
            ));
        }
        Some(_) => {}
    }
    if shell.state == "ready" && (shell.draw.is_none() || !shell.is_warm) {
        wrong.push(format!("{name} is said to be ready and is half made"));
    }
}

fn judge_template(facts: &Facts, template: &TemplateRow, wrong: &mut Vec<String>) {
    let TemplateRow { id, state, .. } = template;
    let shells = facts.pool.shells.iter();
    let used = shells
        .filter(|shell| shell.state != "gone")
        .any(|shell| shell.template == *id);
    match state.as_str() {
        "gone" => return,
        "building" => return wrong.push(format!("the template {id} is still being built")),
        "failed" | "draining" if !used => {
            wrong.push(format!("the template {id} is {state} and still there"));
        }
        _ => {}
    }
    if state != "ready" && state != "draining" {
        return;
    }
    for (part, file) in [
        ("memory", "memory"),
        ("state", "state"),
        ("disk", "disk.qcow2"),
    ] {
        let sealed = template.sealed.get(part).copied();
        let seen = facts.pool.files.get(&format!("templates/{id}/{file}"));
        let wanted = sealed.map(|size_bytes| FileSeen {
            size_bytes,
            mode: 0o444,
        });
        if wanted.is_none() || seen != wanted.as_ref() {
            wrong.push(format!(
                "the {part} file of template {id} is {seen:?} and was sealed as {wanted:?}"
            ));
        }
    }
}

/// One key, one shell; one shell, one claim, ever; and whoever has one is there, or its time ends.
fn judge_claims(facts: &Facts, wrong: &mut Vec<String>) {
    let mut keys = BTreeSet::new();
    let mut shells = BTreeSet::new();
    for claim in &facts.pool.claims {
        let ClaimRow { key, shell, .. } = claim;
        if !shells.insert(shell) {
            wrong.push(format!("the shell {shell} was claimed twice"));
        }
        if !claim.is_open {
            continue;
        }
        if !keys.insert(key) {
            wrong.push(format!("the key {key} has two shells"));
        }
        let has_it = |row: &ShellRow| row.state == "claimed" && row.claim.as_ref() == Some(key);
        if !facts.pool.shell(shell).is_some_and(has_it) {
            wrong.push(format!(
                "the claim {key} has a shell that is not claimed by it"
            ));
        }
        // A run claims under its machine's id.
        let machine = |row: &crate::checker::MachineRow| row.id == *key && row.state != "gone";
        if !claim.ends_by_itself && !facts.machines.iter().any(machine) {
            wrong.push(format!("nobody ends the claim {key}"));
        }
    }
    for shell in facts
        .pool
        .shells
        .iter()
        .filter(|shell| shell.state == "claimed")
    {
        if !shell.claim.as_ref().is_some_and(|key| keys.contains(key)) {
            wrong.push(format!(
                "{} is claimed by {:?}, which is no claim",
                shell.name, shell.claim
            ));
        }
    }
}

/// What is missing, or too much, in a pool at rest.
pub fn as_wanted(facts: &Facts, kept: Kept) -> Option<String> {
    let shells = |state: &str| {
        let of = |shell: &&ShellRow| shell.state == state;
        facts.pool.shells.iter().filter(of).count()
    };
    let templates = facts.pool.templates.iter();
    let there = Kept {
        templates: templates
            .filter(|template| template.state != "gone")
            .count(),
        ready: shells("ready"),
        standby: shells("standby"),
        claimed: shells("claimed"),
    };
    (there != kept).then(|| format!("the pool holds {there:?} instead of {kept:?}"))
}

pub fn nothing_waits(facts: &Facts) -> Option<String> {
    as_wanted(
        facts,
        Kept {
            templates: 0,
            ready: 0,
            standby: 0,
            claimed: 0,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(uuid: &str, state: &str) -> Domain {
        Domain {
            name: uuid.into(),
            uuid: uuid.into(),
            deployment: Some("ours".into()),
            xml: String::new(),
            state: state.into(),
        }
    }

    fn shell(id: &str, state: &str, claim: Option<&str>) -> ShellRow {
        ShellRow {
            id: id.into(),
            name: format!("gr-shell-{id}"),
            state: state.into(),
            template: "t".into(),
            claim: claim.map(str::to_owned),
            draw: (state != "standby").then(|| format!("draw of {id}")),
            is_warm: true,
        }
    }

    /// One template, a shell that waits, an empty one, one that is claimed, one that was.
    fn good() -> Facts {
        let sealed = [("memory", 4), ("state", 2), ("disk", 3)];
        let seen = [("memory", 4), ("state", 2), ("disk.qcow2", 3)];
        Facts {
            deployment: "ours".into(),
            domains: vec![
                domain("a", "paused"),
                domain("b", "paused"),
                domain("c", "running"),
            ],
            files: ["a", "b", "c"]
                .map(|id| format!("vm/machine-{id}.qcow2"))
                .to_vec(),
            pool: PoolFacts {
                templates: vec![TemplateRow {
                    id: "t".into(),
                    state: "ready".into(),
                    sealed: sealed.map(|(file, size)| (file.to_owned(), size)).into(),
                }],
                shells: vec![
                    shell("a", "ready", None),
                    shell("b", "standby", None),
                    shell("c", "claimed", Some("k")),
                    shell("d", "gone", Some("k")),
                ],
                claims: [("c", true), ("d", false)]
                    .map(|(shell, is_open)| ClaimRow {
                        key: "k".into(),
                        shell: shell.into(),
                        is_open,
                        ends_by_itself: true,
                    })
                    .to_vec(),
                files: seen
                    .map(|(file, size_bytes)| {
                        let mode = 0o444;
                        (format!("templates/t/{file}"), FileSeen { size_bytes, mode })
                    })
                    .into(),
            },
            ..Facts::default()
        }
    }

    fn found(seed: impl FnOnce(&mut Facts)) -> String {
        let mut facts = good();
        seed(&mut facts);
        let mut wrong = Vec::new();
        judge(&facts, &mut wrong);
        wrong.join("\n")
    }

    #[test]
    fn nothing_is_wrong_with_a_good_pool() {
        assert_eq!(found(|_| ()), "");
        let kept = Kept {
            claimed: 1,
            ..Kept::hot(1)
        };
        assert_eq!(as_wanted(&good(), kept), None);
        assert!(nothing_waits(&good()).is_some());
    }

    #[test]
    fn a_shell_that_is_not_what_its_row_says_is_seen() {
        for (seed, words) in [
            (
                (|facts| _ = facts.domains.remove(0)) as fn(&mut Facts),
                "has no domain",
            ),
            (
                |facts| facts.domains[0].state = "running".into(),
                "its domain running",
            ),
            (|facts| facts.domains[0].deployment = None, "our tag"),
            (|facts| _ = facts.files.remove(1), "has no overlay"),
            (|facts| facts.pool.shells[0].draw = None, "half made"),
            (|facts| facts.pool.shells[0].is_warm = false, "half made"),
            (
                |facts| facts.pool.shells[0].state = "filling".into(),
                "still filling",
            ),
            (
                |facts| facts.pool.shells[0].template = "x".into(),
                "unknown",
            ),
            (
                |facts| facts.pool.templates[0].state = "gone".into(),
                "is gone",
            ),
            (
                |facts| facts.pool.templates[0].state = "failed".into(),
                "is failed",
            ),
            (
                |facts| facts.pool.shells[0].draw = facts.pool.shells[2].draw.clone(),
                "drew what another drew",
            ),
        ] {
            let found = found(seed);
            assert!(found.contains(words), "{words}: {found}");
        }
    }

    #[test]
    fn a_template_that_was_written_to_or_is_left_is_seen() {
        let memory = "templates/t/memory";
        let shorter = found(|facts| {
            facts.pool.files.get_mut(memory).unwrap().size_bytes = 3;
        });
        assert!(shorter.contains("memory file"), "{shorter}");
        let writable = found(|facts| facts.pool.files.get_mut(memory).unwrap().mode = 0o644);
        assert!(writable.contains("memory file"), "{writable}");
        let missing = found(|facts| _ = facts.pool.files.remove("templates/t/disk.qcow2"));
        assert!(missing.contains("disk file"), "{missing}");
        let left = found(|facts| {
            let mut left = facts.pool.templates[0].clone();
            (left.id, left.state) = ("u".into(), "draining".into());
            facts.pool.templates.push(left);
        });
        assert!(left.contains("u is draining and still there"), "{left}");
    }

    #[test]
    fn a_claim_that_is_not_one_for_one_is_seen() {
        for (seed, words) in [
            (
                (|facts| facts.pool.claims[1].shell = "c".into()) as fn(&mut Facts),
                "claimed twice",
            ),
            (|facts| facts.pool.claims[1].is_open = true, "two shells"),
            (|facts| facts.pool.claims[0].is_open = false, "no claim"),
            (
                |facts| facts.pool.shells[2].claim = Some("x".into()),
                "not claimed by it",
            ),
            (
                |facts| facts.pool.claims[0].ends_by_itself = false,
                "nobody ends",
            ),
        ] {
            let found = found(seed);
            assert!(found.contains(words), "{words}: {found}");
        }
    }
}
