//! Domains through an open connection: find, list, create, destroy. Blocking functions,
//! called on the bridge's threads only.

use std::path::Path;
use std::time::{Duration, Instant};

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

use super::domain_xml::TAG_NAMESPACE;
use super::read_xml::{self, DomainFacts};
use super::{errors, ffi};
use crate::hypervisor::{HvError, Power, SeenMachine};
use crate::vocab::machine::Tag;
use crate::vocab::{Deployment, MachineId};

/// libvirt sends SIGTERM, then SIGKILL, and gives up after 40 s; this is for what comes after.
const GONE_PATIENCE: Duration = Duration::from_secs(30);

/// A domain and what its live XML says; none when the host has no such domain (any more).
pub fn find(connect: &Connect, id: MachineId) -> Result<Option<(Domain, DomainFacts)>, HvError> {
    let found = connect
        .lookup_domain_by_uuid(id.0)
        .and_then(|domain| Ok((domain.xml_desc(0)?, domain)));
    let Some((xml, domain)) = unless_gone(found)? else {
        return Ok(None);
    };
    Ok(Some((domain, read_xml::read(&xml)?)))
}

/// Like [`find`], for changes: the machine must be there and be ours.
pub fn find_ours(
    connect: &Connect,
    id: MachineId,
    deployment: Deployment,
) -> Result<Option<(Domain, DomainFacts)>, HvError> {
    let found = find(connect, id)?;
    match &found {
        Some((domain, facts)) if !is_ours(facts.tag.as_ref(), deployment) => {
            Err(not_ours(domain, facts.tag.as_ref()))
        }
        _ => Ok(found),
    }
}

/// The tag without the rest of the XML, which libvirt does not write while another call waits for the
/// machine's QEMU. None for a machine without one.
fn tag_of(domain: &Domain) -> Result<Option<Tag>, Error> {
    let kind = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
    match domain.metadata(kind, Some(TAG_NAMESPACE), 0) {
        Ok(xml) => Ok(read_xml::read_tag_alone(&xml)),
        Err(error) if errors::is_no_metadata(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_ours(tag: Option<&Tag>, deployment: Deployment) -> bool {
    tag.is_some_and(|tag| tag.deployment == deployment)
}

fn not_ours(domain: &Domain, tag: Option<&Tag>) -> HvError {
    let name = domain.name().unwrap_or_default();
    HvError::Refused(match tag {
        Some(tag) => format!(
            "the machine {name} belongs to another deployment of Greenroom ({})",
            tag.deployment
        ),
        None => format!("the machine {name} does not carry our tag; it is not touched"),
    })
}

/// One machine as it is now; none when it is gone.
pub fn see(connect: &Connect, id: MachineId) -> Result<Option<SeenMachine>, HvError> {
    match unless_gone(connect.lookup_domain_by_uuid(id.0))? {
        Some(domain) => see_domain(&domain),
        None => Ok(None),
    }
}

/// All machines, two round trips for each. One that vanishes meanwhile is absent; any other error
/// fails the whole listing, because an incomplete one would look like machines that are gone.
pub fn list(connect: &Connect) -> Result<Vec<SeenMachine>, HvError> {
    let domains = connect
        .list_all_domains(0)
        .map_err(|error| errors::of(&error))?;
    domains
        .iter()
        .filter_map(|domain| see_domain(domain).transpose())
        .collect()
}

/// The name of a machine that has `disk` as one of its own disks (not below one).
pub fn user_of(connect: &Connect, disk: &Path) -> Result<Option<String>, HvError> {
    let domains = connect.list_all_domains(0);
    for domain in domains.map_err(|error| errors::of(&error))? {
        let asked = domain.xml_desc(0).and_then(|xml| Ok((xml, domain.name()?)));
        if let Some((xml, name)) = unless_gone(asked)?
            && read_xml::read(&xml)?.disk_at(disk).is_some()
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn see_domain(domain: &Domain) -> Result<Option<SeenMachine>, HvError> {
    let asked = || {
        Ok((
            domain.uuid()?,
            domain.name()?,
            domain.xml_desc(0)?,
            ffi::state(domain)?,
        ))
    };
    let Some((uuid, name, xml, state)) = unless_gone(asked())? else {
        return Ok(None);
    };
    let facts = read_xml::read(&xml)?;
    Ok(Some(SeenMachine {
        id: MachineId(uuid),
        name,
        attached: facts.attached(),
        tag: facts.tag,
        power: power_of(state),
    }))
}

fn power_of(state: u32) -> Power {
    match state {
        sys::VIR_DOMAIN_PAUSED | sys::VIR_DOMAIN_PMSUSPENDED => Power::Paused,
        sys::VIR_DOMAIN_SHUTDOWN | sys::VIR_DOMAIN_SHUTOFF | sys::VIR_DOMAIN_CRASHED => Power::Off,
        // An unknown state is taken for one that occupies the host.
        _ => Power::Running,
    }
}

/// What a machine does first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    Running,
    /// Its process is there and executes nothing.
    Paused,
}

impl Begin {
    fn flags(self) -> u32 {
        match self {
            Self::Running => 0,
            Self::Paused => sys::VIR_DOMAIN_START_PAUSED,
        }
    }
}

/// Creates the domain, or finds that it is there with the same tag.
pub fn create(
    connect: &Connect,
    id: MachineId,
    tag: &Tag,
    xml: &str,
    begin: Begin,
) -> Result<(), HvError> {
    if is_there(connect, id, tag)? {
        return Ok(());
    }
    // Not START_VALIDATE: it costs about 45 ms of 170 (n=5), and the builder's output is compared with libvirt's
    // schema in its own tests.
    let Err(error) = connect.create_domain_xml(xml, begin.flags()) else {
        return Ok(());
    };
    // An earlier life of the daemon may have asked for the same one a moment ago.
    if is_there(connect, id, tag)? {
        Ok(())
    } else {
        Err(errors::of(&error))
    }
}

pub fn is_there(connect: &Connect, id: MachineId, tag: &Tag) -> Result<bool, HvError> {
    match find(connect, id)? {
        None => Ok(false),
        Some((_, facts)) if facts.tag.as_ref() == Some(tag) => Ok(true),
        Some((domain, facts)) if facts.tag.is_none() => Err(not_ours(&domain, None)),
        Some(_) => Err(HvError::Refused(format!(
            "a machine {id} with another tag is there already"
        ))),
    }
}

/// Ends the domain and waits until libvirt has forgotten it, which is after its process was reaped.
/// Takes 0.22 s [0.21..0.24] (n=8): libvirt looks every 200 ms whether the process is gone. Asking QEMU
/// to `quit` before gains nothing (0.22 s, n=8): its monitor closes before its memory is freed, so that
/// libvirt, which then ends the process itself, finds it alive at its first look all the same.
pub fn destroy(connect: &Connect, id: MachineId, deployment: Deployment) -> Result<(), HvError> {
    // One whose QEMU stands still has to go, too: nothing here may wait for an answer of it.
    let found = connect
        .lookup_domain_by_uuid(id.0)
        .and_then(|domain| Ok((tag_of(&domain)?, domain)));
    let Some((tag, domain)) = unless_gone(found)? else {
        return Ok(());
    };
    if !is_ours(tag.as_ref(), deployment) {
        return Err(not_ours(&domain, tag.as_ref()));
    }
    match domain.destroy_flags(0) {
        Err(error) if !errors::is_no_domain(&error) && !errors::is_not_running(&error) => {
            return Err(errors::of(&error));
        }
        _ => {}
    }
    let began = Instant::now();
    while unless_gone(connect.lookup_domain_by_uuid(id.0))?.is_some() {
        if began.elapsed() > GONE_PATIENCE {
            return Err(HvError::Host(format!(
                "the machine {id} is still listed {GONE_PATIENCE:?} after it was destroyed"
            )));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

pub fn unless_gone<T>(result: Result<T, Error>) -> Result<Option<T>, HvError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if errors::is_no_domain(&error) => Ok(None),
        Err(error) => Err(errors::of(&error)),
    }
}
