//! BMCs that misbehave: an error that says what it is, no password to anybody else, nothing waited for
//! without limit. And one that behaves.

use std::time::Duration;

use greenroom::power::redfish::Redfish;
use greenroom::power::vault::Password;
use greenroom::power::{Limits, PowerControl, PowerError};
use greenroom::vocab::power::{BmcTrust, BootTarget, Lasts, Off, PowerState};

use crate::fake::{Fake, Manner, PASSWORD, USER};

fn client(fake: &Fake, password: &str, limits: Limits) -> Redfish {
    let password = Password::parse(password.into()).unwrap();
    Redfish::new(
        &fake.url(),
        USER,
        password,
        &BmcTrust::Insecure,
        None,
        limits,
    )
    .unwrap()
}

fn usual(fake: &Fake) -> Redfish {
    client(fake, PASSWORD, Limits::default())
}

#[tokio::test]
async fn a_good_one_is_switched_and_told_what_to_boot() {
    for manner in [
        Manner::Good,
        Manner::Basic,
        Manner::WeakTags,
        Manner::ChangedOnce,
    ] {
        let fake = Fake::open(manner.clone()).await;
        let mut redfish = usual(&fake);
        let can = redfish.capabilities().await.unwrap();
        assert!(can.graceful_off && can.cycle && can.virtual_media);
        assert_eq!(
            can.boot_targets,
            [BootTarget::Pxe, BootTarget::Cd, BootTarget::Disk]
        );
        let set = redfish.boot_once(BootTarget::Pxe).await.unwrap();
        assert_eq!(
            (set.target, set.lasts),
            (BootTarget::Pxe, Lasts::Once),
            "{manner:?}"
        );
        assert_eq!(
            fake.with(|state| state.boot["BootSourceOverrideMode"].clone()),
            "UEFI"
        );
        redfish.off(Off::Forced).await.unwrap();
        assert_eq!(redfish.state().await.unwrap(), PowerState::Off);
        redfish.cycle().await.unwrap();
        assert_eq!(redfish.state().await.unwrap(), PowerState::On);
        redfish.boot_once(BootTarget::Usual).await.unwrap();
        assert_eq!(redfish.boot_override().await.unwrap().lasts, Lasts::Never);
        redfish.leave().await;
        fake.is_satisfied();
        let wanted = if manner == Manner::Basic {
            "basic"
        } else {
            "session"
        };
        let authorised =
            |by: &str| fake.with(|state| state.asked.iter().filter(|asked| asked.2 == by).count());
        assert!(authorised(wanted) > 5, "{manner:?}");
        assert_eq!(authorised("basic") > 0, manner == Manner::Basic);
    }
}

#[tokio::test]
async fn an_image_is_taken_out_before_another_is_put_in() {
    let fake = Fake::open(Manner::Good).await;
    let mut redfish = usual(&fake);
    redfish.insert("http://10.0.0.1/one.iso").await.unwrap();
    redfish.insert("http://10.0.0.1/two.iso").await.unwrap();
    assert_eq!(
        redfish.media().await.unwrap().as_deref(),
        Some("http://10.0.0.1/two.iso")
    );
    let before = fake.asked();
    redfish.insert("http://10.0.0.1/two.iso").await.unwrap();
    let changes = fake.with(|state| {
        state.asked[before..]
            .iter()
            .filter(|asked| asked.0 != "GET")
            .count()
    });
    assert_eq!(changes, 0, "it is in already");
    assert!(redfish.insert("http://10.0.0.1/x?token=1").await.is_err());
    redfish.eject().await.unwrap();
    redfish.eject().await.unwrap();
    assert_eq!(redfish.media().await.unwrap(), None);
    redfish.leave().await;
    fake.is_satisfied();
}

#[tokio::test]
async fn some_take_the_next_boot_elsewhere_or_for_good_only() {
    let fake = Fake::open(Manner::Settings).await;
    let set = usual(&fake).boot_once(BootTarget::Pxe).await.unwrap();
    assert_eq!(set.lasts, Lasts::Once);
    let fake = Fake::open(Manner::Continuous).await;
    let set = usual(&fake).boot_once(BootTarget::Pxe).await.unwrap();
    assert_eq!(set.lasts, Lasts::UntilChanged);
}

#[tokio::test]
async fn which_system_has_to_be_said_where_there_are_two() {
    let fake = Fake::open(Manner::Two).await;
    let error = usual(&fake).state().await.unwrap_err().to_string();
    assert!(
        error.contains("--system") && error.contains("a9 (web), b0 (the other)"),
        "{error}"
    );
    let named = |name: &str| {
        let password = Password::parse(PASSWORD.into()).unwrap();
        Redfish::new(
            &fake.url(),
            USER,
            password,
            &BmcTrust::Insecure,
            Some(name),
            Limits::default(),
        )
        .unwrap()
    };
    assert_eq!(named("b0").state().await.unwrap(), PowerState::Off);
    assert_eq!(
        named("38947555-7742-3448-3784-823347823834")
            .state()
            .await
            .unwrap(),
        PowerState::On
    );
    assert!(
        named("c1")
            .state()
            .await
            .unwrap_err()
            .to_string()
            .contains("b0 (the other)")
    );
}

#[tokio::test]
async fn nobody_else_is_asked_for_us() {
    let other = Fake::open(Manner::Good).await;
    let elsewhere = Fake::open(Manner::Elsewhere(other.url())).await;
    let error = usual(&elsewhere).state().await.unwrap_err();
    assert!(
        matches!(&error, PowerError::Untrusted(why) if why.contains(&other.url())),
        "{error}"
    );
    assert_eq!(other.asked(), 0, "not even to look");
    for manner in [Manner::ForeignLink, Manner::Circle, Manner::MovesChanges] {
        let fake = Fake::open(manner.clone()).await;
        let error = usual(&fake).boot_once(BootTarget::Pxe).await.unwrap_err();
        assert!(
            matches!(error, PowerError::Untrusted(_)),
            "{manner:?}: {error}"
        );
        assert!(!error.may_pass());
    }
}

#[tokio::test]
async fn an_answer_has_limits_of_time_and_size() {
    let hasty = Limits {
        patience: Duration::from_millis(250),
        ..Limits::default()
    };
    for manner in [Manner::Drips, Manner::Silent] {
        let fake = Fake::open(manner.clone()).await;
        let error = client(&fake, PASSWORD, hasty).state().await.unwrap_err();
        assert!(
            error.may_pass() && error.to_string().contains("250 ms"),
            "{manner:?}: {error}"
        );
    }
    let fake = Fake::open(Manner::Giant).await;
    let error = usual(&fake).state().await.unwrap_err();
    assert!(error.to_string().contains("1048576 bytes"), "{error}");
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_an_error_that_may_pass() {
    for manner in [Manner::Garbage, Manner::Cut] {
        let fake = Fake::open(manner.clone()).await;
        let mut redfish = usual(&fake);
        let error = redfish.state().await.unwrap_err();
        assert!(
            error.may_pass() && error.to_string().contains("no JSON"),
            "{manner:?}: {error}"
        );
        redfish.leave().await;
        fake.is_satisfied();
    }
    let fake = Fake::open(Manner::Busy).await;
    let error = usual(&fake).boot_once(BootTarget::Pxe).await.unwrap_err();
    assert!(
        error.may_pass() && error.to_string().contains("in POST"),
        "{error}"
    );
}

#[tokio::test]
async fn a_change_that_is_refused_or_forgotten_is_seen() {
    let fake = Fake::open(Manner::AlwaysChanged).await;
    let error = usual(&fake).boot_once(BootTarget::Pxe).await.unwrap_err();
    assert!(error.to_string().contains("412"), "{error}");
    let patches = fake.with(|state| {
        state
            .asked
            .iter()
            .filter(|asked| asked.0 == "PATCH")
            .count()
    });
    assert_eq!(patches, 4, "it gives up");
    let fake = Fake::open(Manner::Forgets).await;
    let error = usual(&fake).boot_once(BootTarget::Pxe).await.unwrap_err();
    assert!(matches!(error, PowerError::DidNotStick { .. }), "{error}");
}

#[tokio::test]
async fn a_refused_login_is_tried_once() {
    for manner in [Manner::Good, Manner::Basic] {
        let fake = Fake::open(manner.clone()).await;
        let mut redfish = client(&fake, "hunter-two", Limits::default());
        let error = redfish.boot_once(BootTarget::Pxe).await.unwrap_err();
        assert!(
            matches!(error, PowerError::LoginRefused { .. }),
            "{manner:?}: {error}"
        );
        assert!(
            !format!("{error} {error:?}").contains("hunter"),
            "the password is told"
        );
        assert_eq!(fake.asked(), 2, "{manner:?}: the root, and one login");
        redfish.leave().await;
    }
}

#[tokio::test]
async fn a_bmc_that_is_not_there_is_an_error_that_may_pass() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let password = Password::parse(PASSWORD.into()).unwrap();
    let mut redfish = Redfish::new(
        &url,
        USER,
        password,
        &BmcTrust::Insecure,
        None,
        Limits::default(),
    )
    .unwrap();
    let error = redfish.state().await.unwrap_err();
    assert!(
        error.may_pass() && error.to_string().contains("cannot be reached"),
        "{error}"
    );
}

#[tokio::test]
async fn only_the_certificate_that_a_person_has_seen_gets_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::open_tls(Manner::Basic, folder.path()).await;
    let url = fake.url().replace("http:", "https:");
    let ask = async |trust: BmcTrust| {
        let password = Password::parse(PASSWORD.into()).unwrap();
        let mut redfish =
            Redfish::new(&url, USER, password, &trust, None, Limits::default()).unwrap();
        redfish.state().await
    };
    let refused = ask(BmcTrust::Authorities).await.unwrap_err();
    let PowerError::Untrusted(said) = &refused else {
        panic!("{refused:?}");
    };
    let shown = said.rsplit(' ').next().unwrap().to_owned();
    assert_eq!(shown.len(), 64, "{said}");
    let other = ask(BmcTrust::Fingerprint("ab".repeat(32)))
        .await
        .unwrap_err();
    assert!(other.to_string().contains(&shown), "{other}");
    assert_eq!(fake.asked(), 0, "nothing was said to a stranger");
    assert_eq!(
        ask(BmcTrust::Fingerprint(shown)).await.unwrap(),
        PowerState::On
    );
    assert_eq!(ask(BmcTrust::Insecure).await.unwrap(), PowerState::On);
}
