//! The handoff between stages, as a run performs it.

use greenroom::chain::document::{merge_into, parse_json, patch};
use greenroom::chain::handoff::{stage_input, take_output};
use greenroom::chain::model::{Merge, MergeHow, Stage};
use greenroom::vocab::envelope::Envelope;
use greenroom::vocab::{Digest, Failure, FailureKind};
use serde_json::{Value, json};

fn stage(parts: &str) -> Stage {
    crate::chain(&format!(
        "chain: c\nstages:\n- {{ name: s, image: tiny, run: 'true', {parts} }}"
    ))
    .stages
    .remove(0)
}

fn envelope(document: Value) -> Envelope {
    Envelope {
        document,
        artefacts: Vec::new(),
    }
}

async fn input(parts: &str, document: Value) -> Result<String, Failure> {
    let bytes = stage_input(&stage(parts), &envelope(document)).await?;
    Ok(String::from_utf8(bytes).expect("text"))
}

async fn output(parts: &str, document: Value, raw: &str) -> Result<Value, Failure> {
    let taken = take_output(&stage(parts), &envelope(document), raw.as_bytes()).await?;
    Ok(taken.envelope.document)
}

#[tokio::test]
async fn an_input_is_selected_checked_and_written() {
    let document = json!({ "device": { "name": "x", "disks": [{ "gib": 1 }, { "gib": 2 }] } });
    let all = input("input: { format: json }", document.clone()).await;
    assert_eq!(all, Ok(document.to_string()));
    let some = input("input: { select: 'device.disks[].gib' }", document.clone()).await;
    assert_eq!(some.as_deref(), Ok("[1,2]"));
    let xml = input(
        "input: { select: '{ device: device }', format: xml }",
        document.clone(),
    )
    .await;
    assert_eq!(
        xml.as_deref(),
        Ok("<device><disks><gib>1</gib></disks><disks><gib>2</gib></disks><name>x</name></device>")
    );
    let jq = input("input: { jq: '.device.disks | length' }", document).await;
    assert_eq!(jq.as_deref(), Ok("2"));
}

#[tokio::test]
async fn an_input_that_cannot_be_made_is_an_input_failure_with_a_way_out() {
    let document = json!({ "device": { "a b": 1, "c": 2 } });
    for (parts, words) in [
        ("input: { select: facts }", "found nothing"),
        ("input: { select: abs(device) }", "`select` failed"),
        (
            "input: { schema: { required: [facts] } }",
            "not what its schema says",
        ),
        (
            "input: { select: device, format: xml }",
            "cannot be written as XML",
        ),
        ("input: { jq: .device.c.d }", "`jq` failed"),
    ] {
        let failure = input(parts, document.clone()).await.expect_err(parts);
        assert_eq!(failure.kind, FailureKind::Input, "{parts}");
        assert!(failure.message.contains(words), "{parts}: {failure}");
        assert!(failure.way_out.is_some(), "{parts}");
    }
}

#[tokio::test]
async fn an_output_is_parsed_transformed_checked_and_merged() {
    let start = json!({ "device": {} });
    let json_out = output("output: json", start.clone(), "{\"a\": 1}").await;
    assert_eq!(json_out, Ok(json!({ "device": {}, "s": { "a": 1 } })));
    let parts =
        "output: { format: json, select: 'b[0]', merge: /facts/deep, schema: { type: integer } }";
    assert_eq!(
        output(parts, start.clone(), "{\"b\": [5]}").await,
        Ok(json!({ "device": {}, "facts": { "deep": 5 } }))
    );
    let parts = "output: { format: xml, select: r.n, merge: /n }";
    assert_eq!(
        output(parts, start.clone(), "<r><n>1</n><n>2</n></r>").await,
        Ok(json!({ "device": {}, "n": ["1", "2"] }))
    );
    assert_eq!(
        output("output: none", start.clone(), "anything").await,
        Ok(start)
    );
}

#[tokio::test]
async fn a_binary_output_is_an_artefact() {
    let stage = stage("output: { format: binary, media_type: application/gzip }");
    let before = envelope(json!({ "device": {} }));
    let taken = take_output(&stage, &before, b"\x1f\x8b\xff")
        .await
        .expect("taken");
    let artefact = taken.artefact.expect("an artefact");
    assert_eq!(
        (
            artefact.stage.as_str(),
            artefact.media_type.as_str(),
            artefact.size_bytes
        ),
        ("s", "application/gzip", 3)
    );
    assert_eq!(artefact.digest, Digest::of(b"\x1f\x8b\xff"));
    assert_eq!(taken.envelope.artefacts, [artefact]);
    assert_eq!(taken.envelope.document, before.document);
    assert_eq!(taken.validation.format, "binary");
}

#[tokio::test]
async fn what_was_checked_is_told() {
    let stage = stage("output: { format: json, select: a, schema: { type: integer }, merge: /x }");
    let taken = take_output(&stage, &envelope(json!({})), b"{\"a\": 1}")
        .await
        .expect("taken");
    let checked = serde_json::to_value(&taken.validation).expect("JSON");
    assert_eq!(checked["format"], "json");
    assert_eq!(checked["size_bytes"], 8);
    assert_eq!(checked["transform"], "select");
    assert_eq!(checked["schema"], true);
    assert_eq!(checked["merged_at"], "/x");
}

#[tokio::test]
async fn an_output_that_will_not_do_is_an_output_failure_with_a_way_out() {
    let deep = "[".repeat(65) + &"]".repeat(65);
    for (parts, raw, words) in [
        ("output: json", "", "the output is empty"),
        ("output: json", "  ", "it is empty"),
        ("output: json", "hello", "not acceptable JSON"),
        ("output: json", "<a/>", "not acceptable JSON"),
        ("output: json", "{} {}", "trailing"),
        ("output: json", "{\"a\": 1, \"a\": 2}", "occurs twice"),
        ("output: json", deep.as_str(), "deeper than 64"),
        ("output: xml", "{}", "not acceptable XML"),
        ("output: xml", "<!DOCTYPE a><a/>", "DTD"),
        ("output: { max: 4 B }", "[1, 2]", "allows 4"),
        (
            "output: { schema: { required: [a, b] } }",
            "{}",
            "\"b\" is a required property",
        ),
        ("output: { select: abs(a) }", "{}", "`select` failed"),
        (
            "output: { merge: /device/name/x }",
            "{}",
            "`/device/name` is already the text `n`",
        ),
        (
            "output: { merge: { at: /device, how: append } }",
            "{}",
            "not a list to append to",
        ),
        (
            "output: { merge: { at: '', how: patch } }",
            "[]",
            "must stay an object",
        ),
        ("output: { format: binary, max: 1 B }", "ab", "allows 1"),
        ("output: { format: binary }", "", "empty"),
    ] {
        let failure = output(parts, json!({ "device": { "name": "n" } }), raw)
            .await
            .expect_err(parts);
        assert_eq!(failure.kind, FailureKind::Output, "{parts}");
        assert!(failure.message.contains(words), "{parts}: {failure}");
        assert!(failure.way_out.is_some(), "{parts}");
    }
    let failure = output("output: json", json!({}), "<a/>")
        .await
        .expect_err("XML");
    assert!(
        failure
            .way_out
            .expect("a way out")
            .contains("looks like XML")
    );
    let not_text = take_output(&stage("output: json"), &envelope(json!({})), b"\"\xff\"").await;
    assert!(not_text.expect_err("not UTF-8").message.contains("UTF-8"));
}

#[tokio::test]
async fn a_document_has_a_largest_size() {
    let filler = "x".repeat(3 << 20);
    let raw = json!(filler).to_string();
    let failure = output(
        "output: { max: 8 MiB }",
        json!({ "device": { "f": filler } }),
        &raw,
    )
    .await
    .expect_err("6 MiB");
    assert!(failure.message.contains("the most is 4 MiB"), "{failure}");
    let failure = input("network: false", json!({ "a": "x".repeat(5 << 20) }))
        .await
        .expect_err("5 MiB");
    assert_eq!(failure.kind, FailureKind::Input);
}

#[tokio::test]
async fn all_violations_are_told_up_to_twenty() {
    let parts = "output: { schema: { items: { type: string } } }";
    let failure = output(parts, json!({}), &json!(vec![7; 50]).to_string())
        .await
        .expect_err("fifty");
    assert!(
        failure.message.contains("/19:") && !failure.message.contains("/20:"),
        "{failure}"
    );
    assert!(failure.message.ends_with("and 30 more"), "{failure}");
}

fn merged(mut document: Value, at: &str, how: MergeHow, value: Value) -> Result<Value, String> {
    let before = document.clone();
    let outcome = merge_into(&mut document, &Merge { at: at.into(), how }, value);
    if outcome.is_err() {
        assert_eq!(document, before, "a refused merge changes nothing");
    }
    outcome.map(|()| document)
}

#[test]
fn the_ways_to_merge() {
    use MergeHow::{Append, Patch, Replace};
    for (document, at, how, value, expected) in [
        (
            json!({}),
            "/a/b",
            Replace,
            json!(1),
            json!({ "a": { "b": 1 } }),
        ),
        (
            json!({ "a": { "b": [1], "c": 2 } }),
            "/a/b",
            Replace,
            json!({}),
            json!({ "a": { "b": {}, "c": 2 } }),
        ),
        (
            json!({ "a": { "b": 1, "c": 2 } }),
            "/a",
            Patch,
            json!({ "b": null, "d": 3 }),
            json!({ "a": { "c": 2, "d": 3 } }),
        ),
        (
            json!({ "a": 1 }),
            "",
            Patch,
            json!({ "b": 2 }),
            json!({ "a": 1, "b": 2 }),
        ),
        (json!({}), "/l", Append, json!(1), json!({ "l": [1] })),
        (
            json!({ "l": [1] }),
            "/l",
            Append,
            json!([2]),
            json!({ "l": [1, [2]] }),
        ),
        (
            json!({}),
            "/a~1b/~0",
            Replace,
            json!(1),
            json!({ "a/b": { "~": 1 } }),
        ),
    ] {
        assert_eq!(
            merged(document, at, how, value),
            Ok(expected),
            "{at} {how:?}"
        );
    }
    for (document, at, how, value) in [
        (json!({ "a": [1] }), "/a/0", Replace, json!(1)),
        (json!({ "a": null }), "/a/b", Replace, json!(1)),
        (json!({ "a": {} }), "/a", Append, json!(1)),
        (json!({}), "", Replace, json!(1)),
        (json!({}), "a", Replace, json!(1)),
    ] {
        assert!(merged(document, at, how, value).is_err(), "{at} {how:?}");
    }
}

#[test]
fn merge_patch_is_that_of_rfc_7396() {
    // Appendix A.
    for (original, change, result) in [
        (
            json!({ "a": "b" }),
            json!({ "a": "c" }),
            json!({ "a": "c" }),
        ),
        (
            json!({ "a": "b" }),
            json!({ "b": "c" }),
            json!({ "a": "b", "b": "c" }),
        ),
        (json!({ "a": "b" }), json!({ "a": null }), json!({})),
        (
            json!({ "a": "b", "b": "c" }),
            json!({ "a": null }),
            json!({ "b": "c" }),
        ),
        (
            json!({ "a": ["b"] }),
            json!({ "a": "c" }),
            json!({ "a": "c" }),
        ),
        (
            json!({ "a": "c" }),
            json!({ "a": ["b"] }),
            json!({ "a": ["b"] }),
        ),
        (
            json!({ "a": { "b": "c" } }),
            json!({ "a": { "b": "d", "c": null } }),
            json!({ "a": { "b": "d" } }),
        ),
        (
            json!({ "a": [{ "b": "c" }] }),
            json!({ "a": [1] }),
            json!({ "a": [1] }),
        ),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({ "a": "b" }), json!(["c"]), json!(["c"])),
        (json!({ "a": "foo" }), json!(null), json!(null)),
        (json!({ "a": "foo" }), json!("bar"), json!("bar")),
        (
            json!({ "e": null }),
            json!({ "a": 1 }),
            json!({ "e": null, "a": 1 }),
        ),
        (
            json!([1, 2]),
            json!({ "a": "b", "c": null }),
            json!({ "a": "b" }),
        ),
        (
            json!({}),
            json!({ "a": { "bb": { "ccc": null } } }),
            json!({ "a": { "bb": {} } }),
        ),
    ] {
        let mut target = original.clone();
        patch(&mut target, change.clone());
        assert_eq!(target, result, "{original} {change}");
    }
}

#[test]
fn strict_json() {
    assert_eq!(
        parse_json(b" {\"a\": [1, -2, 1.5, true, null, \"x\"]}\n"),
        Ok(json!({ "a": [1, -2, 1.5, true, null, "x"] }))
    );
    for bad in [
        "",
        "{",
        "{\"a\":1,}",
        "nul",
        "NaN",
        "{\"a\":{\"b\":1,\"b\":1}}",
        "1 2",
        "'x'",
        "[1] // x",
    ] {
        assert!(parse_json(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(parse_json(&vec![b'['; 1 << 20]).is_err());
    let just = "[".repeat(64) + &"]".repeat(64);
    assert!(parse_json(just.as_bytes()).is_ok());
}
