//! Parents that lead nowhere or back, and faults that come from a parent.

use crate::{batch, library, means};
use greenroom::personas::compile::{Known, Source, compile};

fn messages(files: &[(&str, &str)], known: &Known) -> Vec<String> {
    batch(files, known)
        .into_iter()
        .map(|outcome| match outcome.compiled {
            Ok(_) => "good".to_owned(),
            Err(faults) => faults
                .faults
                .iter()
                .map(|fault| fault.message.clone())
                .collect::<Vec<_>>()
                .join("; "),
        })
        .collect()
}

#[test]
fn a_circle_is_told_with_its_path_in_each_of_its_files() {
    let files = [
        ("a", "persona: a\nparent: c\n"),
        ("b", "persona: b\nparent: a\n"),
        ("c", "persona: c\nparent: b\n"),
        ("d", "persona: d\nparent: a\n"),
    ];
    assert_eq!(
        messages(&files, &Known::default()),
        [
            "the parents go in a circle: a → c → b → a",
            "the parents go in a circle: b → a → c → b",
            "the parents go in a circle: c → b → a → c",
            "the parent `a` has faults",
        ]
    );
}

#[test]
fn a_child_of_a_broken_parent_says_so_and_nothing_else() {
    let files = [
        ("a", "persona: a\nos: { variant: nope }\n"),
        ("b", "persona: b\nparent: a\nos: { locale: nope }\n"),
    ];
    assert_eq!(
        messages(&files, &Known::default())[1],
        "the parent `a` has faults"
    );
}

#[test]
fn two_files_of_one_persona_are_a_fault() {
    let found = messages(
        &[("a", "persona: a\n"), ("b", "persona: a\n")],
        &Known::default(),
    );
    assert_eq!(found, ["good", "`a` has the persona `a` too"]);
}

#[test]
fn a_fault_in_an_inherited_value_says_whose_it_is() {
    let known = library(&[
        include_str!("broken/parents/base.yaml"),
        include_str!("broken/parents/middle.yaml"),
    ]);
    let mut less = means();
    // What could be had when the parent was applied cannot be had any more.
    less.catalogue.applications.remove("nginx-light");
    let source = Source {
        file: String::new(),
        text: "persona: child\nparent: middle\n".into(),
    };
    let outcome = compile(&[source], &known, &less, &|_| 1).remove(0);
    let faults = outcome.compiled.expect_err("a fault").faults;
    assert_eq!(
        faults[0].message,
        "there is no application `nginx-light` (from base@2)"
    );
    assert_eq!((faults[0].line, faults[0].column), (2, 9));
}

#[test]
fn a_fault_in_a_default_says_so() {
    let mut less = means();
    if let Some(variant) = less.catalogue.variants.get_mut("debian-12") {
        variant.locales = vec!["C".into()];
    }
    let source = Source {
        file: String::new(),
        text: "persona: plain\n".into(),
    };
    let outcome = compile(&[source], &Known::default(), &less, &|_| 1).remove(0);
    let faults = outcome.compiled.expect_err("a fault").faults;
    assert_eq!(
        faults[0].message,
        "debian-12 has no locale `C.UTF-8` (by default)"
    );
}
