//! Which persona a device gets, as tables.

use greenroom::personas::choose::{Who, choose};
use greenroom::vocab::Timestamp;
use greenroom::vocab::persona::{Assignment, Choice, Given, Rule, RuleSet, Subject};
use serde_json::json;

const NOW: Timestamp = Timestamp(1_000);

fn to(kind: &str, name: &str, persona: &str, precedence: i64) -> Assignment {
    Assignment {
        id: 0,
        subject: Subject::of(kind, name).expect("a kind"),
        persona: persona.parse().expect("a persona"),
        precedence,
        reason: "test".into(),
        by: "anna".into(),
        at: Timestamp(1),
        until: None,
    }
}

fn rule(name: &str, when: &str, persona: &str, priority: i64) -> Rule {
    Rule {
        name: name.into(),
        when: when.into(),
        persona: persona.parse().expect("a persona"),
        priority,
    }
}

fn choice(assignments: &[Assignment], rules: &[Rule], default: Option<&str>) -> Choice {
    let facts = json!({ "user": "bob", "roles": ["web", "edge"], "group": "shop", "cores": 4 });
    let mut assignments = assignments.to_vec();
    for (index, assignment) in assignments.iter_mut().enumerate() {
        assignment.id = index as i64 + 1;
    }
    let rules = RuleSet {
        rules: rules.to_vec(),
        default: default.map(|name| name.parse().expect("a persona")),
    };
    choose(
        Who {
            name: "box",
            facts: facts.as_object().expect("facts"),
        },
        &assignments,
        &rules,
        None,
        NOW,
    )
}

/// `name`, `nothing` or `conflict`.
fn given(choice: &Choice) -> String {
    match &choice.given {
        Given::Persona { persona } => persona.to_string(),
        Given::Nothing => "nothing".into(),
        Given::Conflict => "conflict".into(),
    }
}

#[test]
fn the_nearer_the_subject_the_more_an_assignment_counts() {
    let all = [
        to("group", "shop", "g", 99),
        to("role", "edge", "r", 50),
        to("user", "bob", "u", 10),
        to("device", "box", "d", 0),
    ];
    for (count, expected) in [(4, "d"), (3, "u"), (2, "r"), (1, "g")] {
        assert_eq!(given(&choice(&all[..count], &[], None)), expected);
    }
    let choice = choice(&all, &[], None);
    assert_eq!(choice.reason, "assignment 4 to device box by anna (test)");
    let verdicts: Vec<&str> = choice
        .candidates
        .iter()
        .map(|candidate| candidate.verdict.as_str())
        .collect();
    assert_eq!(verdicts[0], "it decides");
    assert!(
        verdicts[1..]
            .iter()
            .all(|verdict| verdict.ends_with("comes first")),
        "{verdicts:?}"
    );
}

#[test]
fn what_is_chosen() {
    let web = rule("web", "device.cores > 2", "by-rule", 5);
    let table: Vec<(&str, Choice, &str)> = vec![
        ("nothing speaks of it", choice(&[], &[], None), "nothing"),
        ("the default", choice(&[], &[], Some("base")), "base"),
        (
            "a rule before the default",
            choice(&[], std::slice::from_ref(&web), Some("base")),
            "by-rule",
        ),
        (
            "a rule that does not hold",
            choice(&[], &[rule("x", "device.cores > 9", "x", 1)], Some("base")),
            "base",
        ),
        (
            "the higher priority",
            choice(&[], &[web.clone(), rule("high", "true", "high@3", 6)], None),
            "high@3",
        ),
        (
            "equal rules that agree",
            choice(
                &[],
                &[web.clone(), rule("same", "true", "by-rule", 5)],
                None,
            ),
            "by-rule",
        ),
        (
            "equal rules that do not",
            choice(&[], &[web.clone(), rule("other", "true", "other", 5)], None),
            "conflict",
        ),
        (
            "an assignment before rules",
            choice(
                &[to("group", "shop", "g", -5)],
                std::slice::from_ref(&web),
                None,
            ),
            "g",
        ),
        (
            "others' assignments",
            choice(
                &[
                    to("device", "other", "x", 0),
                    to("user", "eve", "x", 0),
                    to("role", "db", "x", 0),
                ],
                &[],
                None,
            ),
            "nothing",
        ),
        (
            "the higher precedence",
            choice(
                &[to("role", "web", "a", 1), to("role", "edge", "b", 2)],
                &[],
                None,
            ),
            "b",
        ),
        (
            "equals that agree",
            choice(
                &[to("role", "web", "a", 1), to("role", "edge", "a", 1)],
                &[],
                None,
            ),
            "a",
        ),
        (
            "a pinned version is not the same",
            choice(
                &[to("role", "web", "a", 1), to("role", "edge", "a@1", 1)],
                &[],
                None,
            ),
            "conflict",
        ),
        (
            "equals below one that decides",
            choice(
                &[
                    to("device", "box", "d", 0),
                    to("role", "web", "a", 1),
                    to("role", "edge", "b", 1),
                ],
                &[],
                None,
            ),
            "d",
        ),
    ];
    for (what, choice, expected) in &table {
        assert_eq!(given(choice), *expected, "{what}: {choice:#?}");
    }
}

#[test]
fn an_assignment_counts_until_its_time_is_over_and_is_told_after() {
    let mut short = to("device", "box", "short", 0);
    short.until = Some(Timestamp(1_001));
    assert_eq!(given(&choice(&[short.clone()], &[], Some("base"))), "short");
    short.until = Some(NOW);
    let choice = choice(&[short], &[], Some("base"));
    assert_eq!(given(&choice), "base");
    assert!(
        choice.candidates[1].verdict.starts_with("it ended 1970-"),
        "{choice:#?}"
    );
}

#[test]
fn a_conflict_names_both_sides_and_the_way_out() {
    let choice = choice(
        &[to("role", "web", "a", 1), to("role", "edge", "b", 1)],
        &[],
        None,
    );
    assert!(
        choice.reason.contains("says a") && choice.reason.contains("says b"),
        "{}",
        choice.reason
    );
    assert!(
        choice
            .reason
            .ends_with("end one of them, or give one a higher precedence"),
        "{}",
        choice.reason
    );
}

#[test]
fn a_rule_that_cannot_be_decided_is_told_and_decides_nothing() {
    let choice = choice(&[], &[rule("bad", "device.rack > 3", "x", 9)], Some("base"));
    assert_eq!(given(&choice), "base");
    assert!(choice.undecided[0].starts_with("rule bad: "), "{choice:#?}");
}
