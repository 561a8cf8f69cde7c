//! What QEMU is told beside libvirt: a template's memory in a file, a fork's on top of it, and memory
//! that can be added. libvirt's own XML has neither private read-only memory files nor memory devices
//! without NUMA, which cannot be combined with a file as main memory (QEMU 10: "'-machine
//! memory-backend' and '-numa memdev' properties are mutually exclusive").
//!
//! Built here, and checked again by [`super::args_audit`], which shares nothing with this but the
//! names of the objects. QEMU's documentation: `docs/system/vm-templating.rst`.

use std::path::Path;

use serde_json::json;

use crate::hypervisor::HvError;

/// Main memory of templates and forks. The name is part of the device state, so that both have it.
pub const MEMORY: &str = "greenroom-memory";
/// The device by which memory is added, and the memory behind it.
pub const GROWTH: &str = "greenroom-growth";
pub const GROWTH_MEMORY: &str = "greenroom-growth-memory";

/// Linux adds memory in blocks of 128 MiB (x86-64), and the device's own size is a multiple of that.
pub const GROWTH_STEP_MIB: u64 = 128;
/// What requests are rounded up to: the size of a huge page.
pub const GROWTH_BLOCK_MIB: u64 = 2;

/// Where the guest's memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory<'a> {
    /// The process's own, as libvirt makes it.
    Own,
    /// All of it in this file.
    Template(&'a Path),
    /// Read from this file; what is written is the process's own. Nothing runs until a device state
    /// is loaded.
    Fork(&'a Path),
}

/// The arguments, in order. `growth_mib` of 0 means that no memory can be added.
pub fn build(memory: Memory<'_>, memory_mib: u64, growth_mib: u64) -> Result<Vec<String>, HvError> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|&word| word.to_owned()));
    if growth_mib > 0 {
        if !growth_mib.is_multiple_of(GROWTH_STEP_MIB) {
            return Err(HvError::Refused(format!(
                "memory that can be added comes in steps of {GROWTH_STEP_MIB} MiB, not {growth_mib}"
            )));
        }
        let size = format!(
            "size={}k,slots=1,maxmem={}k",
            memory_mib << 10,
            (memory_mib + growth_mib) << 10
        );
        // Not reserved: it is the host's until the guest is given it.
        let backend = json!({
            "qom-type": "memory-backend-ram", "id": GROWTH_MEMORY, "size": growth_mib << 20, "reserve": false,
        });
        // At an address that libvirt gives to nothing else: its own devices start at 1 and at 0x1f.
        let device = json!({
            "driver": "virtio-mem-pci", "id": GROWTH, "memdev": GROWTH_MEMORY, "requested-size": 0,
            "block-size": GROWTH_BLOCK_MIB << 20, "bus": "pcie.0", "addr": "0x10",
        });
        add(&["-m", &size]);
        add(&["-object", &backend.to_string()]);
        add(&["-device", &device.to_string()]);
    }
    let file = match memory {
        Memory::Own => return Ok(arguments),
        Memory::Template(file) | Memory::Fork(file) => file.to_str().ok_or_else(|| {
            HvError::Refused(format!("{}: the path is not UTF-8", file.display()))
        })?,
    };
    let mut backend = json!({
        "qom-type": "memory-backend-file", "id": MEMORY, "mem-path": file, "size": memory_mib << 20,
    });
    let forks = matches!(memory, Memory::Fork(_));
    backend["share"] = json!(!forks);
    if forks {
        backend["readonly"] = json!(true);
        backend["rom"] = json!("off");
    }
    add(&["-object", &backend.to_string()]);
    add(&["-machine", &format!("memory-backend={MEMORY}")]);
    if forks {
        add(&["-incoming", "defer"]);
    }
    Ok(arguments)
}

/// The smallest growth that libvirt and QEMU can be asked for and that holds `mib`.
pub fn round_growth(mib: u64) -> u64 {
    mib.next_multiple_of(GROWTH_STEP_MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_reads_its_templates_memory_and_nothing_else() {
        let file = Path::new("/t/1/memory");
        let arguments = build(Memory::Fork(file), 256, 128).unwrap();
        insta::assert_snapshot!(arguments.join("\n"), @r#"
        -m
        size=262144k,slots=1,maxmem=393216k
        -object
        {"id":"greenroom-growth-memory","qom-type":"memory-backend-ram","reserve":false,"size":134217728}
        -device
        {"addr":"0x10","block-size":2097152,"bus":"pcie.0","driver":"virtio-mem-pci","id":"greenroom-growth","memdev":"greenroom-growth-memory","requested-size":0}
        -object
        {"id":"greenroom-memory","mem-path":"/t/1/memory","qom-type":"memory-backend-file","readonly":true,"rom":"off","share":false,"size":268435456}
        -machine
        memory-backend=greenroom-memory
        -incoming
        defer
        "#);
    }

    #[test]
    fn a_plain_machine_is_told_nothing() {
        assert_eq!(build(Memory::Own, 256, 0).unwrap(), [""; 0]);
        assert_eq!(build(Memory::Own, 256, 256).unwrap().len(), 6);
        build(Memory::Own, 256, 100).unwrap_err();
        assert_eq!(
            [round_growth(0), round_growth(1), round_growth(128)],
            [0, 128, 128]
        );
    }
}
