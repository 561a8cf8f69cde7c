//! What is asked of runs: a persona by name, a hold and a resume, and what their machines' consoles say.

use greenroom::vocab::access::Role;
use serde_json::{Value, json};

use crate::ground::Ground;

/// Two stages, the first of which takes its time.
const PAIR: &str = "\
chain: pair
stages:
  - name: first
    kind: custom
    image: tiny
    resources: { memory: 128 MiB }
    run: |
      sleep 0.5
    output: { format: none }
  - name: second
    kind: custom
    image: tiny
    resources: { memory: 128 MiB }
    run: |
      echo done
    output: { format: none }
";

async fn apply(ground: &Ground, source: &str) {
    let order = json!({ "source": source });
    let order = serde_json::from_value(order).unwrap();
    ground.local.chain_apply(&order).await.unwrap();
}

async fn persona(ground: &Ground, source: &str, promote: bool) {
    let order = json!({ "files": [{ "source": source }], "promote": promote });
    let order = serde_json::from_value(order).unwrap();
    ground.local.persona_apply(&order).await.unwrap();
}

async fn until(ground: &Ground, token: &str, run: i64, state: &str) -> Value {
    loop {
        let path = format!("/api/v1/runs/{run}");
        let view = ground.get(&path).token(token).send().await.fine(200).json();
        if view["state"] == state {
            return view;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_run_is_started_as_a_persona_and_the_persona_names_the_chain() {
    let ground = Ground::new().await;
    ground.apply_chain().await;
    apply(&ground, PAIR).await;
    ground.add_device("box", "lab").await;
    persona(&ground, "persona: kiosk\nlabels: { chain: pair }\n", true).await;
    persona(&ground, "persona: plain\n", true).await;
    persona(&ground, "persona: sketch\n", false).await;
    let token = ground.token(Role::Operator, None).await;
    let start = async |order: Value| {
        let ask = ground.post("/api/v1/runs", order).token(&token);
        ask.send().await
    };
    // Nobody gave the device a persona, and no chain has a trigger.
    let said = start(json!({ "device": "box" })).await.refused(409);
    assert!(
        said["detail"]
            .as_str()
            .unwrap()
            .contains("no chain's trigger holds"),
        "{said}"
    );
    let order = json!({ "device": "box", "persona": "kiosk", "dry_run": true });
    let planned = start(order).await.fine(200).json();
    assert_eq!(planned["plan"]["chain"], "pair");
    assert_eq!(planned["plan"]["chain_reason"], "persona kiosk names it");
    assert_eq!(planned["plan"]["persona"]["name"], "kiosk");
    assert_eq!(planned["plan"]["persona"]["reason"], "it was asked for");
    // A chain that is named counts before.
    let order = json!({ "device": "box", "persona": "kiosk@1", "chain": "hello", "dry_run": true });
    let planned = start(order).await.fine(200).json();
    assert_eq!(planned["plan"]["chain"], "hello");
    for (order, status, words) in [
        (
            json!({ "device": "box", "persona": "nosuch" }),
            404,
            "there is no persona",
        ),
        (
            json!({ "device": "box", "persona": "kiosk@7" }),
            404,
            "no version 7",
        ),
        (
            json!({ "device": "box", "persona": "sketch" }),
            409,
            "sketch@VERSION",
        ),
        (
            json!({ "device": "box", "persona": "plain" }),
            409,
            "no chain's trigger holds",
        ),
        (
            json!({ "device": "box", "persona": "a b" }),
            400,
            "not a persona",
        ),
    ] {
        let said = start(order).await.refused(status);
        assert!(said["detail"].as_str().unwrap().contains(words), "{said}");
    }
    // A chain whose trigger does not hold, or that is not there.
    apply(
        &ground,
        &PAIR.replace("chain: pair", "chain: picky\nwhen: device.role == 'web'"),
    )
    .await;
    persona(&ground, "persona: wrong\nlabels: { chain: picky }\n", true).await;
    persona(&ground, "persona: lost\nlabels: { chain: gone }\n", true).await;
    for (name, words) in [("wrong", "trigger"), ("lost", "there is no such chain")] {
        let said = start(json!({ "device": "box", "persona": name }))
            .await
            .refused(409);
        assert!(said["detail"].as_str().unwrap().contains(words), "{said}");
    }
    let order = json!({ "device": "box", "persona": "kiosk" });
    let started = start(order).await.fine(202).json();
    let run = started["run"]["id"].as_i64().unwrap();
    let view = until(&ground, &token, run, "succeeded").await;
    assert_eq!(view["persona"]["name"], "kiosk");
}

#[tokio::test]
async fn a_run_is_held_before_its_next_stage_and_resumed() {
    let ground = Ground::new().await;
    apply(&ground, PAIR).await;
    ground.add_device("box", "lab").await;
    let token = ground.token(Role::Operator, Some("lab")).await;
    let order = json!({ "device": "box", "chain": "pair" });
    let start = ground.post("/api/v1/runs", order).token(&token);
    let run = start.send().await.fine(202).json()["run"]["id"]
        .as_i64()
        .unwrap();
    let ask = async |verb: &str, order: Value| {
        let path = format!("/api/v1/runs/{run}/{verb}");
        ground.post(&path, order).token(&token).send().await
    };
    ask("resume", json!({})).await.refused(409);
    ask("hold", json!({ "reason": " " })).await.refused(400);
    ask("hold", json!({ "reason": "x", "within_s": 0 }))
        .await
        .refused(400);
    let order = json!({ "reason": "look first", "within_s": 600 });
    let held = ask("hold", order).await.fine(202).json();
    assert_eq!(held["hold_reason"], "look first");
    let view = until(&ground, &token, run, "paused").await;
    assert_eq!(view["hold_reason"], "look first");
    assert!(view["held_until"].is_string(), "{view}");
    let stages: Vec<_> = view["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| &stage["state"])
        .collect();
    // Held before it began, or while the first stage was at it: nothing after that.
    assert_eq!(stages[1], "waiting", "{stages:?}");
    let you_can = view["why"]["you_can"].to_string();
    assert!(you_can.contains("greenroom run resume"), "{you_can}");
    ask("resume", json!({})).await.fine(202);
    until(&ground, &token, run, "succeeded").await;
    ask("hold", json!({ "reason": "too late" }))
        .await
        .refused(409);
    let log = ground
        .local
        .audit_list(None, Some("run_hold"), 10)
        .await
        .unwrap();
    assert!(log.iter().any(|call| call.status == 202), "{log:?}");
}

#[tokio::test]
async fn the_consoles_of_a_runs_machines_can_be_read() {
    let ground = Ground::new().await;
    ground.apply_chain().await;
    ground.add_device("box", "lab").await;
    let run = ground.run("box").await;
    let viewer = ground.token(Role::Viewer, Some("lab")).await;
    let path = format!("/api/v1/runs/{run}/console");
    let consoles = ground
        .get(&path)
        .token(&viewer)
        .send()
        .await
        .fine(200)
        .json();
    let consoles = consoles.as_array().unwrap();
    assert_eq!(consoles.len(), 1, "{consoles:?}");
    assert_eq!(consoles[0]["stage"], "greet");
    assert!(!consoles[0]["lines"].as_array().unwrap().is_empty());
    let stranger = ground.token(Role::Viewer, Some("other")).await;
    ground.get(&path).token(&stranger).send().await.refused(404);
}
