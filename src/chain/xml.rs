//! XML as documents, both ways.
//!
//! | XML | document |
//! |---|---|
//! | the root element | an object with one member, named after it |
//! | an element with text only | that text; `""` when it is empty |
//! | any other element | an object |
//! | an attribute | the member `@name`, a text |
//! | an element inside | the member `name` |
//! | several of the same name | one member, a list in their order |
//! | text beside attributes or elements | the member `#text`; beside elements trimmed, left out when blank |
//!
//! Everything is text: XML has no numbers. A list with one item is not told from a single element;
//! `to_array(x)` in a transform makes it a list either way. Comments and processing instructions are
//! dropped, as are namespaces (names are local names), and so is the order among elements of
//! different names.
//!
//! The way back makes elements of members, repeated elements of lists, text of numbers and booleans,
//! and an empty element of null. A document that is not an object with one member gets the root
//! `document`.

use quick_xml::Writer;
use quick_xml::events::attributes::Attr;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use serde_json::{Map, Value};

use super::document::{MAX_BYTES, MAX_DEPTH};
use super::faults::quoted;

/// Most elements, attributes and pieces of text.
pub const MAX_NODES: u32 = 200_000;
/// Largest XML text that is parsed, bytes.
pub const MAX_XML_BYTES: usize = 16 << 20;

/// Reads XML without DTD or external entities; `Err` says what is wrong.
pub fn to_document(bytes: &[u8]) -> Result<Value, String> {
    if bytes.len() > MAX_XML_BYTES {
        return Err("larger than 16 MiB".into());
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8 text: {error}"))?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err("it is empty".into());
    }
    let options = roxmltree::ParsingOptions {
        nodes_limit: MAX_NODES,
        ..Default::default()
    };
    let parsed =
        roxmltree::Document::parse_with_options(text, options).map_err(|error| match error {
            roxmltree::Error::DtdDetected => {
                "it has a DTD (`<!DOCTYPE`), which is not accepted".into()
            }
            roxmltree::Error::NodesLimitReached => format!("more than {MAX_NODES} nodes"),
            error => error.to_string(),
        })?;
    let root = parsed.root_element();
    let content = element(root, 2)?;
    Ok(Value::Object(Map::from_iter([(
        root.tag_name().name().to_owned(),
        content,
    )])))
}

fn element(node: roxmltree::Node<'_, '_>, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH} levels"));
    }
    let mut members = Map::new();
    for attribute in node.attributes() {
        let name = format!("@{}", attribute.name());
        if members.insert(name, attribute.value().into()).is_some() {
            return Err(format!(
                "two attributes of {} have the name {} in different namespaces",
                quoted(node.tag_name().name()),
                quoted(attribute.name())
            ));
        }
    }
    let mut text = String::new();
    let mut has_elements = false;
    for child in node.children() {
        if child.is_text() {
            text.push_str(child.text().unwrap_or_default());
        } else if child.is_element() {
            has_elements = true;
            add(
                &mut members,
                child.tag_name().name(),
                element(child, depth + 1)?,
            );
        }
    }
    if has_elements {
        text = text.trim().to_owned();
    } else if members.is_empty() {
        return Ok(Value::String(text));
    }
    if !text.is_empty() {
        members.insert("#text".into(), text.into());
    }
    Ok(Value::Object(members))
}

/// The first of a name stands alone, the second makes a list of it. No element becomes a list by
/// itself, so a list here is always one that was made here.
fn add(members: &mut Map<String, Value>, name: &str, value: Value) {
    match members.get_mut(name) {
        None => drop(members.insert(name.to_owned(), value)),
        Some(Value::Array(items)) => items.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

/// Writes a document as XML; `Err` says which member cannot be written.
pub fn from_document(document: &Value) -> Result<String, String> {
    let mut writer = Writer::new(Vec::new());
    let single = document
        .as_object()
        .filter(|members| members.len() == 1)
        .and_then(|members| members.iter().next());
    match single {
        Some((name, content)) if is_name(name) && !content.is_array() => {
            write(&mut writer, name, content, 1)?
        }
        _ => write(&mut writer, "document", document, 1)?,
    }
    let bytes = writer.into_inner();
    if bytes.len() > MAX_BYTES {
        return Err("the XML is larger than 4 MiB".into());
    }
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

fn write(
    writer: &mut Writer<Vec<u8>>,
    name: &str,
    content: &Value,
    depth: usize,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH} levels"));
    }
    if !is_name(name) {
        return Err(format!(
            "{} cannot be the name of an XML element; rename it with `select:`",
            quoted(name)
        ));
    }
    let mut start = BytesStart::new(name);
    let io = |error: std::io::Error| error.to_string();
    let members = match content {
        Value::Object(members) => members,
        Value::Array(items) => {
            // A list in a list (or as the whole document): XML has no lists, so each gets an element.
            writer.write_event(Event::Start(start)).map_err(io)?;
            for item in items {
                write(writer, "item", item, depth + 1)?;
            }
            return writer
                .write_event(Event::End(BytesEnd::new(name)))
                .map_err(io);
        }
        scalar => {
            writer.write_event(Event::Start(start)).map_err(io)?;
            write_text(writer, &text_of(name, scalar)?)?;
            return writer
                .write_event(Event::End(BytesEnd::new(name)))
                .map_err(io);
        }
    };
    for (key, value) in members {
        if let Some(attribute) = key.strip_prefix('@') {
            if !is_name(attribute) || attribute == "xmlns" {
                return Err(format!(
                    "{} cannot be the name of an XML attribute",
                    quoted(attribute)
                ));
            }
            let text = escape_attribute(&text_of(key, value)?);
            start.push_attribute(Attr::DoubleQ(attribute, text.as_str()));
        }
    }
    writer.write_event(Event::Start(start)).map_err(io)?;
    if let Some(text) = members.get("#text") {
        write_text(writer, &text_of("#text", text)?)?;
    }
    for (key, value) in members {
        match value {
            _ if key.starts_with('@') || key == "#text" => {}
            Value::Array(items) => {
                for item in items {
                    write(writer, key, item, depth + 1)?;
                }
            }
            value => write(writer, key, value, depth + 1)?,
        }
    }
    writer
        .write_event(Event::End(BytesEnd::new(name)))
        .map_err(io)
}

fn write_text(writer: &mut Writer<Vec<u8>>, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let escaped = BytesText::from_escaped(quick_xml::escape::escape(text));
    writer
        .write_event(Event::Text(escaped))
        .map_err(|error| error.to_string())
}

/// Besides the usual five: line ends and tabs, which a reader would turn into blanks.
fn escape_attribute(text: &str) -> String {
    quick_xml::escape::escape(text)
        .replace('\n', "&#10;")
        .replace('\t', "&#9;")
}

fn text_of(name: &str, value: &Value) -> Result<String, String> {
    let text = match value {
        Value::Null => String::new(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => {
            return Err(format!(
                "{} must be a text, a number or a boolean",
                quoted(name)
            ));
        }
    };
    match text.chars().find(|c| !is_xml_character(*c)) {
        None => Ok(text),
        Some(c) => Err(format!(
            "{} contains U+{:04X}, which XML cannot hold",
            quoted(name),
            c as u32
        )),
    }
}

/// XML 1.0 section 2.2.
fn is_xml_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// The ASCII part of XML's names, without colons, which would mean namespaces.
fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}
