//! Layers merge in any grouping to the same, and compiling twice gives the same.

use std::collections::BTreeMap;

use greenroom::personas::merge::{apply, compose};
use proptest::prelude::*;
use serde_json::{Value, json};

type Remove = BTreeMap<String, Vec<String>>;

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn maybe<T: std::fmt::Debug + Clone + 'static>(
    strategy: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<T>> {
    prop::option::of(strategy)
}

/// Each name at most once, as the reading sees to it.
fn named(
    key: &'static str,
    items: Vec<(String, Option<u64>, Vec<String>)>,
    number: &'static str,
    list: &'static str,
) -> Value {
    let mut seen: Vec<String> = Vec::new();
    let mut values = Vec::new();
    for (name, count, words) in items {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name.clone());
        let mut value = json!({ key: name });
        if let Some(count) = count {
            value[number] = json!(count);
        }
        if !words.is_empty() {
            value[list] = json!(words);
        }
        values.push(value);
    }
    Value::Array(values)
}

prop_compose! {
    fn layer()(
        zone in maybe(name()),
        cmdline in maybe(prop::collection::vec(name(), 0..3)),
        labels in prop::collection::btree_map(name(), name(), 0..3),
        interfaces in prop::collection::vec((name(), maybe(576_u64..9000), prop::collection::vec(name(), 0..2)), 0..4),
        users in prop::collection::vec((name(), maybe(0_u64..9), prop::collection::vec(name(), 0..2)), 0..4),
        ports in prop::collection::vec((1_u64..4, prop::bool::ANY), 0..4),
        memory in maybe((maybe(1_u64..9), maybe(9_u64..20))),
        remove in prop::collection::btree_map(
            prop::sample::select(vec!["labels", "interfaces", "users"]).prop_map(str::to_owned),
            prop::collection::vec(name(), 1..3), 0..3),
        closed in maybe(1_u64..4),
    ) -> (Value, Remove) {
        let mut facets = json!({ "labels": labels });
        if let Some(zone) = zone { facets["os"]["timezone"] = json!(zone); }
        if let Some(words) = cmdline { facets["os"]["cmdline"] = json!(words); }
        facets["network"]["interfaces"] = named("role", interfaces, "mtu", "dns");
        facets["preferences"]["users"] = named("name", users, "uid", "keys");
        let mut allow: Vec<Value> = Vec::new();
        for (port, is_any) in ports {
            let value = if is_any { json!({ "port": port }) } else { json!({ "port": port, "from": "10.0.0.0/8" }) };
            if !allow.contains(&value) { allow.push(value); }
        }
        facets["security"]["firewall"]["allow"] = Value::Array(allow);
        if let Some((min, max)) = memory {
            let mut range = json!({});
            if let Some(min) = min { range["min"] = json!(min); }
            if let Some(max) = max { range["max"] = json!(max); }
            facets["resources"]["memory_mib"] = range;
        }
        let mut remove = remove;
        if let Some(port) = closed { remove.insert("allow".into(), vec![format!("{port}/tcp")]); }
        (facets, remove)
    }
}

proptest! {
    #[test]
    fn merging_is_associative(base in layer(), one in layer(), two in layer()) {
        let step_by_step = apply(&apply(&base.0, &one.0, &one.1), &two.0, &two.1);
        let (facets, remove) = compose((&one.0, &one.1), (&two.0, &two.1));
        prop_assert_eq!(step_by_step, apply(&base.0, &facets, &remove));
    }

    #[test]
    fn an_empty_layer_changes_nothing_and_a_layer_twice_is_a_layer_once(base in layer(), one in layer()) {
        prop_assert_eq!(&apply(&base.0, &json!({}), &Remove::new()), &base.0);
        let once = apply(&base.0, &one.0, &one.1);
        let none = Remove::new();
        prop_assert_eq!(&apply(&once, &one.0, &none), &once);
    }
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    let text = include_str!("broken/parents/base.yaml");
    let (one, two) = (crate::persona(text), crate::persona(text));
    assert_eq!(
        serde_json::to_string(&one).expect("JSON"),
        serde_json::to_string(&two).expect("JSON")
    );
    let child = "persona: child\nparent: base\nremove: { applications: [nginx-light] }\n";
    let known = crate::library(&[text]);
    assert_eq!(
        crate::persona_over(&known, child),
        crate::persona_over(&known, child)
    );
}

proptest! {
    /// A file that was cut, doubled or written over somewhere is good or has faults with places; and
    /// what comes out is the same the second time.
    #[test]
    fn damaged_files_are_judged_without_panic_and_always_alike(
        at in 0_usize..1200, length in 0_usize..40, with in "[ -~\\n]{0,12}", twice in prop::bool::ANY,
    ) {
        let whole = include_str!("../../chains/personas/db-node.yaml").replace("parent: base\n", "");
        let mut at = at.min(whole.len());
        while !whole.is_char_boundary(at) { at -= 1; }
        let mut end = (at + length).min(whole.len());
        while !whole.is_char_boundary(end) { end -= 1; }
        let kept = if twice { &whole[at..end] } else { "" };
        let text = format!("{}{with}{kept}{kept}{}", &whole[..at], &whole[end.max(at)..]);
        let judge = || crate::batch(&[("damaged.yaml", &text)], &greenroom::personas::compile::Known::default()).remove(0);
        let (one, two) = (judge(), judge());
        match (&one.compiled, &two.compiled) {
            (Ok(one), Ok(two)) => prop_assert_eq!(one, two),
            (Err(one), Err(two)) => {
                prop_assert_eq!(&one.faults, &two.faults);
                prop_assert!(!one.faults.is_empty());
                for fault in &one.faults {
                    prop_assert!(fault.line >= 1 && text.get(fault.bytes.clone()).is_some(), "{:?}", fault);
                }
            }
            _ => prop_assert!(false, "once good, once not"),
        }
        prop_assert_eq!(one.warnings, two.warnings);
    }
}
