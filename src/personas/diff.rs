//! What changed between two versions: the text, and what it means.

use similar::TextDiff;

use crate::vocab::persona::{Compiled, PersonaVersion};

/// Unified differences, empty where there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of the texts as they were applied.
    pub source: String,
    /// Of the compiled documents as YAML, inherited values and defaults included.
    pub compiled: String,
}

pub fn versions(from: &PersonaVersion, to: &PersonaVersion) -> Difference {
    Difference {
        source: unified(
            &from.source,
            &to.source,
            &from.exact().to_string(),
            &to.exact().to_string(),
        ),
        compiled: compiled(
            Some((&from.compiled, &from.exact().to_string())),
            (&to.compiled, &to.exact().to_string()),
        ),
    }
}

/// Of two documents; the older one may not be there.
pub fn compiled(from: Option<(&Compiled, &str)>, to: (&Compiled, &str)) -> String {
    let before = from.map(|(compiled, _)| yaml(compiled)).unwrap_or_default();
    let name = from.map_or("nothing", |(_, name)| name);
    unified(&before, &yaml(to.0), name, to.1)
}

/// Three lines around each change, as `diff -u` has it.
pub fn unified(from: &str, to: &str, from_name: &str, to_name: &str) -> String {
    if from == to {
        return String::new();
    }
    TextDiff::from_lines(from, to)
        .unified_diff()
        .context_radius(3)
        .header(from_name, to_name)
        .to_string()
}

/// A compiled persona as YAML, keys sorted.
pub fn yaml(compiled: &Compiled) -> String {
    let mut value = serde_json::to_value(&compiled.document).unwrap_or_default();
    value["description"] = compiled.description.clone().into();
    serde_saphyr::to_string(&value).unwrap_or_default()
}
