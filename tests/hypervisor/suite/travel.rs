//! What belongs to a job travels into the guest unharmed, or not at all.

use greenroom::hypervisor::HvError;
use greenroom::hypervisor::guest::{Content, Job, JobState};

use crate::fixture::{Done, Fixture, command, done, env, script};

pub async fn input_travels_whatever_its_bytes_and_size(f: &Fixture) {
    let guest = f.shared().await;
    let every_byte: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let text = "{\"quotes\": \"' \\\" $HOME `x`\", \"ü\": \"🎭\\u0000\"}\n";
    let long_text = "läng\n".repeat(40_000);
    let inputs = [
        Vec::new(),
        b"-n".to_vec(),
        text.into(),
        every_byte.clone(),
        every_byte.repeat(200),
        long_text.into(),
    ];
    for input in inputs {
        for text in [
            "cat > \"$GREENROOM_OUTPUT\"",
            "cat \"$GREENROOM_INPUT\" > \"$GREENROOM_OUTPUT\"",
        ] {
            let job = Job {
                input: input.clone(),
                ..script(text)
            };
            assert_eq!(
                done(&guest, &job).await,
                Done {
                    code: 0,
                    out: String::new(),
                    err: String::new()
                }
            );
            let Content::Bytes(bytes) = guest.job_output(job.attempt, 1 << 20).await.unwrap()
            else {
                panic!()
            };
            assert!(bytes == input, "{} of {} bytes", bytes.len(), input.len());
        }
    }
}

pub async fn a_script_travels_whatever_its_characters(f: &Fixture) {
    let guest = f.shared().await;
    let odd = "ü🎭 \u{1b}[1m `x` $(x) %s \\n \u{fffd}";
    let text = format!("printf %s '{odd}'\n# \u{ffff} {}\n", "long ".repeat(20));
    assert_eq!(
        done(&guest, &script(&text)).await,
        Done {
            code: 0,
            out: odd.into(),
            err: String::new()
        }
    );
    let long = format!("{}\necho end\n", "# a long comment\n".repeat(10_000));
    assert_eq!(done(&guest, &script(&long)).await.out, "end\n");
    assert_eq!(
        done(&guest, &script("#!/bin/sh -e\nfalse\necho not reached\n"))
            .await
            .code,
        1
    );
}

pub async fn a_command_is_run_without_a_shell(f: &Fixture) {
    let guest = f.shared().await;
    let words = [
        "printf", "%s,", "a b", "$HOME", "'", "\"", ";", "", "*", "ü\n",
    ];
    assert_eq!(
        done(&guest, &command(&words)).await.out,
        "a b,$HOME,',\",;,,*,ü\n,"
    );
    let job = Job {
        input: b"in".to_vec(),
        ..command(&["cat"])
    };
    assert_eq!(done(&guest, &job).await.out, "in");
    let missing = done(&guest, &command(&["no-such-program"])).await;
    assert_eq!(missing.code, 127);
    assert!(!missing.err.is_empty());
}

pub async fn the_environment_arrives(f: &Fixture) {
    let guest = f.shared().await;
    let odd = "a  'b' \"c\" $d `e`\n\\n ü";
    let job = Job {
        env: env(&[("ODD", odd), ("EMPTY", ""), ("A_1", "=x=")]),
        ..script("printf '%s|' \"$ODD\" \"$EMPTY\" \"$A_1\"")
    };
    assert_eq!(done(&guest, &job).await.out, format!("{odd}||=x=|"));
}

pub async fn what_cannot_arrive_is_refused(f: &Fixture) {
    let guest = f.shared().await;
    let jobs = [
        command(&[]),
        command(&[""]),
        command(&["echo", "a\0b"]),
        command(&["echo", &"x".repeat(200_000)]),
        Job {
            env: env(&[("lower", "x")]),
            ..script("true")
        },
        Job {
            env: env(&[("A B", "x")]),
            ..script("true")
        },
        Job {
            env: env(&[("NUL", "\0")]),
            ..script("true")
        },
        Job {
            disk_serial: Some("a'b".into()),
            ..script("true")
        },
        Job {
            disk_serial: Some("longer-than-twenty-characters".into()),
            ..script("true")
        },
    ];
    for job in jobs {
        let refused = guest.start_job(&job).await;
        assert!(matches!(refused, Err(HvError::Refused(_))), "{refused:?}");
        assert_eq!(
            guest.job_state(job.attempt).await.unwrap(),
            JobState::Absent
        );
    }
}
