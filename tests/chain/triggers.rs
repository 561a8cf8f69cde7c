//! Triggers: what they say of a device, and what they refuse.

use greenroom::chain::trigger::{Trigger, TriggerError};
use serde_json::json;

fn holds(expression: &str) -> Result<bool, TriggerError> {
    let facts = json!({
        "name": "rack-7", "memory_mib": 4096, "uefi": true, "tags": ["lab", "edge"],
        "disks": [{ "name": "sda", "gib": 20, "ssd": false }, { "name": "nvme0", "gib": 500, "ssd": true }],
    });
    Trigger::parse(expression)?.holds(facts.as_object().expect("an object"))
}

#[test]
fn conditions_over_facts() {
    for (expression, expected) in [
        (
            "device.disks | length > 0 and device.memory_mib >= 1024",
            true,
        ),
        ("device.uefi", true),
        ("not device.uefi", false),
        ("'lab' in device.tags", true),
        ("'lab' not in device.tags", false),
        ("device.name is startingwith 'rack'", true),
        ("device.name | upper == 'RACK-7'", true),
        (
            "device.disks | selectattr('ssd') | list | length == 1",
            true,
        ),
        ("device.disks | map(attribute='gib') | sum >= 520", true),
        ("device.disks | map(attribute='gib') | max > 1000", false),
        ("(device.disks | first).name == 'sda'", true),
        ("device.disks[1].ssd", true),
        ("device.gpu is defined", false),
        ("device.gpu is not defined", true),
        ("device.gpu | default(false)", false),
        (
            "device.tags | unique | sort | join(',') == 'edge,lab'",
            true,
        ),
        ("device.memory_mib / 1024 == 4", true),
        ("true if device.uefi else false", true),
    ] {
        assert_eq!(holds(expression), Ok(expected), "{expression}");
    }
}

#[test]
fn what_is_undefined_is_never_silently_false() {
    for expression in [
        "device.memry_mib >= 1024",
        "device.gpu",
        "not device.gpu",
        "device.gpu == 'x'",
        "device.gpu != 'x'",
        "device.gpu.model is defined",
        "device.gpu and true",
        "device.gpu in ['x']",
        "device.gpu | length > 0",
    ] {
        let error = holds(expression).expect_err(expression);
        assert!(
            matches!(&error, TriggerError::Evaluation(text) if text.contains("undefined")),
            "{expression}: {error}"
        );
        assert!(
            error
                .suggestion()
                .expect("a way out")
                .contains("is defined")
        );
    }
}

#[test]
fn a_result_that_is_not_boolean_says_what_it_is() {
    assert_eq!(
        holds("device.memory_mib")
            .expect_err("a number")
            .to_string(),
        "the result is number `4096`, not true or false"
    );
    assert_eq!(
        holds("device.tags | first").expect_err("text").to_string(),
        "the result is string `lab`, not true or false"
    );
    assert!(matches!(
        holds("none"),
        Err(TriggerError::NotBoolean { .. })
    ));
    assert!(matches!(
        holds("device.tags"),
        Err(TriggerError::NotBoolean { .. })
    ));
}

#[test]
fn mistakes_are_found_without_a_device() {
    for (expression, message, suggestion) in [
        (
            "devise.uefi",
            "there is no name `devise`",
            Some("did you mean `device`?"),
        ),
        ("facts.uefi", "there is no name `facts`", None),
        ("range(9) | length > 1", "there is no name `range`", None),
        (
            "true or (device.disks | lenght > 0)",
            "there is no filter `lenght`",
            Some("did you mean `length`?"),
        ),
        (
            "device.disks | len > 0",
            "there is no filter `len`",
            Some("did you mean `length`?"),
        ),
        (
            "device.name | format(1)",
            "there is no filter `format`",
            None,
        ),
        (
            "device.name is startswith('r')",
            "there is no test `startswith`",
            Some("did you mean `startingwith`?"),
        ),
        (
            "device.name is not definde",
            "there is no test `definde`",
            Some("did you mean `defined`?"),
        ),
        (
            "device.name.upper() == 'X'",
            "there is no method `upper`",
            None,
        ),
        ("", "the expression is empty", None),
    ] {
        let error = Trigger::parse(expression).expect_err(expression);
        assert_eq!(error.to_string(), message, "{expression}");
        if suggestion.is_some() {
            assert_eq!(error.suggestion().as_deref(), suggestion, "{expression}");
        }
    }
    assert_eq!(
        Trigger::parse("true or devise.x")
            .expect_err("a name")
            .bytes(),
        Some(8..14)
    );
    assert!(
        Trigger::parse("device['is'] == '| nosuch'").is_ok(),
        "words in strings are not names"
    );
    assert!(
        Trigger::parse("device.is == 1")
            .is_ok_and(|trigger| trigger.holds(&Default::default()).is_err())
            || Trigger::parse("device.is == 1").is_err()
    );
    for syntax in [
        "device.",
        "device.uefi and",
        "(device.uefi",
        "{% if x %}",
        "device.uefi; true",
        "'open",
    ] {
        assert!(
            matches!(Trigger::parse(syntax), Err(TriggerError::Syntax { .. })),
            "{syntax}"
        );
    }
}

#[test]
fn hostile_expressions_end() {
    let long = "true and ".repeat(400) + "true";
    assert_eq!(
        Trigger::parse(&long).expect_err("too long"),
        TriggerError::TooLong
    );
    for hostile in [
        "(".repeat(2000),
        "[".repeat(2000),
        "{1:".repeat(600),
        "not ".repeat(500),
        "-".repeat(2000),
    ] {
        assert!(Trigger::parse(&hostile).is_err());
    }
    for hostile in [
        "'x' * 100000 * 100000 == ''".to_owned(),
        format!("device{}", ".a".repeat(1000)),
        format!("9{} == 2", "**9".repeat(600)),
    ] {
        assert!(holds(&hostile).is_err(), "{hostile}");
    }
}
