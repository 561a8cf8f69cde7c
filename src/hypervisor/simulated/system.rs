//! What all processes of a simulated guest share: its kernel, its files, its devices.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;

use super::disks::Disks;
use super::kernel::Kernel;
use super::shell::View;

#[derive(Debug, Clone)]
pub struct System {
    pub kernel: Kernel,
    pub files: HashMap<String, Vec<u8>>,
    /// Device path to disk.
    pub devices: BTreeMap<String, PathBuf>,
    /// Programs that end well whatever they are asked, for short commands.
    pub tools: Arc<BTreeSet<String>>,
}

static NO_TOOLS: BTreeSet<String> = BTreeSet::new();

impl System {
    /// What a job reaches.
    pub fn view<'a>(&'a mut self, disks: &'a mut Disks, now: Instant) -> View<'a> {
        View {
            files: &mut self.files,
            devices: &self.devices,
            kernel: &mut self.kernel,
            disks,
            tools: &NO_TOOLS,
            now,
        }
    }

    /// What a short command of the agent reaches: the tools as well.
    pub fn view_with_tools<'a>(&'a mut self, disks: &'a mut Disks, now: Instant) -> View<'a> {
        View {
            files: &mut self.files,
            devices: &self.devices,
            kernel: &mut self.kernel,
            disks,
            tools: &self.tools,
            now,
        }
    }
}
