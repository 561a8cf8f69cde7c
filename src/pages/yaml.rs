//! Reads and changes single values in a text that a person writes, and leaves all else as it stands:
//! comments, order, spaces. For the form beside a persona's text.
//!
//! It knows lines, not YAML: mappings in block style, a key per line, whose values are scalars or lists of
//! names. What is written in another way is left to the text, and [`Written::Otherwise`] says so. What the
//! text means is for the persona's own check.

/// What stands at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    Nothing,
    Value(String),
    /// A list in block style, by the names of its items.
    Names(Vec<String>),
    /// In a form that is not changed here.
    Otherwise,
}

/// Where a key stands.
struct Found {
    line: usize,
    indent: usize,
    /// One past the last line that belongs to it.
    end: usize,
    value: String,
}

fn indent_of(line: &str) -> Option<usize> {
    let text = line.trim_start_matches(' ');
    (!text.trim().is_empty() && !text.starts_with('#')).then(|| line.len() - text.len())
}

/// One past the last line that is deeper than `indent`, without the empty lines and comments after it.
fn end_of(lines: &[String], line: usize, indent: usize) -> usize {
    let mut end = line + 1;
    for (n, text) in lines.iter().enumerate().skip(line + 1) {
        match indent_of(text) {
            Some(deep) if deep > indent => end = n + 1,
            // A list may stand as deep as its key.
            Some(deep) if deep == indent && text.trim_start().starts_with("- ") => end = n + 1,
            Some(_) => break,
            None => {}
        }
    }
    end
}

/// A value without its comment and quotes.
fn plain(value: &str) -> String {
    let value = value.trim();
    if let Some(rest) = value.strip_prefix('"') {
        return serde_json::from_str(value)
            .unwrap_or_else(|_| rest.split('"').next().unwrap_or("").to_owned());
    }
    if let Some(rest) = value.strip_prefix('\'') {
        let inner = rest.rsplit_once('\'').map_or(rest, |(inner, _)| inner);
        return inner.replace("''", "'");
    }
    let end = value.find(" #").unwrap_or(value.len());
    value[..end].trim().to_owned()
}

fn key_of(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.trim_start().split_once(':')?;
    let is_key = !key.is_empty() && !key.contains([' ', '"', '\'', '{', '[', '#']);
    (is_key && (value.is_empty() || value.starts_with([' ', '\t']))).then_some((key, value))
}

/// The key at the end of a path, or how far the path goes: the innermost key that is there.
fn find(lines: &[String], path: &[&str]) -> (Option<Found>, Option<Found>) {
    let (mut from, mut to, mut least) = (0, lines.len(), 0);
    let mut parent: Option<Found> = None;
    for (depth, wanted) in path.iter().enumerate() {
        let mut level = None;
        let mut found = None;
        for (n, text) in lines.iter().enumerate().take(to).skip(from) {
            let Some(indent) = indent_of(text) else {
                continue;
            };
            if indent < least {
                continue;
            }
            let level = *level.get_or_insert(indent);
            if indent != level {
                continue;
            }
            if let Some((key, value)) = key_of(text)
                && key == *wanted
            {
                found = Some(Found {
                    line: n,
                    indent,
                    end: end_of(lines, n, indent),
                    value: value.trim().to_owned(),
                });
                break;
            }
        }
        let Some(found) = found else {
            return (None, parent);
        };
        if depth + 1 == path.len() {
            return (Some(found), parent);
        }
        (from, to, least) = (found.line + 1, found.end, found.indent + 1);
        parent = Some(found);
    }
    (None, parent)
}

fn lines_of(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn is_bare(value: &str) -> bool {
    value.is_empty() || value.starts_with('#')
}

/// What a text says at a place such as `["os", "timezone"]`.
pub fn read(text: &str, path: &[&str]) -> Written {
    let lines = lines_of(text);
    let (found, parent) = find(&lines, path);
    let Some(found) = found else {
        // A parent in one line hides what is in it.
        return match parent {
            Some(parent) if !is_bare(&parent.value) => Written::Otherwise,
            _ => Written::Nothing,
        };
    };
    if found.value.starts_with(['{', '[', '|', '>', '&', '*', '!']) {
        return Written::Otherwise;
    }
    if !is_bare(&found.value) {
        return match found.end {
            end if end > found.line + 1 => Written::Otherwise,
            _ => Written::Value(plain(&found.value)),
        };
    }
    match items(&lines, &found) {
        Some(items) => Written::Names(items.into_iter().map(|item| item.name).collect()),
        None if found.end == found.line + 1 => Written::Value(String::new()),
        None => Written::Otherwise,
    }
}

struct Item {
    name: String,
    from: usize,
    to: usize,
}

/// The items of a list in block style; none where it is something else.
fn items(lines: &[String], list: &Found) -> Option<Vec<Item>> {
    let mut all: Vec<Item> = Vec::new();
    let mut level = None;
    for (n, text) in lines.iter().enumerate().take(list.end).skip(list.line + 1) {
        let Some(indent) = indent_of(text) else {
            continue;
        };
        let level = *level.get_or_insert(indent);
        if indent > level {
            if let Some(item) = all.last_mut() {
                item.to = n + 1;
            }
            continue;
        }
        let rest = text.trim_start().strip_prefix("- ")?.trim();
        let name = match rest.strip_prefix('{') {
            Some(fields) => fields
                .trim_end_matches('}')
                .split(',')
                .find_map(|field| field.trim().strip_prefix("name:"))?,
            None => rest.strip_prefix("name:")?,
        };
        all.push(Item {
            name: plain(name),
            from: n,
            to: n + 1,
        });
    }
    (!all.is_empty()).then_some(all)
}

/// A value as it may stand after a key.
fn quoted(value: &str) -> String {
    let is_plain = value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && value
            .chars()
            .all(|c| c.is_alphanumeric() || " ._/@+-{}:".contains(c))
        && !value.contains(": ")
        && !value.ends_with([':', ' ']);
    let is_word = matches!(
        value,
        "true" | "false" | "null" | "yes" | "no" | "on" | "off"
    );
    match is_plain && !is_word {
        true => value.to_owned(),
        false => serde_json::Value::String(value.to_owned()).to_string(),
    }
}

/// The text with another value at a place; an empty one takes the key away. Unchanged where what stands
/// there is written otherwise.
pub fn write(text: &str, path: &[&str], value: &str) -> String {
    let mut lines = lines_of(text);
    match read(text, path) {
        Written::Otherwise | Written::Names(_) => return text.to_owned(),
        Written::Nothing if value.is_empty() => return text.to_owned(),
        Written::Nothing => insert(&mut lines, path, quoted(value)),
        Written::Value(_) => {
            let (Some(found), _) = find(&lines, path) else {
                return text.to_owned();
            };
            if value.is_empty() {
                remove(&mut lines, path);
            } else {
                let key = path.last().unwrap_or(&"");
                let comment = comment_of(&found.value);
                lines[found.line] = format!(
                    "{}{key}: {}{comment}",
                    " ".repeat(found.indent),
                    quoted(value)
                );
            }
        }
    }
    joined(lines)
}

fn comment_of(value: &str) -> &str {
    match value.starts_with(['"', '\'']) {
        true => "",
        false => value.find(" #").map_or("", |at| &value[at..]),
    }
}

/// The text with exactly these names in a list of things with names. What is said about those that stay,
/// stays.
pub fn write_names(text: &str, path: &[&str], names: &[&str]) -> String {
    let mut lines = lines_of(text);
    match read(text, path) {
        Written::Otherwise => return text.to_owned(),
        Written::Value(value) if !value.is_empty() => return text.to_owned(),
        Written::Nothing | Written::Value(_) if names.is_empty() => return text.to_owned(),
        Written::Nothing => insert(&mut lines, path, String::new()),
        Written::Value(_) | Written::Names(_) => {}
    }
    let (Some(list), _) = find(&lines, path) else {
        return text.to_owned();
    };
    let present = items(&lines, &list).unwrap_or_default();
    let deep = present
        .first()
        .and_then(|item| indent_of(&lines[item.from]))
        .unwrap_or(list.indent + 2);
    let mut end = list.end;
    for item in present.iter().rev() {
        if !names.contains(&item.name.as_str()) {
            lines.drain(item.from..item.to);
            end -= item.to - item.from;
        }
    }
    for name in names {
        if present.iter().all(|item| item.name != *name) {
            lines.insert(end, format!("{}- name: {}", " ".repeat(deep), quoted(name)));
            end += 1;
        }
    }
    if names.is_empty() {
        remove(&mut lines, path);
    }
    joined(lines)
}

/// Puts a key at the end of its parent, and the parents that are not there at the end of the text.
fn insert(lines: &mut Vec<String>, path: &[&str], value: String) {
    let (_, parent) = find(lines, path);
    let mut known = 0;
    while known + 1 < path.len() && find(lines, &path[..=known]).0.is_some() {
        known += 1;
    }
    let (mut at, mut indent) = match (&parent, known) {
        (Some(parent), 1..) => {
            let children = lines[parent.line + 1..parent.end].iter();
            let child = children.filter_map(|line| indent_of(line)).next();
            (parent.end, child.unwrap_or(parent.indent + 2))
        }
        _ => (lines.len(), 0),
    };
    for (n, key) in path.iter().enumerate().skip(known) {
        let is_last = n + 1 == path.len();
        let shown = match is_last && !value.is_empty() {
            true => format!("{}{key}: {value}", " ".repeat(indent)),
            false => format!("{}{key}:", " ".repeat(indent)),
        };
        lines.insert(at, shown);
        at += 1;
        indent += 2;
    }
}

/// Takes a key away, and with it the parents that have nothing else.
fn remove(lines: &mut Vec<String>, path: &[&str]) {
    for depth in (1..=path.len()).rev() {
        let (Some(found), _) = find(lines, &path[..depth]) else {
            return;
        };
        let is_whole = depth == path.len();
        if !is_whole && (found.end > found.line + 1 || !is_bare(&found.value)) {
            return;
        }
        lines.drain(found.line..found.end);
    }
}

fn joined(lines: Vec<String>) -> String {
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# what it is
persona: web
os:
  # where it stands
  timezone: Europe/Berlin # not UTC
applications:
  - name: nginx-light
    version: \">= 1.22\"
  - { name: nftables }
resources: { memory: 1 GiB }
network:
  hostname: web-{hardware.serial:6}
";

    #[test]
    fn values_are_read_where_they_stand() {
        let of = |path: &[&str]| read(TEXT, path);
        assert_eq!(of(&["persona"]), Written::Value("web".into()));
        assert_eq!(
            of(&["os", "timezone"]),
            Written::Value("Europe/Berlin".into())
        );
        assert_eq!(of(&["os", "locale"]), Written::Nothing);
        assert_eq!(of(&["timezone"]), Written::Nothing);
        assert_eq!(of(&["resources", "memory"]), Written::Otherwise);
        let names = ["nginx-light", "nftables"].map(str::to_owned);
        assert_eq!(of(&["applications"]), Written::Names(names.into()));
        let hostname = Written::Value("web-{hardware.serial:6}".into());
        assert_eq!(of(&["network", "hostname"]), hostname);
    }

    #[test]
    fn a_changed_value_leaves_the_rest_as_it_was() {
        let text = write(TEXT, &["os", "timezone"], "UTC");
        assert_eq!(text, TEXT.replace("Europe/Berlin", "UTC"));
        let text = write(TEXT, &["os", "locale"], "C.UTF-8");
        assert_eq!(
            text,
            TEXT.replace("not UTC\n", "not UTC\n  locale: C.UTF-8\n")
        );
        let text = write(TEXT, &["security", "profile"], "hardened");
        assert!(text.ends_with("security:\n  profile: hardened\n"), "{text}");
        assert_eq!(write(&text, &["security", "profile"], ""), TEXT);
        assert_eq!(write(TEXT, &["resources", "memory"], "2 GiB"), TEXT);
    }

    #[test]
    fn lists_keep_what_is_said_about_what_stays() {
        let text = write_names(TEXT, &["applications"], &["nginx-light", "openssh-server"]);
        assert!(
            text.contains("version: \">= 1.22\"\n  - name: openssh-server\n"),
            "{text}"
        );
        assert!(!text.contains("nftables"), "{text}");
        let none = write_names(TEXT, &["applications"], &[]);
        assert!(
            !none.contains("applications") && none.contains("resources"),
            "{none}"
        );
        let first = write_names("persona: x\n", &["applications"], &["a"]);
        assert_eq!(first, "persona: x\napplications:\n  - name: a\n");
    }

    #[test]
    fn values_that_mean_something_are_quoted() {
        assert_eq!(quoted("Europe/Berlin"), "Europe/Berlin");
        for value in ["a: b", "#x", "- x", "{x}", "yes", "", "x\ny", "a # b"] {
            assert!(quoted(value).starts_with('"'), "{value} {}", quoted(value));
        }
    }
}
