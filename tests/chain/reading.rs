//! The reader: places, limits, traps, and bytes that nobody meant as a chain.

use std::time::{Duration, Instant};

use greenroom::chain::read::{Content, MAX_BYTES, read};
use proptest::prelude::*;

fn value(source: &str) -> serde_json::Value {
    let reading = read(source.as_bytes());
    let mut faults = reading.faults;
    let value = reading.tree.map(|tree| tree.to_value("", &mut faults));
    assert!(faults.is_empty(), "{faults:?}");
    value.expect("a tree")
}

fn first_fault(bytes: &[u8]) -> String {
    let reading = read(bytes);
    let fault = reading.faults.first().expect("a fault");
    format!("{}:{} {}", fault.line, fault.column, fault.message)
}

#[test]
fn scalars_are_those_of_the_core_schema() {
    let source = "[no, off, YES, true, False, ~, null, 7, -7, 0x1F, 0o17, 1.5, 1e3, .5, 1_000, 12:30, '7', v1.0, +3]";
    let expected = serde_json::json!([
        "no", "off", "YES", true, false, null, null, 7, -7, 31, 15, 1.5, 1000.0, 0.5, "1_000",
        "12:30", "7", "v1.0", 3
    ]);
    assert_eq!(value(source), expected);
}

#[test]
fn ambiguous_numbers_are_refused_where_any_value_goes() {
    for doubtful in [
        "0755",
        "-007",
        ".inf",
        ".nan",
        "18446744073709551616",
        "1e999",
        "00.5",
    ] {
        let tree = read(format!("a: {doubtful}").as_bytes())
            .tree
            .expect("a tree");
        let mut faults = Vec::new();
        tree.to_value("", &mut faults);
        assert_eq!(faults.len(), 1, "{doubtful}");
        assert_eq!(faults[0].path, ".a");
    }
}

#[test]
fn places_count_characters_and_offsets_count_bytes() {
    for source in [
        "é: [ü, {b: x}]\nzwei: 2\n",
        "{\"é\":[\"ü\",{\"b\":\"x\"}],\n\"zwei\":\t2}",
    ] {
        let tree = read(source.as_bytes()).tree.expect("a tree");
        let list = tree.get("é").expect("the list");
        let Content::List(items) = &list.content else {
            panic!("{list:?}")
        };
        let b = items[1].get("b").expect("b");
        assert_eq!(b.span.line, 1);
        assert!(source[b.span.bytes()].contains('x'), "{b:?}");
        let before = &source[..b.span.start];
        assert_eq!(b.span.column, before.chars().count() + 1);
        let two = tree.get("zwei").expect("zwei");
        assert_eq!((two.span.line, &source[two.span.bytes()]), (2, "2"));
    }
}

#[test]
fn json_is_read_as_json() {
    let source = "{\n\t\"a\":\t\"\\ud83d\\ude00\\/\",\n\t\"b\": [1e2, -0.5, true, null, {}]\n}\n";
    assert_eq!(
        value(source),
        serde_json::json!({ "a": "😀/", "b": [100.0, -0.5, true, null, {}] })
    );
    assert_eq!(
        first_fault(b"{\"a\": \"\\ud83d\"}"),
        "1:7 `\"\\ud83d\"` is not a JSON string"
    );
    assert_eq!(
        first_fault(b"{\"a\": 1,\n \"a\": 2}"),
        "2:2 the key `a` stands here again"
    );
}

#[test]
fn what_makes_yaml_surprising_is_refused() {
    for (source, expected) in [
        ("a: &x 1", "1:4 anchors (`&name`) are not supported"),
        ("a: &x 1\nb: *x", "1:4 anchors (`&name`) are not supported"),
        ("a: !!str 1", "1:4 tags (`!name`) are not supported"),
        ("a: !run 1", "1:4 tags (`!name`) are not supported"),
        ("<<: { a: 1 }", "1:1 merge keys (`<<`) are not supported"),
        ("a: 1\n---\nb: 2", "2:1 a second document begins here"),
        ("a: 1\na: 2", "2:1 the key `a` stands here again"),
        ("a: 1\n\"a\": 2", "2:1 the key `a` stands here again"),
        ("? [1]\n: 2", "1:3 a list or mapping cannot be a key"),
        ("a: \"\\0\"", "1:4 this text contains the character U+0000"),
        (
            "a: \u{1b}[0m",
            "1:4 the character U+001B is not allowed here",
        ),
        (
            "a: \u{202e}x",
            "1:4 the character U+202E is not allowed here",
        ),
        ("", "1:1 the file is empty"),
    ] {
        assert_eq!(first_fault(source.as_bytes()), expected, "{source:?}");
    }
    assert_eq!(
        first_fault(b"a: 1\nb: \xff"),
        "2:4 the file is not UTF-8 text"
    );
    assert_eq!(
        first_fault(&vec![b' '; MAX_BYTES + 1]),
        "1:1 the file has 1048577 bytes"
    );
}

#[test]
fn bombs_are_refused_fast() {
    let mega = 1 << 20;
    let aliases = (0..20).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        let line = vec![format!("*a{n}"); 9].join(", ");
        text + &format!("a{}: &a{} [{line}]\n", n + 1, n + 1)
    });
    let bombs = [
        "[".repeat(mega),
        "{a: ".repeat(mega / 4),
        "{\"a\":".repeat(mega / 5),
        "[".repeat(100) + &"]".repeat(100),
        "- ".repeat(mega / 2),
        "? ".repeat(mega / 2),
        (0..400).fold(String::new(), |text, n| text + &" ".repeat(n) + "a:\n"),
        aliases,
        "- a\n".repeat(mega / 4),
        format!("[{}]", vec!["1"; 60_000].join(",")),
        "[a,".repeat(mega / 3),
        "!".repeat(mega),
        "*a ".repeat(mega / 3),
        "&a ".repeat(mega / 3),
        "a: b\n".repeat(mega / 5),
        "a: {a: [".repeat(mega / 8),
        "'".repeat(mega - 1),
    ];
    for bomb in bombs {
        let head: String = bomb.chars().take(12).collect();
        let start = Instant::now();
        let reading = read(bomb.as_bytes());
        // 100 ms is the bar for a release build on a free core; this one is neither.
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{head:?} took {:?}",
            start.elapsed()
        );
        assert!(!reading.faults.is_empty(), "{head:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let reading = read(&bytes);
        prop_assert!(reading.tree.is_some() || !reading.faults.is_empty());
    }

    #[test]
    fn any_soup_of_yaml_is_read_or_refused(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "a", "é", ":", ": ", "- ", "-", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ",", "\"", "'", "|", ">", "|-",
                "#", " #", "&a", "*a", "!", "!!str ", "? ", "---", "...", "%YAML", "\t", "\\", "<<: ", "~", "0755", "\r\n", "=", "@",
            ]),
            0..60,
        ),
    ) {
        let text = words.concat();
        let reading = read(text.as_bytes());
        prop_assert!(reading.tree.is_some() || !reading.faults.is_empty());
        for fault in &reading.faults {
            prop_assert!(text.get(fault.bytes.clone()).is_some(), "{fault:?}");
        }
        // Whatever was read can be checked and reported, too.
        if let Err(faults) = greenroom::chain::check(&text, &greenroom::chain::files::FilesInMemory::default()) {
            faults.render(greenroom::chain::faults::Colour::Plain);
        }
    }

    #[test]
    fn json_text_gives_its_value(value in json_value()) {
        let reading = read(value.to_string().as_bytes());
        let mut faults = reading.faults;
        let found = reading.tree.map(|tree| tree.to_value("", &mut faults));
        prop_assert!(faults.is_empty(), "{faults:?}");
        prop_assert_eq!(found, Some(value));
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        "[ -~éß😀]{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..6).prop_map(Into::into),
            prop::collection::btree_map("[ -~é]{0,6}", inner, 1..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
    .prop_map(|value| serde_json::json!([value]))
}
