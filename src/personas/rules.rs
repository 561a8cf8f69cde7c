//! The file of rules: which persona a device gets when nobody assigned one.
//!
//! ```yaml
//! persona_rules:
//!   - name: web
//!     when: device.role | default('') == 'web'
//!     persona: web-server        # or web-server@3
//!     priority: 10               # the higher wins; 0 where it is left out
//! default: base                  # may be left out
//! ```

use super::read::did_you_mean;
use crate::chain::check::Checker;
use crate::chain::check::fields::Fields;
use crate::chain::faults::{Fault, Faults, quoted};
use crate::chain::read::{self, Node};
use crate::vocab::persona::{PersonaRef, Rule, RuleSet};

/// Most rules of one file.
pub const MOST: usize = 500;

/// Reads and checks a file of rules; `names` are the personas that exist (none: not checked).
pub fn check(source: &str, names: Option<&[String]>) -> Result<RuleSet, Faults> {
    let reading = read::read(source.as_bytes());
    let mut faults = reading.faults;
    for fault in &mut faults {
        if fault.message == "the file is empty" {
            fault.expected = Some("rules: `persona_rules:` and a list".into());
        }
    }
    let mut checker = Checker::of_text(source, faults);
    let rules = reading
        .tree
        .as_ref()
        .and_then(|tree| rule_set(&mut checker, tree, names));
    let faults = checker.into_faults();
    match rules {
        Some(rules) if faults.is_empty() => Ok(rules),
        _ => Err(Faults::new(source, faults).in_file("the rules")),
    }
}

fn rule_set(checker: &mut Checker<'_>, tree: &Node, names: Option<&[String]>) -> Option<RuleSet> {
    let fields = Fields::open(checker, tree, "", &["persona_rules", "default"])?;
    let rules = fields.need(
        checker,
        "persona_rules",
        "a list of rules",
        |checker, node, path| {
            let items = checker.list(node, path, "a list of rules")?;
            if items.len() > MOST {
                checker.report(
                    Fault::new(node.span, path, format!("there are {} rules", items.len()))
                        .expecting(format!("at most {MOST}")),
                );
            }
            let mut rules: Vec<Rule> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                let Some(rule) = rule(checker, item, &path, names) else {
                    continue;
                };
                if rules
                    .iter()
                    .any(|earlier| earlier.name == rule.name && !rule.name.is_empty())
                {
                    let message = format!("a second rule is called {}", quoted(&rule.name));
                    checker.report(
                        Fault::new(item.span, path, message).expecting("a name of its own"),
                    );
                }
                rules.push(rule);
            }
            Some(rules)
        },
    );
    let default = fields.may(checker, "default", |checker, node, path| {
        persona(checker, node, path, names)
    });
    Some(RuleSet {
        rules: rules?,
        default,
    })
}

fn rule(
    checker: &mut Checker<'_>,
    node: &Node,
    path: &str,
    names: Option<&[String]>,
) -> Option<Rule> {
    let fields = Fields::open(
        checker,
        node,
        path,
        &["name", "when", "persona", "priority"],
    )?;
    let name = fields.need(checker, "name", "the rule's name", |checker, node, path| {
        checker.plain_name(node, path)
    });
    let when = fields.need(
        checker,
        "when",
        "a condition over `device`",
        |checker, node, path| checker.trigger(node, path),
    );
    let persona = fields.need(
        checker,
        "persona",
        "a persona's name",
        |checker, node, path| persona(checker, node, path, names),
    );
    let priority = fields.may(checker, "priority", |checker, node, path| {
        checker.count(node, path, 0, 1_000_000)
    });
    Some(Rule {
        name: name.unwrap_or_default(),
        when: when.unwrap_or_default(),
        persona: persona?,
        priority: priority
            .and_then(|priority| i64::try_from(priority).ok())
            .unwrap_or(0),
    })
}

fn persona(
    checker: &mut Checker<'_>,
    node: &Node,
    path: &str,
    names: Option<&[String]>,
) -> Option<PersonaRef> {
    let text = checker.text(node, path)?;
    let Ok(found) = text.parse::<PersonaRef>() else {
        let fault = Fault::new(
            node.span,
            path,
            format!("{} is not a persona", quoted(&text)),
        );
        checker.report(fault.expecting("a name such as `base`, or `base@3` for one version"));
        return None;
    };
    if let Some(names) = names
        && !names.contains(&found.name)
    {
        let fault = Fault::new(
            node.span,
            path,
            format!("there is no persona {}", quoted(&found.name)),
        );
        checker.report(
            match did_you_mean(&found.name, names.iter().map(String::as_str)) {
                Some(near) => fault.suggesting(near),
                None => fault.suggesting("apply it first with `greenroom persona apply`"),
            },
        );
    }
    Some(found)
}
