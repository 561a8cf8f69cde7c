//! The examples that come with the program.

use crate::{batch, means};
use greenroom::personas::compile::Known;
use greenroom::personas::library::preview;
use greenroom::personas::rules;

fn example(file: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("chains")
        .join(file);
    std::fs::read_to_string(path).expect("an example")
}

fn facts(file: &str) -> serde_json::Map<String, serde_json::Value> {
    let device: serde_json::Value = serde_saphyr::from_str(&example(file)).expect("a device");
    device["facts"].as_object().expect("facts").clone()
}

#[test]
fn the_example_personas_differ_where_they_say_and_fit_the_example_devices() {
    let texts: Vec<(String, String)> = ["base", "web-server", "db-node"]
        .iter()
        .map(|name| {
            (
                format!("{name}.yaml"),
                example(&format!("personas/{name}.yaml")),
            )
        })
        .collect();
    let files: Vec<(&str, &str)> = texts
        .iter()
        .map(|(file, text)| (file.as_str(), text.as_str()))
        .collect();
    let outcomes = batch(&files, &Known::default());
    for (outcome, device) in outcomes.iter().skip(1).zip(["web-1", "db-1"]) {
        let compiled = outcome.compiled.as_ref().expect("no faults");
        let preview = preview(compiled, device, &facts(&format!("devices/{device}.yaml")));
        assert!(
            preview.resolved.problems.is_empty(),
            "{:?}",
            preview.resolved.problems
        );
        assert!(
            preview.resolved.unknown.is_empty(),
            "{:?}",
            preview.resolved.unknown
        );
        let text = preview
            .files
            .iter()
            .fold(format!("# {}\n", compiled.name), |text, file| {
                format!("{text}=== {} ({})\n{}\n", file.path, file.mode, file.text)
            });
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "shipped" }, {
            insta::assert_snapshot!(compiled.name.clone(), text);
        });
    }
    let _ = means();
}

#[test]
fn the_example_rules_are_good() {
    let names = ["web-server", "db-node"].map(str::to_owned);
    let found =
        rules::check(&example("personas/rules/example.yaml"), Some(&names)).expect("no faults");
    assert_eq!(found.rules.len(), 2);
    let faults = rules::check(
        "persona_rules:\n  - { name: a, when: device.x ==, persona: web-servr, priority: -1 }\n  - { name: a, when: 'true', persona: web-server }\n  - { persona: x@y }\ndefault: nobody\n",
        Some(&names),
    )
    .expect_err("faults");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "shipped" }, {
        insta::assert_snapshot!("broken_rules", faults.render(greenroom::chain::faults::Colour::Plain));
    });
}
