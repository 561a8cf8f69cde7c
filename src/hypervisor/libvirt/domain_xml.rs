//! A machine as libvirt's domain XML: a typed, pure builder. There is no way to put raw XML in.
//!
//! Every string becomes exactly one attribute value or text node; control characters are refused
//! before anything is written, because XML 1.0 cannot carry most of them and libvirt, QEMU's command
//! line and the guest's kernel command line each treat the rest differently.
//!
//! Format: <https://libvirt.org/formatdomain.html>. What stands in it and why is in [`DomainPlan`];
//! leaving out further devices was measured to save nothing (spread 150–300 ms in all variants).

use std::path::Path;

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

use super::consoles;
use super::qemu_args::{self, Memory};
use crate::hypervisor::{AttachedDisk, BELL, HvError, Nic, RUNNER};
use crate::vocab::MachineId;
use crate::vocab::machine::{Accelerator, Owner, Tag};

/// Namespace of our element in a domain's metadata; the number is its version.
pub const TAG_NAMESPACE: &str = "https://greenroom.dev/domain/1";

/// virtio-serial, root disk, random numbers, network card.
const OCCUPIED_PORTS: usize = 4;
/// Each attached disk needs a free pcie-root-port, and ports cannot be added to a running machine.
pub const SPARE_PORTS: usize = 6;

/// virtio-blk's limit (VIRTIO_BLK_ID_BYTES).
const LONGEST_SERIAL: usize = 20;

/// Everything a domain is made from.
#[derive(Debug, Clone)]
pub struct DomainPlan<'a> {
    pub id: MachineId,
    pub name: &'a str,
    pub tag: &'a Tag,
    pub accelerator: Accelerator,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub memory: Memory<'a>,
    /// Memory that can be added later, MiB; a multiple of [`qemu_args::GROWTH_STEP_MIB`].
    pub growth_mib: u64,
    pub kernel: &'a Path,
    /// None for a fork: it boots nothing.
    pub initrd: Option<&'a Path>,
    /// `console=ttyS0` is added where it is missing.
    pub cmdline: &'a str,
    /// qcow2. The accelerator probe has none.
    pub root_disk: Option<&'a Path>,
    pub disk_iops: Option<u64>,
    pub nic: Option<&'a Nic>,
    /// Each direction, kilobytes (1000 bytes) a second.
    pub network_kbytes_per_s: Option<u64>,
    /// Where the serial console is logged. libvirt lets virtlogd write it where that is configured,
    /// which is the default, and then a guest cannot fill the disk with it (2 MiB and three older).
    pub console: &'a Path,
    pub skip_cpu_feature_check: bool,
}

impl DomainPlan<'_> {
    /// The XML for `virDomainCreateXML`, or [`HvError::Refused`] with the string that cannot be in it.
    pub fn to_xml(&self) -> Result<String, HvError> {
        if self.vcpus == 0 || self.memory_mib == 0 {
            return Err(HvError::Refused(
                "a machine needs at least one vCPU and some memory".to_owned(),
            ));
        }
        let mut xml = Xml::new();
        xml.open(
            "domain",
            &[
                ("type", self.domain_type()),
                ("xmlns:qemu", "http://libvirt.org/schemas/domain/qemu/1.0"),
            ],
        )?;
        self.write_identity(&mut xml)?;
        self.write_hardware(&mut xml)?;
        xml.open("devices", &[])?;
        self.write_devices(&mut xml)?;
        xml.close("devices");
        let arguments = qemu_args::build(self.memory, self.memory_mib, self.growth_mib)?;
        if !arguments.is_empty() {
            xml.open("qemu:commandline", &[])?;
            for argument in &arguments {
                xml.empty("qemu:arg", &[("value", argument)])?;
            }
            xml.close("qemu:commandline");
        }
        if self.skip_cpu_feature_check {
            xml.open("qemu:capabilities", &[])?;
            xml.empty("qemu:del", &[("capability", "cpu-unavailable-features")])?;
            xml.close("qemu:capabilities");
        }
        xml.close("domain");
        xml.finish()
    }

    pub fn limits_network(&self) -> bool {
        self.nic.is_some() && self.network_kbytes_per_s.is_some()
    }

    /// QEMU refuses to write the state of a CPU with features that cannot be moved (an invariant clock).
    fn migratable(&self) -> &'static str {
        match self.memory {
            Memory::Own => "off",
            Memory::Template(_) | Memory::Fork(_) => "on",
        }
    }

    fn domain_type(&self) -> &'static str {
        match self.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "qemu",
        }
    }

    fn write_identity(&self, xml: &mut Xml) -> Result<(), HvError> {
        let Tag {
            deployment,
            owner,
            serial,
            generation,
        } = self.tag;
        let (deployment, serial, generation) = (
            deployment.to_string(),
            serial.to_string(),
            generation.to_string(),
        );
        let (title, owned): (_, Vec<(&str, String)>) = match owner {
            Owner::Stage { run, stage } => (
                format!("run {run}, stage {stage}, machine {serial}"),
                vec![("run", run.to_string()), ("stage", stage.clone())],
            ),
            Owner::Shell { shell } => (
                format!("shell {serial} of image {shell}"),
                vec![("shell", shell.clone())],
            ),
            Owner::Template { template } => (
                format!("template of image {template}, generation {generation}"),
                vec![("template", template.clone())],
            ),
        };
        xml.text("name", &[], self.name)?;
        xml.text("uuid", &[], &self.id.to_string())?;
        // A fresh generation id per machine: two machines with the same one drew the same "random" UUID.
        xml.empty("genid", &[])?;
        xml.text("title", &[], &format!("Greenroom: {title}"))?;
        xml.text(
            "description",
            &[],
            "Made and removed by Greenroom; changes are lost.",
        )?;
        xml.open("metadata", &[])?;
        let mut attributes = vec![
            ("xmlns:greenroom", TAG_NAMESPACE),
            ("deployment", &deployment),
        ];
        attributes.extend(owned.iter().map(|(name, value)| (*name, value.as_str())));
        attributes.extend([("serial", serial.as_str()), ("generation", &generation)]);
        xml.empty("greenroom:machine", &attributes)?;
        xml.close("metadata");
        Ok(())
    }

    fn write_hardware(&self, xml: &mut Xml) -> Result<(), HvError> {
        xml.text("memory", &[("unit", "MiB")], &self.memory_mib.to_string())?;
        xml.text("vcpu", &[("placement", "static")], &self.vcpus.to_string())?;
        xml.open("os", &[])?;
        xml.text("type", &[("arch", "x86_64"), ("machine", "q35")], "hvm")?;
        xml.text("kernel", &[], text_of(self.kernel)?)?;
        if let Some(initrd) = self.initrd {
            xml.text("initrd", &[], text_of(initrd)?)?;
        }
        xml.text("cmdline", &[], &self.full_cmdline())?;
        xml.close("os");
        xml.open("features", &[])?;
        xml.empty("acpi", &[])?;
        xml.empty("apic", &[])?;
        xml.close("features");
        match self.accelerator {
            Accelerator::Kvm => xml.empty(
                "cpu",
                &[
                    ("mode", "host-passthrough"),
                    ("migratable", self.migratable()),
                ],
            )?,
            Accelerator::Tcg => xml.empty("cpu", &[("mode", "maximum")])?,
        }
        xml.empty("clock", &[("offset", "utc")])?;
        // A stage's machine never comes back: whatever ends it, ends it for good.
        for event in ["on_poweroff", "on_reboot", "on_crash"] {
            xml.text(event, &[], "destroy")?;
        }
        Ok(())
    }

    fn write_devices(&self, xml: &mut Xml) -> Result<(), HvError> {
        if let Some(path) = self.root_disk {
            xml.open("disk", &[("type", "file"), ("device", "disk")])?;
            xml.empty(
                "driver",
                &[("name", "qemu"), ("type", "qcow2"), ("discard", "unmap")],
            )?;
            xml.empty("source", &[("file", text_of(path)?)])?;
            xml.empty("target", &[("dev", "vda"), ("bus", "virtio")])?;
            if let Some(iops) = self.disk_iops {
                xml.open("iotune", &[])?;
                xml.text("total_iops_sec", &[], &iops.to_string())?;
                xml.close("iotune");
            }
            xml.close("disk");
        }
        xml.empty("controller", &[("type", "pci"), ("model", "pcie-root")])?;
        for _ in 0..OCCUPIED_PORTS + SPARE_PORTS {
            xml.empty(
                "controller",
                &[("type", "pci"), ("model", "pcie-root-port")],
            )?;
        }
        xml.empty("controller", &[("type", "usb"), ("model", "none")])?;
        xml.open("channel", &[("type", "unix")])?;
        xml.empty(
            "target",
            &[("type", "virtio"), ("name", "org.qemu.guest_agent.0")],
        )?;
        xml.close("channel");
        // The bell: what the guest writes here is not read, only counted.
        let bell = consoles::bell_of(self.console);
        xml.open("channel", &[("type", "file")])?;
        xml.empty("source", &[("path", text_of(&bell)?)])?;
        xml.empty("target", &[("type", "virtio"), ("name", BELL)])?;
        xml.close("channel");
        if let Some(socket) = consoles::runner_of(self.console) {
            xml.open("channel", &[("type", "unix")])?;
            xml.empty("source", &[("mode", "bind"), ("path", text_of(&socket)?)])?;
            xml.empty("target", &[("type", "virtio"), ("name", RUNNER)])?;
            xml.close("channel");
        }
        xml.open("serial", &[("type", "file")])?;
        xml.empty(
            "source",
            &[("path", text_of(self.console)?), ("append", "off")],
        )?;
        xml.empty("target", &[("port", "0")])?;
        xml.close("serial");
        if let Some(nic) = self.nic {
            write_nic(xml, nic, self.network_kbytes_per_s)?;
        }
        xml.open("rng", &[("model", "virtio")])?;
        xml.text("backend", &[("model", "random")], "/dev/urandom")?;
        xml.close("rng");
        // Machines are sized before they are made; a balloon would be one more driver to wait for.
        xml.empty("memballoon", &[("model", "none")])
    }

    /// The last console of the line becomes `/dev/console`. A machine whose memory can grow beyond 4 GiB
    /// of addresses gets 64 MiB of bounce buffers from Linux, for devices that ours are not: of 256 MiB,
    /// 211 were usable without growth and 147 with it (Linux 6.12). 512 slabs of 2 KiB are the least.
    fn full_cmdline(&self) -> String {
        let mut line = self.cmdline.trim_matches(' ').to_owned();
        let has = |line: &str, fits: fn(&str) -> bool| line.split(' ').any(fits);
        if self.growth_mib > 0 && !has(&line, |word| word.starts_with("swiotlb=")) {
            line.push_str(" swiotlb=512");
        }
        if !has(&line, |word| word == "console=ttyS0") {
            line.push_str(" console=ttyS0");
        }
        line.trim_start_matches(' ').to_owned()
    }
}

/// A raw disk for `virDomainAttachDeviceFlags`, as the guest's `target` (such as `vdb`).
pub fn disk_xml(disk: &AttachedDisk, target: &str) -> Result<String, HvError> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if disk.serial.is_empty()
        || disk.serial.len() > LONGEST_SERIAL
        || !disk.serial.chars().all(good)
    {
        return Err(HvError::Refused(format!(
            "{:?} is no disk serial: 1 to {LONGEST_SERIAL} letters, digits and \"-\"",
            disk.serial
        )));
    }
    let mut xml = Xml::new();
    xml.open("disk", &[("type", "file"), ("device", "disk")])?;
    xml.empty(
        "driver",
        &[
            ("name", "qemu"),
            ("type", "raw"),
            ("cache", "writeback"),
            ("discard", "unmap"),
        ],
    )?;
    xml.empty("source", &[("file", text_of(&disk.path)?)])?;
    xml.empty("target", &[("dev", target), ("bus", "virtio")])?;
    xml.text("serial", &[], &disk.serial)?;
    xml.close("disk");
    xml.finish()
}

/// A network card for `virDomainAttachDeviceFlags`.
pub fn nic_xml(nic: &Nic) -> Result<String, HvError> {
    let mut xml = Xml::new();
    write_nic(&mut xml, nic, None)?;
    xml.finish()
}

fn write_nic(xml: &mut Xml, nic: &Nic, kbytes_per_s: Option<u64>) -> Result<(), HvError> {
    if !is_unicast_mac(&nic.mac) {
        return Err(HvError::Refused(format!(
            "{:?} is not a MAC address of a single card",
            nic.mac
        )));
    }
    xml.open("interface", &[("type", "network")])?;
    xml.empty("mac", &[("address", &nic.mac)])?;
    xml.empty("source", &[("network", &nic.network)])?;
    xml.empty("model", &[("type", "virtio")])?;
    if let Some(rate) = kbytes_per_s {
        // libvirt's "kilobytes" go to tc(8) as `kbps`, which are 1000 bytes a second each: our unit.
        let rate = rate.max(1).to_string();
        xml.open("bandwidth", &[])?;
        xml.empty("inbound", &[("average", &rate)])?;
        xml.empty("outbound", &[("average", &rate)])?;
        xml.close("bandwidth");
    }
    xml.close("interface");
    Ok(())
}

fn text_of(path: &Path) -> Result<&str, HvError> {
    path.to_str()
        .ok_or_else(|| HvError::Refused(format!("{}: the path is not UTF-8", path.display())))
}

fn is_unicast_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let bytes: Option<Vec<u8>> = parts
        .iter()
        .map(|part| {
            if part.len() == 2 {
                u8::from_str_radix(part, 16).ok()
            } else {
                None
            }
        })
        .collect();
    parts.len() == 6
        && bytes.is_some_and(|bytes| bytes[0] & 1 == 0 && bytes.iter().any(|byte| *byte != 0))
}

/// The writer. It cannot fail on its own: it writes into memory.
struct Xml(Writer<Vec<u8>>);

impl Xml {
    fn new() -> Self {
        Self(Writer::new_with_indent(Vec::new(), b' ', 2))
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) -> Result<(), HvError> {
        let element = element(name, attributes)?;
        self.write(Event::Start(element));
        Ok(())
    }

    fn close(&mut self, name: &str) {
        self.write(Event::End(BytesEnd::new(name)));
    }

    fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) -> Result<(), HvError> {
        let element = element(name, attributes)?;
        self.write(Event::Empty(element));
        Ok(())
    }

    fn text(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) -> Result<(), HvError> {
        refuse_control_characters(name, text)?;
        self.open(name, attributes)?;
        self.write(Event::Text(BytesText::new(text)));
        self.close(name);
        Ok(())
    }

    fn write(&mut self, event: Event) {
        self.0.write_event(event).expect("writing into memory");
    }

    fn finish(self) -> Result<String, HvError> {
        String::from_utf8(self.0.into_inner()).map_err(|error| HvError::Refused(error.to_string()))
    }
}

fn element<'a>(name: &'a str, attributes: &[(&str, &str)]) -> Result<BytesStart<'a>, HvError> {
    let mut element = BytesStart::new(name);
    for (key, value) in attributes {
        refuse_control_characters(key, value)?;
        element.push_attribute((*key, *value));
    }
    Ok(element)
}

/// Also refuses the two code points that XML 1.0 leaves out beyond the control characters.
fn refuse_control_characters(what: &str, text: &str) -> Result<(), HvError> {
    match text
        .chars()
        .find(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    {
        Some(bad) => Err(HvError::Refused(format!(
            "{what}: the character {bad:?} is not allowed in {text:?}"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "domain_xml_tests.rs"]
mod tests;
