//! A house in which everything that a page can show is there, and every string that comes from outside
//! is hostile.

use std::time::Duration;

use greenroom::api::{CreateUser, PutDevice, Shown, StartRun};
use greenroom::outbound::{Settings, Targets};
use greenroom::store::telemetry::{Report, report_insert};
use greenroom::store::{boot, devices};
use greenroom::vocab::access::Role;
use greenroom::vocab::boot::{BootEvent, BootPhase};
use greenroom::vocab::telemetry::Measures;
use serde_json::json;

use crate::ground::Ground;

/// Breaks out of a text node, of a quoted attribute, and of a terminal; the last mark turns the direction
/// of writing.
pub const HOSTILE: &str =
    "<script>alert(1)</script>\"><img src=x onerror=alert(2)> \u{1b}[31m\u{202e}{{7*7}}";
/// The same without what a line of words may not have.
pub const HOSTILE_LINE: &str = "<script>alert(1)</script>\"><img src=x onerror=alert(2)>";

pub const PASSWORD: &str = "correct horse battery";

/// The guest says hostile things: in its log, in the document that it hands on, and when it fails.
pub fn hostile_chain() -> String {
    format!(
        r#"chain: talks
description: '{HOSTILE_LINE}'
handoff_disk: {{ size: 64 MiB }}
on_failure: {{ hold: 1h }}
stages:
  - name: speak
    kind: discovery
    description: '{HOSTILE_LINE}'
    image: tiny
    handoff_disk: true
    resources: {{ memory: 128 MiB }}
    run: |
      echo '{HOSTILE_LINE}'
      echo '{{"said": "<script>alert(1)</script><img src=x onerror=alert(2)>"}}' > $GREENROOM_OUTPUT
    output: {{ format: json, merge: /spoken }}
  - name: fail
    kind: custom
    image: tiny
    handoff_disk: true
    resources: {{ memory: 128 MiB }}
    run: |
      echo '{HOSTILE_LINE}' >&2
      if [ $GREENROOM_ATTEMPT -lt 2 ]; then exit 3; fi
    output: {{ format: none }}
"#
    )
}

pub struct Sample {
    pub ground: Ground,
    /// Held at its second stage.
    pub run: i64,
    pub assignment: i64,
    /// The class of a template.
    pub template: String,
}

pub fn settings() -> Settings {
    Settings {
        targets: Targets {
            hosts: vec!["hooks.invalid".into()],
            ..Targets::default()
        },
        ..Settings::default()
    }
}

impl Sample {
    pub async fn new() -> Self {
        let ground = Ground::with_pool(settings()).await;
        let local = &ground.local;
        ground.apply_chain().await;
        let order = json!({ "source": hostile_chain() });
        local
            .chain_apply(&serde_json::from_value(order).unwrap())
            .await
            .unwrap();
        ground.apply_persona().await;
        let persona = "persona: plain\ndescription: '<script>alert(1)</script>'\npreferences:\n  motd: '<img src=x onerror=alert(2)>'\n";
        let order =
            json!({ "files": [{ "source": persona }], "reason": HOSTILE_LINE, "promote": true });
        local
            .persona_apply(&serde_json::from_value(order).unwrap())
            .await
            .unwrap();
        let device = PutDevice {
            name: "lab-box".into(),
            client: Some("lab".into()),
            facts: serde_json::from_value(json!({
                "hardware": { "vendor": HOSTILE, "model": HOSTILE, "disks": [{ "name": HOSTILE }] },
                HOSTILE: [HOSTILE, 1],
            }))
            .unwrap(),
        };
        local.device_put(&device).await.unwrap();
        ground.put_on_network("lab-box").await;
        console(
            &ground,
            "lab-box",
            &format!("{HOSTILE}\nlogin: {HOSTILE}\n"),
        );
        let sample = Self::grown(ground).await;
        sample.speak_as_device().await;
        sample
    }

    async fn grown(ground: Ground) -> Self {
        let local = &ground.local;
        let template = ground.warm("lab").await;
        let order =
            json!({ "image": "tiny", "client": "lab", "key": "claimed", "owner": HOSTILE_LINE });
        local
            .claim_take(&serde_json::from_value(order).unwrap())
            .await
            .unwrap();
        crate::weeks::lived(&ground.running, HOSTILE_LINE).await;
        let order = json!({ "kind": "role", "name": HOSTILE_LINE, "persona": "plain", "reason": HOSTILE_LINE });
        let assigned = local
            .persona_assign(&serde_json::from_value(order).unwrap())
            .await
            .unwrap();
        let order = json!({ "name": HOSTILE_LINE, "role": "viewer", "client": "lab" });
        local
            .token_create(&serde_json::from_value(order).unwrap())
            .await
            .unwrap();
        let order =
            json!({ "name": "hook", "url": "https://hooks.invalid/?<script>", "client": "lab" });
        local
            .webhook_add(&serde_json::from_value(order).unwrap())
            .await
            .unwrap();
        for (name, role) in [
            ("ada", Role::Admin),
            ("vera", Role::Viewer),
            ("otto", Role::Author),
        ] {
            user(&ground, name, role).await;
        }
        let order = StartRun {
            device: "lab-box".into(),
            chain: Some("talks".into()),
            ..StartRun::default()
        };
        let run = local.run_start(&order).await.unwrap().run.unwrap().id;
        wait_for(&ground, run, "held").await;
        Self {
            run,
            assignment: assigned.id,
            template,
            ground,
        }
    }

    /// What a device may send: events, telemetry, and what is said about it.
    async fn speak_as_device(&self) {
        let services = &self.ground.running.services;
        let mut connection = services.store.read().await.unwrap();
        let device = devices::device_by_name(&mut connection, "lab-box")
            .await
            .unwrap()
            .unwrap();
        let mut row = boot::device_get(&mut connection, device.id)
            .await
            .unwrap()
            .unwrap();
        drop(connection);
        row.phase = BootPhase::Quarantined {
            reason: HOSTILE.into(),
        };
        row.next = HOSTILE.into();
        let now = services.now();
        let event = BootEvent {
            id: 0,
            subject: "lab-box".into(),
            at: now,
            kind: HOSTILE.into(),
            message: HOSTILE.into(),
        };
        let write = services.store.write(move |connection| {
            Box::pin(async move {
                boot::device_put(connection, &row).await?;
                for n in 0..40 {
                    let at = now.after(Duration::from_secs(15 * n));
                    let body = json!({
                        "cpu_busy": 0.2 + 0.01 * n as f64, "load_1": 0.5, "memory_mib": 1000,
                        "memory_available_mib": 600 - n, "net_received": 20480 * n, "net_sent": 4096 * n,
                        "hostname": HOSTILE,
                    });
                    let report = Report { at, measures: Measures::new(), body };
                    report_insert(connection, row.device, &report).await?;
                }
                let mac = "52:54:00:aa:bb:cc".parse().expect("an address");
                boot::client_heard(connection, mac, HOSTILE, now).await?;
                boot::event_insert(connection, &event).await
            })
        });
        write.await.unwrap();
    }
}

/// What a device's serial console said.
pub fn console(ground: &Ground, device: &str, text: &str) {
    let folder = ground.house.state.path().join("device-consoles");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(format!("{device}.console")), text).expect("a file");
}

pub async fn user(ground: &Ground, name: &str, role: Role) {
    let order = CreateUser {
        name: name.into(),
        password: Shown(PASSWORD.into()),
        role,
        client: None,
    };
    ground.local.user_create(&order).await.unwrap();
}

pub async fn wait_for(ground: &Ground, run: i64, state: &str) {
    loop {
        let view = ground.local.run_show(run, false).await.unwrap();
        if view.run.state == state {
            return;
        }
        assert!(!view.run.is_terminal(), "{:?}", view.why);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
