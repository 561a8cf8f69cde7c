//! What a domain's live XML says about it. libvirt wrote it, but guests and other programs had a say
//! in its contents, so that nothing in it is taken on trust: what is not well-formed is not there.

use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

use super::domain_xml::TAG_NAMESPACE;
use crate::hypervisor::HvError;
use crate::vocab::RunId;
use crate::vocab::machine::{Owner, Tag};

/// The facts about a domain that we act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainFacts {
    pub tag: Option<Tag>,
    pub disks: Vec<SeenDisk>,
    pub nics: Vec<SeenNic>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenNic {
    pub mac: String,
    /// libvirt network; none for other kinds of card.
    pub network: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenDisk {
    /// File that backs it; none for other kinds of source.
    pub path: Option<PathBuf>,
    /// Name within the domain, such as `vdb`.
    pub target: String,
    pub format: String,
    pub serial: Option<String>,
}

impl DomainFacts {
    /// Raw disks with a serial, which is how ours are attached.
    pub fn attached(&self) -> Vec<PathBuf> {
        self.disks
            .iter()
            .filter(|disk| disk.format == "raw" && disk.serial.is_some())
            .filter_map(|disk| disk.path.clone())
            .collect()
    }

    pub fn disk_at(&self, path: &Path) -> Option<&SeenDisk> {
        self.disks
            .iter()
            .find(|disk| disk.path.as_deref() == Some(path))
    }

    /// The first of `vdb`, `vdc`, … `vdz` that is free.
    pub fn free_target(&self) -> Option<String> {
        ('b'..='z')
            .map(|letter| format!("vd{letter}"))
            .find(|name| self.disks.iter().all(|disk| disk.target != *name))
    }
}

pub fn read(xml: &str) -> Result<DomainFacts, HvError> {
    let document = Document::parse(xml)
        .map_err(|error| HvError::Host(format!("libvirt's domain XML: {error}")))?;
    let domain = document.root_element();
    let tag = child(domain, "metadata").and_then(|metadata| {
        metadata
            .children()
            .find(|node| node.has_tag_name((TAG_NAMESPACE, "machine")))
            .and_then(read_tag)
    });
    let devices = child(domain, "devices");
    let all = |name| {
        devices
            .iter()
            .flat_map(|devices| devices.children())
            .filter(move |node| node.has_tag_name(name))
    };
    Ok(DomainFacts {
        tag,
        disks: all("disk").map(read_disk).collect(),
        nics: all("interface").map(read_nic).collect(),
    })
}

/// Our element alone, as libvirt hands out a part of a domain's metadata: without its namespace. None
/// where it does not read as a tag of ours.
pub fn read_tag_alone(xml: &str) -> Option<Tag> {
    let document = Document::parse(xml).ok()?;
    let machine = document.root_element();
    (machine.tag_name().name() == "machine")
        .then(|| read_tag(machine))
        .flatten()
}

fn read_nic(node: Node) -> SeenNic {
    let attribute = |element, name| child(node, element).and_then(|found| found.attribute(name));
    SeenNic {
        mac: attribute("mac", "address")
            .unwrap_or_default()
            .to_lowercase(),
        network: attribute("source", "network").map(str::to_owned),
    }
}

fn read_tag(node: Node) -> Option<Tag> {
    let get = |name| node.attribute(name);
    let named = |name| get(name).map(str::to_owned);
    let owner = match (get("run"), get("shell"), get("template")) {
        (Some(run), None, None) => Owner::Stage {
            run: RunId(run.parse().ok()?),
            stage: named("stage")?,
        },
        (None, Some(_), None) => Owner::Shell {
            shell: named("shell")?,
        },
        (None, None, Some(_)) => Owner::Template {
            template: named("template")?,
        },
        _ => return None,
    };
    Some(Tag {
        deployment: get("deployment")?.parse().ok()?,
        owner,
        serial: get("serial")?.parse().ok()?,
        generation: get("generation")?.parse().ok()?,
    })
}

fn read_disk(node: Node) -> SeenDisk {
    let attribute = |element, name| child(node, element).and_then(|found| found.attribute(name));
    SeenDisk {
        path: attribute("source", "file").map(PathBuf::from),
        target: attribute("target", "dev").unwrap_or_default().to_owned(),
        format: attribute("driver", "type").unwrap_or_default().to_owned(),
        serial: child(node, "serial")
            .and_then(|serial| serial.text())
            .map(str::to_owned),
    }
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// The user and group that libvirt runs QEMU as, from its capabilities; none where it does not say.
pub fn read_qemu_user(capabilities: &str) -> Option<(u32, u32)> {
    let document = Document::parse(capabilities).ok()?;
    let models = document
        .descendants()
        .filter(|node| node.has_tag_name("secmodel"));
    let dac = models
        .into_iter()
        .find(|model| child(*model, "model").and_then(|name| name.text()) == Some("dac"))?;
    let (user, group) = child(dac, "baselabel")?.text()?.split_once(':')?;
    Some((
        user.trim_start_matches('+').parse().ok()?,
        group.trim_start_matches('+').parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(metadata: &str, devices: &str) -> DomainFacts {
        read(&format!("<domain type='qemu' id='3'><name>x</name><metadata>{metadata}</metadata><devices>{devices}</devices></domain>"))
            .unwrap()
    }

    #[test]
    fn a_tag_is_read_without_its_domain() {
        let tag = "<machine deployment='0192f0c1-0000-7000-8000-000000000001' shell='tiny' \
                   serial='2' generation='1'/>";
        assert_eq!(read_tag_alone(tag).unwrap().serial, 2);
        for other in ["<other/>", "<machine/>", "no XML"] {
            assert_eq!(read_tag_alone(other), None);
        }
    }

    #[test]
    fn a_tag_is_read_back_or_is_not_there() {
        let good = "<g:machine xmlns:g='https://greenroom.dev/domain/1' deployment='0193a3c0-0000-7000-8000-00000000d0d0' \
                    run='7' stage='a&amp;b' serial='2' generation='-1'/>";
        let tag = domain(good, "").tag.unwrap();
        assert_eq!(
            (tag.run(), tag.stage(), tag.serial, tag.generation),
            (Some(RunId(7)), Some("a&b"), 2, -1)
        );
        assert_eq!(
            domain(&good.replace("run='7'", "run='seven'"), "").tag,
            None
        );
        assert_eq!(domain(&good.replace("domain/1", "domain/2"), "").tag, None);
        assert_eq!(domain(&good.replace("serial='2'", ""), "").tag, None);
        assert_eq!(domain("", "").tag, None);
    }

    #[test]
    fn attached_disks_are_told_from_the_root_disk() {
        let facts = domain(
            "",
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/d/root.qcow2'/><target dev='vda'/></disk>
             <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/d/h.raw'/><target dev='vdb'/><serial>handoff</serial></disk>
             <disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/sdx'/><target dev='vdc'/></disk>",
        );
        assert_eq!(facts.attached(), [PathBuf::from("/d/h.raw")]);
        assert_eq!(facts.disk_at(Path::new("/d/h.raw")).unwrap().target, "vdb");
        assert_eq!(facts.free_target().as_deref(), Some("vdd"));
    }

    #[test]
    fn network_cards_are_known_by_their_address() {
        let facts = domain(
            "",
            "<interface type='network'><mac address='52:54:00:AA:00:01'/><source network='greenroom' bridge='virbr0'/></interface>",
        );
        let expected = SeenNic {
            mac: "52:54:00:aa:00:01".to_owned(),
            network: Some("greenroom".to_owned()),
        };
        assert_eq!(facts.nics, [expected]);
    }

    #[test]
    fn the_user_of_qemu_is_found_in_the_capabilities() {
        let capabilities = "<capabilities><host><secmodel><model>none</model></secmodel><secmodel><model>dac</model>\
            <baselabel type='kvm'>+64055:+109</baselabel><baselabel type='qemu'>+64055:+109</baselabel></secmodel></host></capabilities>";
        assert_eq!(read_qemu_user(capabilities), Some((64055, 109)));
        assert_eq!(read_qemu_user("<capabilities/>"), None);
    }
}
