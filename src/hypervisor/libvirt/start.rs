//! Starting a machine: booted, booted as a template, or as an empty fork of one.

use std::path::{Path, PathBuf};

use super::connection::Call;
use super::domain_xml::DomainPlan;
use super::machines::{self, Begin};
use super::qemu_args::{self, Memory};
use super::settings::NetworkLimit;
use super::{CREATE, Libvirt, consoles, disks, errors, templates, xml_audit};
use crate::hypervisor::{HvError, MachineSpec, Start, TemplateFiles};
use crate::vocab::machine::{Accelerator, Owner, Tag};
use crate::vocab::{Deployment, Digest, MachineId};

impl Libvirt {
    pub(super) async fn start(&self, spec: &MachineSpec) -> Result<(), HvError> {
        let _turn = self.changes.take(&spec.id).await;
        if spec.tag.deployment != self.settings.deployment {
            return Err(HvError::Refused(
                "the tag names another deployment".to_owned(),
            ));
        }
        self.check_start(spec)?;
        self.check_reach(needed_files(spec)).await?;
        if let Start::Template { files } = &spec.start
            && !self.make_template_files(spec, files).await?
        {
            return Ok(());
        }
        let console = consoles::prepare(&self.settings.folders.consoles, spec.id)?;
        let (memory_file, kernel_head) = match &spec.start {
            Start::Boot => (PathBuf::new(), PathBuf::new()),
            Start::Template { files } | Start::Fork { files } => {
                (files.memory(), templates::kernel_head(&files.folder))
            }
        };
        let (memory, kernel, initrd) = match &spec.start {
            Start::Boot => (Memory::Own, &spec.kernel, Some(&spec.initrd)),
            Start::Template { .. } => (
                Memory::Template(&memory_file),
                &spec.kernel,
                Some(&spec.initrd),
            ),
            Start::Fork { .. } => (Memory::Fork(&memory_file), &kernel_head, None),
        };
        let plan = DomainPlan {
            id: spec.id,
            name: &spec.name,
            tag: &spec.tag,
            accelerator: self.verdict().accelerator,
            vcpus: spec.size.vcpus,
            memory_mib: spec.size.memory_mib,
            memory,
            growth_mib: qemu_args::round_growth(spec.growth_mib),
            kernel,
            initrd: initrd.map(PathBuf::as_path),
            cmdline: &spec.cmdline,
            root_disk: Some(&spec.root_disk),
            disk_iops: self.settings.disk_iops,
            nic: spec.nic.as_ref(),
            network_kbytes_per_s: spec.size.network_kbytes_per_s,
            console: &console,
            skip_cpu_feature_check: self.settings.skip_cpu_feature_check,
        };
        match self.create(&plan).await {
            Err(HvError::Host(why)) if plan.limits_network() && errors::says_no_shaping(&why) => {
                self.create_unlimited(plan, &why).await?;
            }
            other => other?,
        }
        self.guests.remember(spec.id);
        if let Start::Fork { .. } = spec.start {
            self.step_back(spec.id).await;
        }
        Ok(())
    }

    /// A digest of a sample machine's XML, and for KVM of the host's own CPU, which guests get.
    pub(super) fn devices(&self) -> String {
        let nowhere = Path::new("/");
        let accelerator = self.verdict().accelerator;
        let sample = DomainPlan {
            id: MachineId(uuid::Uuid::nil()),
            name: "sample",
            tag: &Tag {
                deployment: Deployment(uuid::Uuid::nil()),
                owner: Owner::Template {
                    template: "sample".to_owned(),
                },
                serial: 1,
                generation: 1,
            },
            accelerator,
            vcpus: 1,
            memory_mib: 128,
            memory: Memory::Template(nowhere),
            growth_mib: qemu_args::round_growth(128),
            kernel: nowhere,
            initrd: None,
            cmdline: "",
            root_disk: Some(nowhere),
            disk_iops: self.settings.disk_iops,
            nic: None,
            network_kbytes_per_s: None,
            console: nowhere,
            skip_cpu_feature_check: self.settings.skip_cpu_feature_check,
        };
        let mut text = sample.to_xml().unwrap_or_default();
        if accelerator == Accelerator::Kvm {
            let seen = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let one = seen.split("\n\n").next().unwrap_or_default();
            let lasting = one
                .lines()
                .filter(|line| !line.starts_with("cpu MHz") && !line.starts_with("bogomips"));
            text.extend(lasting);
            text += &std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        }
        Digest::of(text.as_bytes()).to_string()
    }

    /// What a template is started with is part of it for good, and a network card would be the same one
    /// in all its forks.
    fn check_start(&self, spec: &MachineSpec) -> Result<(), HvError> {
        let files = match &spec.start {
            Start::Boot => return Ok(()),
            Start::Template { files } | Start::Fork { files } => files,
        };
        templates::check(&self.settings.folders, files)?;
        if spec.nic.is_some() {
            return Err(HvError::Refused(
                "templates and forks start without a network card; attach one to the fork"
                    .to_owned(),
            ));
        }
        match &spec.start {
            Start::Template { .. } if spec.root_disk != files.disk() => Err(HvError::Refused(
                format!("the root disk of a template is {}", files.disk().display()),
            )),
            Start::Fork { .. } => templates::check_forkable(files, spec.size.memory_mib),
            _ => Ok(()),
        }
    }

    /// False when the machine is there already, whose files must be left alone.
    async fn make_template_files(
        &self,
        spec: &MachineSpec,
        files: &TemplateFiles,
    ) -> Result<bool, HvError> {
        let (id, tag) = (spec.id, spec.tag.clone());
        let is_there = self
            .control
            .call(Call::read("look"), move |connect| {
                machines::is_there(connect, id, &tag)
            })
            .await?;
        if is_there {
            return Ok(false);
        }
        let (files, kernel, owner) = (files.clone(), spec.kernel.clone(), self.qemu_user);
        let memory_mib = spec.size.memory_mib;
        disks::blocking(move || templates::prepare(&files, memory_mib, &kernel, owner)).await?;
        Ok(true)
    }

    /// Creates a domain from the plan, after its XML passed the audit.
    pub(super) async fn create(&self, plan: &DomainPlan<'_>) -> Result<(), HvError> {
        let xml = plan.to_xml()?;
        xml_audit::audit(&xml, &self.settings.folders)?;
        let (id, tag) = (plan.id, plan.tag.clone());
        let begin = match plan.memory {
            Memory::Own | Memory::Template(_) => Begin::Running,
            Memory::Fork(_) => Begin::Paused,
        };
        self.control
            .call(CREATE, move |connect| {
                machines::create(connect, id, &tag, &xml, begin)
            })
            .await
    }

    /// For a host that cannot shape traffic.
    async fn create_unlimited(&self, plan: DomainPlan<'_>, why: &str) -> Result<(), HvError> {
        let why = format!("this host cannot limit network traffic: {why}");
        match self.settings.network_limit {
            NetworkLimit::Required => Err(HvError::Refused(why)),
            NetworkLimit::WherePossible => {
                tracing::warn!(machine = %plan.id, why, "started without its network limit");
                self.create(&DomainPlan {
                    network_kbytes_per_s: None,
                    ..plan
                })
                .await
            }
        }
    }
}

/// What QEMU's user must be able to get to.
fn needed_files(spec: &MachineSpec) -> Vec<PathBuf> {
    match &spec.start {
        Start::Boot => vec![
            spec.kernel.clone(),
            spec.initrd.clone(),
            spec.root_disk.clone(),
        ],
        Start::Template { files } => vec![spec.kernel.clone(), spec.initrd.clone(), files.memory()],
        Start::Fork { files } => vec![spec.root_disk.clone(), files.memory()],
    }
}
