//! The launcher of jobs, run by this host's shells and by the guests' runner in a folder that stands for
//! the guest's `/run`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use greenroom::hypervisor::guest::launcher::{JobPaths, Launch, Part, RECORD};
use greenroom::hypervisor::guest::record::{EndBody, EndRecord, Seen};
use greenroom::vocab::AttemptId;
use tempfile::TempDir;

/// Who launches a job, and the shell that its script is for.
#[derive(Debug, Clone)]
struct Starter {
    shell: Vec<&'static str>,
    runner: bool,
}

impl Starter {
    fn words(&self, launch: &Launch) -> Vec<String> {
        let own = |word: &&str| (*word).to_owned();
        if self.runner {
            let program = [env!("CARGO_BIN_EXE_greenroom-runner"), "run"];
            program.iter().map(own).chain(launch.words()).collect()
        } else {
            let shell = self.shell.iter().map(own);
            shell.chain(launch.argv().into_iter().skip(1)).collect()
        }
    }
}

/// The shells that guests have, as far as this host has them, and the runner.
fn shells() -> Vec<Starter> {
    let shells = [vec!["dash"], vec!["busybox", "sh"]];
    let works = |shell: &Vec<&str>| {
        let status = Command::new(shell[0])
            .args(&shell[1..])
            .args(["-c", "exit 7"])
            .status();
        status.is_ok_and(|status| status.code() == Some(7))
    };
    let found: Vec<_> = shells.into_iter().filter(works).collect();
    assert!(!found.is_empty(), "this host has neither dash nor busybox");
    let starter = |shell: &Vec<&'static str>, runner| Starter {
        shell: shell.clone(),
        runner,
    };
    let by_shells = found.iter().map(|shell| starter(shell, false));
    by_shells.chain([starter(&found[0], true)]).collect()
}

struct Try {
    starter: Starter,
    folder: TempDir,
    launch: Launch,
}

impl Try {
    fn new(starter: &Starter, script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (root, attempt) = (at("job"), AttemptId::fresh());
        let mut argv: Vec<String> = starter
            .shell
            .iter()
            .map(|word| (*word).to_owned())
            .collect();
        argv.push(JobPaths::under(&root, attempt).script());
        let launch = Launch {
            root,
            block: at("block"),
            dev: at("dev"),
            attempt,
            disk_serial: None,
            staged: None,
            input: Part::Text(String::new()),
            script: Part::Text(script.into()),
            env: Vec::new(),
            argv,
        };
        Self {
            starter: starter.clone(),
            folder,
            launch,
        }
    }

    fn paths(&self) -> JobPaths {
        JobPaths::under(&self.launch.root, self.launch.attempt)
    }

    /// As the guest agent starts it: no terminal, nothing of its output kept.
    fn start(&self, stdin: Stdio) -> std::process::Child {
        let words = self.starter.words(&self.launch);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn run(&self) -> i32 {
        self.start(Stdio::null()).wait().unwrap().code().unwrap()
    }

    fn run_with(&self, stdin: &[u8]) -> i32 {
        let path = self.folder.path().join("stdin");
        std::fs::write(&path, stdin).unwrap();
        self.start(std::fs::File::open(path).unwrap().into())
            .wait()
            .unwrap()
            .code()
            .unwrap()
    }

    fn record(&self) -> EndRecord {
        let bytes = std::fs::read(self.paths().end()).unwrap();
        match RECORD.read(&bytes) {
            Seen::Whole(record) => record,
            seen => panic!("{seen:?}: {}", String::from_utf8_lossy(&bytes)),
        }
    }

    fn body(&self) -> EndBody {
        self.record().body.unwrap()
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_job_leaves_its_code_logs_and_output() {
    for shell in shells() {
        let job = Try::new(
            &shell,
            "echo out; echo err >&2; printf x > \"$GREENROOM_OUTPUT\"; pwd > ../pwd; ls -A; exit 9",
        );
        assert_eq!(job.run(), 0);
        let record = job.record();
        assert_eq!(
            (record.exit_code, record.output_size),
            (9, Some(1)),
            "{shell:?}"
        );
        let body = record.body.unwrap();
        assert_eq!(
            (text(body.out), text(body.err), text(body.output)),
            ("out\n".into(), "err\n".into(), "x".into())
        );
        let folder = job.paths().work();
        assert_eq!(
            std::fs::read_to_string(Path::new(&folder).join("../pwd"))
                .unwrap()
                .trim(),
            folder
        );
    }
}

#[test]
fn a_job_without_output_says_so() {
    for shell in shells() {
        let job = Try::new(&shell, "exit 0");
        job.run();
        assert_eq!((job.record().output_size, job.body().out.len()), (None, 0));
        let job = Try::new(&shell, ": > \"$GREENROOM_OUTPUT\"");
        job.run();
        assert_eq!(job.record().output_size, Some(0));
    }
}

#[test]
fn two_launchers_start_one_job() {
    for shell in shells() {
        let job = Try::new(&shell, "echo once >> ../count; sleep 0.2");
        let mut racers: Vec<_> = (0..6).map(|_| job.start(Stdio::null())).collect();
        for racer in &mut racers {
            assert!(racer.wait().unwrap().success());
        }
        job.run();
        let count = Path::new(&job.paths().work()).join("../count");
        assert_eq!(
            std::fs::read_to_string(count).unwrap(),
            "once\n",
            "{shell:?}"
        );
        assert_eq!(job.record().exit_code, 0);
    }
}

#[test]
fn every_byte_of_input_and_script_arrives() {
    let every_byte: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let odd = "-n 'a' \"b\" $c `d` \\e %s \u{1b} ü🎭\n\n";
    for shell in shells() {
        let mut job = Try::new(&shell, "cat \"$GREENROOM_INPUT\" - > \"$GREENROOM_OUTPUT\"");
        job.launch.input = Part::Stdin {
            size: every_byte.len(),
        };
        job.run_with(&every_byte);
        assert!(job.body().output == every_byte.repeat(2), "{shell:?}");

        let mut job = Try::new(&shell, &format!("cat\n: <<'END'\n{odd}END\n"));
        job.launch.input = Part::Text(odd.into());
        job.run();
        assert_eq!(text(job.body().out), odd, "{shell:?}");
        assert!(
            std::fs::read_to_string(job.paths().script())
                .unwrap()
                .contains(odd)
        );
    }
}

#[test]
fn input_that_was_cut_short_starts_nothing_and_blocks_nothing() {
    for shell in shells() {
        let mut job = Try::new(&shell, "cat");
        job.launch.input = Part::Stdin { size: 10 };
        assert_ne!(job.run_with(b"12345"), 0);
        assert!(!Path::new(&job.paths().end()).exists(), "{shell:?}");
        assert_eq!(job.run_with(b"1234567890"), 0);
        assert_eq!(text(job.body().out), "1234567890");
    }
}

#[test]
fn staged_parts_are_taken_and_their_folder_goes() {
    for shell in shells() {
        let mut job = Try::new(&shell, "");
        let staged = job.folder.path().join("staged");
        std::fs::create_dir(&staged).unwrap();
        std::fs::write(staged.join("input"), "from a file").unwrap();
        std::fs::write(staged.join("script"), "cat\0\n").unwrap();
        job.launch.staged = Some(staged.to_str().unwrap().into());
        job.launch.input = Part::Staged { size: 11 };
        job.launch.script = Part::Staged { size: 5 };
        assert_eq!(job.run(), 0);
        assert!(!staged.exists(), "{shell:?}");
        assert_eq!(std::fs::read(job.paths().script()).unwrap(), b"cat\0\n");
        // A second one with a folder of its own leaves nothing either.
        std::fs::create_dir(&staged).unwrap();
        assert_eq!(job.run(), 0);
        assert!(!staged.exists());
    }
}

#[test]
fn the_environment_is_the_jobs() {
    for shell in shells() {
        let odd = "a 'b' \"c\" $d\n=e";
        let mut job = Try::new(
            &shell,
            "printf '%s|' \"$ODD\" \"$EMPTY\" \"${GREENROOM_HANDOFF_DISK-none}\" \"$GREENROOM_INPUT\"",
        );
        job.launch.env = vec![
            ("ODD".into(), odd.into()),
            ("EMPTY".into(), String::new()),
            ("GREENROOM_INPUT".into(), "not this".into()),
        ];
        job.run();
        assert_eq!(
            text(job.body().out),
            format!("{odd}||none|{}|", job.paths().input()),
            "{shell:?}"
        );
    }
}

#[test]
fn a_command_is_not_interpreted() {
    for shell in shells() {
        let mut job = Try::new(&shell, "");
        job.launch.script = Part::None;
        job.launch.argv = ["printf", "%s,", "a b", "$HOME", "", "*", "-n"]
            .map(String::from)
            .to_vec();
        job.run();
        assert_eq!(text(job.body().out), "a b,$HOME,,*,-n,");
        assert!(!Path::new(&job.paths().script()).exists());
        job.launch.attempt = AttemptId::fresh();
        job.launch.argv = vec!["no-such-program".into()];
        job.run();
        assert_eq!(job.record().exit_code, 127, "{shell:?}");
        assert!(!job.body().err.is_empty());
    }
}

#[test]
fn signals_become_exit_codes_and_reach_only_the_job() {
    for shell in shells() {
        for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
            let job = Try::new(&shell, &format!("echo before; kill -{signal} $$; sleep 5"));
            assert_eq!(job.run(), 0);
            assert_eq!(
                (job.record().exit_code, text(job.body().out)),
                (code, "before\n".into()),
                "{shell:?}"
            );
        }
        // The whole process group: the launcher is in another.
        let job = Try::new(&shell, "kill -TERM 0; sleep 5");
        assert_eq!(job.run(), 0);
        assert_eq!(job.record().exit_code, 143, "{shell:?}");
    }
}

#[test]
fn a_hangup_of_the_agent_does_not_end_the_job() {
    for shell in shells() {
        let job = Try::new(&shell, "sleep 0.5; echo survived");
        let mut launcher = job.start(Stdio::null());
        std::thread::sleep(Duration::from_millis(200));
        let pid = nix::unistd::Pid::from_raw(launcher.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
        launcher.wait().unwrap();
        assert_eq!(text(job.body().out), "survived\n", "{shell:?}");
    }
}

#[test]
fn long_logs_stay_in_their_files() {
    for shell in shells() {
        let job = Try::new(
            &shell,
            "head -c 20000 /dev/zero; head -c 20000 /dev/zero > \"$GREENROOM_OUTPUT\"",
        );
        job.run();
        let record = job.record();
        assert_eq!(
            (record.body, record.out_size, record.output_size),
            (None, 20_000, Some(20_000)),
            "{shell:?}"
        );
        assert_eq!(std::fs::metadata(job.paths().out()).unwrap().len(), 20_000);
    }
}

#[test]
fn a_disk_is_found_by_serial_even_when_it_comes_late() {
    for shell in shells() {
        let mut job = Try::new(&shell, "printf %s \"$GREENROOM_HANDOFF_DISK\"");
        job.launch.disk_serial = Some("handoff".into());
        let folder: PathBuf = job.folder.path().into();
        let disk = |name: &str, serial: &str| {
            std::fs::create_dir_all(folder.join("block").join(name)).unwrap();
            std::fs::create_dir_all(folder.join("dev")).unwrap();
            std::fs::write(folder.join("dev").join(name), "").unwrap();
            // As the kernel gives it: without a newline.
            std::fs::write(folder.join("block").join(name).join("serial"), serial).unwrap();
        };
        disk("vda", "");
        disk("vdb", "handoff-2");
        let mut launcher = job.start(Stdio::null());
        std::thread::sleep(Duration::from_millis(300));
        disk("vdc", "handoff");
        launcher.wait().unwrap();
        assert_eq!(
            text(job.body().out),
            folder.join("dev/vdc").to_str().unwrap(),
            "{shell:?}"
        );
    }
}

#[test]
fn a_disk_that_never_comes_ends_the_job_after_five_seconds() {
    let mut tries: Vec<_> = shells()
        .iter()
        .map(|shell| Try::new(shell, "echo not reached"))
        .collect();
    let started: Vec<_> = tries
        .iter_mut()
        .map(|job| {
            job.launch.disk_serial = Some("handoff".into());
            job.start(Stdio::null())
        })
        .collect();
    for (job, mut launcher) in tries.iter().zip(started) {
        launcher.wait().unwrap();
        let record = job.record();
        assert_eq!((record.exit_code, record.out_size), (125, 0));
        assert!(text(record.body.unwrap().err).contains("handoff did not appear"));
    }
}

#[test]
fn a_full_file_system_does_not_hide_the_end() {
    // A tmpfs needs a mount namespace of its own, which not every host gives.
    let inside = "mount -t tmpfs -o size=64k none \"$0\" && \"$@\"; cat \"$0\"/*/end";
    for shell in shells() {
        let mut job = Try::new(&shell, "head -c 1000000 /dev/zero; exit 5");
        let mount = job.folder.path().join("mount");
        std::fs::create_dir(&mount).unwrap();
        job.launch.root = mount.to_str().unwrap().into();
        job.launch.argv.truncate(shell.shell.len());
        job.launch.argv.push(job.paths().script());
        let output = Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-c", inside])
            .arg(&mount)
            .args(shell.words(&job.launch))
            .output();
        let Ok(output) = output else { return };
        if output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("unshare") {
            eprintln!("skipped: no mount namespaces here");
            return;
        }
        let Seen::Whole(record) = RECORD.read(&output.stdout) else {
            panic!("{shell:?} {output:?}")
        };
        assert_eq!((record.exit_code, record.body), (5, None));
    }
}
