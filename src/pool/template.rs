//! Making a template: boot, settle, warm, capture, seal. Taking it away.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Phases, patiently};
use super::identity::words;
use super::key::Key;
use crate::fault::Window;
use crate::hypervisor::guest::Job;
use crate::hypervisor::{DiskOrder, HvError, MachineSpec, Start};
use crate::vocab::image::Image;
use crate::vocab::machine::{Owner, Size, Tag};
use crate::vocab::pool::{Class, Seal, SealedFile, ShellState, Template, TemplateState};
use crate::vocab::{Digest, MachineId};

/// One warm-up command under emulation: `ansible localhost -m ping` takes 12 s when nothing is warm.
const WARM_UP_DEADLINE: Duration = Duration::from_secs(300);

/// For short commands of our own.
const SHORT: Duration = Duration::from_secs(60);

/// A guest without systemd says nothing when it has settled; its agent is the last thing it starts.
const SETTLE: Duration = Duration::from_millis(300);

/// What must not be the same in every fork, in no more shell than any guest has. Keys are emptied, not
/// removed, so that the fork knows that there were some.
const CLEAN: &str = "\
if [ -e /etc/machine-id ]; then : > /etc/machine-id; fi
rm -f /var/lib/systemd/random-seed /var/lib/urandom/random-seed
rm -f /var/lib/dhcp/dhclient.leases /var/lib/systemd/credential.secret
if [ -e /etc/ssh/ssh_host_ed25519_key ]; then : > /etc/ssh/ssh_host_ed25519_key; fi
if [ -e /etc/ssh/ssh_host_ed25519_key.pub ]; then : > /etc/ssh/ssh_host_ed25519_key.pub; fi
if [ -e /etc/ssh/ssh_host_ecdsa_key ]; then : > /etc/ssh/ssh_host_ecdsa_key; fi
if [ -e /etc/ssh/ssh_host_rsa_key ]; then : > /etc/ssh/ssh_host_rsa_key; fi
rm -f /etc/ssh/ssh_host_ecdsa_key.pub /etc/ssh/ssh_host_rsa_key.pub
sync
";

/// The row of a new template.
pub fn row(core: &Core, class: &Class, key: &Key, generation: i64) -> Template {
    Template {
        id: MachineId::fresh(),
        class: class.clone(),
        generation,
        state: TemplateState::Building,
        key: key.digest,
        inputs: key.inputs.clone(),
        seal: None,
        reason: None,
        made_at: core.now(),
        ready_at: None,
        phases: Vec::new(),
    }
}

/// Builds the template whose row is there, up to `Ready`. An error is in words; the row is then failed
/// by the caller, and its machine and files are taken away by [`remove`].
pub async fn build(
    core: &Arc<Core>,
    template: &Template,
    image: &Image,
    before_capture: Option<&Job>,
) -> Result<(), String> {
    if let Some(why) = image.unfit_for_stages() {
        return Err(why);
    }
    let mut phases = Phases::begin();
    core.point("template_build", Window::Before).await;
    boot(core, template, image, &mut phases).await?;
    prepare(core, template.id, image, before_capture, &mut phases).await?;
    core.point("template_build", Window::After).await;
    stored(core, template.id, &phases).await;
    core.point("template_build", Window::Stored).await;

    core.point("template_capture", Window::Before).await;
    let files = core.files_of(template.id);
    patiently(|| core.hypervisor().capture(template.id, &files))
        .await
        .map_err(|error| format!("capturing it: {error}"))?;
    phases.end("capture");
    patiently(|| core.hypervisor().destroy_machine(template.id))
        .await
        .map_err(|error| format!("ending its machine: {error}"))?;
    phases.end("destroy");
    core.point("template_capture", Window::After).await;
    stored(core, template.id, &phases).await;
    core.point("template_capture", Window::Stored).await;

    core.point("template_seal", Window::Before).await;
    let seal = patiently(|| core.hypervisor().seal_template(&files))
        .await
        .map_err(|error| format!("sealing its files: {error}"))?;
    phases.end("seal");
    check(core, template.id, &seal, false)
        .await
        .map_err(|error| format!("right after it was sealed: {}", error.words()))?;
    phases.end("verify");
    core.point("template_seal", Window::After).await;
    let now = core.now();
    core.ledger
        .change(|draft| {
            draft.template(template.id, |template| {
                template.state = TemplateState::Ready;
                template.ready_at = Some(now);
                template.seal = Some(seal);
                template.phases = phases.done;
            });
        })
        .await;
    core.point("template_seal", Window::Stored).await;
    Ok(())
}

async fn stored(core: &Arc<Core>, id: MachineId, phases: &Phases) {
    let done = phases.done.clone();
    core.ledger
        .change(|draft| draft.template(id, |template| template.phases = done))
        .await;
}

async fn boot(
    core: &Core,
    template: &Template,
    image: &Image,
    phases: &mut Phases,
) -> Result<(), String> {
    let files = core.files_of(template.id);
    let disk = DiskOrder::Overlay {
        path: files.disk(),
        base: image.disk.path.clone(),
        size_mib: image.disk_mib,
    };
    patiently(|| core.hypervisor().make_disk(&disk))
        .await
        .map_err(|error| format!("making its disk: {error}"))?;
    phases.end("disk");
    let digits = template.id.0.simple().to_string();
    let spec = MachineSpec {
        id: template.id,
        name: format!(
            "gr-template-{}-{}-{}",
            image.name,
            &digits[digits.len() - 6..],
            core.services.deployment.short()
        ),
        tag: Tag {
            deployment: core.services.deployment,
            owner: Owner::Template {
                template: image.name.clone(),
            },
            serial: u32::try_from(template.generation).unwrap_or(u32::MAX),
            generation: template.generation,
        },
        size: size_of(&template.class, image),
        kernel: image.kernel.path.clone(),
        initrd: image.initrd.path.clone(),
        cmdline: image.cmdline.clone(),
        root_disk: files.disk(),
        // A card would have one address in every fork.
        nic: None,
        start: Start::Template { files },
        growth_mib: core.services.settings.growth_mib,
    };
    patiently(|| core.hypervisor().start_machine(&spec))
        .await
        .map_err(|error| format!("starting its machine: {error}"))?;
    phases.end("create");
    core.guest(template.id)
        .wait_until_up(core.services.settings.boot_deadline)
        .await
        .map_err(|error| format!("waiting for its guest: {error}"))?;
    phases.end("boot");
    Ok(())
}

async fn prepare(
    core: &Core,
    machine: MachineId,
    image: &Image,
    before_capture: Option<&Job>,
    phases: &mut Phases,
) -> Result<(), String> {
    let guest = core.guest(machine);
    let settled = guest
        .run(
            &["sh", "-c", "systemctl is-system-running --wait"],
            b"",
            core.services.settings.boot_deadline,
        )
        .await
        .map_err(|error| format!("waiting until its guest has settled: {error}"))?;
    // 127: there is no systemd to ask.
    if settled.exit_code == 127 {
        tokio::time::sleep(SETTLE).await;
    }
    phases.end("settle");
    warm_up(core, machine, image).await?;
    phases.end("warm_up");
    if let Some(job) = before_capture {
        guest
            .start_job(job)
            .await
            .map_err(|error| format!("starting what is to go on in its forks: {error}"))?;
        tokio::time::sleep(SETTLE).await;
    }
    let cleaned = guest
        .run(&["sh", "-c", CLEAN], b"", SHORT)
        .await
        .map_err(|error| format!("cleaning its guest: {error}"))?;
    if cleaned.exit_code != 0 {
        let said = String::from_utf8_lossy(&cleaned.err);
        return Err(format!("cleaning its guest: {}", words(&said)));
    }
    phases.end("clean");
    Ok(())
}

/// Runs the image's warm-up commands; one that fails fails the whole, with its words.
pub async fn warm_up(core: &Core, machine: MachineId, image: &Image) -> Result<(), String> {
    for argv in &image.warm_up {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let shown = argv.join(" ");
        let said = core
            .guest(machine)
            .run(&argv, b"", WARM_UP_DEADLINE)
            .await
            .map_err(|error| format!("warming up with `{shown}`: {error}"))?;
        if said.exit_code != 0 {
            let text = String::from_utf8_lossy(if said.err.is_empty() {
                &said.out
            } else {
                &said.err
            });
            return Err(format!(
                "warming up with `{shown}` ended with {}: {}",
                said.exit_code,
                words(&text)
            ));
        }
    }
    Ok(())
}

/// The size of a class's machines.
pub fn size_of(class: &Class, image: &Image) -> Size {
    Size {
        vcpus: class.vcpus,
        memory_mib: class.memory_mib,
        disk_mib: image.disk_mib,
        network_kbytes_per_s: None,
    }
}

/// The image that a template was made from.
pub async fn image_of(core: &Core, template: &Template) -> Result<Image, String> {
    let digest: Digest = template
        .inputs
        .iter()
        .find(|(name, _)| name == "image_digest")
        .and_then(|(_, value)| value.parse().ok())
        .ok_or("the template does not say what image it was made from")?;
    let (images, name) = (core.services.images.clone(), template.class.image.clone());
    crate::blocking::run(move || images.by_digest(&name, digest))
        .await
        .map_err(|error| error.to_string())
}

/// What came of looking at a template's files.
#[derive(Debug)]
pub enum Unfit {
    /// They are not as they were sealed.
    Damaged(String),
    /// They could not be looked at.
    Unknown(HvError),
}

impl Unfit {
    pub fn words(&self) -> String {
        match self {
            Self::Damaged(words) => words.clone(),
            Self::Unknown(error) => error.to_string(),
        }
    }
}

/// Compares a template's files with its seal: sizes and stamps, or contents as well.
pub async fn check(
    core: &Core,
    template: MachineId,
    seal: &Seal,
    thorough: bool,
) -> Result<(), Unfit> {
    let files = core.files_of(template);
    match core.hypervisor().inspect_template(&files, thorough).await {
        Ok(found) => {
            for (name, sealed, found) in [
                ("memory", &seal.memory, &found.memory),
                ("state", &seal.state, &found.state),
                ("disk", &seal.disk, &found.disk),
            ] {
                if let Some(difference) = difference(sealed, found) {
                    return Err(Unfit::Damaged(format!(
                        "its {name} file is not as it was sealed: {difference}"
                    )));
                }
            }
            Ok(())
        }
        Err(HvError::Refused(words)) => Err(Unfit::Damaged(words)),
        Err(error) => Err(Unfit::Unknown(error)),
    }
}

fn difference(sealed: &SealedFile, found: &SealedFile) -> Option<String> {
    if sealed.size_bytes != found.size_bytes {
        return Some(format!(
            "{} bytes instead of {}",
            found.size_bytes, sealed.size_bytes
        ));
    }
    if sealed.stamp != found.stamp {
        return Some("somebody wrote or replaced it".to_owned());
    }
    match (sealed.digest, found.digest) {
        (Some(sealed), Some(found)) if sealed != found => Some(format!(
            "its contents are {} instead of {}",
            found.short(),
            sealed.short()
        )),
        _ => None,
    }
}

/// Nothing is forked from it any more, and its shells that nobody has are thrown away.
pub async fn fail(core: &Core, template: MachineId, reason: &str) {
    tracing::warn!(%template, reason, "a template has failed; nothing is forked from it");
    core.ledger
        .change(|draft| {
            draft.template(template, |template| {
                template.state = TemplateState::Failed;
                template.reason = Some(reason.to_owned());
            });
            let unclaimed: Vec<MachineId> = draft
                .rows
                .shells_of(template)
                .filter(|shell| matches!(shell.state, ShellState::Ready | ShellState::Standby))
                .map(|shell| shell.id)
                .collect();
            for shell in unclaimed {
                draft.discard(shell, Some(&format!("its template failed: {reason}")));
            }
        })
        .await;
    core.nudge.notify_one();
}

/// Takes a template's machine and files away.
pub async fn remove(core: &Core, id: MachineId) -> Result<(), HvError> {
    core.point("template_remove", Window::Before).await;
    core.hypervisor().destroy_machine(id).await?;
    core.hypervisor()
        .remove_template(&core.files_of(id))
        .await?;
    core.point("template_remove", Window::After).await;
    core.ledger
        .change(|draft| draft.template(id, |template| template.state = TemplateState::Gone))
        .await;
    core.point("template_remove", Window::Stored).await;
    Ok(())
}
