//! XML and documents.

use greenroom::chain::xml::{from_document, to_document};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn the_mapping_is_as_documented() {
    for (xml, document) in [
        ("<a/>", json!({ "a": "" })),
        ("<a> x </a>", json!({ "a": " x " })),
        ("<a b='1'/>", json!({ "a": { "@b": "1" } })),
        (
            "<a b='1'>x</a>",
            json!({ "a": { "@b": "1", "#text": "x" } }),
        ),
        (
            "<a>\n  <b>1</b>\n  <c/>\n</a>",
            json!({ "a": { "b": "1", "c": "" } }),
        ),
        (
            "<a><b>1</b><c/><b>2</b></a>",
            json!({ "a": { "b": ["1", "2"], "c": "" } }),
        ),
        (
            "<a>one<b/>two</a>",
            json!({ "a": { "b": "", "#text": "onetwo" } }),
        ),
        ("<a><![CDATA[<x>]]>&amp;&#65;</a>", json!({ "a": "<x>&A" })),
        (
            "<?xml version='1.0'?><!-- c --><a><?p i?><!-- c -->x</a>",
            json!({ "a": "x" }),
        ),
        (
            "<x:a xmlns:x='urn:x' xmlns='urn:y'><b x:c='1'/></x:a>",
            json!({ "a": { "b": { "@c": "1" } } }),
        ),
    ] {
        assert_eq!(to_document(xml.as_bytes()), Ok(document), "{xml}");
    }
}

#[test]
fn documents_become_xml() {
    for (document, xml) in [
        (json!({ "a": 1 }), "<a>1</a>"),
        (json!({ "a": null }), "<a></a>"),
        (
            json!({ "a": { "@b": true, "c": [1, "x"], "#text": "t" } }),
            "<a b=\"true\">t<c>1</c><c>x</c></a>",
        ),
        (
            json!({ "a": 1, "b": 2 }),
            "<document><a>1</a><b>2</b></document>",
        ),
        (
            json!([1, [2, 3]]),
            "<document><item>1</item><item><item>2</item><item>3</item></item></document>",
        ),
        (json!({ "a": [] }), "<document></document>"),
        (
            json!({ "a": { "@b": "\"<&\n" } }),
            "<a b=\"&quot;&lt;&amp;&#10;\"></a>",
        ),
        (json!("x"), "<document>x</document>"),
    ] {
        assert_eq!(from_document(&document).as_deref(), Ok(xml));
    }
}

#[test]
fn what_xml_cannot_hold_is_refused() {
    for document in [
        json!({ "a b": 1 }),
        json!({ "1a": 1, "b": 1 }),
        json!({ "a": "\u{0}" }),
        json!({ "a": { "@b": [1] } }),
        json!({ "a": { "@b c": 1 } }),
        json!({ "a": { "@xmlns": "urn:x" } }),
        json!({ "x:a": 1, "b": 2 }),
        json!({ "a": { "#text": {} } }),
        json!({ "a><b": 1, "c": 1 }),
    ] {
        assert!(from_document(&document).is_err(), "{document}");
    }
}

#[test]
fn hostile_xml_is_refused() {
    let laughs = "<!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]><l>&b;</l>";
    let external = "<!DOCTYPE l [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><l>&a;</l>";
    for dtd in [laughs, external, "<!DOCTYPE html><html/>"] {
        assert!(
            to_document(dtd.as_bytes())
                .expect_err("a DTD")
                .contains("DTD"),
            "{dtd}"
        );
    }
    assert!(to_document("<a>".repeat(100_000).as_bytes()).is_err());
    let deep = "<a>".repeat(70) + &"</a>".repeat(70);
    assert!(
        to_document(deep.as_bytes())
            .expect_err("deep")
            .contains("deeper")
    );
    let very_deep = "<a>".repeat(90_000) + &"</a>".repeat(90_000);
    assert!(
        to_document(very_deep.as_bytes())
            .expect_err("deep")
            .contains("deeper")
    );
    let wide = format!("<a>{}</a>", "<b/>".repeat(300_000));
    assert!(
        to_document(wide.as_bytes())
            .expect_err("wide")
            .contains("nodes")
    );
    for broken in [
        "",
        "   ",
        "x",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a>&nope;</a>",
        "<a b='1' b='2'/>",
        "<a>\u{1}</a>",
    ] {
        assert!(to_document(broken.as_bytes()).is_err(), "{broken:?}");
    }
    assert!(to_document(b"<a>\xff</a>").is_err());
}

/// What documents that came from XML look like.
fn element() -> impl Strategy<Value = Value> {
    let text = "[ -~é\t\n\r]{0,10}";
    let leaf = text.prop_map(Value::from);
    leaf.prop_recursive(4, 40, 5, move |inner| {
        let child = prop_oneof![
            inner.clone(),
            prop::collection::vec(inner, 2..4).prop_map(Value::from),
        ];
        let attributes =
            prop::collection::btree_map("@[a-z]{1,4}", text.prop_map(Value::from), 0..3);
        let children = prop::collection::btree_map("[a-zA-Z_][a-z0-9.-]{0,5}", child, 1..4);
        (
            attributes,
            children,
            prop::option::of("[a-z]([a-z ]{0,6}[a-z])?"),
        )
            .prop_map(|(attributes, children, text)| {
                let text = text.map(|text| ("#text".to_owned(), Value::from(text)));
                Value::Object(attributes.into_iter().chain(children).chain(text).collect())
            })
    })
}

proptest! {
    #[test]
    fn documents_of_xml_survive_the_round_trip(name in "[a-zA-Z_][a-z0-9.-]{0,8}", content in element()) {
        let document = json!({ name: content });
        let xml = from_document(&document).expect("writable");
        prop_assert_eq!(to_document(xml.as_bytes()), Ok(document), "{}", xml);
    }

    #[test]
    fn any_bytes_are_a_document_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = to_document(&bytes);
    }

    #[test]
    fn any_soup_of_xml_is_a_document_or_refused(
        words in prop::collection::vec(prop::sample::select(vec!["<a", ">", "</a>", "/>", " b='", "'", "<!--", "-->", "<![CDATA[", "]]>", "&amp;", "&#0;", "x", "<?p", "?>", "<!DOCTYPE", "xmlns:x='u'", "x:"]), 0..30),
    ) {
        if let Ok(document) = to_document(words.concat().as_bytes()) {
            prop_assert!(document.is_object());
        }
    }
}
