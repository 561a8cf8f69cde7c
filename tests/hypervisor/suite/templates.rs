//! Templates: capturing a machine, sealing what it left, noticing what somebody did to it.

use greenroom::hypervisor::simulated::Damage;
use greenroom::hypervisor::{HvError, Power, TemplateFiles};

use crate::fixture::{Fixture, said};

pub async fn a_template_is_captured_sealed_and_removed(f: &Fixture) {
    let (spec, files) = f.template_spec().await;
    f.hypervisor.start_machine(&spec).await.unwrap();
    f.hypervisor.start_machine(&spec).await.unwrap();
    let guest = f.guest(spec.id);
    guest.wait_until_up(f.boot_deadline).await.unwrap();
    guest.write_file("/tmp/past", b"mine").await.unwrap();
    let power = async || {
        let seen = f.hypervisor.machine(spec.id).await.unwrap();
        seen.unwrap().power
    };
    assert_eq!(power().await, Power::Running);
    f.hypervisor.capture(spec.id, &files).await.unwrap();
    assert_eq!(power().await, Power::Paused);
    f.hypervisor.capture(spec.id, &files).await.unwrap();
    assert_eq!(power().await, Power::Paused);
    f.hypervisor.destroy_machine(spec.id).await.unwrap();

    let seal = f.hypervisor.seal_template(&files).await.unwrap();
    assert_eq!(f.hypervisor.seal_template(&files).await.unwrap(), seal);
    assert_eq!(
        f.hypervisor.inspect_template(&files, true).await.unwrap(),
        seal
    );
    assert_eq!(seal.memory.size_bytes, spec.size.memory_mib << 20);
    let quick = f.hypervisor.inspect_template(&files, false).await.unwrap();
    for (quick, sealed) in [
        (&quick.memory, &seal.memory),
        (&quick.state, &seal.state),
        (&quick.disk, &seal.disk),
    ] {
        assert!(sealed.size_bytes > 0 && sealed.digest.is_some());
        assert_eq!(
            (quick.size_bytes, &quick.stamp),
            (sealed.size_bytes, &sealed.stamp)
        );
        assert_eq!(quick.digest, None);
    }
    let listed = f.hypervisor.templates().await.unwrap();
    assert!(listed.contains(&files.folder), "{listed:?}");
    let disks = f.hypervisor.disks().await.unwrap();
    assert!(!disks.contains(&files.disk()), "{disks:?}");

    // What was forked does not need the files any more.
    let fork = f.fork(&files).await;
    for _ in 0..2 {
        f.hypervisor.remove_template(&files).await.unwrap();
        let listed = f.hypervisor.templates().await.unwrap();
        assert!(!listed.contains(&files.folder), "{listed:?}");
    }
    assert_eq!(said(&fork, &["cat", "/tmp/past"]).await, "mine");
    f.hypervisor.destroy_machine(fork.machine).await.unwrap();
    let gone = f.hypervisor.inspect_template(&files, false).await;
    assert!(matches!(gone, Err(HvError::Refused(_))), "{gone:?}");
}

pub async fn only_a_captured_template_is_sealed(f: &Fixture) {
    let nothing = TemplateFiles {
        folder: f.templates.join(format!("nothing-{}", f.next())),
    };
    let refused = |result: Result<_, HvError>| {
        assert!(matches!(result, Err(HvError::Refused(_))), "{result:?}");
    };
    refused(f.hypervisor.seal_template(&nothing).await.map(drop));
    refused(
        f.hypervisor
            .inspect_template(&nothing, true)
            .await
            .map(drop),
    );
    f.hypervisor.remove_template(&nothing).await.unwrap();
    // A machine that was not meant to be one is no template, and goes on.
    let guest = f.shared().await;
    refused(f.hypervisor.capture(guest.machine, &nothing).await);
    assert_eq!(said(&guest, &["echo", "fine"]).await, "fine\n");

    // Nor is one that was given up before it was captured.
    let (spec, files) = f.template_spec().await;
    f.hypervisor.start_machine(&spec).await.unwrap();
    f.hypervisor.destroy_machine(spec.id).await.unwrap();
    refused(f.hypervisor.seal_template(&files).await.map(drop));
    let listed = f.hypervisor.templates().await.unwrap();
    assert!(listed.contains(&files.folder), "{listed:?}");
    f.hypervisor.remove_template(&files).await.unwrap();
}

pub async fn a_damaged_template_is_noticed(f: &Fixture) {
    let template = f.fresh_template().await;
    let (files, seal) = (&template.files, &template.seal);
    f.backdoor.damage(files, Damage::Changed).await;
    let quick = f.hypervisor.inspect_template(files, false).await.unwrap();
    assert_ne!(quick.memory.stamp, seal.memory.stamp);
    assert_eq!(quick.state.stamp, seal.state.stamp);
    let thorough = f.hypervisor.inspect_template(files, true).await.unwrap();
    assert_ne!(thorough.memory.digest, seal.memory.digest);
    assert_eq!(thorough.disk, seal.disk);

    f.backdoor.damage(files, Damage::Truncated).await;
    let short = f.hypervisor.inspect_template(files, false).await.unwrap();
    assert!(short.memory.size_bytes < seal.memory.size_bytes);
    cannot_be_forked(f, files).await;

    f.backdoor.damage(files, Damage::Missing).await;
    let missing = f.hypervisor.inspect_template(files, false).await;
    let words = missing.unwrap_err().to_string();
    assert!(words.contains("memory"), "{words}");
    cannot_be_forked(f, files).await;
    f.hypervisor.remove_template(files).await.unwrap();
}

/// The fork is refused when it is started, at the latest when it is loaded.
async fn cannot_be_forked(f: &Fixture, files: &TemplateFiles) {
    let spec = f.fork_spec(files).await;
    let forked = async {
        f.hypervisor.start_machine(&spec).await?;
        f.hypervisor.load_fork(spec.id, files).await
    };
    let error = forked.await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    f.hypervisor.destroy_machine(spec.id).await.unwrap();
    f.hypervisor.remove_disk(&spec.root_disk).await.unwrap();
}
