//! Jobs and files in guests.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use greenroom::hypervisor::HvError;
use greenroom::hypervisor::guest::{Content, Job, JobState, JobWork, LogOffsets, Stream};
use greenroom::vocab::AttemptId;

use crate::fixture::{Done, Fixture, done, env, follow, script};

pub async fn a_job_ends_with_its_exit_code_and_logs(f: &Fixture) {
    let guest = f.shared().await;
    let job = script(
        "# A comment.\necho out\necho err >&2\necho '{\"a\": 1}' > \"$GREENROOM_OUTPUT\"\nexit 3\n",
    );
    let expected = Done {
        code: 3,
        out: "out\n".into(),
        err: "err\n".into(),
    };
    assert_eq!(done(&guest, &job).await, expected);
    assert_eq!(
        guest.job_output(job.attempt, 100).await.unwrap(),
        Content::Bytes(b"{\"a\": 1}\n".to_vec())
    );
    // Asked again, it says the same.
    assert_eq!(follow(&guest, job.attempt).await.unwrap(), expected);
    let mut nowhere = |_: Stream, _: u64, _: Vec<u8>| ();
    let end = guest
        .finish_job(job.attempt, LogOffsets::default(), 100, &mut nowhere)
        .await
        .unwrap();
    assert_eq!(
        (end.output_size, end.output),
        (Some(9), Some(b"{\"a\": 1}\n".to_vec()))
    );

    for (text, code) in [
        ("true", 0),
        ("false", 1),
        ("", 0),
        ("no-such-command", 127),
        ("exit 255", 255),
    ] {
        assert_eq!(done(&guest, &script(text)).await.code, code, "{text}");
    }
}

pub async fn a_job_that_was_started_is_not_started_again(f: &Fixture) {
    let guest = f.shared().await;
    let file = format!("/tmp/once-{}", f.next());
    let job = Job {
        env: env(&[("FILE", &file)]),
        ..script("echo started >> \"$FILE\"\nsleep 0.3\n")
    };
    guest.start_job(&job).await.unwrap();
    guest.start_job(&job).await.unwrap();
    assert_eq!(follow(&guest, job.attempt).await.unwrap().code, 0);
    guest.start_job(&job).await.unwrap();
    assert_eq!(follow(&guest, job.attempt).await.unwrap().code, 0);
    // Large ones, whose files come first, too.
    let large = Job {
        attempt: job.attempt,
        input: vec![b'x'; 100_000],
        ..job
    };
    guest.start_job(&large).await.unwrap();
    assert_eq!(
        guest.read_file(&file, 100).await.unwrap(),
        Content::Bytes(b"started\n".to_vec())
    );
}

pub async fn logs_are_handed_over_while_the_job_runs(f: &Fixture) {
    let guest = f.shared().await;
    let job = script("echo first\nsleep 2\necho second\necho third >&2\n");
    guest.start_job(&job).await.unwrap();
    let began = Instant::now();
    let seen = Mutex::new(Vec::new());
    let mut sink = |stream, offset, piece: Vec<u8>| {
        seen.lock().unwrap().push((
            stream,
            offset,
            String::from_utf8(piece).unwrap(),
            began.elapsed(),
        ));
    };
    let code = guest
        .follow_job(job.attempt, LogOffsets::default(), 1 << 20, &mut sink)
        .await
        .unwrap();
    let (end, seen) = (began.elapsed(), seen.into_inner().unwrap());
    assert_eq!((code, seen.len()), (0, 3), "{seen:?}");
    assert_eq!(
        (seen[0].0, seen[0].1, seen[0].2.as_str()),
        (Stream::Out, 0, "first\n")
    );
    assert!(
        seen[0].3 + Duration::from_secs(1) < end,
        "the first line came only at the end: {seen:?} {end:?}"
    );
    let text = |stream| -> String {
        let pieces = seen.iter().filter(|piece| piece.0 == stream);
        pieces.map(|piece| piece.2.as_str()).collect()
    };
    assert_eq!(
        (text(Stream::Out).as_str(), text(Stream::Err).as_str()),
        (
            "first
second
",
            "third
"
        )
    );
}

pub async fn following_goes_on_at_an_offset(f: &Fixture) {
    let guest = f.shared().await;
    let job = script("echo 0123456789\nsleep 0.5\necho abcdef\necho wrong >&2\n");
    guest.start_job(&job).await.unwrap();
    for _ in 0..2 {
        let mut seen = BTreeMap::new();
        let mut sink = |stream: Stream, offset: u64, piece: Vec<u8>| {
            seen.insert(
                (stream == Stream::Err, offset),
                String::from_utf8(piece).unwrap(),
            );
        };
        let from = LogOffsets { out: 5, err: 3 };
        assert_eq!(
            guest
                .follow_job(job.attempt, from, 1 << 20, &mut sink)
                .await
                .unwrap(),
            0
        );
        let text = |err| {
            seen.range((err, 0)..=(err, 100))
                .map(|(_, piece)| piece.as_str())
                .collect::<String>()
        };
        assert_eq!(
            (seen.keys().next(), text(false).as_str()),
            (Some(&(false, 5)), "56789\nabcdef\n")
        );
        assert_eq!(text(true), "ng\n");
    }
}

pub async fn logs_beyond_the_cap_stay_in_the_guest(f: &Fixture) {
    let guest = f.shared().await;
    // Once with a log that comes with the news of the end, once with one that does not.
    for (size, cap) in [(1000u64, 100u64), (100_000, 60_000)] {
        let job = script(&format!("head -c {size} /dev/zero\n"));
        guest.start_job(&job).await.unwrap();
        let mut log = Vec::new();
        let mut sink = |_: Stream, offset: u64, piece: Vec<u8>| {
            assert_eq!(offset, log.len() as u64);
            log.extend(piece);
        };
        assert_eq!(
            guest
                .follow_job(job.attempt, LogOffsets::default(), cap, &mut sink)
                .await
                .unwrap(),
            0
        );
        let words = String::from_utf8(log.split_off(cap as usize)).unwrap();
        assert!(
            words.contains(&format!("{} further bytes", size - cap)),
            "{words:?}"
        );
        assert_eq!(log, vec![0; cap as usize]);
        // Said once.
        let from = LogOffsets {
            out: cap + words.len() as u64,
            err: 0,
        };
        let mut silent = |_: Stream, _: u64, piece: Vec<u8>| panic!("{piece:?}");
        assert_eq!(
            guest
                .follow_job(job.attempt, from, cap, &mut silent)
                .await
                .unwrap(),
            0
        );
    }
}

pub async fn an_output_over_the_cap_is_too_large(f: &Fixture) {
    let guest = f.shared().await;
    let job = script("head -c 100000 /dev/zero > \"$GREENROOM_OUTPUT\"");
    assert_eq!(done(&guest, &job).await.code, 0);
    assert_eq!(
        guest.job_output(job.attempt, 99_999).await.unwrap(),
        Content::TooLarge
    );
    assert_eq!(
        guest.job_output(job.attempt, 100_000).await.unwrap(),
        Content::Bytes(vec![0; 100_000])
    );
    let mut nowhere = |_: Stream, _: u64, _: Vec<u8>| ();
    let end = guest
        .finish_job(job.attempt, LogOffsets::default(), 100, &mut nowhere)
        .await
        .unwrap();
    assert_eq!((end.output_size, end.output), (Some(100_000), None));
    // None at all, and an empty one.
    let none = script("true");
    done(&guest, &none).await;
    assert_eq!(
        guest.job_output(none.attempt, 10).await.unwrap(),
        Content::Missing
    );
    let empty = script(": > \"$GREENROOM_OUTPUT\"");
    done(&guest, &empty).await;
    assert_eq!(
        guest.job_output(empty.attempt, 0).await.unwrap(),
        Content::Bytes(Vec::new())
    );
}

pub async fn a_killed_job_has_the_code_of_its_signal(f: &Fixture) {
    let guest = f.shared().await;
    for (signal, code) in [("KILL", 137), ("TERM", 143)] {
        let done = done(
            &guest,
            &script(&format!("echo before\nkill -{signal} $$\nsleep 5\n")),
        )
        .await;
        assert_eq!((done.code, done.out.as_str()), (code, "before\n"));
    }
}

pub async fn a_job_outlives_the_caller(f: &Fixture) {
    let guest = f.shared().await;
    let job = script("echo early\nsleep 1\necho late\n");
    guest.start_job(&job).await.unwrap();
    let following = follow(&guest, job.attempt);
    assert!(
        tokio::time::timeout(Duration::from_millis(400), following)
            .await
            .is_err()
    );
    let done = follow(&guest, job.attempt).await.unwrap();
    assert_eq!((done.code, done.out.as_str()), (0, "early\nlate\n"));
}

pub async fn a_job_knows_whether_it_was_started(f: &Fixture) {
    let guest = f.shared().await;
    assert_eq!(
        guest.job_state(AttemptId::fresh()).await.unwrap(),
        JobState::Absent
    );
    let job = script("sleep 1\nexit 7");
    guest.start_job(&job).await.unwrap();
    while guest.job_state(job.attempt).await.unwrap() == JobState::Absent {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        guest.job_state(job.attempt).await.unwrap(),
        JobState::Running
    );
    assert_eq!(follow(&guest, job.attempt).await.unwrap().code, 7);
    assert_eq!(
        guest.job_state(job.attempt).await.unwrap(),
        JobState::Exited(7)
    );
}

pub async fn following_ends_when_the_machine_goes(f: &Fixture) {
    let guest = f.fresh().await;
    let job = Job {
        work: JobWork::Command(vec!["sleep".into(), "1000".into()]),
        ..script("")
    };
    guest.start_job(&job).await.unwrap();
    let destroyed = Mutex::new(Instant::now());
    let (followed, ()) = tokio::join!(follow(&guest, job.attempt), async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        f.hypervisor.destroy_machine(guest.machine).await.unwrap();
        *destroyed.lock().unwrap() = Instant::now();
    });
    assert!(
        matches!(followed, Err(HvError::NoSuchMachine(id)) if id == guest.machine),
        "{followed:?}"
    );
    assert!(destroyed.into_inner().unwrap().elapsed() < Duration::from_secs(2));
    assert!(matches!(
        guest.start_job(&job).await,
        Err(HvError::NoSuchMachine(_))
    ));
}

pub async fn files_are_written_and_read(f: &Fixture) {
    let guest = f.shared().await;
    let path = format!("/tmp/file-{}", f.next());
    assert_eq!(guest.read_file(&path, 10).await.unwrap(), Content::Missing);
    let bytes: Vec<u8> = (0..=255).cycle().take(120_000).collect();
    guest.write_file(&path, &bytes).await.unwrap();
    assert_eq!(
        guest.read_file(&path, 120_000).await.unwrap(),
        Content::Bytes(bytes)
    );
    assert_eq!(
        guest.read_file(&path, 119_999).await.unwrap(),
        Content::TooLarge
    );
    guest.write_file(&path, b"").await.unwrap();
    assert_eq!(
        guest.read_file(&path, 0).await.unwrap(),
        Content::Bytes(Vec::new())
    );
}

pub async fn short_commands_run_to_their_end(f: &Fixture) {
    let guest = f.shared().await;
    let deadline = Duration::from_secs(20);
    let all = guest
        .run(
            &["/bin/sh", "-c", "cat; echo err >&2; exit 4"],
            b"in\0\xff",
            deadline,
        )
        .await
        .unwrap();
    assert_eq!(
        (all.exit_code, &all.out[..], &all.err[..]),
        (4, &b"in\0\xff"[..], &b"err\n"[..])
    );
    assert_eq!(
        guest
            .run(&["/bin/sh", "-c", "kill -9 $$"], b"", deadline)
            .await
            .unwrap()
            .exit_code,
        137
    );
    let slow = guest
        .run(&["sleep", "30"], b"", Duration::from_millis(500))
        .await;
    assert!(matches!(slow, Err(HvError::AgentTimeout(..))), "{slow:?}");
}
