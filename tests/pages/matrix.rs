//! Every page and every form, by every role, for the own and for a foreign client; and what all pages
//! have to keep: no hostile text as markup, no script or style of their own, and a size.
//!
//! Who may do what is written down here a second time, as for the API.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use greenroom::vocab::access::Role;

use crate::ground::Reply;
use crate::sample::Sample;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// For all callers of the role, each with what is theirs.
    Each,
    /// About a thing of the client `lab`.
    Thing,
    /// Only for who is bound to no client.
    Whole,
}
use Reach::*;
use Role::{Admin, Author, Operator, Viewer};

const EXPECTED: &[(&str, Option<Role>, Reach)] = &[
    ("page_overview", Some(Viewer), Each),
    ("page_sign_in", None, Each),
    ("page_sign_in_do", None, Each),
    ("page_first_admin", None, Each),
    ("page_first_admin_do", None, Each),
    ("page_sign_out", Some(Viewer), Each),
    ("page_devices", Some(Viewer), Each),
    ("page_device_put", Some(Operator), Each),
    ("page_device", Some(Viewer), Thing),
    ("page_device_boot", Some(Operator), Thing),
    ("page_runs", Some(Viewer), Each),
    ("page_run_new", Some(Operator), Each),
    ("page_run_start", Some(Operator), Each),
    ("page_run", Some(Viewer), Thing),
    ("page_run_abort", Some(Operator), Thing),
    ("page_run_hold", Some(Operator), Thing),
    ("page_run_resume", Some(Operator), Thing),
    ("page_run_retry", Some(Operator), Thing),
    ("page_run_replay", Some(Operator), Thing),
    ("page_run_discard", Some(Operator), Thing),
    ("page_chains", Some(Viewer), Each),
    ("page_chain_new", Some(Author), Whole),
    ("page_chain_check", Some(Author), Whole),
    ("page_chain_save", Some(Author), Whole),
    ("page_chain", Some(Viewer), Each),
    ("page_chain_edit", Some(Author), Whole),
    ("page_personas", Some(Viewer), Each),
    ("page_persona", Some(Viewer), Each),
    ("page_persona_diff", Some(Viewer), Each),
    ("page_persona_preview", Some(Viewer), Each),
    ("page_persona_promote", Some(Author), Whole),
    ("page_persona_roll_back", Some(Author), Whole),
    ("page_persona_new", Some(Author), Whole),
    ("page_persona_edit", Some(Author), Whole),
    ("page_persona_check", Some(Author), Whole),
    ("page_persona_save", Some(Author), Whole),
    ("page_giving", Some(Viewer), Whole),
    ("page_assign", Some(Author), Whole),
    ("page_unassign", Some(Author), Whole),
    ("page_rules_check", Some(Author), Whole),
    ("page_rules_save", Some(Author), Whole),
    ("page_pool", Some(Viewer), Whole),
    ("page_foresight", Some(Viewer), Whole),
    ("page_pool_set", Some(Author), Whole),
    ("page_template_build", Some(Author), Whole),
    ("page_template_retire", Some(Author), Whole),
    ("page_claim_release", Some(Operator), Whole),
    ("page_images", Some(Viewer), Each),
    ("page_audit", Some(Admin), Whole),
    ("page_settings", Some(Viewer), Each),
    ("page_password", Some(Viewer), Each),
    ("page_token_create", Some(Admin), Each),
    ("page_token_revoke", Some(Admin), Each),
    ("page_user_create", Some(Admin), Each),
    ("page_user_remove", Some(Admin), Each),
    ("page_webhook_add", Some(Admin), Each),
    ("page_webhook_remove", Some(Admin), Each),
    ("page_webhook_test", Some(Admin), Each),
    ("page_asset", None, Each),
    ("page_icon", None, Each),
];

/// Largest page, bytes.
const LARGEST: usize = 150_000;

fn path(sample: &Sample, id: &str, template: &str) -> String {
    let name = match id {
        _ if id.starts_with("page_device") => "lab-box",
        _ if id.starts_with("page_chain") => "talks",
        _ => "plain",
    };
    let number = match id {
        "page_unassign" => sample.assignment.to_string(),
        "page_template_retire" => sample.template.clone(),
        _ => sample.run.to_string(),
    };
    let path = template
        .replace("{name}", name)
        .replace("{id}", &number)
        .replace("{file}", "none.css");
    match id {
        "page_audit" => format!("{path}?verify=1"),
        "page_persona_preview" => format!("{path}?device="),
        _ => path,
    }
}

/// A form that the state of things refuses, so that nothing is changed by trying.
fn form(id: &str) -> &'static str {
    match id {
        "page_persona_check" => "source=persona%3A+x%0Aos%3A+%7B+variant%3A+%3Cscript%3E+%7D",
        "page_persona_save" => "do=preview&source=persona%3A+x",
        "page_chain_check" | "page_chain_save" => "source=chain%3A+%3Cscript%3E",
        "page_rules_check" | "page_rules_save" => "source=persona_rules%3A+%3Cscript%3E",
        _ => "name=no+such&class=no+such&key=none&id=none&stage=none&verb=none&device=none",
    }
}

fn check(shown: &str, reply: &Reply) {
    let text = reply.text();
    assert!(
        reply.body.len() <= LARGEST,
        "{shown}: {} bytes",
        reply.body.len()
    );
    let policy = reply.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
        "{shown}: {policy}"
    );
    assert!(!policy.contains("unsafe"), "{shown}: {policy}");
    // One script, ours, from a file; no element and no attribute that a stranger's text could make.
    let scripts = text.matches("<script").count();
    assert_eq!(
        scripts,
        text.matches("<script src=\"/assets/page-").count(),
        "{shown}: {text}"
    );
    for markup in ["<img", "<iframe", "<style", "javascript:", " style="] {
        let found = text
            .find(markup)
            .map(|at| &text[at.saturating_sub(60)..(at + 80).min(text.len())]);
        assert!(found.is_none(), "{shown}: {found:?}");
    }
    for tag in text
        .split('<')
        .skip(1)
        .filter_map(|rest| rest.split_once('>'))
        .map(|(tag, _)| tag)
    {
        let outside_of_quotes: String = tag.split('"').step_by(2).collect();
        assert!(!outside_of_quotes.contains(" on"), "{shown}: <{tag}>");
    }
    let risky = text
        .chars()
        .find(|c| (c.is_control() && *c != '\n' && *c != '\t') || *c == '\u{202e}');
    assert_eq!(risky, None, "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_for_every_role_own_and_foreign() {
    let sample = Sample::new().await;
    let ground = &sample.ground;
    let mut expected: BTreeMap<&str, (Option<Role>, Reach)> = EXPECTED
        .iter()
        .map(|(id, role, reach)| (*id, (*role, *reach)))
        .collect();
    let mut askers = vec![(None, None)];
    for role in Role::ALL {
        for client in [None, Some("lab"), Some("other")] {
            let token = ground.token(role, client).await;
            askers.push((Some((role, client)), Some(token)));
        }
    }
    let (mut cells, mut largest) = (0, (0, String::new()));
    let mut hostile_on = BTreeSet::new();
    for routes in greenroom::pages::all_routes() {
        for op in routes.ops {
            let id = op.declared.id;
            let (needs, reach) = expected
                .remove(id)
                .unwrap_or_else(|| panic!("{id} is not in the matrix: say who may do it"));
            let reads = op.declared.method == Method::GET;
            for (asker, token) in &askers {
                // Strangers have few tries, and what is open to all does not look at who asks.
                if needs.is_none() && (asker.is_some() || !reads) {
                    continue;
                }
                let path = path(&sample, id, op.path);
                let mut ask = ground
                    .ask(op.declared.method.clone(), &path)
                    .header("accept", "text/html");
                if !reads {
                    ask = ask
                        .header("content-type", "application/x-www-form-urlencoded")
                        .text(form(id).to_owned());
                }
                if let Some(token) = token {
                    ask = ask.token(token);
                }
                let reply = ask.send().await;
                let shown = format!("{id} by {asker:?} answered {}", reply.status);
                let right = match (needs, asker) {
                    (None, _) => None,
                    (Some(_), None) => Some(303),
                    (Some(needs), Some((role, _))) if *role < needs => Some(403),
                    (_, Some((_, Some(_)))) if reach == Whole => Some(403),
                    (_, Some((_, Some("other")))) if reach == Thing => Some(404),
                    _ => None,
                };
                match right {
                    Some(right) => assert_eq!(reply.status, right, "{shown}"),
                    None if reads && id != "page_asset" => {
                        assert_eq!(reply.status, 200, "{shown}: {}", reply.text());
                    }
                    // Admitted, and then the state of things has its say.
                    None => assert!(
                        matches!(reply.status, 200 | 303 | 400 | 404 | 409 | 422),
                        "{shown}: {}",
                        reply.text()
                    ),
                }
                if reply.status == 303 && asker.is_none() {
                    assert!(reply.header("location").starts_with("/sign-in"), "{shown}");
                }
                if reply.header("content-type").starts_with("text/html") {
                    check(&shown, &reply);
                    if reply.body.len() > largest.0 {
                        largest = (reply.body.len(), shown);
                    }
                    if reply.text().contains("&#60;script") || reply.text().contains("&lt;script") {
                        hostile_on.insert(id);
                    }
                }
                cells += 1;
            }
        }
    }
    assert!(expected.is_empty(), "not served any more: {expected:?}");
    // The test would show nothing if the hostile text stood nowhere.
    for id in [
        "page_overview",
        "page_devices",
        "page_device",
        "page_run",
        "page_chain",
        "page_persona",
        "page_pool",
        "page_foresight",
        "page_settings",
        "page_giving",
    ] {
        assert!(
            hostile_on.contains(id),
            "{id} shows no hostile text: {hostile_on:?}"
        );
    }
    eprintln!(
        "pages: {} routes, {cells} cells; the largest page has {} bytes ({})",
        EXPECTED.len(),
        largest.0,
        largest.1
    );
}
