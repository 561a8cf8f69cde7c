//! The daemon, its host and its images on the wire.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PoolBrief, Time};
use crate::vocab::Digest;
use crate::vocab::image::Image;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VersionView {
    pub version: String,
    /// The id in the tag of everything that this installation makes.
    pub deployment: String,
    pub started_at: Time,
    pub pid: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    pub version: String,
    pub now: Time,
    /// How many runs each state has.
    pub runs: BTreeMap<String, i64>,
    /// How many machines that are not gone each state has.
    pub machines: BTreeMap<String, i64>,
    pub capacity: CapacityView,
    /// None when the host does not answer; `host_error` says why.
    pub host: Option<HostView>,
    pub host_error: Option<String>,
    /// What does not go on by itself, or not as it should.
    pub stuck: Vec<StuckRun>,
    /// The last comparison of what is stored with what is there; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<ReconcileView>,
    /// The warm machines; none where the pool cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolBrief>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReconcileView {
    pub at: Time,
    pub took_ms: f64,
    /// Machines on the host with this installation's tag.
    pub ours: usize,
    /// Machines of others, which are never touched.
    pub foreign: usize,
    /// Seen once without an owner; removed when the next complete listing says the same.
    pub suspects: Vec<String>,
    /// What was done.
    pub actions: Vec<String>,
    /// Why nothing could be compared, if so.
    pub problem: Option<String>,
}

/// The share of the host that machines may take, and what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapacityView {
    pub total_memory_mib: u64,
    pub used_memory_mib: u64,
    pub total_vcpus: u64,
    pub used_vcpus: u64,
    /// Machines that hold a share.
    pub machines: usize,
    /// Machines that wait for one.
    pub waiting: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostView {
    /// Such as `libvirt 11.3.0, QEMU 10.0.2`.
    pub version: String,
    pub host_name: String,
    pub cpus: u32,
    pub memory_mib: u64,
    pub free_memory_mib: u64,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    pub accelerator_reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StuckRun {
    pub run: i64,
    pub device: String,
    pub state: String,
    /// Seconds in this state.
    pub age_s: f64,
    pub why: String,
    pub next: String,
    pub you_can: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageView {
    pub name: String,
    pub digest: Digest,
    pub description: String,
    pub os: String,
    pub min_memory_mib: u64,
    pub disk_mib: u64,
    /// Bytes of kernel, initial ramdisk and disk together.
    pub size_bytes: u64,
    pub built_at: Time,
    pub build_seconds: f64,
    pub folder: PathBuf,
}

impl ImageView {
    pub fn of(image: &Image) -> Self {
        Self {
            name: image.name.clone(),
            digest: image.digest,
            description: image.description.clone(),
            os: image.os.clone(),
            min_memory_mib: image.min_memory_mib,
            disk_mib: image.disk_mib,
            size_bytes: image.kernel.size_bytes + image.initrd.size_bytes + image.disk.size_bytes,
            built_at: Time::of(image.built_at),
            build_seconds: image.build_seconds,
            folder: image
                .disk
                .path
                .parent()
                .unwrap_or(&image.disk.path)
                .to_owned(),
        }
    }
}
