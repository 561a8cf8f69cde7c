//! Stages that do not do what they should, and machines that are taken from under them.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::chains;
use crate::checker::{Expected, Try};
use crate::ground::Ground;
use crate::pool_verbs::qemu_of;

const LONG: Duration = Duration::from_secs(150);

/// What a run of a one-stage chain comes to that was aborted after it was held.
fn aborted(run: i64, tries: usize) -> Expected {
    Expected {
        run,
        state: "aborted",
        tries: vec![Try::work("only", tries)],
        log: None,
        document: vec![],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_that_misbehave_are_held_with_what_they_did() {
    let Some(mut ground) = Ground::open("stages that misbehave").await else {
        return;
    };
    ground.start(None).await;
    let cases = [
        (
            "endless",
            "sleep 600",
            "output: none\ndeadline: 3s",
            "deadline",
            "deadline",
        ),
        (
            "garbage",
            "head -c 300 /dev/urandom > \"$GREENROOM_OUTPUT\"",
            "output: { format: json, merge: /only }",
            "output",
            "",
        ),
        (
            "too-much",
            "head -c 9000 /dev/zero | tr '\\000' 1 > \"$GREENROOM_OUTPUT\"",
            "output: { format: json, merge: /only, max: 4 KiB }",
            "output",
            "larger than 4096 bytes",
        ),
    ];
    let mut expected = Vec::new();
    let mut runs = Vec::new();
    // One more, which gets over it: a machine that ends by itself costs a try.
    let script = "echo try $GREENROOM_ATTEMPT\n[ $GREENROOM_ATTEMPT -gt 1 ] || { sleep 1; poweroff -f; sleep 60; }";
    ground
        .apply(&chains::single("off", script, "output: none"))
        .await;
    let off = ground.begin("off").await;
    for (name, script, more, ..) in &cases {
        ground.apply(&chains::single(name, script, more)).await;
        runs.push(ground.begin(name).await);
    }
    for (run, (name, _, _, kind, says)) in runs.into_iter().zip(&cases) {
        let view = ground.rests(run, LONG).await;
        assert_eq!(view.run.state, "held", "{name}: {view:#?}");
        let failure = view.run.failure.expect("a reason");
        assert_eq!(failure.kind.word(), *kind, "{name}: {failure}");
        assert!(failure.message.contains(says), "{name}: {failure}");
        ground.abort(run).await;
        expected.push(aborted(run, 1));
    }
    let view = ground.rests(off, LONG).await;
    let failure = view.attempts[0].failure.as_ref().expect("a reason");
    assert_eq!(failure.kind.word(), "lost", "{failure}");
    expected.push(Expected {
        run: off,
        state: "succeeded",
        tries: vec![Try::work("only", 2)],
        log: Some(vec!["try 1".into(), "try 2".into()]),
        document: vec![],
    });
    ground.is_clean(&expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_killed_is_replaced() {
    let Some(mut ground) = Ground::open("a machine that is killed").await else {
        return;
    };
    ground.start(None).await;
    ground.apply(&chains::marks(4)).await;
    let run = ground.begin("marks").await;
    let machine = ground.works(run, "one").await;
    // Its mark is in the log.
    tokio::time::sleep(Duration::from_secs(2)).await;
    kill(qemu_of(&machine), Signal::SIGKILL).expect("a signal");
    ground.rests(run, LONG).await;
    ground.is_clean(&[chains::marks_done(run, 2)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: `vagrant/lab chaos`"]
async fn a_machine_that_hangs_is_found_out_and_replaced() {
    let Some(mut ground) = Ground::open("a machine that hangs").await else {
        return;
    };
    ground.set("GREENROOM_SILENCE_S", "6");
    ground.start(None).await;
    ground.apply(&chains::marks(4)).await;
    let run = ground.begin("marks").await;
    let machine = ground.works(run, "one").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let qemu = qemu_of(&machine);
    kill(qemu, Signal::SIGSTOP).expect("a signal");
    let view = ground.rests(run, LONG).await;
    let failure = view.attempts[0].failure.as_ref().expect("a reason");
    assert_eq!(failure.kind.word(), "lost", "{failure}");
    ground.is_clean(&[chains::marks_done(run, 2)]).await;
    assert!(
        !std::path::Path::new(&format!("/proc/{qemu}")).exists(),
        "the stopped process {qemu} is still there"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_run_is_refused_with_the_reason() {
    let Some(mut ground) = Ground::open("what cannot run").await else {
        return;
    };
    ground.set("GREENROOM_MEMORY_MIB", "256");
    ground.start(None).await;
    let image = chains::single("image", "true", "output: none").replace("tiny", "nosuch");
    ground.apply(&image).await;
    let memory = chains::single("memory", "true", "output: none").replace("128 MiB", "512 MiB");
    ground.apply(&memory).await;
    ground.add_device("d1").await;
    let refused = ground
        .client()
        .run_start(&Ground::order("d1", "image"))
        .await
        .expect_err("there is no such image")
        .to_string();
    assert!(
        refused.contains("nosuch") && refused.contains("image build"),
        "{refused}"
    );

    // Whether it is said at once or by the held run: more than the whole share never fits.
    match ground
        .client()
        .run_start(&Ground::order("d1", "memory"))
        .await
    {
        Err(error) => {
            assert!(error.to_string().contains("512 MiB"), "{error}");
            ground.is_clean(&[]).await;
        }
        Ok(started) => {
            let run = started.run.expect("not a dry run").id;
            let view = ground.rests(run, Duration::from_secs(40)).await;
            let failure = view.run.failure.expect("a reason");
            assert_eq!(failure.kind.word(), "host", "{failure}");
            assert!(
                failure.message.contains("512") && failure.way_out.is_some(),
                "{failure}"
            );
            ground.abort(run).await;
            ground.is_clean(&[aborted(run, view.attempts.len())]).await;
        }
    }
}
