//! Text for terminals: strangers' strings made harmless, spans of time and sizes made readable.

use serde_json::Value;

/// A character that could move the cursor, change colours, or make text look like other text:
/// C0, DEL and C1 controls, the direction marks of Unicode, and what takes no place: joiners, spaces
/// of no width and the invisible letters of the tags block.
fn is_risky(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{e0000}'..='\u{e007f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// One line of text: everything that is risky is escaped, line breaks and tabs too.
pub fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// Text of several lines: line breaks and tabs stay.
pub fn block(text: &str) -> String {
    escaped(&text.replace("\r\n", "\n"), |c| matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_risky(c) || stays(c) {
            clean.push(c);
        } else {
            clean.extend(c.escape_default());
        }
    }
    clean
}

/// JSON text in which the risky characters that JSON allows as they are stand escaped. They can only
/// be inside of strings, so the document stays the same.
pub fn json_escaped(json: &str) -> String {
    let mut clean = String::with_capacity(json.len());
    for c in json.chars() {
        if is_risky(c) && c != '\n' {
            // Beyond the first 65,536 characters JSON writes two.
            for unit in c.encode_utf16(&mut [0; 2]) {
                clean.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Makes all strings and keys of a document harmless.
pub fn clean_strings(value: &mut Value) {
    match value {
        Value::String(text) => *text = block(text),
        Value::Array(items) => items.iter_mut().for_each(clean_strings),
        Value::Object(fields) => {
            *fields = std::mem::take(fields)
                .into_iter()
                .map(|(key, mut value)| {
                    clean_strings(&mut value);
                    (line(&key), value)
                })
                .collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `0.4s`, `12.3s`, `4m05s`, `2h10m`, `3d04h`.
pub fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 59.95 {
        return format!("{seconds:.1}s");
    }
    // Whole numbers from here; a span of more than 10^9 years is nobody's.
    let whole = seconds.round().min(1e17) as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    if minutes < 60 {
        format!("{minutes}m{:02}s", whole % 60)
    } else if hours < 48 {
        format!("{hours}h{:02}m", minutes % 60)
    } else {
        format!("{days}d{:02}h", hours % 24)
    }
}

/// `4.2ms`, `47ms`, `1.3s`: parts of what takes moments.
pub fn millis(ms: f64) -> String {
    if ms < 9.95 {
        format!("{:.1}ms", ms.max(0.0))
    } else if ms < 999.5 {
        format!("{ms:.0}ms")
    } else {
        span(ms / 1000.0)
    }
}

/// `512 MiB`, `1.5 GiB`.
pub fn mib(mib: u64) -> String {
    if mib < 1024 {
        format!("{mib} MiB")
    } else if mib.is_multiple_of(1024) {
        format!("{} GiB", mib / 1024)
    } else {
        format!("{:.1} GiB", mib as f64 / 1024.0)
    }
}

/// Bytes in the unit that people read.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1 << 10 {
        format!("{bytes} B")
    } else if bytes < 1 << 20 {
        format!("{:.1} KiB", bytes as f64 / 1024.0)
    } else if bytes < 1 << 30 {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    } else {
        format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
    }
}

/// A span of time as people type it: `90s`, `30m`, `1h30m`, `1h`. Seconds.
pub fn parse_span(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a span of time such as 90s, 30m or 1h30m");
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    u64::try_from(span.as_secs()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_or_turns_text_around_is_escaped() {
        assert_eq!(line("a\x1b[2Jb\nc\t"), "a\\u{1b}[2Jb\\nc\\t");
        assert_eq!(block("a\r\nb\t\x07"), "a\nb\t\\u{7}");
        assert_eq!(line("\u{9b}31m \u{202e}txt"), "\\u{9b}31m \\u{202e}txt");
        assert_eq!(
            line("a\u{61c}\u{200b}\u{200d}\u{2060}\u{e0041}b"),
            "a\\u{61c}\\u{200b}\\u{200d}\\u{2060}\\u{e0041}b"
        );
        assert_eq!(line("Grüße ✓ 端末"), "Grüße ✓ 端末");
    }

    #[test]
    fn json_means_the_same_after_escaping() {
        let value = serde_json::json!({"k\u{9b}": "\u{7f}\u{202e}\u{e0041}\u{200b}\x1b\nü"});
        let text = json_escaped(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.chars().all(|c| c == '\n' || !is_risky(c)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn spans_are_short() {
        let shown: Vec<String> = [0.04, 12.34, 59.96, 125.0, 7_800.0, 270_000.0]
            .into_iter()
            .map(span)
            .collect();
        assert_eq!(shown, ["0.0s", "12.3s", "1m00s", "2m05s", "2h10m", "3d03h"]);
        assert_eq!(
            [0.04, 9.97, 999.6, 62_000.0].map(millis),
            ["0.0ms", "10ms", "1.0s", "1m02s"]
        );
        assert_eq!(parse_span("1h30m"), Ok(5400));
        assert!(parse_span("-5s").is_err());
        assert!(parse_span("soon").is_err());
    }
}
