//! Every route, with every role, for the own and for a foreign client.
//!
//! What each route needs is written down here a second time: a declaration that changes, and a route that
//! is new, has to be changed or added here too.

use std::collections::BTreeMap;

use greenroom::api::{AddWebhook, CreateToken, CreateUser, Shown};
use greenroom::outbound::{Settings, Targets};
use greenroom::vocab::access::Role;
use serde_json::{Value, json};

use crate::ground::{CHAIN, Ground, PERSONA, RULES};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// The same for all.
    Shared,
    /// A list, of which everyone sees their part.
    List,
    /// A thing of the client `lab`.
    Thing,
    /// Only for who is bound to no client.
    Whole,
}
use Reach::*;

/// None as the role: open to anyone.
const EXPECTED: &[(&str, Option<Role>, Reach)] = &[
    ("version", Some(Role::Viewer), Shared),
    ("status", Some(Role::Viewer), Whole),
    ("image_list", Some(Role::Viewer), Shared),
    ("chain_list", Some(Role::Viewer), Shared),
    ("chain_apply", Some(Role::Author), Whole),
    ("chain_show", Some(Role::Viewer), Shared),
    ("device_list", Some(Role::Viewer), List),
    ("device_put", Some(Role::Operator), Thing),
    ("device_show", Some(Role::Viewer), Thing),
    ("device_replace", Some(Role::Operator), Thing),
    ("device_prediction", Some(Role::Viewer), Thing),
    ("boot_list", Some(Role::Viewer), List),
    ("boot_events", Some(Role::Viewer), List),
    ("boot_explain", Some(Role::Viewer), Whole),
    ("boot_show", Some(Role::Viewer), Thing),
    ("boot_change", Some(Role::Operator), Thing),
    ("device_telemetry", Some(Role::Viewer), Thing),
    ("boot_forget", Some(Role::Admin), Thing),
    ("power_show", Some(Role::Operator), Thing),
    ("power_change", Some(Role::Operator), Thing),
    ("bmc_show", Some(Role::Operator), Thing),
    ("bmc_set", Some(Role::Admin), Thing),
    ("bmc_remove", Some(Role::Admin), Thing),
    ("bmc_test", Some(Role::Operator), Thing),
    ("bmc_unlock", Some(Role::Admin), Thing),
    ("boot_code_create", Some(Role::Operator), Whole),
    ("model_list", Some(Role::Viewer), Whole),
    ("model_show", Some(Role::Viewer), Whole),
    ("model_train", Some(Role::Author), Whole),
    ("model_explain", Some(Role::Viewer), Whole),
    ("prediction_record", Some(Role::Viewer), Whole),
    ("persona_list", Some(Role::Viewer), Shared),
    ("persona_apply", Some(Role::Author), Whole),
    ("persona_show", Some(Role::Viewer), Shared),
    ("persona_history", Some(Role::Viewer), Shared),
    ("persona_diff", Some(Role::Viewer), Shared),
    ("persona_promote", Some(Role::Author), Whole),
    ("persona_roll_back", Some(Role::Author), Whole),
    ("persona_preview", Some(Role::Viewer), Thing),
    ("persona_catalogue", Some(Role::Viewer), Shared),
    ("assignment_list", Some(Role::Viewer), Whole),
    ("assignment_make", Some(Role::Author), Whole),
    ("assignment_end", Some(Role::Author), Whole),
    ("persona_rules", Some(Role::Viewer), Whole),
    ("persona_rules_apply", Some(Role::Author), Whole),
    ("persona_why", Some(Role::Viewer), Thing),
    ("pool_list", Some(Role::Viewer), Whole),
    ("pool_set", Some(Role::Author), Whole),
    ("pool_show", Some(Role::Viewer), Whole),
    ("pool_status", Some(Role::Viewer), Whole),
    ("forecast_list", Some(Role::Viewer), Whole),
    ("persona_forecast_list", Some(Role::Viewer), Whole),
    ("persona_forecast_show", Some(Role::Viewer), Whole),
    ("persona_forecast_compare", Some(Role::Viewer), Whole),
    ("forecast_show", Some(Role::Viewer), Whole),
    ("forecast_compare", Some(Role::Viewer), Whole),
    ("forecast_levels", Some(Role::Viewer), Whole),
    ("planned_event_list", Some(Role::Viewer), Whole),
    ("planned_event_put", Some(Role::Author), Whole),
    ("planned_event_remove", Some(Role::Author), Whole),
    ("pool_policy_list", Some(Role::Viewer), Whole),
    ("pool_policy_set", Some(Role::Author), Whole),
    ("pool_policy_show", Some(Role::Viewer), Whole),
    ("template_list", Some(Role::Viewer), Whole),
    ("template_build", Some(Role::Author), Whole),
    ("template_show", Some(Role::Viewer), Whole),
    ("template_verify", Some(Role::Operator), Whole),
    ("template_retire", Some(Role::Author), Whole),
    ("claim_list", Some(Role::Viewer), List),
    ("claim_take", Some(Role::Operator), Thing),
    ("claim_release", Some(Role::Operator), Thing),
    ("run_list", Some(Role::Viewer), List),
    ("run_start", Some(Role::Operator), Thing),
    ("run_show", Some(Role::Viewer), Thing),
    ("run_abort", Some(Role::Operator), Thing),
    ("run_hold", Some(Role::Operator), Thing),
    ("run_resume", Some(Role::Operator), Thing),
    ("run_retry", Some(Role::Operator), Thing),
    ("run_replay", Some(Role::Operator), Thing),
    ("run_console", Some(Role::Viewer), Thing),
    ("run_output", Some(Role::Viewer), Thing),
    ("run_artefact", Some(Role::Viewer), Thing),
    ("run_discard", Some(Role::Operator), Thing),
    ("run_logs", Some(Role::Viewer), Thing),
    ("run_watch", Some(Role::Viewer), Thing),
    ("event_stream", Some(Role::Viewer), List),
    ("session_show", Some(Role::Viewer), Shared),
    ("session_begin", None, Shared),
    ("session_end", Some(Role::Viewer), Shared),
    ("bootstrap", None, Shared),
    ("token_list", Some(Role::Admin), List),
    ("token_create", Some(Role::Admin), Thing),
    ("token_revoke", Some(Role::Admin), Thing),
    ("user_list", Some(Role::Admin), List),
    ("user_create", Some(Role::Admin), Thing),
    ("user_remove", Some(Role::Admin), Thing),
    ("user_password", Some(Role::Admin), Thing),
    ("audit_list", Some(Role::Admin), Whole),
    ("audit_verify", Some(Role::Admin), Whole),
    ("webhook_list", Some(Role::Admin), List),
    ("webhook_add", Some(Role::Admin), Thing),
    ("webhook_remove", Some(Role::Admin), Thing),
    ("webhook_test", Some(Role::Admin), Thing),
    ("webhook_deliveries", Some(Role::Admin), Thing),
    ("openapi", None, Shared),
    ("docs", None, Shared),
    ("docs_script", None, Shared),
    ("docs_style", None, Shared),
    ("problem_show", None, Shared),
    ("healthz", None, Shared),
    ("readyz", None, Shared),
    ("metrics", Some(Role::Viewer), Whole),
];

/// What a caller who gives what is another client's is told: giving names the client, so nothing is
/// found out, and 403 says what is wrong.
const GIVING: &[&str] = &["token_create", "user_create", "webhook_add", "claim_take"];

struct Stage {
    ground: Ground,
    run: i64,
    /// Of the templates from which machines of `lab` are forked.
    class: String,
    made: std::cell::Cell<u32>,
}

impl Stage {
    async fn set() -> Self {
        let targets = Targets {
            hosts: vec!["hooks.invalid".into()],
            ..Targets::default()
        };
        let settings = Settings {
            targets,
            ..Settings::default()
        };
        let ground = Ground::with_pool(settings).await;
        ground.apply_chain().await;
        ground.apply_persona().await;
        ground.add_device("lab-box", "lab").await;
        ground.put_on_network("lab-box").await;
        let class = ground.warm("lab").await;
        ground.take("lab", "lab-claim").await;
        ground.running.demand.look_again().await.unwrap();
        let run = ground.run("lab-box").await;
        Self {
            ground,
            run,
            class,
            made: std::cell::Cell::new(0),
        }
    }

    fn fresh(&self, word: &str) -> String {
        self.made.set(self.made.get() + 1);
        format!("{word}-{}", self.made.get())
    }

    /// Something of the client `lab` that the request may destroy; its name in the path.
    async fn thing(&self, id: &str) -> String {
        let local = &self.ground.local;
        let client = Some("lab".to_owned());
        let name = self.fresh("thing");
        if id.starts_with("token") {
            let order = CreateToken {
                name,
                role: Role::Viewer,
                client,
                expires_in_s: None,
            };
            return local.token_create(&order).await.unwrap().token.id;
        }
        if id.starts_with("claim") {
            return self.ground.take("lab", &name).await;
        }
        if id.starts_with("user") {
            let order = CreateUser {
                name: name.clone(),
                password: Shown("correct horse battery".into()),
                role: Role::Viewer,
                client,
            };
            local.user_create(&order).await.unwrap();
        } else {
            let order = AddWebhook {
                name: name.clone(),
                url: "https://hooks.invalid/".into(),
                kinds: vec![],
                client,
            };
            local.webhook_add(&order).await.unwrap();
        }
        name
    }

    async fn path(&self, id: &str, template: &str) -> String {
        let path = match id {
            "run_list" | "token_list" => template.to_owned(),
            "boot_show" | "boot_change" | "boot_forget" | "device_telemetry" => {
                self.ground.put_on_network("lab-box").await;
                template.replace("{name}", "lab-box")
            }
            _ if id.starts_with("power_") || id.starts_with("bmc_") => {
                let order = serde_json::from_value(self.body("bmc_set").unwrap()).unwrap();
                self.ground.local.bmc_set("lab-box", &order).await.unwrap();
                template.replace("{name}", "lab-box")
            }
            "boot_explain" => template.replace("{mac}", "52:54:00:12:34:56"),
            "assignment_end" => {
                let order = serde_json::from_value(self.body("assignment_make").unwrap());
                let made = self.ground.local.persona_assign(&order.unwrap()).await;
                template.replace("{id}", &made.unwrap().id.to_string())
            }
            "planned_event_remove" => {
                let event = serde_json::from_value(self.body("planned_event_put").unwrap());
                self.ground
                    .local
                    .planned_event_put(&event.unwrap())
                    .await
                    .unwrap();
                template.replace("{name}", "release")
            }
            _ if id.starts_with("forecast") => template.replace("{class}", &self.class),
            _ if id.starts_with("pool") || id.starts_with("template") => {
                if id == "template_retire" {
                    self.ground.warm("old").await;
                }
                let old = self.class.replace("@lab", "@old");
                let class = if id == "template_retire" {
                    &old
                } else {
                    &self.class
                };
                template.replace("{class}", class).replace("{id}", class)
            }
            "device_prediction" => template.replace("{name}", "lab-box") + "?chain=hello",
            "model_explain" => template.replace("{name}", "memory") + "?device=lab-box&chain=hello",
            _ if id.starts_with("model") => template.replace("{name}", "memory"),
            "persona_why" | "device_show" | "device_replace" => {
                template.replace("{name}", "lab-box")
            }
            _ if id.starts_with("persona") => template.replace("{name}", "plain"),
            "chain_show" => template.replace("{name}", "hello"),
            "problem_show" => template.replace("{word}", "stranger"),
            "event_stream" => format!("{template}?after=0"),
            _ if id.starts_with("run_") => template
                .replace("{id}", &self.run.to_string())
                .replace("{stage}", "greet"),
            _ if template.contains('{') => {
                let thing = self.thing(id).await;
                ["{id}", "{name}", "{key}"]
                    .into_iter()
                    .fold(template.to_owned(), |path, part| path.replace(part, &thing))
            }
            _ => template.to_owned(),
        };
        assert!(
            !path.contains('{'),
            "{id}: {path} needs a value in this test"
        );
        path
    }

    fn body(&self, id: &str) -> Option<Value> {
        Some(match id {
            "chain_apply" => json!({ "source": CHAIN }),
            "persona_apply" => json!({ "files": [{ "source": PERSONA }], "dry_run": true }),
            "persona_promote" | "persona_roll_back" => json!({}),
            "persona_preview" => json!({ "persona": "plain", "device": "lab-box" }),
            "persona_rules_apply" => json!({ "source": RULES, "dry_run": true }),
            "assignment_make" => {
                json!({ "kind": "role", "name": self.fresh("role"), "persona": "plain", "reason": "a test" })
            }
            "assignment_end" | "boot_explain" | "model_train" => json!({}),
            "boot_code_create" => json!({ "minutes": 10 }),
            "boot_change" => json!({ "verb": "quarantine", "reason": "a test" }),
            "power_change" => json!({ "verb": "on" }),
            // A person is its BMC: nobody is asked over a network.
            "bmc_set" => json!({ "kind": "manual", "note": "room 12" }),
            "pool_set" => {
                json!({ "class": { "of": self.class }, "target": { "hot": 0, "floor": "warm" } })
            }
            "planned_event_put" => {
                let now = greenroom::api::Time::of(greenroom::vocab::Timestamp(
                    self.ground.running.services.now().0,
                ));
                let until = greenroom::api::Time::of(
                    self.ground
                        .running
                        .services
                        .now()
                        .after(std::time::Duration::from_secs(3600)),
                );
                json!({ "name": "release", "from": now, "until": until, "factor": 2.0 })
            }
            "pool_policy_set" => json!({ "class": { "of": self.class }, "dry_run": true }),
            "template_build" => json!({ "class": { "of": self.class } }),
            "claim_take" => json!({ "image": "tiny", "client": "lab" }),
            "device_put" => json!({ "name": "lab-box", "client": "lab" }),
            "device_replace" => json!({ "client": "lab" }),
            "run_start" => json!({ "device": "lab-box", "chain": "hello", "dry_run": true }),
            "run_abort" => json!({ "reason": "no more" }),
            "run_hold" => json!({ "reason": "look first" }),
            "run_retry" | "run_resume" => json!({}),
            "run_replay" => json!({ "stage": "nosuch" }),
            "run_discard" | "webhook_test" => json!({}),
            "session_begin" => json!({ "name": "ada", "password": "correct horse battery" }),
            "bootstrap" => {
                json!({ "code": "X", "name": "eve", "password": "correct horse battery" })
            }
            "token_create" => json!({ "name": "t", "role": "viewer", "client": "lab" }),
            "user_create" => {
                json!({ "name": self.fresh("u"), "role": "viewer", "client": "lab", "password": "correct horse battery" })
            }
            "user_password" => json!({ "password": "another horse battery" }),
            "webhook_add" => {
                json!({ "name": self.fresh("w"), "url": "https://hooks.invalid/x", "client": "lab" })
            }
            _ => return None,
        })
    }
}

/// Who asks: a role, and the client that they are bound to.
type Asker<'a> = Option<(Role, Option<&'a str>)>;

/// The status that is right where the answer is not to be a success.
fn refusal(id: &str, needs: Option<Role>, reach: Reach, asker: Asker) -> Option<u16> {
    let needs = needs?;
    let Some((role, client)) = asker else {
        return Some(401);
    };
    // Everyone may set their own password, so the route is open to viewers and the rest is said inside.
    if role < needs {
        return Some(403);
    }
    match (reach, client) {
        (Whole, Some(_)) => Some(403),
        // A device that is to be another client's is refused as such; one that is another's is not there.
        (Thing, Some("other")) if id == "device_put" || id == "device_replace" => Some(403),
        (Thing, Some("other")) if GIVING.contains(&id) => Some(403),
        (Thing, Some("other")) => Some(404),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_for_every_role_own_and_foreign() {
    let stage = Stage::set().await;
    let ground = &stage.ground;
    let user = CreateUser {
        name: "ada".into(),
        password: Shown("correct horse battery".into()),
        role: Role::Viewer,
        client: None,
    };
    ground.local.user_create(&user).await.unwrap();
    let mut expected: BTreeMap<&str, (Option<Role>, Reach)> = EXPECTED
        .iter()
        .map(|(id, role, reach)| (*id, (*role, *reach)))
        .collect();
    let mut tokens: Vec<(Asker, Option<String>)> = vec![(None, None)];
    for role in Role::ALL {
        for client in [None, Some("lab"), Some("other")] {
            tokens.push((Some((role, client)), Some(ground.token(role, client).await)));
        }
    }
    let (mut cells, mut admitted, mut by_status) = (0, 0, BTreeMap::<u16, u32>::new());
    for routes in greenroom::web::all_routes() {
        for op in routes.ops {
            let id = op.declared.id;
            let (needs, reach) = expected
                .remove(id)
                .unwrap_or_else(|| panic!("{id} is not in the matrix: say who may do it"));
            for (asker, token) in &tokens {
                // What is open to all does not look at who asks, and has a pace of its own for strangers.
                if needs.is_none() && asker.is_some_and(|asker| asker != (Role::Admin, None)) {
                    continue;
                }
                let path = stage
                    .path(id, &format!("{}{}", routes.prefix, op.path))
                    .await;
                let mut ask = ground.ask(op.declared.method.clone(), &path);
                if let Some(body) = stage.body(id) {
                    ask = ask.json(body);
                }
                if let Some(token) = token {
                    ask = ask.token(token);
                }
                let (status, headers, body) = ask.head().await;
                let shown = format!("{id} by {asker:?} answered {status}");
                match refusal(id, needs, reach, *asker) {
                    Some(right) => {
                        assert_eq!(status, right, "{shown}");
                        let media_type = headers["content-type"].to_str().unwrap();
                        assert_eq!(media_type, "application/problem+json", "{shown}");
                        if id != "event_stream" {
                            let text = collected(body).await;
                            assert!(
                                status != 404 || !text.contains("\"lab\""),
                                "{shown}: {text}"
                            );
                        }
                    }
                    None => {
                        admitted += 1;
                        let fits = match id {
                            // Admitted, and then the state of things has its say.
                            "run_abort" | "run_hold" | "run_resume" | "run_retry"
                            | "run_discard" => {
                                matches!(status, 202 | 409)
                            }
                            // There is no version before.
                            "persona_roll_back" => status == 409,
                            "run_replay" | "run_artefact" => matches!(status, 404 | 409),
                            "bootstrap" => status == 409,
                            // Admitted, and then a person has to do it.
                            "power_show" | "power_change" | "bmc_test" => status == 409,
                            _ => (200..300).contains(&status),
                        };
                        assert!(fits, "{shown}");
                        if reach == List && id != "event_stream" {
                            let text = collected(body).await;
                            let sees_lab = text.contains("\"lab\"") || text.contains("\"lab-box\"");
                            let client = asker.and_then(|(_, client)| client);
                            let has_any = !matches!(id, "user_list" | "webhook_list") || sees_lab;
                            assert_eq!(
                                sees_lab && has_any,
                                has_any && client != Some("other"),
                                "{shown}: {text}"
                            );
                        }
                    }
                }
                cells += 1;
                *by_status.entry(status).or_default() += 1;
            }
        }
    }
    assert!(expected.is_empty(), "not served any more: {expected:?}");
    eprintln!(
        "matrix: {} routes, {cells} cells, {admitted} admitted, by status {by_status:?}",
        EXPECTED.len()
    );
}

async fn collected(body: hyper::body::Incoming) -> String {
    use http_body_util::BodyExt;
    let bytes = body.collect().await.expect("a body").to_bytes();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_another_clients_answers_as_if_it_were_not_there() {
    let stage = Stage::set().await;
    let ground = &stage.ground;
    let foreign = ground.token(Role::Admin, Some("other")).await;
    let token = stage.thing("token_revoke").await;
    let user = stage.thing("user_remove").await;
    let hook = stage.thing("webhook_remove").await;
    let claim = stage.thing("claim_release").await;
    let absent_token = greenroom::vocab::TokenId::fresh().to_string();
    let run = stage.run.to_string();
    for (method, there, absent, names) in [
        (
            "GET",
            "/devices/lab-box".to_owned(),
            "/devices/no-box".to_owned(),
            ["lab-box", "no-box"],
        ),
        (
            "GET",
            format!("/runs/{run}"),
            "/runs/999".into(),
            [run.as_str(), "999"],
        ),
        (
            "GET",
            format!("/runs/{run}/logs"),
            "/runs/999/logs".into(),
            [&run, "999"],
        ),
        (
            "GET",
            format!("/runs/{run}/output"),
            "/runs/999/output".into(),
            [&run, "999"],
        ),
        (
            "GET",
            "/devices/lab-box/boot".to_owned(),
            "/devices/no-box/boot".to_owned(),
            ["lab-box", "no-box"],
        ),
        (
            "GET",
            "/devices/lab-box/telemetry".to_owned(),
            "/devices/no-box/telemetry".to_owned(),
            ["lab-box", "no-box"],
        ),
        (
            "DELETE",
            "/devices/lab-box/boot".to_owned(),
            "/devices/no-box/boot".to_owned(),
            ["lab-box", "no-box"],
        ),
        (
            "GET",
            "/devices/lab-box/bmc".to_owned(),
            "/devices/no-box/bmc".to_owned(),
            ["lab-box", "no-box"],
        ),
        (
            "POST",
            "/devices/lab-box/bmc/test".to_owned(),
            "/devices/no-box/bmc/test".to_owned(),
            ["lab-box", "no-box"],
        ),
        (
            "GET",
            "/devices/lab-box/persona".to_owned(),
            "/devices/no-box/persona".to_owned(),
            ["lab-box", "no-box"],
        ),
        (
            "DELETE",
            format!("/claims/{claim}"),
            "/claims/none".into(),
            [&claim, "none"],
        ),
        (
            "DELETE",
            format!("/tokens/{token}"),
            format!("/tokens/{absent_token}"),
            [&token, &absent_token],
        ),
        (
            "DELETE",
            format!("/users/{user}"),
            "/users/nobody".into(),
            [&user, "nobody"],
        ),
        (
            "DELETE",
            format!("/webhooks/{hook}"),
            "/webhooks/none".into(),
            [&hook, "none"],
        ),
    ] {
        let mut said = Vec::new();
        for (path, name) in [&there, &absent].into_iter().zip(names) {
            let ask = ground.ask(method.parse().unwrap(), &format!("/api/v1{path}"));
            let reply = ask.token(&foreign).send().await;
            let problem = reply.refused(404);
            let detail = problem["detail"].as_str().unwrap().replace(name, "X");
            said.push(detail);
        }
        assert_eq!(said[0], said[1], "{method} {there}");
    }
}
