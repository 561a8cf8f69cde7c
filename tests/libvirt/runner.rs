//! Jobs by the runner of a real guest, and without it when it is killed.

use std::time::Duration;

use greenroom::hypervisor::Hypervisor as _;
use greenroom::hypervisor::guest::{Guest, Job, JobEnd, JobState, JobWork, LogOffsets, Stream};
use greenroom::vocab::AttemptId;

use crate::LIBVIRTD;
use crate::yard::Yard;

fn script(text: &str) -> Job {
    Job {
        attempt: AttemptId::fresh(),
        work: JobWork::Script(text.to_owned()),
        input: b"{}".to_vec(),
        env: Default::default(),
        disk_serial: None,
    }
}

/// How it ended, and what it wrote to its standard output.
async fn end_of(guest: &Guest<'_>, job: &Job) -> (JobEnd, String) {
    let mut out = Vec::new();
    let mut sink = |stream, offset, piece: Vec<u8>| {
        if stream == Stream::Out {
            assert_eq!(offset, out.len() as u64, "a piece out of order");
            out.extend(piece);
        }
    };
    let from = LogOffsets::default();
    let following = guest.finish_job(job.attempt, from, 1 << 20, &mut sink);
    let end = tokio::time::timeout(Duration::from_secs(120), following).await;
    let end = end.expect("the job does not end").unwrap();
    (end, String::from_utf8(out).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_go_by_the_guests_runner() {
    let _stays = LIBVIRTD.read().await;
    let Some(yard) = Yard::new("runner").await else {
        return;
    };
    let id = yard.guest().await;
    let (libvirt, guest) = (
        &yard.libvirt,
        Guest {
            hypervisor: &*yard.libvirt,
            machine: id,
        },
    );
    let has_one = "[ -x /usr/sbin/greenroom-runner ] && echo yes";
    if yard.shell(id, has_one).await != "yes" {
        eprintln!("skipped: the image was built where there was no rustc, and has no runner");
        return yard.clear().await;
    }

    let job = script("echo hello; printf '\\\\\\n' > \"$GREENROOM_OUTPUT\"; sleep 1; exit 4");
    guest.start_job(&job).await.unwrap();
    assert!(libvirt.hears_runner(id), "the agent had to start it");
    let (end, out) = end_of(&guest, &job).await;
    assert_eq!((end.exit_code, out.as_str()), (4, "hello\n"));
    assert_eq!(end.output.as_deref(), Some(b"\\\n".as_slice()));
    assert!(!libvirt.hears_runner(id), "nobody waits for anything");
    guest.start_job(&job).await.unwrap();
    assert_eq!(
        guest.job_state(job.attempt).await.unwrap(),
        JobState::Exited(4)
    );
    libvirt.leave_runner(id);

    let long =
        script("i=0; while [ $i -lt 5000 ]; do echo 'a line of a long log'; i=$((i+1)); done");
    guest.start_job(&long).await.unwrap();
    let (end, out) = end_of(&guest, &long).await;
    assert_eq!((end.exit_code, out.len()), (0, 5000 * 21));

    // The one that started a job is gone, and the job's own parent is not.
    let lasting = script("sleep 3; echo survived");
    guest.start_job(&lasting).await.unwrap();
    yard.shell(id, "kill -9 $(pgrep -o greenroom-runner)").await;
    let (end, out) = end_of(&guest, &lasting).await;
    assert_eq!((end.exit_code, out.as_str()), (0, "survived\n"));

    // Asleep for good: the agent takes over.
    yard.shell(id, "kill -STOP $(pgrep greenroom-runner)").await;
    let other = script("echo by the agent");
    guest.start_job(&other).await.unwrap();
    assert!(!libvirt.hears_runner(id));
    let (end, out) = end_of(&guest, &other).await;
    assert_eq!((end.exit_code, out.as_str()), (0, "by the agent\n"));
    // What it finds when it wakes up was done already.
    yard.shell(id, "kill -CONT $(pgrep greenroom-runner); sleep 1")
        .await;
    assert_eq!(
        guest.job_state(other.attempt).await.unwrap(),
        JobState::Exited(0)
    );
    let count = format!("cat /run/greenroom/job/{}/out", other.attempt);
    assert_eq!(yard.shell(id, &count).await, "by the agent");
    yard.clear().await;
}
