//! What the XML looks like, and that no string can change its shape.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::vocab::{Deployment, RunId};

fn tag() -> Tag {
    Tag {
        deployment: Deployment("0193a3c0-0000-7000-8000-00000000d0d0".parse().unwrap()),
        owner: Owner::Stage {
            run: RunId(7),
            stage: "discover".to_owned(),
        },
        serial: 2,
        generation: 3,
    }
}

fn plan<'a>(tag: &'a Tag, nic: Option<&'a Nic>) -> DomainPlan<'a> {
    DomainPlan {
        id: "0193a3c0-0000-7000-8000-000000000001".parse().unwrap(),
        name: "gr-7-discover-2",
        tag,
        accelerator: Accelerator::Tcg,
        vcpus: 2,
        memory_mib: 512,
        memory: Memory::Own,
        growth_mib: 0,
        kernel: Path::new("/images/tiny/kernel"),
        initrd: Some(Path::new("/images/tiny/initrd")),
        cmdline: "root=/dev/vda quiet",
        root_disk: Some(Path::new("/disks/root.qcow2")),
        disk_iops: None,
        nic,
        network_kbytes_per_s: Some(2000),
        console: Path::new("/consoles/1.log"),
        skip_cpu_feature_check: true,
    }
}

#[test]
fn a_machine_with_everything() {
    let tag = tag();
    let nic = Nic {
        network: "greenroom".to_owned(),
        mac: "52:54:00:12:34:56".to_owned(),
    };
    let plan = DomainPlan {
        disk_iops: Some(500),
        ..plan(&tag, Some(&nic))
    };
    insta::assert_snapshot!(plan.to_xml().unwrap(), @r#"
    <domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
      <name>gr-7-discover-2</name>
      <uuid>0193a3c0-0000-7000-8000-000000000001</uuid>
      <genid/>
      <title>Greenroom: run 7, stage discover, machine 2</title>
      <description>Made and removed by Greenroom; changes are lost.</description>
      <metadata>
        <greenroom:machine xmlns:greenroom="https://greenroom.dev/domain/1" deployment="0193a3c0-0000-7000-8000-00000000d0d0" run="7" stage="discover" serial="2" generation="3"/>
      </metadata>
      <memory unit="MiB">512</memory>
      <vcpu placement="static">2</vcpu>
      <os>
        <type arch="x86_64" machine="q35">hvm</type>
        <kernel>/images/tiny/kernel</kernel>
        <initrd>/images/tiny/initrd</initrd>
        <cmdline>root=/dev/vda quiet console=ttyS0</cmdline>
      </os>
      <features>
        <acpi/>
        <apic/>
      </features>
      <cpu mode="maximum"/>
      <clock offset="utc"/>
      <on_poweroff>destroy</on_poweroff>
      <on_reboot>destroy</on_reboot>
      <on_crash>destroy</on_crash>
      <devices>
        <disk type="file" device="disk">
          <driver name="qemu" type="qcow2" discard="unmap"/>
          <source file="/disks/root.qcow2"/>
          <target dev="vda" bus="virtio"/>
          <iotune>
            <total_iops_sec>500</total_iops_sec>
          </iotune>
        </disk>
        <controller type="pci" model="pcie-root"/>
        <controller type="pci" model="pcie-root-port"/>
        <controller type="pci" model="pcie-root-port"/>
        <controller type="pci" model="pcie-root-port"/>
        <controller type="pci" model="pcie-root-port"/>
        <controller type="pci" model="pcie-root-port"/>
        <controller type="pci" model="pcie-root-port"/>
        <controller type="pci" model="pcie-root-port"/>
        <controller type="pci" model="pcie-root-port"/>
        <controller type="pci" model="pcie-root-port"/>
        <controller type="pci" model="pcie-root-port"/>
        <controller type="usb" model="none"/>
        <channel type="unix">
          <target type="virtio" name="org.qemu.guest_agent.0"/>
        </channel>
        <channel type="file">
          <source path="/consoles/1.bell"/>
          <target type="virtio" name="dev.greenroom.bell"/>
        </channel>
        <channel type="unix">
          <source mode="bind" path="/consoles/1.run"/>
          <target type="virtio" name="dev.greenroom.runner"/>
        </channel>
        <serial type="file">
          <source path="/consoles/1.log" append="off"/>
          <target port="0"/>
        </serial>
        <interface type="network">
          <mac address="52:54:00:12:34:56"/>
          <source network="greenroom"/>
          <model type="virtio"/>
          <bandwidth>
            <inbound average="2000"/>
            <outbound average="2000"/>
          </bandwidth>
        </interface>
        <rng model="virtio">
          <backend model="random">/dev/urandom</backend>
        </rng>
        <memballoon model="none"/>
      </devices>
      <qemu:capabilities>
        <qemu:del capability="cpu-unavailable-features"/>
      </qemu:capabilities>
    </domain>
    "#);
}

#[test]
fn a_fork_boots_nothing_and_waits() {
    let tag = tag();
    let memory = Path::new("/templates/7/memory");
    let plan = DomainPlan {
        memory: Memory::Fork(memory),
        growth_mib: 512,
        kernel: Path::new("/templates/7/kernel-head"),
        initrd: None,
        ..plan(&tag, None)
    };
    let xml = plan.to_xml().unwrap();
    let (_, told) = xml.split_once("<qemu:commandline>").unwrap();
    let (told, _) = told.split_once("</qemu:commandline>").unwrap();
    let told = told.replace("&quot;", "'");
    insta::assert_snapshot!(told.trim(), @r#"
    <qemu:arg value="-m"/>
        <qemu:arg value="size=524288k,slots=1,maxmem=1048576k"/>
        <qemu:arg value="-object"/>
        <qemu:arg value="{'id':'greenroom-growth-memory','qom-type':'memory-backend-ram','reserve':false,'size':536870912}"/>
        <qemu:arg value="-device"/>
        <qemu:arg value="{'addr':'0x10','block-size':2097152,'bus':'pcie.0','driver':'virtio-mem-pci','id':'greenroom-growth','memdev':'greenroom-growth-memory','requested-size':0}"/>
        <qemu:arg value="-object"/>
        <qemu:arg value="{'id':'greenroom-memory','mem-path':'/templates/7/memory','qom-type':'memory-backend-file','readonly':true,'rom':'off','share':false,'size':536870912}"/>
        <qemu:arg value="-machine"/>
        <qemu:arg value="memory-backend=greenroom-memory"/>
        <qemu:arg value="-incoming"/>
        <qemu:arg value="defer"/>
    "#);
    assert!(!xml.contains("<initrd>"), "{xml}");
}

/// libvirt's own schema, with the tool that comes with libvirt's clients.
#[test]
fn the_schema_of_libvirt_accepts_it() {
    let tag = tag();
    let nic = Nic {
        network: "greenroom".to_owned(),
        mac: "52:54:00:12:34:56".to_owned(),
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    for accelerator in [Accelerator::Tcg, Accelerator::Kvm] {
        let plan = DomainPlan {
            accelerator,
            disk_iops: Some(500),
            memory: Memory::Fork(Path::new("/templates/7/memory")),
            growth_mib: 512,
            ..plan(&tag, Some(&nic))
        };
        std::fs::write(file.path(), plan.to_xml().unwrap()).unwrap();
        let Ok(output) = std::process::Command::new("virt-xml-validate")
            .arg(file.path())
            .arg("domain")
            .output()
        else {
            eprintln!("skipped: there is no virt-xml-validate");
            return;
        };
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn an_attached_disk() {
    let disk = AttachedDisk {
        path: PathBuf::from("/disks/handoff.raw"),
        serial: "handoff".to_owned(),
    };
    insta::assert_snapshot!(disk_xml(&disk, "vdb").unwrap(), @r#"
    <disk type="file" device="disk">
      <driver name="qemu" type="raw" cache="writeback" discard="unmap"/>
      <source file="/disks/handoff.raw"/>
      <target dev="vdb" bus="virtio"/>
      <serial>handoff</serial>
    </disk>
    "#);
}

#[test]
fn kvm_passes_the_hosts_cpu_on() {
    let tag = tag();
    let xml = DomainPlan {
        accelerator: Accelerator::Kvm,
        ..plan(&tag, None)
    }
    .to_xml()
    .unwrap();
    assert!(
        xml.contains(r#"<domain type="kvm""#) && xml.contains(r#"<cpu mode="host-passthrough""#),
        "{xml}"
    );
}

#[test]
fn the_cpu_of_a_template_can_be_written_down() {
    let tag = tag();
    let memory = Path::new("/templates/7/memory");
    for memory in [Memory::Template(memory), Memory::Fork(memory)] {
        let plan = DomainPlan {
            accelerator: Accelerator::Kvm,
            memory,
            ..plan(&tag, None)
        };
        assert!(plan.to_xml().unwrap().contains(r#"migratable="on""#));
    }
}

#[test]
fn the_console_is_added_once() {
    let tag = tag();
    let cmdline = |text| {
        DomainPlan {
            cmdline: text,
            ..plan(&tag, None)
        }
        .full_cmdline()
    };
    assert_eq!(cmdline("quiet"), "quiet console=ttyS0");
    assert_eq!(cmdline(""), "console=ttyS0");
    assert_eq!(cmdline("console=ttyS0 quiet"), "console=ttyS0 quiet");
    assert_eq!(cmdline("console=ttyS01"), "console=ttyS01 console=ttyS0");
    let growing = |text| {
        DomainPlan {
            cmdline: text,
            growth_mib: 128,
            ..plan(&tag, None)
        }
        .full_cmdline()
    };
    assert_eq!(growing("quiet"), "quiet swiotlb=512 console=ttyS0");
    assert_eq!(growing("swiotlb=1024"), "swiotlb=1024 console=ttyS0");
}

#[test]
fn what_cannot_be_said_is_refused() {
    let tag = tag();
    let error = DomainPlan {
        name: "a\nb",
        ..plan(&tag, None)
    }
    .to_xml()
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"name: the character '\n' is not allowed in "a\nb""#
    );
    let multicast = Nic {
        network: "n".to_owned(),
        mac: "01:00:5e:00:00:01".to_owned(),
    };
    plan(&tag, Some(&multicast)).to_xml().unwrap_err();
    for serial in ["", "a b", "<x/>", "a-serial-that-is-longer-than-twenty"] {
        disk_xml(
            &AttachedDisk {
                path: PathBuf::from("/d"),
                serial: serial.to_owned(),
            },
            "vdb",
        )
        .unwrap_err();
    }
}

/// Names of all elements and attributes, in order: what must not depend on any string.
fn shape(xml: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(xml).unwrap();
    document
        .descendants()
        .filter(roxmltree::Node::is_element)
        .map(|node| {
            let attributes: Vec<&str> = node
                .attributes()
                .map(|attribute| attribute.name())
                .collect();
            format!(
                "{} {attributes:?} {}",
                node.tag_name().name(),
                node.children().filter(|child| child.is_text()).count()
            )
        })
        .collect()
}

fn text_at<'a>(document: &'a roxmltree::Document, name: &str) -> &'a str {
    let node = document
        .descendants()
        .find(|node| node.has_tag_name(name))
        .unwrap();
    node.text().unwrap_or_default()
}

proptest! {
    #[test]
    fn any_string_stays_one_value(name in "[^\\p{Cc}\u{fffe}\u{ffff}]{1,40}", rest in "[^\\p{Cc}\u{fffe}\u{ffff}]{0,60}") {
        let owner = Owner::Stage { run: RunId(7), stage: name.clone() };
        let tag = Tag { owner, ..tag() };
        let path = format!("/{rest}/<&\"'>{name}");
        // Beyond this, the runner's socket is left out.
        let console = format!("/<&\"'>{}", name.chars().take(20).collect::<String>());
        let nic = Nic { network: name.clone(), mac: "52:54:00:12:34:56".to_owned() };
        let strange = DomainPlan {
            name: &name,
            cmdline: &path,
            kernel: Path::new(&path),
            root_disk: Some(Path::new(&path)),
            console: Path::new(&console),
            ..plan(&tag, Some(&nic))
        };
        let plain_tag = self::tag();
        let plain = plan(&plain_tag, Some(&nic)).to_xml().unwrap();
        let xml = strange.to_xml().unwrap();
        prop_assert_eq!(shape(&xml), shape(&plain));
        let document = roxmltree::Document::parse(&xml).unwrap();
        prop_assert_eq!(text_at(&document, "name"), &name);
        prop_assert_eq!(text_at(&document, "kernel"), &path);
        prop_assert_eq!(text_at(&document, "cmdline"), strange.full_cmdline());
        let source = document.descendants().find(|node| node.attribute("file").is_some()).unwrap();
        prop_assert_eq!(source.attribute("file").unwrap(), &path);
    }

    #[test]
    fn a_socket_with_too_long_a_path_is_left_out(length in 90..120usize) {
        let tag = tag();
        let console = format!("/{}.log", "x".repeat(length));
        let xml = DomainPlan { console: Path::new(&console), ..plan(&tag, None) }.to_xml().unwrap();
        prop_assert_eq!(xml.contains("dev.greenroom.runner"), console.len() < 108);
    }

    #[test]
    fn any_control_character_is_refused(before in "[a-z]{0,5}", bad in "[\\p{Cc}\u{fffe}\u{ffff}]", after in "[a-z]{0,5}") {
        let tag = tag();
        let text = format!("{before}{bad}{after}");
        let path = format!("/{text}");
        let refused = |plan: DomainPlan| plan.to_xml().is_err();
        let all = [
            DomainPlan { name: &text, ..plan(&tag, None) },
            DomainPlan { cmdline: &path, ..plan(&tag, None) },
            DomainPlan { root_disk: Some(Path::new(&path)), ..plan(&tag, None) },
        ];
        prop_assert!(all.into_iter().all(refused));
    }
}
