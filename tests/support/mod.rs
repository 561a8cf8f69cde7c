//! Builders shared by the test programs: only the facts that matter appear in a test.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod house;
#[cfg(feature = "fault-points")]
pub mod killer;
pub mod verbs;
pub mod yard;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use greenroom::chain::model::*;
use greenroom::runs::pinned::{Plan, StagePlan};
use greenroom::runs::view::View;
use greenroom::vocab::image::{GuestAgent, Image, ImagePart};
use greenroom::vocab::machine::{EngineKind, Size};
use greenroom::vocab::run::{Run, RunState};
use greenroom::vocab::*;

/// A stage that runs a script on image `tiny` and hands on what it writes as JSON.
pub fn stage(name: &str, script: &str) -> Stage {
    let bounds = |n| Bounds { min: n, max: n };
    Stage {
        name: name.into(),
        kind: StageKind::Custom,
        description: String::new(),
        after: None,
        image: "tiny".into(),
        resources: Resources {
            vcpus: bounds(1),
            memory_mib: bounds(128),
            disk_mib: bounds(64),
            network_kbytes_per_s: None,
            predict: false,
        },
        network: false,
        handoff_disk: false,
        input: Input {
            transform: None,
            schema: None,
            format: DocumentFormat::Json,
        },
        work: Work::Script {
            text: script.into(),
            file: None,
        },
        output: Output::Json {
            schema: None,
            transform: None,
            merge: Merge {
                at: format!("/{name}"),
                how: MergeHow::Replace,
            },
            max_bytes: 1 << 16,
        },
        deadline: Deadline::Seconds(60),
        retry: vec![],
        undo: None,
    }
}

/// A script that writes a small document.
pub fn says(word: &str) -> String {
    format!("echo '{{\"said\": \"{word}\"}}' > $GREENROOM_OUTPUT\n")
}

pub trait StageExt {
    fn on_disk(self) -> Self;
    fn without_output(self) -> Self;
    fn retrying(self, on: &[FailureKind], attempts: u32) -> Self;
    fn undone_by(self, script: &str) -> Self;
    fn within_s(self, seconds: u64) -> Self;
    /// Waits for the device to report, so many seconds at most.
    fn after_delivery(self, within_s: u64) -> Self;
}

impl StageExt for Stage {
    fn on_disk(mut self) -> Self {
        self.handoff_disk = true;
        self
    }

    fn without_output(mut self) -> Self {
        self.output = Output::None;
        self
    }

    fn retrying(mut self, on: &[FailureKind], attempts: u32) -> Self {
        self.retry.push(Retry {
            on: on.to_vec(),
            attempts,
            backoff: Backoff {
                first_s: 0.0,
                factor: 1.0,
                max_s: 0.0,
            },
        });
        self
    }

    fn undone_by(mut self, script: &str) -> Self {
        self.undo = Some(Work::Script {
            text: script.into(),
            file: None,
        });
        self
    }

    fn after_delivery(mut self, within_s: u64) -> Self {
        self.kind = StageKind::Monitoring;
        self.after = Some(After {
            event: AfterEvent::Delivered,
            watch_s: 20,
            within_s,
        });
        self
    }

    fn within_s(mut self, seconds: u64) -> Self {
        self.deadline = Deadline::Seconds(seconds);
        self
    }
}

pub fn chain(name: &str, stages: Vec<Stage>) -> Chain {
    let disk = stages.iter().any(|stage| stage.handoff_disk);
    Chain {
        name: name.into(),
        description: String::new(),
        when: None,
        handoff_disk: disk.then_some(HandoffDisk {
            size_mib: 4,
            checkpoint: true,
            keep: false,
        }),
        on_failure: OnFailure {
            hold_s: 3600,
            keep_machine: false,
        },
        stages,
    }
}

/// An image whose files exist only by name.
pub fn image(name: &str) -> Image {
    let part = |file: &str| ImagePart {
        path: PathBuf::from(format!("/images/{name}/{file}")),
        digest: Digest::of(file.as_bytes()),
        size_bytes: 1,
    };
    Image {
        name: name.into(),
        digest: Digest::of(name.as_bytes()),
        key: Digest::of(b"key"),
        description: String::new(),
        os: "none".into(),
        cmdline: "quiet".into(),
        agent: GuestAgent::default(),
        min_memory_mib: 64,
        warm_up: Vec::new(),
        disk_mib: 64,
        kernel: part("kernel"),
        initrd: part("initrd"),
        disk: part("disk.qcow2"),
        built_at: Timestamp(0),
        build_seconds: 0.0,
    }
}

/// A queued run of a chain, as `drive` would load it.
pub fn view(chain: Chain) -> View {
    let stages = chain
        .stages
        .iter()
        .map(|_| StagePlan {
            size: Size {
                vcpus: 1,
                memory_mib: 128,
                disk_mib: 64,
                network_kbytes_per_s: None,
            },
            size_reason: String::new(),
            engine: EngineKind::Clone,
            engine_reason: String::new(),
            deadline_s: 60.0,
            deadline_reason: String::new(),
            expected_s: None,
            expected: None,
            case: None,
        })
        .collect();
    let plan = Plan {
        deployment: Deployment::fresh(),
        images: BTreeMap::from([("tiny".to_owned(), image("tiny"))]),
        persona: None,
        stages,
        replayed_index: None,
        replayed_first_on_disk: false,
        chain,
    };
    View {
        run: Run {
            id: RunId(1),
            device: DeviceId::fresh(),
            device_name: "d1".into(),
            client: "c1".into(),
            chain: plan.chain.name.clone(),
            chain_version: 1,
            state: RunState::Queued,
            state_since: Timestamp(0),
            stage_index: 0,
            generation: 1,
            head: Digest::of(b"start"),
            abort_reason: None,
            pause: None,
            replay_of: None,
            disk_holder: None,
            has_disks: false,
            disks_going: false,
            kept_disk: false,
            discarded: false,
            arrived: false,
            created_at: Timestamp(0),
            started_at: None,
            finished_at: None,
        },
        plan: Arc::new(plan),
        attempts: vec![],
        machines: vec![],
        news: vec![],
    }
}

/// Three stages: the first and the last share the handoff disk, the first says `working` and the last
/// logs what the first wrote, `ONE`.
pub fn three_stages() -> Chain {
    chain(
        "three",
        vec![
            stage(
                "one",
                &format!(
                    "echo working\nprintf %s ONE > $GREENROOM_HANDOFF_DISK\n{}",
                    says("1")
                ),
            )
            .on_disk(),
            stage("two", &says("2")),
            stage("three", "head -c 3 $GREENROOM_HANDOFF_DISK")
                .on_disk()
                .without_output(),
        ],
    )
}
