//! A deployment of its own in the lab: a state folder, a daemon process that comes and goes, and
//! somebody else's machine beside it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use greenroom::api::{AbortRun, ApplyChain, Client, PutDevice, RetryRun, RunView, StartRun};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::checker::{Domain, Expected, Facts, judge};
use crate::look;
use crate::pooled::{self, Kept};

/// How many deployments work at once: boots on two CPUs beyond that only slow each other down. Who
/// shakes what all of them stand on takes all places.
const PLACES: u32 = 3;
static TURNS: Semaphore = Semaphore::const_new(PLACES as usize);

/// How long a daemon may take until it answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// What may take time after a run's end: machines and files that go, leaked ones that are found.
const CLEAN_WITHIN: Duration = Duration::from_secs(30);

pub struct Ground {
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
    /// Of `serve`.
    arguments: Vec<String>,
    daemon: Option<Child>,
    pub started_at: Instant,
    foreign: Domain,
    mounts: Vec<PathBuf>,
    _turn: SemaphorePermit<'static>,
}

impl Ground {
    /// A new deployment without a daemon; none, with a message, when there is no lab. Each machine
    /// boots.
    pub async fn open(story: &str) -> Option<Self> {
        let mut ground = Self::with_places(story, 1).await?;
        ground.arguments.push("--no-pool".into());
        Some(ground)
    }

    /// One whose daemon keeps machines ready.
    pub async fn open_with_pool(story: &str) -> Option<Self> {
        Self::with_places(story, 1).await
    }

    pub async fn open_alone_with_pool(story: &str) -> Option<Self> {
        Self::with_places(story, PLACES).await
    }

    /// One beside which no other is at work.
    pub async fn open_alone(story: &str) -> Option<Self> {
        let mut ground = Self::with_places(story, PLACES).await?;
        ground.arguments.push("--no-pool".into());
        Some(ground)
    }

    async fn with_places(story: &str, places: u32) -> Option<Self> {
        if std::env::var_os("GREENROOM_LAB_READY").is_none() {
            eprintln!("{story}: skipped, because it needs the lab; run `vagrant/lab test`");
            return None;
        }
        let turn = TURNS
            .acquire_many(places)
            .await
            .expect("it is never closed");
        let lab = PathBuf::from(
            std::env::var_os("GREENROOM_STATE").expect("the lab sets GREENROOM_STATE"),
        );
        let folder = tempfile::Builder::new()
            .prefix("chaos-")
            .tempdir_in(&lab)
            .expect("a folder in the lab");
        let state = folder.path().join("state");
        for passable in [folder.path(), &state] {
            std::fs::create_dir_all(passable).expect("a folder");
            std::fs::set_permissions(passable, std::fs::Permissions::from_mode(0o711))
                .expect("its mode");
        }
        take_over_image(&lab.join("images"), &state.join("images"), "tiny");
        let foreign = make_foreign(folder.path());
        Some(Self {
            folder,
            settings: vec![
                ("GREENROOM_ACCELERATOR".into(), "tcg".into()),
                ("GREENROOM_BOOT_DEADLINE_S".into(), "120".into()),
                ("GREENROOM_RECONCILE_INTERVAL_S".into(), "2".into()),
            ],
            arguments: Vec::new(),
            daemon: None,
            started_at: Instant::now(),
            foreign,
            mounts: Vec::new(),
            _turn: turn,
        })
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.into(), value.into()));
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn client(&self) -> Client {
        Client::new(&self.state().join("greenroom.sock")).expect("a client")
    }

    // --- the daemon ---------------------------------------------------------------------------

    /// Starts the daemon, with a fault planned or without, and waits until it answers.
    pub async fn start(&mut self, fault: Option<&str>) {
        assert!(self.daemon.is_none(), "there is a daemon already");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log");
        let mut command = Command::new("sh");
        command
            // A planned abort is no reason for a core file.
            .args(["-c", "ulimit -c 0; exec \"$0\" -v serve \"$@\""])
            .arg(env!("CARGO_BIN_EXE_greenroom"))
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        for variable in ["GREENROOM_SOCKET", "GREENROOM_CONFIG", "GREENROOM_FAULT"] {
            command.env_remove(variable);
        }
        command
            .env("GREENROOM_STATE", self.state())
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .envs(fault.map(|fault| ("GREENROOM_FAULT", fault)));
        self.daemon = Some(command.spawn().expect("the daemon"));
        self.started_at = Instant::now();
        let client = self.client();
        while client.version().await.is_err() {
            // A planned fault may strike what an earlier life left to do.
            if self.has_ended().is_some() {
                assert!(
                    fault.is_some(),
                    "the daemon ended at its start\n{}",
                    self.log_tail()
                );
                return;
            }
            assert!(
                self.started_at.elapsed() < ANSWERS_WITHIN,
                "the daemon does not answer after {ANSWERS_WITHIN:?}\n{}",
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the daemon without giving it a chance.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon");
        daemon.kill().expect("a signal");
        daemon.wait().expect("its end");
    }

    /// How the daemon ended, if it did.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        let status = self.daemon.as_mut()?.try_wait().expect("its status")?;
        self.daemon = None;
        Some(status)
    }

    /// Whether the daemon is dead, as a planned fault ends it.
    pub fn was_aborted(&mut self) -> bool {
        let Some(status) = self.has_ended() else {
            return false;
        };
        assert_eq!(
            status.signal(),
            Some(nix::sys::signal::Signal::SIGABRT as i32),
            "the daemon ended by itself: {status}\n{}",
            self.log_tail()
        );
        true
    }

    /// Whether a planned fault ended the daemon before the run had nothing left to do.
    pub async fn dies(&mut self, within: Duration) -> bool {
        let begun = Instant::now();
        let mut idle_since: Option<Instant> = None;
        while begun.elapsed() < within {
            if self.was_aborted() {
                return true;
            }
            let idle = match self.client().run_list(None, None, 10, None).await {
                Ok(runs) => !runs.is_empty() && runs.iter().all(|run| run.is_at_rest()),
                Err(_) => false,
            };
            match idle_since {
                _ if !idle => idle_since = None,
                None => idle_since = Some(Instant::now()),
                Some(since) if since.elapsed() > Duration::from_secs(6) => return false,
                Some(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!(
            "after {within:?} the daemon is neither dead nor done\n{}",
            self.report().await
        );
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("daemon.log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "--- the daemon's log ends ---\n{}",
            lines[lines.len().saturating_sub(40)..].join("\n")
        )
    }

    // --- the user's verbs ---------------------------------------------------------------------

    pub async fn apply(&self, source: &str) {
        let order = ApplyChain {
            source: source.to_owned(),
            files: std::collections::BTreeMap::new(),
        };
        if let Err(error) = self.client().chain_apply(&order).await {
            panic!("the chain is refused: {error}\n{}", self.log_tail());
        }
    }

    pub async fn add_device(&self, name: &str) {
        let order = PutDevice {
            name: name.into(),
            client: Some("chaos".into()),
            facts: serde_json::Map::new(),
        };
        if let Err(error) = self.client().device_put(&order).await {
            panic!("the device is refused: {error}\n{}", self.log_tail());
        }
    }

    pub fn order(device: &str, chain: &str) -> StartRun {
        StartRun {
            device: device.into(),
            chain: Some(chain.into()),
            ..StartRun::default()
        }
    }

    /// A device with the chain's name, and a run of the chain for it.
    pub async fn begin(&self, chain: &str) -> i64 {
        self.add_device(chain).await;
        match self.client().run_start(&Self::order(chain, chain)).await {
            Ok(started) => started.run.expect("not a dry run").id,
            Err(error) => panic!("the run is refused: {error}\n{}", self.log_tail()),
        }
    }

    pub async fn show(&self, run: i64) -> RunView {
        match self.client().run_show(run, false).await {
            Ok(view) => view,
            Err(error) => panic!("run {run} is not shown: {error}\n{}", self.log_tail()),
        }
    }

    /// Waits until the run is as wanted; panics with everything that is known after `within`.
    pub async fn until(
        &mut self,
        run: i64,
        within: Duration,
        what: &str,
        is: impl Fn(&RunView) -> bool,
    ) -> RunView {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.has_ended() {
                panic!("the daemon ended: {status}\n{}", self.log_tail());
            }
            if let Ok(view) = self.client().run_show(run, false).await
                && is(&view)
            {
                return view;
            }
            if begun.elapsed() > within {
                panic!(
                    "after {within:?} run {run} is not {what}\n{}",
                    self.report().await
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until nothing goes on without a person.
    pub async fn rests(&mut self, run: i64, within: Duration) -> RunView {
        self.until(run, within, "at rest", |view| view.run.is_at_rest())
            .await
    }

    /// Waits until a stage's work is under way; returns its machine's name.
    pub async fn works(&mut self, run: i64, stage: &str) -> String {
        let working = |view: &RunView| {
            view.attempts
                .iter()
                .any(|attempt| attempt.stage == stage && attempt.progress == "working")
        };
        let view = self
            .until(run, Duration::from_secs(120), "working", working)
            .await;
        let machine = view
            .attempts
            .iter()
            .rev()
            .find(|attempt| attempt.stage == stage)
            .and_then(|attempt| attempt.machine.clone())
            .expect("who works has a machine");
        let machine = view
            .machines
            .iter()
            .find(|found| found.uuid == machine)
            .expect("its row");
        machine.name.clone()
    }

    pub async fn abort(&self, run: i64) {
        let order = AbortRun {
            reason: "it was seen".into(),
        };
        if let Err(error) = self.client().run_abort(run, &order).await {
            panic!("the abort is refused: {error}\n{}", self.log_tail());
        }
    }

    pub async fn retry(&self, run: i64) {
        if let Err(error) = self.client().run_retry(run, &RetryRun::default()).await {
            panic!("the retry is refused: {error}\n{}", self.log_tail());
        }
    }

    // --- the judgement ------------------------------------------------------------------------

    /// Waits until the checker finds nothing wrong and nothing left, at most 30 s.
    pub async fn is_clean(&mut self, expected: &[Expected]) {
        self.is_judged(|facts, foreign| {
            let mut wrong = judge(facts, foreign, expected);
            wrong.extend(pooled::nothing_waits(facts));
            wrong
        })
        .await;
    }

    /// The same of a deployment whose pool keeps this: nothing wrong, and nothing but that left.
    pub async fn keeps(&mut self, kept: Kept, expected: &[Expected]) {
        self.is_judged(|facts, foreign| {
            let mut wrong = judge(facts, foreign, expected);
            wrong.extend(pooled::as_wanted(facts, kept));
            wrong
        })
        .await;
    }

    async fn is_judged(&mut self, judge: impl Fn(&Facts, &Domain) -> Vec<String>) {
        let begun = Instant::now();
        loop {
            let wrong = match look::gather(&self.state()).await {
                Ok(facts) => judge(&facts, &self.foreign),
                Err(error) => vec![error],
            };
            if wrong.is_empty() {
                return;
            }
            if begun.elapsed() > CLEAN_WITHIN {
                panic!(
                    "{CLEAN_WITHIN:?} after the end this is wrong:\n  {}\n{}",
                    wrong.join("\n  "),
                    self.report().await
                );
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// All runs as `run show --journal` has them, and the end of the daemon's log.
    pub async fn report(&self) -> String {
        let client = self.client();
        let mut text = String::new();
        match client.run_list(None, None, 20, None).await {
            Ok(runs) => {
                for run in runs {
                    let shown = match client.run_show(run.id, true).await {
                        Ok(mut view) => {
                            view.plan.clear();
                            serde_json::to_string_pretty(&view).unwrap_or_default()
                        }
                        Err(error) => error.to_string(),
                    };
                    text.push_str(&format!("--- run {} ---\n{shown}\n", run.id));
                }
            }
            Err(error) => text.push_str(&format!("no runs are shown: {error}\n")),
        }
        text + &self.log_tail()
    }

    // --- the host -----------------------------------------------------------------------------

    /// Gives a folder a file system of its own of this size, until the deployment ends.
    pub fn mount(&mut self, folder: &Path, size: &str) {
        std::fs::create_dir_all(folder).expect("a folder");
        let options = format!("size={size},mode=0711");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "chaos"])
            .arg(folder));
        self.mounts.push(folder.to_owned());
    }

    /// Mounts a file over another, which can then be used and not be removed.
    pub fn cover(&mut self, file: &Path) {
        let cover = self.folder.path().join("cover");
        std::fs::write(&cover, b"").expect("a file");
        run(Command::new("mount").arg("--bind").arg(&cover).arg(file));
        self.mounts.push(file.to_owned());
    }

    pub fn uncover(&mut self, file: &Path) {
        run(Command::new("umount").arg(file));
        self.mounts.retain(|mount| mount != file);
    }

    pub fn resize(&self, folder: &Path, size: &str) {
        run(Command::new("mount")
            .args(["-o", &format!("remount,size={size}")])
            .arg(folder));
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = look::virsh(&["destroy", &self.foreign.uuid]);
        // After a failure machines may be left; they are ours when a file of ours is their disk.
        let own = self.folder.path().display().to_string();
        for name in look::virsh(&["list", "--all", "--name"])
            .unwrap_or_default()
            .split_whitespace()
        {
            if look::virsh(&["dumpxml", name]).is_ok_and(|xml| xml.contains(&own)) {
                let _ = look::virsh(&["destroy", name]);
            }
        }
        for mount in self.mounts.drain(..) {
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the command");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Puts an image of the lab into another store: the same files under names of its own, because a
/// store that lies behind a symbolic link is refused.
fn take_over_image(from: &Path, to: &Path, name: &str) {
    let from = from.join(name);
    let digest = std::fs::read_to_string(from.join("current"))
        .unwrap_or_else(|error| panic!("image {name}: {error}; run `vagrant/lab images {name}`"));
    let home = to.join(name).join(digest.trim());
    std::fs::create_dir_all(&home).expect("a folder");
    for folder in [to, &to.join(name), &home] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).expect("its mode");
    }
    let old = from.join(digest.trim());
    let manifest = std::fs::read_to_string(old.join("manifest.json")).expect("a manifest");
    let manifest = manifest.replace(&old.display().to_string(), &home.display().to_string());
    std::fs::write(home.join("manifest.json"), manifest).expect("a file");
    for part in ["kernel", "initrd", "disk.qcow2"] {
        std::fs::hard_link(old.join(part), home.join(part)).expect("a link");
    }
    std::fs::write(to.join(name).join("current"), digest).expect("a file");
}

/// A machine without our tag, paused so that nothing about it changes by itself. It keeps its USB
/// controller: of one that is "none", a restarted libvirtd tells less than before.
fn make_foreign(folder: &Path) -> Domain {
    let name = format!(
        "foreign-{}",
        folder.file_name().unwrap_or_default().to_string_lossy()
    );
    let uuid = uuid::Uuid::new_v4().to_string();
    let file = folder.join("foreign.xml");
    let xml = format!(
        "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os>\
         <devices><memballoon model='none'/></devices></domain>"
    );
    std::fs::write(&file, xml).expect("a file");
    look::virsh(&["create", "--paused", &file.display().to_string()]).expect("a foreign machine");
    look::domain(&uuid).expect("the foreign machine")
}
