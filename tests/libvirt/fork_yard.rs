//! Templates and forks for tests: the steps that the pool takes, without its rows.

use greenroom::hypervisor::{DiskOrder, Hypervisor, MachineSpec, Start, TemplateFiles};
use greenroom::vocab::MachineId;
use greenroom::vocab::machine::Owner;
use greenroom::vocab::pool::Seal;

use crate::yard::Yard;

/// Memory that can be added to each machine here, MiB.
pub const GROWTH_MIB: u64 = 512;

pub struct Template {
    pub files: TemplateFiles,
    /// What the template's machine was started with.
    pub spec: MachineSpec,
    pub seal: Seal,
}

impl Yard {
    /// The machine from which a template is captured, up and answering.
    pub async fn template_machine(&self) -> (MachineSpec, TemplateFiles) {
        let mut spec = self.plain_spec();
        let files = TemplateFiles {
            folder: self.settings.folders.templates.join(spec.id.to_string()),
        };
        spec.root_disk = files.disk();
        spec.start = Start::Template {
            files: files.clone(),
        };
        spec.growth_mib = GROWTH_MIB;
        spec.tag.owner = Owner::Template {
            template: "tiny".to_owned(),
        };
        let order = DiskOrder::Overlay {
            path: files.disk(),
            base: self.image("disk.qcow2"),
            size_mib: spec.size.disk_mib,
        };
        self.libvirt.make_disk(&order).await.unwrap();
        self.libvirt.start_machine(&spec).await.unwrap();
        self.wait_for_agent(spec.id).await;
        (spec, files)
    }

    /// Captures, ends the machine and seals.
    pub async fn seal(&self, spec: MachineSpec, files: TemplateFiles) -> Template {
        self.libvirt.capture(spec.id, &files).await.unwrap();
        self.libvirt.destroy_machine(spec.id).await.unwrap();
        let seal = self.libvirt.seal_template(&files).await.unwrap();
        Template { files, spec, seal }
    }

    pub async fn template(&self) -> Template {
        let (spec, files) = self.template_machine().await;
        self.seal(spec, files).await
    }

    /// What a fork is started with; its overlay is made.
    pub async fn fork_spec(&self, template: &Template) -> MachineSpec {
        let mut spec = self.plain_spec();
        spec.size = template.spec.size;
        spec.growth_mib = template.spec.growth_mib;
        spec.start = Start::Fork {
            files: template.files.clone(),
        };
        spec.tag.owner = Owner::Shell {
            shell: "tiny".to_owned(),
        };
        let order = DiskOrder::Overlay {
            path: spec.root_disk.clone(),
            base: template.files.disk(),
            size_mib: spec.size.disk_mib,
        };
        self.libvirt.make_disk(&order).await.unwrap();
        spec
    }

    /// Started, loaded, and paused.
    pub async fn loaded_fork(&self, template: &Template) -> MachineId {
        let spec = self.fork_spec(template).await;
        self.libvirt.start_machine(&spec).await.unwrap();
        self.libvirt
            .load_fork(spec.id, &template.files)
            .await
            .unwrap();
        spec.id
    }

    pub async fn fork(&self, template: &Template) -> MachineId {
        let id = self.loaded_fork(template).await;
        self.libvirt.resume(id).await.unwrap();
        self.wait_for_agent(id).await;
        id
    }
}
