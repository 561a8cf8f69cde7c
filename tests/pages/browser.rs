//! A real headless Chromium, driven by Debian's chromedriver. Both are bound to loopback and are ended by
//! their own process ids.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::driver::{Driver, Element};
use crate::ground::Ground;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

const DRIVER: &str = "/usr/bin/chromedriver";
const CHROMIUM: &str = "/usr/bin/chromium";

pub struct Browser {
    pub driver: Driver,
    process: Child,
    is_closed: bool,
    _profile: tempfile::TempDir,
    base: String,
}

/// Colours in which pages are looked at.
pub const THEMES: [&str; 2] = ["light", "dark"];
/// Widths of a large screen and of a small telephone, pixels.
pub const WIDTHS: [u32; 2] = [1400, 360];

/// Where pictures go.
pub fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pages");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

impl Browser {
    /// None, with words, where there is no browser and none has to be.
    pub async fn open(ground: &Ground) -> Option<Self> {
        if !std::path::Path::new(DRIVER).exists() || !std::path::Path::new(CHROMIUM).exists() {
            assert!(
                std::env::var_os("GREENROOM_LAB_READY").is_none(),
                "the lab has no {DRIVER}; `vagrant/lab up` installs it"
            );
            eprintln!(
                "skipped: {DRIVER} or {CHROMIUM} is not there (Debian: chromium, chromium-driver)"
            );
            return None;
        }
        let mut process = Command::new(DRIVER)
            .args(["--port=0", "--log-level=WARNING"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let out = process.stdout.take().expect("its words");
        let (said, heard) = std::sync::mpsc::channel();
        // It goes on writing: somebody has to go on reading.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("successfully on port ") {
                    let _ = said.send(rest.trim_end_matches('.').to_owned());
                }
            }
        });
        let port = heard
            .recv_timeout(Duration::from_secs(30))
            .expect("chromedriver says its port");
        let profile = tempfile::tempdir().expect("a folder");
        let folder = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--force-prefers-reduced-motion",
            &folder,
        ];
        let wanted = json!({
            "browserName": "chrome",
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "binary": CHROMIUM, "args": arguments },
        });
        let driver = Driver::open(&format!("http://127.0.0.1:{port}"), wanted).await;
        let browser = Self {
            driver,
            process,
            is_closed: false,
            _profile: profile,
            base: format!("https://{}", ground.address),
        };
        browser.looks("light", 1400, 900).await;
        Some(browser)
    }

    pub async fn close(mut self) {
        let ended = self.driver.quit().await;
        self.is_closed = ended.is_ok();
        let _ = self.process.kill();
        let _ = self.process.wait();
        ended.expect("the browser ends");
    }

    pub async fn go(&self, path: &str) {
        self.driver
            .goto(&format!("{}{path}", self.base))
            .await
            .expect("a page");
    }

    pub async fn path(&self) -> String {
        let url = self.driver.url().await.expect("an address");
        url.trim_start_matches(&self.base).to_owned()
    }

    async fn tell(&self, method: &str, parameters: serde_json::Value) {
        self.driver
            .devtools(method, parameters)
            .await
            .expect(method);
    }

    pub async fn looks(&self, theme: &str, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", size).await;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
        self.tell("Emulation.setEmulatedMedia", media).await;
    }

    /// Pictures of the whole page as it is now, in both themes and widths. Nothing may stand beyond the
    /// edge: a page scrolls down, never sideways.
    pub async fn keep(&self, name: &str) {
        for theme in THEMES {
            for width in WIDTHS {
                self.looks(theme, width, 900).await;
                let height = self
                    .script("return Math.min(6000, document.documentElement.scrollHeight)")
                    .await;
                self.looks(theme, width, height.as_u64().unwrap_or(900) as u32)
                    .await;
                let picture = self.driver.picture().await.expect("a picture");
                let path = folder().join(format!("{name}-{theme}-{width}.png"));
                std::fs::write(path, picture).expect("a file");
                let wide = self
                    .script("return document.documentElement.scrollWidth")
                    .await;
                assert!(
                    wide.as_u64() <= Some(u64::from(width)),
                    "{name} is {wide} wide at {width}"
                );
            }
        }
        self.looks("light", 1400, 900).await;
    }

    pub async fn script(&self, text: &str) -> serde_json::Value {
        self.driver.script(text).await.expect("a script")
    }

    /// Waits until there is such a thing.
    pub async fn see(&self, css: &str) -> Element<'_> {
        for _ in 0..600 {
            if let Ok(found) = self.driver.find(css).await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "there is no {css} at {}:\n{}",
            self.path().await,
            self.text().await
        );
    }

    /// Waits until the thing says this.
    pub async fn read(&self, css: &str, words: &str) {
        let script = format!(
            "return [...document.querySelectorAll({})].some((one) => (one.value ?? one.textContent).includes({}))",
            json!(css),
            json!(words)
        );
        for _ in 0..600 {
            if self.script(&script).await == true {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "{css} does not say {words:?} at {}:\n{}",
            self.path().await,
            self.text().await
        );
    }

    pub async fn text(&self) -> String {
        let text = self.script("return document.body.innerText").await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Puts a text in place of what a field has, as if it were written.
    pub async fn write(&self, css: &str, text: &str) {
        let field = self.see(css).await;
        let script = format!(
            "const field = document.querySelector({}); field.focus(); field.value = {}; field.dispatchEvent(new Event('input', {{ bubbles: true }})); field.dispatchEvent(new Event('change', {{ bubbles: true }}));",
            json!(css),
            json!(text)
        );
        drop(field);
        self.script(&script).await;
    }

    pub async fn press(&self, css: &str) {
        let button = self.see(css).await;
        // Into the middle: a browser's own scrolling leaves it under what stays at the edge.
        let script = format!(
            "document.querySelector({}).scrollIntoView({{ block: 'center' }})",
            json!(css)
        );
        self.script(&script).await;
        button.click().await.expect("a button");
    }

    pub async fn log_in(&self, name: &str, password: &str) {
        self.go("/sign-in").await;
        self.see("input[name=name]")
            .await
            .send_keys(name)
            .await
            .expect("a name");
        let field = self.see("input[name=password]").await;
        field.send_keys(password).await.expect("a password");
        self.press("form[action='/sign-in'] button").await;
        self.see(".who").await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // After a test that failed; a driver that is killed leaves its browser behind.
        if let Some(browser) = self.driver.process.filter(|_| !self.is_closed) {
            let _ = kill(Pid::from_raw(browser), Signal::SIGKILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
