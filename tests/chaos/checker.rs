//! The judge: facts from libvirt, database and files in, everything that is wrong out. Pure.
//!
//! For deployments at rest: each run has come to its end and its driver had time to clear up. The
//! numbers in brackets are those of the list of invariants in the design.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::pooled::{self, PoolFacts};

/// Everything that can be seen of one deployment from outside.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub deployment: String,
    pub runs: Vec<RunRow>,
    pub attempts: Vec<AttemptRow>,
    pub machines: Vec<MachineRow>,
    pub journal: Vec<JournalRow>,
    /// Standard output of each run's attempts, in order.
    pub logs: BTreeMap<i64, Vec<String>>,
    pub pool: PoolFacts,
    pub domains: Vec<Domain>,
    /// Below the state folder, without the image store; relative paths.
    pub files: Vec<String>,
    /// Name of an artefact's file → SHA-256 of what is in it.
    pub artefacts: BTreeMap<String, String>,
    /// Each run's last envelope.
    pub envelopes: BTreeMap<i64, Value>,
}

#[derive(Debug, Clone)]
pub struct RunRow {
    pub id: i64,
    pub state: String,
    pub head: String,
    pub has_disks: bool,
}

#[derive(Debug, Clone)]
pub struct AttemptRow {
    pub run: i64,
    pub stage_index: i64,
    pub stage: String,
    pub purpose: String,
    pub number: i64,
    pub generation: i64,
    pub progress: String,
    pub input: String,
    pub output: Option<String>,
}

#[derive(Debug, Clone)]
pub struct MachineRow {
    pub id: String,
    pub run: i64,
    pub state: String,
}

#[derive(Debug, Clone)]
pub struct JournalRow {
    pub run: i64,
    pub seq: i64,
    pub action: String,
    pub subject: String,
    pub intent_at: i64,
    pub result_at: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    pub name: String,
    pub uuid: String,
    /// Whose it is, by its tag.
    pub deployment: Option<String>,
    /// As libvirt describes it.
    pub xml: String,
    pub state: String,
}

/// What a run is to have come to.
#[derive(Debug, Clone)]
pub struct Expected {
    pub run: i64,
    pub state: &'static str,
    pub tries: Vec<Try>,
    /// The lines that its stages wrote; none where they are not known.
    pub log: Option<Vec<String>>,
    /// Pointers into its document and what is to stand there.
    pub document: Vec<(&'static str, Value)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    pub stage: &'static str,
    pub purpose: &'static str,
    pub count: usize,
}

impl Try {
    pub fn work(stage: &'static str, count: usize) -> Self {
        Self {
            stage,
            purpose: "work",
            count,
        }
    }

    pub fn undo(stage: &'static str, count: usize) -> Self {
        Self {
            stage,
            purpose: "undo",
            count,
        }
    }
}

/// Everything that is wrong, a line each. `foreign` is the domain of somebody else as it was before.
pub fn judge(facts: &Facts, foreign: &Domain, expected: &[Expected]) -> Vec<String> {
    let mut wrong = Vec::new();
    for expected in expected {
        judge_run(facts, expected, &mut wrong);
    }
    judge_rows(facts, &mut wrong);
    judge_journal(facts, &mut wrong);
    judge_handing_over(facts, &mut wrong);
    judge_domains(facts, foreign, &mut wrong);
    judge_files(facts, &mut wrong);
    pooled::judge(facts, &mut wrong);
    wrong
}

fn judge_run(facts: &Facts, expected: &Expected, wrong: &mut Vec<String>) {
    let id = expected.run;
    let Some(run) = facts.runs.iter().find(|run| run.id == id) else {
        wrong.push(format!("run {id} is lost"));
        return;
    };
    if run.state != expected.state {
        wrong.push(format!(
            "run {id} is {} instead of {}",
            run.state, expected.state
        ));
    }
    let mut tries: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for attempt in facts.attempts.iter().filter(|attempt| attempt.run == id) {
        *tries.entry((&attempt.stage, &attempt.purpose)).or_default() += 1;
    }
    let wanted: BTreeMap<(&str, &str), usize> = expected
        .tries
        .iter()
        .map(|one| ((one.stage, one.purpose), one.count))
        .collect();
    if tries != wanted {
        wrong.push(format!(
            "run {id} took the tries {tries:?} instead of {wanted:?}"
        ));
    }
    let log = facts.logs.get(&id).cloned().unwrap_or_default();
    if let Some(wanted) = &expected.log
        && log != *wanted
    {
        wrong.push(format!("run {id} logged {log:?} instead of {wanted:?}"));
    }
    let document = facts
        .envelopes
        .get(&id)
        .map(|envelope| &envelope["document"]);
    for (pointer, value) in &expected.document {
        let found = document.and_then(|document| document.pointer(pointer));
        if found != Some(value) {
            wrong.push(format!(
                "run {id} has {found:?} at {pointer} instead of {value}"
            ));
        }
    }
}

/// Nothing is under way any more [I3, I5].
fn judge_rows(facts: &Facts, wrong: &mut Vec<String>) {
    for run in &facts.runs {
        if run.has_disks {
            wrong.push(format!("run {} says that it still has disks", run.id));
        }
    }
    for attempt in &facts.attempts {
        if !["succeeded", "failed", "dropped"].contains(&attempt.progress.as_str()) {
            wrong.push(format!(
                "run {}: try {} at {} is still {}",
                attempt.run, attempt.number, attempt.stage, attempt.progress
            ));
        }
    }
    for machine in &facts.machines {
        if machine.state != "gone" {
            wrong.push(format!(
                "machine {} of run {} is still {}",
                machine.id, machine.run, machine.state
            ));
        }
    }
}

/// A dense sequence, each intention with a result that is not older [I8].
fn judge_journal(facts: &Facts, wrong: &mut Vec<String>) {
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for row in &facts.journal {
        let before = last.insert(row.run, row.seq).unwrap_or(0);
        if row.seq != before + 1 {
            wrong.push(format!(
                "the journal of run {} goes from {before} to {}",
                row.run, row.seq
            ));
        }
        let what = format!(
            "entry {} of run {}'s journal ({} {})",
            row.seq, row.run, row.action, row.subject
        );
        match row.result_at {
            None => wrong.push(format!("{what} is open")),
            Some(at) if at < row.intent_at => {
                wrong.push(format!("{what} has a result older than its intention"));
            }
            Some(_) => {}
        }
    }
}

/// What a stage left is what the next one got, and is there as it was stored [I7].
fn judge_handing_over(facts: &Facts, wrong: &mut Vec<String>) {
    let mut work: Vec<&AttemptRow> = facts
        .attempts
        .iter()
        .filter(|attempt| attempt.purpose == "work" && attempt.progress == "succeeded")
        .collect();
    work.sort_by_key(|attempt| (attempt.run, attempt.generation, attempt.stage_index));
    for pair in work.windows(2) {
        let (one, next) = (pair[0], pair[1]);
        if (one.run, one.generation, one.stage_index + 1)
            == (next.run, next.generation, next.stage_index)
            && one.output.as_ref() != Some(&next.input)
        {
            wrong.push(format!(
                "run {}: {} left {:?}, and {} got {}",
                one.run, one.stage, one.output, next.stage, next.input
            ));
        }
    }
    for (name, digest) in &facts.artefacts {
        if name != digest {
            wrong.push(format!("artefact {name} holds {digest}"));
        }
    }
    let named = facts
        .attempts
        .iter()
        .flat_map(|attempt| attempt.output.iter().chain([&attempt.input]))
        .chain(facts.runs.iter().map(|run| &run.head));
    for digest in named.collect::<BTreeSet<_>>() {
        if !facts.artefacts.contains_key(digest) {
            wrong.push(format!("artefact {digest} is missing"));
        }
    }
}

/// None of ours is left that the pool does not keep, and somebody else's is as it was [I1, I2, I5].
fn judge_domains(facts: &Facts, foreign: &Domain, wrong: &mut Vec<String>) {
    for domain in &facts.domains {
        if domain.deployment.as_ref() == Some(&facts.deployment)
            && !facts.pool.is_alive(&domain.uuid)
        {
            wrong.push(format!("the domain {} is left", domain.name));
        }
    }
    match facts
        .domains
        .iter()
        .find(|domain| domain.uuid == foreign.uuid)
    {
        None => wrong.push(format!("the foreign domain {} is gone", foreign.name)),
        Some(now) if now != foreign => wrong.push(format!(
            "the foreign domain {} was changed: it is {}, was {}; {}",
            foreign.name,
            now.state,
            foreign.state,
            difference(&foreign.xml, &now.xml)
        )),
        Some(_) => {}
    }
}

/// The first line that is not as before.
fn difference(before: &str, now: &str) -> String {
    let (mut before, mut now) = (before.lines(), now.lines());
    loop {
        match (before.next(), now.next()) {
            (None, None) => return "its XML is the same".to_owned(),
            (before, now) if before == now => {}
            (before, now) => return format!("its XML says {now:?}, said {before:?}"),
        }
    }
}

/// Each file is one that a deployment at rest has [I5, I6].
fn judge_files(facts: &Facts, wrong: &mut Vec<String>) {
    for file in &facts.files {
        if !belongs(facts, file) {
            wrong.push(format!("the file {file} is left"));
        }
    }
}

fn belongs(facts: &Facts, file: &str) -> bool {
    const ALWAYS: [&str; 6] = [
        "greenroom.db",
        "greenroom.db-wal",
        "greenroom.db-shm",
        "greenroom.sock",
        "greenroom.sock.lock",
        "lock",
    ];
    if ALWAYS.contains(&file) {
        return true;
    }
    match file.split_once('/') {
        // What a machine said stays for whoever wants to know why it ended.
        Some(("consoles", name)) => match name.rsplit_once('.') {
            Some((id, "log")) => {
                facts.pool.is_known(id) || facts.machines.iter().any(|machine| machine.id == id)
            }
            Some((id, "bell" | "run")) => facts.pool.is_alive(id),
            _ => false,
        },
        Some(("vm", name)) => name
            .strip_prefix("machine-")
            .and_then(|name| name.strip_suffix(".qcow2"))
            .is_some_and(|id| facts.pool.is_shell(id)),
        Some(("templates", name)) => name.split_once('/').is_some_and(|(id, file)| {
            const OF_TEMPLATE: [&str; 5] = ["", "memory", "state", "disk.qcow2", "kernel-head"];
            facts.pool.has_files(id) && OF_TEMPLATE.contains(&file)
        }),
        Some(("artefacts", name)) => name
            .split_once('/')
            .is_some_and(|(_, digest)| facts.artefacts.contains_key(digest)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign() -> Domain {
        Domain {
            name: "someone-elses".into(),
            uuid: "f".into(),
            deployment: None,
            xml: "as it was".into(),
            state: "paused".into(),
        }
    }

    fn attempt(stage_index: i64, stage: &str, input: &str, output: &str) -> AttemptRow {
        AttemptRow {
            run: 1,
            stage_index,
            stage: stage.into(),
            purpose: "work".into(),
            number: 1,
            generation: 1,
            progress: "succeeded".into(),
            input: input.into(),
            output: Some(output.into()),
        }
    }

    fn entry(seq: i64) -> JournalRow {
        JournalRow {
            run: 1,
            seq,
            action: "start".into(),
            subject: "a".into(),
            intent_at: seq,
            result_at: Some(seq + 1),
        }
    }

    /// A deployment with nothing wrong.
    fn good() -> Facts {
        Facts {
            deployment: "ours".into(),
            runs: vec![RunRow {
                id: 1,
                state: "succeeded".into(),
                head: "cc".into(),
                has_disks: false,
            }],
            attempts: vec![attempt(0, "one", "aa", "bb"), attempt(1, "two", "bb", "cc")],
            machines: vec![MachineRow {
                id: "m1".into(),
                run: 1,
                state: "gone".into(),
            }],
            journal: vec![entry(1), entry(2)],
            logs: BTreeMap::from([(1, vec!["one".to_owned(), "two".to_owned()])]),
            pool: PoolFacts::default(),
            domains: vec![
                foreign(),
                Domain {
                    name: "gr-1-one-1".into(),
                    uuid: "o".into(),
                    deployment: Some("another deployment".into()),
                    ..foreign()
                },
            ],
            files: [
                "greenroom.db",
                "greenroom.sock",
                "lock",
                "consoles/m1.log",
                "artefacts/aa/aa",
            ]
            .map(str::to_owned)
            .to_vec(),
            artefacts: ["aa", "bb", "cc"]
                .map(|name| (name.to_owned(), name.to_owned()))
                .into(),
            envelopes: BTreeMap::from([(
                1,
                serde_json::json!({"document": {"one": {"times": 1}}}),
            )]),
        }
    }

    fn expected() -> Expected {
        Expected {
            run: 1,
            state: "succeeded",
            tries: vec![Try::work("one", 1), Try::work("two", 1)],
            log: Some(vec!["one".into(), "two".into()]),
            document: vec![("/one/times", 1.into())],
        }
    }

    /// Seeds a fault and returns what was found.
    fn found(seed: impl FnOnce(&mut Facts)) -> String {
        let mut facts = good();
        seed(&mut facts);
        judge(&facts, &foreign(), &[expected()]).join("\n")
    }

    #[test]
    fn nothing_is_wrong_with_a_good_deployment() {
        assert_eq!(found(|_| ()), "");
    }

    #[test]
    fn a_lost_or_misled_run_is_seen() {
        assert!(found(|facts| facts.runs.clear()).contains("run 1 is lost"));
        assert!(
            found(|facts| facts.runs[0].state = "held".into())
                .contains("held instead of succeeded")
        );
    }

    #[test]
    fn work_that_was_done_twice_is_seen() {
        let twice = found(|facts| {
            let mut again = facts.attempts[0].clone();
            again.number = 2;
            facts.attempts.push(again);
        });
        assert!(twice.contains("took the tries"), "{twice}");
        assert!(
            found(|facts| facts.logs.get_mut(&1).unwrap().push("two".into())).contains("logged")
        );
        let counted = found(|facts| {
            facts.envelopes.get_mut(&1).unwrap()["document"]["one"]["times"] = 2.into()
        });
        assert!(counted.contains("/one/times"), "{counted}");
    }

    #[test]
    fn what_is_left_is_seen() {
        for file in [
            "vm/machine-m1.qcow2",
            "vm/run-1.handoff.raw",
            "vm/run-1.before-0.raw",
            "vm/run-1.handoff.raw.part",
            "artefacts/aa/.new-x",
            "scratch/x",
            "greenroom.sock.new",
            "consoles/unknown.log",
            "consoles/m1.bell",
            "consoles/m1.run",
            "templates/t1/",
            "templates/t1/memory",
        ] {
            let found = found(|facts| facts.files.push(file.to_owned()));
            assert_eq!(found, format!("the file {file} is left"));
        }
        let domain = found(|facts| facts.domains[1].deployment = Some("ours".into()));
        assert_eq!(domain, "the domain gr-1-one-1 is left");
        assert!(found(|facts| facts.machines[0].state = "releasing".into()).contains("releasing"));
        assert!(found(|facts| facts.runs[0].has_disks = true).contains("disks"));
        assert!(found(|facts| facts.attempts[1].progress = "working".into()).contains("working"));
    }

    #[test]
    fn a_journal_with_a_hole_or_an_open_entry_is_seen() {
        assert!(found(|facts| facts.journal[1].result_at = None).contains("is open"));
        assert!(found(|facts| facts.journal[1].seq = 3).contains("from 1 to 3"));
        assert!(found(|facts| facts.journal[0].result_at = Some(0)).contains("older"));
    }

    #[test]
    fn a_broken_hand_over_is_seen() {
        assert!(found(|facts| facts.attempts[1].input = "aa".into()).contains("two got aa"));
        assert!(
            found(|facts| _ = facts.artefacts.insert("bb".into(), "changed".into()))
                .contains("bb holds changed")
        );
        assert!(found(|facts| _ = facts.artefacts.remove("cc")).contains("cc is missing"));
    }

    #[test]
    fn a_foreign_domain_that_was_touched_is_seen() {
        assert!(found(|facts| facts.domains[0].xml = "other".into()).contains("was changed"));
        assert!(found(|facts| facts.domains[0].state = "running".into()).contains("was changed"));
        assert!(found(|facts| _ = facts.domains.remove(0)).contains("is gone"));
    }
}
