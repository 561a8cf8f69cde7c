//! Defence in depth: the domain XML that is about to be created is read again, by another parser,
//! and compared with a list of everything that may be in it. A fault in the builder or in whoever
//! fills a [`crate::hypervisor::MachineSpec`] ends here and not in a guest that reads the host.

use std::path::Path;

use roxmltree::{Document, Node};

use super::args_audit::{self, Role};
use super::settings::{Folders, Place};
use super::templates;
use crate::hypervisor::HvError;

/// Every element by its path, with the attributes that it may have.
const ALLOWED: &[(&str, &[&str])] = &[
    ("domain", &["type"]),
    ("domain/name", &[]),
    ("domain/uuid", &[]),
    ("domain/genid", &[]),
    ("domain/title", &[]),
    ("domain/description", &[]),
    ("domain/metadata", &[]),
    (
        "domain/metadata/machine",
        &[
            "deployment",
            "run",
            "stage",
            "shell",
            "template",
            "serial",
            "generation",
        ],
    ),
    ("domain/memory", &["unit"]),
    ("domain/vcpu", &["placement"]),
    ("domain/os", &[]),
    ("domain/os/type", &["arch", "machine"]),
    ("domain/os/kernel", &[]),
    ("domain/os/initrd", &[]),
    ("domain/os/cmdline", &[]),
    ("domain/features", &[]),
    ("domain/features/acpi", &[]),
    ("domain/features/apic", &[]),
    ("domain/cpu", &["mode", "migratable"]),
    ("domain/clock", &["offset"]),
    ("domain/on_poweroff", &[]),
    ("domain/on_reboot", &[]),
    ("domain/on_crash", &[]),
    ("domain/devices", &[]),
    ("domain/devices/disk", &["type", "device"]),
    (
        "domain/devices/disk/driver",
        &["name", "type", "discard", "cache"],
    ),
    ("domain/devices/disk/source", &["file"]),
    ("domain/devices/disk/target", &["dev", "bus"]),
    ("domain/devices/disk/iotune", &[]),
    ("domain/devices/disk/iotune/total_iops_sec", &[]),
    ("domain/devices/controller", &["type", "model"]),
    ("domain/devices/channel", &["type"]),
    ("domain/devices/channel/source", &["mode", "path"]),
    ("domain/devices/channel/target", &["type", "name"]),
    ("domain/devices/serial", &["type"]),
    ("domain/devices/serial/source", &["path", "append"]),
    ("domain/devices/serial/target", &["port"]),
    ("domain/devices/interface", &["type"]),
    ("domain/devices/interface/mac", &["address"]),
    ("domain/devices/interface/source", &["network"]),
    ("domain/devices/interface/model", &["type"]),
    ("domain/devices/interface/bandwidth", &[]),
    ("domain/devices/interface/bandwidth/inbound", &["average"]),
    ("domain/devices/interface/bandwidth/outbound", &["average"]),
    ("domain/devices/rng", &["model"]),
    ("domain/devices/rng/backend", &["model"]),
    ("domain/devices/memballoon", &["model"]),
    ("domain/commandline", &[]),
    ("domain/commandline/arg", &["value"]),
    ("domain/capabilities", &[]),
    ("domain/capabilities/del", &["capability"]),
];

/// The same of a disk that is attached to a running machine.
const ALLOWED_DISK: &[(&str, &[&str])] = &[
    ("disk", &["type", "device"]),
    ("disk/driver", &["name", "type", "cache", "discard"]),
    ("disk/source", &["file"]),
    ("disk/target", &["dev", "bus"]),
    ("disk/serial", &[]),
];

/// The same of a network card.
const ALLOWED_NIC: &[(&str, &[&str])] = &[
    ("interface", &["type"]),
    ("interface/mac", &["address"]),
    ("interface/source", &["network"]),
    ("interface/model", &["type"]),
];

type Allowed = [(&'static str, &'static [&'static str])];

/// Passes, or says what does not belong there.
pub fn audit(xml: &str, folders: &Folders) -> Result<(), HvError> {
    let document = Document::parse(xml).map_err(|error| fault(&error.to_string()))?;
    let domain = document.root_element();
    let arguments: Vec<&str> = domain
        .descendants()
        .filter(|node| node.tag_name().name() == "arg")
        .map(|node| node.attribute("value").unwrap_or_default())
        .collect();
    let role = args_audit::audit(&arguments, folders)?;
    audit_element(domain, "", ALLOWED, &Scope { folders, role })
}

/// The same for the XML of a disk that is about to be attached. Such a disk is written by guests:
/// read as anything but raw, its contents could name a file of the host to stand behind it.
pub fn audit_disk(xml: &str, folders: &Folders) -> Result<(), HvError> {
    let document = Document::parse(xml).map_err(|error| fault(&error.to_string()))?;
    audit_device(&document, ALLOWED_DISK, folders, &["driver", "source"])
}

/// The same for the XML of a network card that is about to be attached.
pub fn audit_nic(xml: &str, folders: &Folders) -> Result<(), HvError> {
    let document = Document::parse(xml).map_err(|error| fault(&error.to_string()))?;
    audit_device(&document, ALLOWED_NIC, folders, &["mac", "source", "model"])
}

fn audit_device(
    document: &Document,
    allowed: &Allowed,
    folders: &Folders,
    needed: &[&str],
) -> Result<(), HvError> {
    let device = document.root_element();
    let scope = Scope {
        folders,
        role: Role::Plain,
    };
    audit_element(device, "", allowed, &scope)?;
    for part in needed {
        let found = device.children().filter(|child| child.has_tag_name(*part));
        if found.count() != 1 {
            let device = device.tag_name().name();
            return Err(fault(&format!("it needs one {device}/{part}")));
        }
    }
    Ok(())
}

/// What the values of one document may reach.
struct Scope<'a> {
    folders: &'a Folders,
    role: Role,
}

impl Scope<'_> {
    /// A fork boots nothing: what stands for its kernel is in its template's folder.
    fn check_kernel(&self, path: &Path) -> Result<(), HvError> {
        match &self.role {
            Role::Fork(folder) if path == templates::kernel_head(folder) => {
                self.folders.check(Place::Template, path)
            }
            _ => self.folders.check(Place::Image, path),
        }
    }

    /// Only the machine that becomes a template writes to a disk in a template's folder: its own.
    fn check_disk(&self, path: &Path) -> Result<(), HvError> {
        match &self.role {
            Role::Template(folder) if path == folder.join("disk.qcow2") => {
                self.folders.check(Place::Template, path)
            }
            _ => self.folders.check(Place::Disk, path),
        }
    }
}

fn audit_element(
    node: Node,
    parent: &str,
    allowed: &Allowed,
    scope: &Scope,
) -> Result<(), HvError> {
    let name = node.tag_name().name();
    let path = if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}/{name}")
    };
    let Some((_, attributes)) = allowed.iter().find(|(known, _)| *known == path) else {
        return Err(fault(&format!("the element {path} is not expected")));
    };
    if let Some(strange) = node
        .attributes()
        .find(|attribute| !attributes.contains(&attribute.name()))
    {
        return Err(fault(&format!(
            "the attribute {} of {path} is not expected",
            strange.name()
        )));
    }
    audit_values(node, &path, scope)?;
    node.children()
        .filter(Node::is_element)
        .try_for_each(|child| audit_element(child, &path, allowed, scope))
}

/// Values that reach outside the machine: files, devices, kinds of device that stand for the host.
fn audit_values(node: Node, path: &str, scope: &Scope) -> Result<(), HvError> {
    let text = node.text().unwrap_or_default();
    let is = |name: &str, wanted: &str| node.attribute(name) == Some(wanted);
    let sound = match path {
        "domain/os/kernel" => return scope.check_kernel(Path::new(text)),
        "domain/os/initrd" => return scope.folders.check(Place::Image, Path::new(text)),
        "domain/devices/disk/source" | "disk/source" => {
            return scope.check_disk(file(node, "file"));
        }
        "domain/devices/serial/source" | "domain/devices/channel/source" => {
            return scope.folders.check(Place::Console, file(node, "path"));
        }
        "domain" => is("type", "kvm") || is("type", "qemu"),
        "domain/devices/disk" | "disk" => is("type", "file") && is("device", "disk"),
        "domain/devices/disk/driver" => is("name", "qemu") && is("type", "qcow2"),
        "disk/driver" => is("name", "qemu") && is("type", "raw"),
        "domain/devices/channel" => is("type", "unix") || is("type", "file"),
        "domain/devices/serial" => is("type", "file"),
        "domain/devices/interface" | "interface" => is("type", "network"),
        "domain/devices/rng/backend" => is("model", "random") && text == "/dev/urandom",
        "domain/capabilities/del" => is("capability", "cpu-unavailable-features"),
        _ => true,
    };
    if sound {
        Ok(())
    } else {
        Err(fault(&format!("the value of {path} is not expected")))
    }
}

fn file<'a>(node: Node<'a, '_>, attribute: &str) -> &'a Path {
    Path::new(node.attribute(attribute).unwrap_or_default())
}

fn fault(what: &str) -> HvError {
    HvError::Refused(format!("the machine's XML failed its own check: {what}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn folders() -> Folders {
        Folders {
            disks: PathBuf::from("/nowhere/disks"),
            templates: PathBuf::from("/nowhere/templates"),
            consoles: PathBuf::from("/nowhere/consoles"),
            scratch: PathBuf::from("/nowhere/scratch"),
            images: vec![PathBuf::from("/nowhere/images")],
        }
    }

    #[test]
    fn an_attached_disk_is_raw_and_in_its_folder() {
        let disk = |format: &str, path: &str| {
            let xml = format!(
                "<disk type='file' device='disk'><driver name='qemu' type='{format}' cache='writeback' discard='unmap'/><source file='{path}'/><target dev='vdb' bus='virtio'/><serial>handoff</serial></disk>"
            );
            audit_disk(&xml, &folders()).map_err(|error| error.to_string())
        };
        disk("raw", "/nowhere/disks/1/handoff").unwrap();
        let refused = disk("qcow2", "/nowhere/disks/1/handoff").unwrap_err();
        assert!(refused.contains("disk/driver"), "{refused}");
        let refused = disk("raw", "/etc/shadow").unwrap_err();
        assert!(refused.contains("/etc/shadow"), "{refused}");
        let without_driver =
            "<disk type='file' device='disk'><source file='/nowhere/disks/a'/></disk>";
        assert!(audit_disk(without_driver, &folders()).is_err());
        let strange = "<disk type='file' device='disk'><backingStore/></disk>";
        assert!(audit_disk(strange, &folders()).is_err());
    }

    #[test]
    fn an_attached_card_joins_a_network_and_nothing_else() {
        let nic = |kind: &str, source: &str| {
            let xml = format!(
                "<interface type='{kind}'><mac address='52:54:00:00:00:01'/>{source}<model type='virtio'/></interface>"
            );
            audit_nic(&xml, &folders())
        };
        nic("network", "<source network='greenroom'/>").unwrap();
        nic("direct", "<source network='greenroom'/>").unwrap_err();
        nic("network", "<source bridge='br0'/>").unwrap_err();
        nic("network", "").unwrap_err();
    }

    #[test]
    fn a_templates_disk_is_written_by_its_own_machine_only() {
        let domain = |arguments: Vec<String>, disk: &str| {
            let told: String = arguments
                .iter()
                .map(|word| format!("<arg value='{}'/>", word.replace('"', "&quot;")))
                .collect();
            let xml = format!(
                "<domain type='qemu'><devices><disk type='file' device='disk'><source file='{disk}'/></disk></devices><commandline>{told}</commandline></domain>"
            );
            audit(&xml, &folders())
        };
        use crate::hypervisor::libvirt::qemu_args::{Memory, build};
        let memory = Path::new("/nowhere/templates/7/memory");
        let disk = "/nowhere/templates/7/disk.qcow2";
        let told = |memory| build(memory, 256, 0).unwrap();
        domain(told(Memory::Template(memory)), disk).unwrap();
        domain(
            told(Memory::Template(memory)),
            "/nowhere/templates/8/disk.qcow2",
        )
        .unwrap_err();
        domain(told(Memory::Fork(memory)), disk).unwrap_err();
        domain(told(Memory::Own), disk).unwrap_err();
    }

    fn refused(xml: &str) -> String {
        audit(xml, &folders()).unwrap_err().to_string()
    }

    #[test]
    fn strangers_are_named() {
        let in_devices =
            |inner: &str| format!("<domain type='qemu'><devices>{inner}</devices></domain>");
        assert!(refused(&in_devices("<hostdev/>")).contains("domain/devices/hostdev"));
        assert!(
            refused(&in_devices("<disk type='block' device='disk'/>"))
                .contains("domain/devices/disk")
        );
        assert!(
            refused(&in_devices(
                "<disk type='file' device='disk'><source file='/etc/shadow'/></disk>"
            ))
            .contains("/etc/shadow")
        );
        assert!(
            refused(&in_devices(
                "<rng model='virtio'><backend model='random'>/dev/sda</backend></rng>"
            ))
            .contains("rng")
        );
        assert!(
            refused("<domain type='qemu'><os><kernel>/boot/vmlinuz</kernel></os></domain>")
                .contains("/boot/vmlinuz")
        );
        let told = |inner: &str| {
            format!("<domain type='qemu'><commandline>{inner}</commandline></domain>")
        };
        assert!(refused(&told("<env name='A' value='b'/>")).contains("domain/commandline/env"));
        assert!(refused(&told("<arg value='-S'/>")).contains("-S"));
        assert!(
            refused("<domain type='qemu'><seclabel type='none'/></domain>")
                .contains("domain/seclabel")
        );
        audit(
            &in_devices(
                "<disk type='file' device='disk'><source file='/nowhere/disks/1/a'/></disk>",
            ),
            &folders(),
        )
        .unwrap();
    }
}
