//! What people do, in a real browser.

use greenroom::api::{PutDevice, StartRun};
use greenroom::vocab::access::Role;
use serde_json::json;

use crate::browser::{Browser, folder};
use crate::ground::Ground;
use crate::sample::{PASSWORD, Sample, console, user, wait_for};

const SLOW: &str = "\
chain: slow
description: Three stages that can be watched.
on_failure: { hold: 1h }
stages:
  - name: look
    kind: discovery
    image: tiny
    resources: { memory: 128 MiB }
    run: |
      echo looking around
      sleep 6
      echo '{\"seen\": 3}' > $GREENROOM_OUTPUT
    output: { format: json, merge: /seen }
  - name: build
    kind: configuration
    image: tiny
    resources: { memory: 128 MiB }
    run: |
      echo building
      sleep 2
      if [ $GREENROOM_ATTEMPT -lt 2 ]; then echo it broke >&2; exit 3; fi
      echo built
    output: { format: none }
  - name: verify
    kind: monitoring
    image: tiny
    resources: { memory: 128 MiB }
    run: |
      echo all is well
    output: { format: none }
";

const CONSOLE: &str = "\
[  OK  ] Finished nftables.service - nftables.\r
[  OK  ] Started ssh.service - OpenBSD Secure Shell server.\r
[  OK  ] Started nginx.service - A high performance web server and a reverse proxy server.\r
[  OK  ] Reached target multi-user.target - Multi-User System.\r
\r
Debian GNU/Linux 12 web-S26531 ttyS0\r
\r
web-S26531 login: ";

async fn device(ground: &Ground, name: &str) {
    let facts = json!({ "role": "web", "hardware": {
        "vendor": "Supermicro", "model": "SYS-5019S", "serial": "S265318X0104", "arch": "x86_64", "firmware": "bios",
        "cpu_cores": 4, "memory_mib": 8192, "disks": [{ "name": "sda", "kind": "ssd", "size_gib": 447 }],
        "nics": [{ "name": "eno1", "mac": "52:54:00:a1:00:01" }] } });
    let order = PutDevice {
        name: name.into(),
        client: Some("shop".into()),
        facts: serde_json::from_value(facts).unwrap(),
    };
    ground.local.device_put(&order).await.unwrap();
}

async fn apply(ground: &Ground, chain: &str) {
    let order = json!({ "source": chain });
    ground
        .local
        .chain_apply(&serde_json::from_value(order).unwrap())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_logs_in_and_out_again() {
    let ground = Ground::new().await;
    user(&ground, "ada", Role::Admin).await;
    let Some(browser) = Browser::open(&ground).await else {
        return;
    };
    browser.go("/runs").await;
    assert_eq!(browser.path().await, "/sign-in?next=%2Fruns");
    browser.keep("sign-in").await;
    browser.write("input[name=name]", "ada").await;
    browser.write("input[name=password]", "wrong").await;
    browser.press("form[action='/sign-in'] button").await;
    browser
        .read("[role=alert]", "the name or the password is wrong")
        .await;
    browser.write("input[name=password]", PASSWORD).await;
    browser.press("form[action='/sign-in'] button").await;
    browser.see(".who").await;
    // Straight back to what was asked for.
    assert_eq!(browser.path().await, "/runs");
    browser.press("form[action='/sign-out'] button").await;
    browser.read("[role=status]", "You are logged out").await;
    browser.go("/runs").await;
    assert_eq!(browser.path().await, "/sign-in?next=%2Fruns");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persona_is_written_mended_changed_and_rolled_back() {
    let ground = Ground::new().await;
    user(&ground, "otto", Role::Author).await;
    device(&ground, "web-1").await;
    let Some(browser) = Browser::open(&ground).await else {
        return;
    };
    browser.log_in("otto", PASSWORD).await;
    browser.go("/personas").await;
    browser.read(".empty", "No persona yet").await;
    browser.press("a[href='/personas/new']").await;
    // A mistake, seen where it stands.
    let wrong = "persona: web\ndescription: A web server\nos:\n  variant: debian-12\n  timezone: Europe/Berlim\napplications:\n  - name: nginx-lite\n";
    browser.write("#source", wrong).await;
    browser.read("[data-verdict]", "2 faults").await;
    browser.read("[data-faults] a", "7:").await;
    browser.read("[data-faults]", "nginx-light").await;
    assert_eq!(
        browser
            .script("return document.querySelectorAll('.gutter .faulty').length")
            .await,
        2
    );
    browser.keep("persona-editor-faults").await;
    // One is mended by the form, the other in the text.
    browser
        .write("input[data-set='os.timezone']", "Europe/Berlin")
        .await;
    browser.read("#source", "timezone: Europe/Berlin").await;
    browser.read("[data-verdict]", "1 fault").await;
    let text = browser
        .script("return document.getElementById('source').value")
        .await;
    let mended = text.as_str().unwrap().replace("nginx-lite", "nginx-light");
    browser.write("#source", &mended).await;
    browser.read("[data-verdict]", "no fault").await;
    assert_eq!(browser.script("return document.querySelector('[data-set=applications][value=nginx-light]').checked").await, true);
    // On a real device.
    browser.write("input[name=device]", "web-1").await;
    browser.press("#preview").await;
    browser.read("#previewed", "/etc/").await;
    browser.keep("persona-editor-preview").await;
    browser.write("input[name=reason]", "the first").await;
    browser.press("#save-promote").await;
    browser
        .read("[role=status]", "Saved as a new version")
        .await;
    assert!(browser.path().await.starts_with("/personas/web?version=1"));
    // A change, as a draft; then it is promoted, and taken back.
    browser.press("a[href^='/personas/web/edit']").await;
    browser
        .write("#source", &mended.replace("Europe/Berlin", "UTC"))
        .await;
    browser.read("[data-verdict]", "would be version 2").await;
    browser.press("#save").await;
    browser
        .read("[role=status]", "Saved as a new version")
        .await;
    browser.read("h1", "draft").await;
    browser.go("/personas/web/diff?from=1&to=2").await;
    browser.read(".diff .removed", "Europe/Berlin").await;
    browser.read(".diff .added", "UTC").await;
    browser.keep("persona-diff").await;
    browser.go("/personas/web?version=2").await;
    browser.press("details.ask summary").await;
    browser.press("#promote").await;
    browser
        .read("[role=status]", "Devices get this version")
        .await;
    browser.read("h1", "current").await;
    browser.keep("persona").await;
    browser
        .script("document.getElementById('roll-back').closest('details').open = true")
        .await;
    browser.press("#roll-back").await;
    browser
        .read("[role=status]", "Devices get the version before")
        .await;
    let shown = ground.local.persona_show("web", None).await.unwrap();
    assert_eq!((shown.version, shown.is_current), (1, true));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_started_watched_and_retried() {
    let ground = Ground::new().await;
    user(&ground, "olga", Role::Operator).await;
    device(&ground, "web-1").await;
    apply(&ground, SLOW).await;
    let Some(browser) = Browser::open(&ground).await else {
        return;
    };
    browser.log_in("olga", PASSWORD).await;
    browser.go("/devices/web-1").await;
    browser.press("a.main[href^='/runs/new']").await;
    browser
        .script("document.querySelector('select[name=chain]').value = 'slow'")
        .await;
    browser.press("button[value=plan]").await;
    browser.read("main", "This would be done").await;
    browser.keep("run-new").await;
    browser.press("button[value=start]").await;
    browser.read("[role=status]", "The run is queued").await;
    let address = browser.path().await;
    // From here on nobody touches the page: it follows.
    browser.script("window.untouched = true").await;
    browser.read("#stages .state", "working").await;
    browser.read("#log", "looking around").await;
    browser.keep("run-working").await;
    browser.read("#stages .state", "succeeded").await;
    browser.read("#log", "building").await;
    browser.read("#head .state", "held").await;
    browser.read("#why", "exit code 3").await;
    browser.read("#log .err", "it broke").await;
    assert_eq!(browser.script("return window.untouched").await, true);
    browser.go(address.split('?').next().unwrap()).await;
    browser.keep("run-held").await;
    browser.press("#retry").await;
    browser.read("[role=status]", "The run goes on").await;
    browser.read("#head .state", "succeeded").await;
    browser.read("#log", "all is well").await;
    browser
        .read("#handoffs", "the chain has no schema for it")
        .await;
    browser.go(address.split('?').next().unwrap()).await;
    browser
        .script("document.querySelectorAll('#handoffs details').forEach((one) => one.open = true)")
        .await;
    browser.read("#handoffs", "seen").await;
    browser.keep("run-succeeded").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_held_before_its_next_stage_and_resumed() {
    let ground = Ground::new().await;
    user(&ground, "olga", Role::Operator).await;
    device(&ground, "web-1").await;
    apply(&ground, SLOW).await;
    let order = StartRun {
        device: "web-1".into(),
        chain: Some("slow".into()),
        ..StartRun::default()
    };
    let Some(browser) = Browser::open(&ground).await else {
        return;
    };
    browser.log_in("olga", PASSWORD).await;
    let run = ground.local.run_start(&order).await.unwrap().run.unwrap();
    browser.go(&format!("/runs/{}", run.id)).await;
    browser
        .script("document.getElementById('hold').closest('details').open = true")
        .await;
    browser
        .write(
            "form[action$='/hold'] input[name=reason]",
            "look at the disk first",
        )
        .await;
    browser.press("#hold").await;
    browser
        .read("[role=status]", "The run pauses before its next stage")
        .await;
    browser.read("#head .state", "paused").await;
    browser.read("#why", "look at the disk first").await;
    browser.keep("run-paused").await;
    browser.press("#resume").await;
    browser
        .read("[role=status]", "The run goes on by itself")
        .await;
    browser.read("#log", "building").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_looks_and_changes_nothing() {
    let ground = Ground::new().await;
    user(&ground, "vera", Role::Viewer).await;
    device(&ground, "web-1").await;
    ground.apply_chain().await;
    ground.apply_persona().await;
    let run = ground.run("web-1").await;
    let Some(browser) = Browser::open(&ground).await else {
        return;
    };
    browser.log_in("vera", PASSWORD).await;
    for path in [
        "/",
        "/devices/web-1",
        "/chains/hello",
        "/personas/plain",
        &format!("/runs/{run}"),
        "/pool",
        "/settings",
    ] {
        browser.go(path).await;
        let forms = browser
            .script("return [...document.querySelectorAll('form[method=post]')].map((form) => form.getAttribute('action'))")
            .await;
        let own = forms
            .as_array()
            .unwrap()
            .iter()
            .all(|action| action == "/sign-out" || action == "/settings/password");
        assert!(own, "{path}: {forms}");
    }
    for path in [
        "/personas/new",
        "/personas/plain/edit",
        "/chains/hello/edit",
        "/runs/new",
        "/audit",
    ] {
        browser.go(path).await;
        browser
            .read(".refused h1", "This is not for you to do")
            .await;
        browser.see(".menu").await;
    }
    browser.keep("refused").await;
    // With the token of their own session, by hand.
    let status = browser
        .driver
        .script_that_calls_back(
            "const done = arguments[arguments.length - 1]; const body = new URLSearchParams({ csrf: document.querySelector('meta[name=csrf]').content, do: 'save', source: 'persona: x' }); fetch('/personas/save', { method: 'POST', body }).then((answer) => done(answer.status))",
        )
        .await
        .unwrap();
    assert_eq!(status, 403);
    browser.close().await;
}

/// The payload is in each of these pages (the matrix sees to that); here a browser really reads them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_text_does_nothing_in_a_browser() {
    let sample = Sample::new().await;
    let Some(browser) = Browser::open(&sample.ground).await else {
        return;
    };
    browser.log_in("ada", PASSWORD).await;
    let run = format!("/runs/{}", sample.run);
    for path in [
        "/",
        "/devices",
        "/devices/lab-box",
        &run,
        "/chains",
        "/chains/talks",
        "/chains/talks/edit",
        "/personas",
        "/personas/plain",
        "/personas/plain/edit",
        "/personas/plain/preview?device=lab-box",
        "/assignments",
        "/pool",
        "/audit",
        "/settings",
    ] {
        browser.go(path).await;
        if path == run {
            // Also what the script puts in place.
            browser.read("#log .err", "onerror=alert(2)").await;
        }
        let found = browser
            .script("return document.querySelectorAll('img, script:not([src^=\"/assets/\"]), [onerror]').length")
            .await;
        assert_eq!(found, 0, "{path}");
        assert!(
            browser.driver.alert().await.is_err(),
            "{path}: a script ran"
        );
    }
    browser.close().await;
}

/// Pictures of all pages with much to show, in light and dark, large and small.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_has_its_picture() {
    let ground = Ground::with_pool(crate::sample::settings()).await;
    for (name, role) in [
        ("ada", Role::Admin),
        ("olga", Role::Operator),
        ("vera", Role::Viewer),
    ] {
        user(&ground, name, role).await;
    }
    for name in ["web-1", "web-2", "db-1", "desk-17"] {
        device(&ground, name).await;
    }
    ground.put_on_network("web-1").await;
    ground.apply_chain().await;
    apply(&ground, SLOW).await;
    onboard(&ground).await;
    ground.apply_persona().await;
    for file in ["base", "web-server", "db-node"] {
        let text = std::fs::read_to_string(format!(
            "{}/chains/personas/{file}.yaml",
            env!("CARGO_MANIFEST_DIR")
        ))
        .unwrap();
        let order =
            json!({ "files": [{ "source": text }], "promote": true, "reason": "as shipped" });
        ground
            .local
            .persona_apply(&serde_json::from_value(order).unwrap())
            .await
            .unwrap();
    }
    telemetry(&ground, "web-1").await;
    console(&ground, "web-1", CONSOLE);
    ground.warm("default").await;
    ground.take("default", "build-42").await;
    crate::weeks::lived(&ground.running, crate::sample::HOSTILE_LINE).await;
    for name in ["web-2", "db-1", "desk-17"] {
        ground.run(name).await;
    }
    let order = |device: &str| StartRun {
        device: device.into(),
        chain: Some("slow".into()),
        ..StartRun::default()
    };
    let held = ground
        .local
        .run_start(&order("db-1"))
        .await
        .unwrap()
        .run
        .unwrap()
        .id;
    wait_for(&ground, held, "held").await;
    ground.local.run_start(&order("web-1")).await.unwrap();
    let Some(browser) = Browser::open(&ground).await else {
        return;
    };
    browser.log_in("ada", PASSWORD).await;
    browser.go("/").await;
    browser.keep("overview").await;
    for (name, path) in [
        ("devices", "/devices"),
        ("device", "/devices/web-1"),
        ("runs", "/runs"),
        ("chains", "/chains"),
        ("chain", "/chains/onboard"),
        ("chain-editor", "/chains/slow/edit"),
        ("personas", "/personas"),
        ("persona-web-server", "/personas/web-server"),
        ("persona-editor", "/personas/web-server/edit"),
        ("assignments", "/assignments"),
        ("pool", "/pool"),
        ("foresight", "/foresight?saved=yes"),
        ("images", "/images"),
        ("audit", "/audit?verify=1"),
        ("settings", "/settings"),
    ] {
        browser.go(path).await;
        if name.contains("editor") {
            browser.read("[data-verdict]", "no fault").await;
        }
        browser.keep(name).await;
    }
    eprintln!("pictures of the pages: {}", folder().display());
    // The switch outlives a page, whatever the system prefers.
    browser.go("/").await;
    browser.press("#theme").await;
    browser.go("/runs").await;
    assert_eq!(
        browser
            .script("return document.documentElement.dataset.theme")
            .await,
        "dark"
    );
    browser.close().await;
}

async fn onboard(ground: &Ground) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("chains");
    let source = std::fs::read_to_string(folder.join("onboard.yaml")).unwrap();
    let mut files = serde_json::Map::new();
    for part in ["onboard", "onboard/schemas"] {
        for entry in std::fs::read_dir(folder.join(part)).unwrap().flatten() {
            if let Ok(text) = std::fs::read_to_string(entry.path()) {
                files.insert(
                    format!("{part}/{}", entry.file_name().to_string_lossy()),
                    text.into(),
                );
            }
        }
    }
    let order = json!({ "source": source, "files": files });
    ground
        .local
        .chain_apply(&serde_json::from_value(order).unwrap())
        .await
        .unwrap();
}

/// An hour of reports, with some life in them.
async fn telemetry(ground: &Ground, name: &str) {
    use greenroom::store::devices;
    use greenroom::store::telemetry::{Report, report_insert};
    use greenroom::vocab::telemetry::Measures;
    let services = &ground.running.services;
    let mut connection = services.store.read().await.unwrap();
    let device = devices::device_by_name(&mut connection, name)
        .await
        .unwrap()
        .unwrap()
        .id;
    drop(connection);
    let now = services.now();
    let write = services.store.write(move |connection| {
        Box::pin(async move {
            let (mut received, mut sent) = (0.0, 0.0);
            for n in 0..240_i64 {
                let x = n as f64 / 17.0;
                let wave = x.sin() * 0.5 + (x * 2.7).cos() * 0.3 + 1.0;
                received += 40_000.0 * wave;
                sent += 12_000.0 * wave * wave;
                let at = greenroom::vocab::Timestamp(now.0 - (240 - n) * 15_000_000);
                let body = json!({
                    "cpu_busy": 0.12 + 0.1 * wave, "load_1": 0.3 * wave, "memory_mib": 1987,
                    "memory_available_mib": 1400 - (90.0 * wave) as i64 - n, "net_received": received as i64, "net_sent": sent as i64,
                    "disk_read": n * 3000, "disk_written": (sent / 3.0) as i64, "root_bytes": 4_000_000_000_i64, "root_free": 2_600_000_000_i64 - n * 500_000,
                });
                let report = Report { at, measures: Measures::new(), body };
                report_insert(connection, device, &report).await?;
            }
            Ok(())
        })
    });
    write.await.unwrap();
}
