//! The floor: a fork by QEMU alone, with just the command line that libvirt gave to a fork. Only what
//! libvirt passes as open files (monitor, agent, console) and its secret are replaced.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use greenroom::vocab::MachineId;

/// A fork's command line that can be repeated.
pub struct Recipe {
    words: Vec<String>,
    folder: PathBuf,
    disk: PathBuf,
}

pub struct RawFork {
    child: Child,
    monitor: Lines,
    agent: PathBuf,
}

impl Recipe {
    /// From the process of a living fork whose overlay is `disk`.
    pub fn of(fork: MachineId, disk: &Path, folder: &Path) -> Self {
        let id = fork.to_string();
        let words = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .map(|bytes| -> Vec<String> {
                let text = String::from_utf8_lossy(&bytes);
                text.trim_end_matches('\0')
                    .split('\0')
                    .map(str::to_owned)
                    .collect()
            })
            .find(|words| words[0].contains("qemu-system") && words.contains(&id))
            .expect("the fork's process");
        Self {
            words,
            folder: folder.to_owned(),
            disk: disk.to_owned(),
        }
    }

    /// The arguments for another fork: `disk` instead of the first one's, sockets in our folder.
    fn arguments(&self, disk: &Path) -> Vec<String> {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let socket =
            |name: &str, id: &str| format!("socket,id={id},path={},server=on,wait=off", at(name));
        let mut made = Vec::new();
        let mut words = self.words[1..].iter();
        while let Some(word) = words.next() {
            if word == "-add-fd"
                || (word == "-object" && words.as_slice()[0].contains("masterKey0"))
            {
                words.next();
            } else if word.starts_with("socket,id=charmonitor") {
                made.push(socket("monitor", "charmonitor"));
            } else if word.starts_with("socket,id=charchannel0") {
                made.push(socket("agent", "charchannel0"));
            } else if word.starts_with("socket,id=charchannel2") {
                made.push(socket("runner", "charchannel2"));
            } else if word.starts_with("file,id=charserial0") {
                made.push(format!("file,id=charserial0,path={}", at("console")));
            } else if word.starts_with("file,id=charchannel1") {
                made.push(format!("file,id=charchannel1,path={}", at("bell")));
            } else {
                made.push(word.replace(
                    &self.disk.display().to_string(),
                    &disk.display().to_string(),
                ));
            }
        }
        made
    }

    /// A process that waits for its state, as after libvirt's create.
    pub fn start(&self, disk: &Path) -> RawFork {
        for name in ["monitor", "agent", "runner"] {
            let _ = std::fs::remove_file(self.folder.join(name));
        }
        let child = Command::new(&self.words[0])
            .args(self.arguments(disk))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut monitor = Lines::open(&self.folder.join("monitor"));
        monitor.read();
        monitor.ask(r#"{"execute":"qmp_capabilities"}"#);
        RawFork {
            child,
            monitor,
            agent: self.folder.join("agent"),
        }
    }
}

impl RawFork {
    pub fn load(&mut self, state: &Path) {
        self.monitor.ask(
            r#"{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"x-ignore-shared","state":true}]}}"#,
        );
        self.monitor.ask(&format!(
            r#"{{"execute":"migrate-incoming","arguments":{{"uri":"file:{}"}}}}"#,
            state.display()
        ));
        while self.monitor.ask(r#"{"execute":"query-migrate"}"#)["status"] != "completed" {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn resume(&mut self) {
        self.monitor.ask(r#"{"execute":"cont"}"#);
    }

    pub fn wait_for_agent(&mut self) {
        let mut agent = Lines::open(&self.agent);
        agent.send("{\"execute\":\"guest-sync\",\"arguments\":{\"id\":77}}");
        while !agent.read().contains("77") {}
        agent.send(r#"{"execute":"guest-ping"}"#);
        agent.read();
    }
}

impl Drop for RawFork {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket that speaks JSON lines.
struct Lines(BufReader<UnixStream>);

impl Lines {
    fn open(path: &Path) -> Self {
        let began = Instant::now();
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return Self(BufReader::new(stream)),
                Err(error) if began.elapsed() > Duration::from_secs(20) => {
                    panic!("{}: {error}", path.display())
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn send(&mut self, line: &str) {
        let stream = self.0.get_mut();
        stream.write_all(line.as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        assert!(
            self.0.read_line(&mut line).unwrap() > 0,
            "the socket was closed"
        );
        line
    }

    /// A command's result; events in between are skipped.
    fn ask(&mut self, command: &str) -> serde_json::Value {
        self.send(command);
        loop {
            let reply: serde_json::Value = serde_json::from_str(&self.read()).unwrap();
            assert!(reply.get("error").is_none(), "{command}: {reply}");
            if let Some(value) = reply.get("return") {
                return value.clone();
            }
        }
    }
}
