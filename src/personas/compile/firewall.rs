//! nft's word on rules that were written by hand.

use std::collections::BTreeMap;

use crate::chain::faults::{Fault, quoted};
use crate::chain::read::Span;
use crate::personas::nft::{Nft, Verdict};
use crate::personas::read::Places;
use crate::personas::render;
use crate::vocab::persona::Document;

/// nft's word on the whole file, told at the rule that it is about.
pub(super) fn ask_nft(
    document: &Document,
    places: &Places,
    origins: &BTreeMap<String, String>,
    nft: &Nft,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Fault>,
) {
    let firewall = &document.security.firewall;
    if firewall.rules.is_empty() {
        return;
    }
    const RULES: &str = "security.firewall.rules";
    let place = |at: &str| {
        places
            .get(at)
            .or_else(|| places.get(RULES))
            .or_else(|| places.get("parent"))
    };
    let whose = match places.get(RULES) {
        Some(_) => String::new(),
        None => origins
            .get(RULES)
            .map(|whose| format!(" (from {whose})"))
            .unwrap_or_default(),
    };
    match nft.check(&render::nftables(firewall, &document.security.ssh.from)) {
        Verdict::Good => {}
        Verdict::Unknown(why) => {
            let (span, path) = place(RULES).unwrap_or((Span::default(), RULES));
            warnings.push(Fault::new(
                span,
                path,
                format!("the firewall's rules were not checked{whose}: {why}"),
            ));
        }
        Verdict::Wrong(wrong) => {
            for (line, column, words) in wrong {
                let index = line
                    .checked_sub(render::FIRST_RULE_LINE)
                    .filter(|index| *index < firewall.rules.len());
                let at =
                    index.map_or_else(|| RULES.to_owned(), |index| format!("{RULES}[{index}]"));
                let (span, path) = place(&at).unwrap_or((Span::default(), RULES));
                let near = index.and_then(|index| {
                    let rule = &firewall.rules[index];
                    rule.get(column.saturating_sub(9)..)
                        .and_then(|rest| rest.split(' ').next())
                        .filter(|word| !word.is_empty())
                });
                let near = near
                    .map(|word| format!(", at {}", quoted(word)))
                    .unwrap_or_default();
                faults.push(
                    Fault::new(
                        span,
                        path,
                        format!("nft refuses this rule: {words}{near}{whose}"),
                    )
                    .expecting("a rule such as `tcp dport 8080 accept`"),
                );
            }
        }
    }
}
