//! Which persona a device gets, as tables.

use greenroom::personas::choose::{Who, choose};
use greenroom::vocab::Timestamp;
use greenroom::vocab::persona::{Assignment, Choice, Given, Rule, RuleSet, Subject};
use greenroom::vocab::prediction::Proposal;
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
    choice_with(assignments, rules, default, None)
}

fn choice_with(
    assignments: &[Assignment],
    rules: &[Rule],
    default: Option<&str>,
    proposal: Option<&Proposal>,
) -> Choice {
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
        proposal,
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

fn proposal(confidence: f64) -> Proposal {
    Proposal {
        persona: "learned".into(),
        confidence,
        threshold: 0.8,
        others: vec![("base".into(), 0.1)],
        reasons: vec![("role web".into(), 1.2), ("cores".into(), -0.3)],
        model: "persona#3".into(),
        examples: 200,
    }
}

#[test]
fn the_classifier_decides_where_nobody_did_and_only_when_it_is_sure() {
    let said = |assignments: &[Assignment], rules: &[Rule], confidence| {
        choice_with(
            assignments,
            rules,
            Some("base"),
            Some(&proposal(confidence)),
        )
    };
    let sure = said(&[], &[], 0.92);
    assert_eq!(
        (given(&sure).as_str(), sure.is_proposed()),
        ("learned", true)
    );
    assert!(
        sure.reason
            .contains("persona#3 is 92 % sure, because of role web"),
        "{}",
        sure.reason
    );
    let unsure = said(&[], &[], 0.6);
    assert_eq!(
        (given(&unsure).as_str(), unsure.is_proposed()),
        ("base", false)
    );
    assert!(
        unsure.candidates[0]
            .verdict
            .contains("60 % is less than the 80 %"),
        "{unsure:#?}"
    );
    let ruled = said(&[], &[rule("r", "device.cores > 2", "by-rule", 0)], 0.99);
    assert_eq!(
        (given(&ruled).as_str(), ruled.is_proposed()),
        ("by-rule", false)
    );
    let assigned = said(&[to("group", "shop", "assigned", 0)], &[], 0.99);
    assert_eq!(given(&assigned), "assigned");
}
