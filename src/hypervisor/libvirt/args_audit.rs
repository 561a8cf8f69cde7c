//! Checks again what QEMU is told beside libvirt: each argument has one exact shape, objects have
//! exactly the known properties, and files are a template's. Whatever else an argument could say
//! (another machine, a monitor, a file of the host) is refused because it has no shape here.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::qemu_args::{GROWTH, GROWTH_MEMORY, MEMORY};
use super::settings::{Folders, Place};
use crate::hypervisor::HvError;

/// What the arguments make of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    Plain,
    /// With the folder of the template.
    Template(PathBuf),
    Fork(PathBuf),
}

/// Passes with what the arguments amount to, or says which one does not belong there.
pub fn audit(arguments: &[&str], folders: &Folders) -> Result<Role, HvError> {
    let mut rest = arguments;
    let mut next = |option: &str| match rest {
        [name, value, after @ ..] if *name == option => {
            rest = after;
            Some(*value)
        }
        _ => None,
    };
    if let Some(size) = next("-m") {
        audit_size(size)?;
        let memory = object(next("-object"))?;
        exactly(
            &memory,
            &[("qom-type", "memory-backend-ram"), ("id", GROWTH_MEMORY)],
            &["size", "reserve"],
        )?;
        let device = object(next("-device"))?;
        exactly(
            &device,
            &[
                ("driver", "virtio-mem-pci"),
                ("id", GROWTH),
                ("memdev", GROWTH_MEMORY),
                ("bus", "pcie.0"),
                ("addr", "0x10"),
            ],
            &["requested-size", "block-size"],
        )?;
    }
    let role = match next("-object") {
        None => Role::Plain,
        Some(backend) => {
            let (role, machine) = (audit_backend(backend, folders)?, next("-machine"));
            if machine != Some(&format!("memory-backend={MEMORY}")) {
                return Err(fault(&format!("-machine {machine:?}")));
            }
            if matches!(role, Role::Fork(_)) {
                let incoming = next("-incoming");
                if incoming != Some("defer") {
                    return Err(fault(&format!("-incoming {incoming:?}")));
                }
            }
            role
        }
    };
    match rest.first() {
        None => Ok(role),
        Some(strange) => Err(fault(strange)),
    }
}

fn audit_size(text: &str) -> Result<(), HvError> {
    let numbers = text
        .strip_prefix("size=")
        .and_then(|rest| rest.strip_suffix('k'))
        .and_then(|rest| rest.split_once("k,slots=1,maxmem="));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match numbers {
        Some((size, most)) if digits(size) && digits(most) => Ok(()),
        _ => Err(fault(&format!("-m {text}"))),
    }
}

fn audit_backend(text: &str, folders: &Folders) -> Result<Role, HvError> {
    let backend = object(Some(text))?;
    let path = backend
        .get("mem-path")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let known = [
        ("qom-type", "memory-backend-file"),
        ("id", MEMORY),
        ("mem-path", path),
    ];
    let forks = backend.get("share") == Some(&Value::Bool(false));
    if forks {
        let known = [known.as_slice(), &[("rom", "off")]].concat();
        exactly(&backend, &known, &["size", "share", "readonly"])?;
        if backend["readonly"] != Value::Bool(true) {
            return Err(fault("a fork that may write its template's memory"));
        }
    } else {
        exactly(&backend, &known, &["size", "share"])?;
        if backend["share"] != Value::Bool(true) {
            return Err(fault(text));
        }
    }
    let path = Path::new(path);
    folders.check(Place::Template, path)?;
    match (path.file_name(), path.parent()) {
        (Some(name), Some(folder)) if name == "memory" => Ok(if forks {
            Role::Fork(folder.to_owned())
        } else {
            Role::Template(folder.to_owned())
        }),
        _ => Err(fault(text)),
    }
}

fn object(text: Option<&str>) -> Result<Map<String, Value>, HvError> {
    let text = text.ok_or_else(|| fault("an object that should follow is missing"))?;
    serde_json::from_str(text).map_err(|_| fault(text))
}

/// The object has `words` with just these values, the other names given with numbers or truth values,
/// and nothing more.
fn exactly(
    found: &Map<String, Value>,
    words: &[(&str, &str)],
    others: &[&str],
) -> Result<(), HvError> {
    let words_hold = words
        .iter()
        .all(|(name, value)| found.get(*name).and_then(Value::as_str) == Some(value));
    let others_hold = others.iter().all(|name| {
        found
            .get(*name)
            .is_some_and(|value| value.is_u64() || value.is_boolean())
    });
    if words_hold && others_hold && found.len() == words.len() + others.len() {
        Ok(())
    } else {
        Err(fault(&Value::Object(found.clone()).to_string()))
    }
}

fn fault(what: &str) -> HvError {
    HvError::Refused(format!(
        "the machine's arguments for QEMU failed their own check: {what}"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::qemu_args::{self, Memory};
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

    fn audited(arguments: &[String]) -> Result<Role, HvError> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        audit(&arguments, &folders())
    }

    #[test]
    fn what_is_built_passes() {
        let file = Path::new("/nowhere/templates/7/memory");
        let folder = file.parent().unwrap().to_owned();
        for growth_mib in [0, 1024] {
            let role =
                |memory| audited(&qemu_args::build(memory, 256, growth_mib).unwrap()).unwrap();
            assert_eq!(role(Memory::Own), Role::Plain);
            assert_eq!(role(Memory::Template(file)), Role::Template(folder.clone()));
            assert_eq!(role(Memory::Fork(file)), Role::Fork(folder.clone()));
        }
    }

    #[test]
    fn nothing_else_passes() {
        let file = Path::new("/nowhere/templates/7/memory");
        let good = qemu_args::build(Memory::Fork(file), 256, 128).unwrap();
        // Each argument changed, left out, or followed by something more.
        for index in 0..good.len() {
            let mut changed = good.clone();
            changed[index].insert(0, ' ');
            changed[index].push('x');
            audited(&changed).unwrap_err();
            let mut shorter = good.clone();
            shorter.remove(index);
            audited(&shorter).unwrap_err();
            let mut longer = good.clone();
            longer.insert(index, "-S".to_owned());
            audited(&longer).unwrap_err();
        }
        for (from, to) in [
            ("\"readonly\":true", "\"readonly\":false"),
            ("\"share\":false", "\"share\":true"),
            ("/nowhere/templates/7/memory", "/etc/shadow"),
            (
                "/nowhere/templates/7/memory",
                "/nowhere/templates/7/disk.qcow2",
            ),
            ("\"rom\":\"off\"", "\"rom\":\"off\",\"prealloc\":true"),
        ] {
            let changed: Vec<String> = good.iter().map(|word| word.replace(from, to)).collect();
            assert_ne!(changed, good, "{from}");
            audited(&changed).unwrap_err();
        }
        audited(&["-monitor".to_owned(), "stdio".to_owned()]).unwrap_err();
    }
}
