//! Orders to boot a device from the network: their way to the end, killed at each request, and what the
//! daemon keeps count of.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greenroom::clock::{Clock, SystemClock};
use greenroom::power::hands::{HandsError, RemoteHands, Switch};
use greenroom::power::vault::Password;
use greenroom::power::{Limits, PowerError};
use greenroom::store::{Store, boot, devices, power};
use greenroom::vocab::boot::{BootDevice, BootEvent, Trust};
use greenroom::vocab::power::{
    BmcAddress, BmcTrust, BootTarget, NetworkOrder, Off, OrderStep, PowerState,
};
use greenroom::vocab::{Device, DeviceId, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::fake::{Fake, Manner, PASSWORD, USER};

/// A daemon's part that has to do with power, on a state folder.
struct House {
    store: Store,
    hands: Arc<RemoteHands>,
    device: Device,
}

impl House {
    async fn open(state: &Path) -> Self {
        let store = Store::open(&state.join("greenroom.db")).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let hands = RemoteHands::new(store.clone(), clock, state.join("bmc"), Limits::default());
        let mut connection = store.read().await.unwrap();
        let known = devices::device_by_name(&mut connection, "web-1")
            .await
            .unwrap();
        drop(connection);
        let device = match known {
            Some(device) => device,
            None => {
                let device = Device {
                    id: DeviceId::fresh(),
                    name: "web-1".into(),
                    client: "default".into(),
                    facts: Default::default(),
                    added_at: Timestamp(1),
                };
                let row = device.clone();
                store
                    .write(move |connection| {
                        Box::pin(async move { devices::device_put(connection, &row).await })
                    })
                    .await
                    .unwrap()
            }
        };
        Self {
            store,
            hands,
            device,
        }
    }

    async fn tell_of(&self, fake: &Fake, password: &str) {
        let address = BmcAddress::Redfish {
            url: fake.url(),
            user: USER.into(),
            trust: BmcTrust::Insecure,
            system: None,
        };
        let password = Password::parse(password.into()).unwrap();
        self.hands
            .set(&self.device, address, Some(password))
            .await
            .unwrap();
    }

    /// As if its ramdisk had registered with this boot.
    async fn registers(&self, boot_id: &str) {
        let row = BootDevice {
            boot_id: boot_id.into(),
            ..BootDevice::registered(
                self.device.id,
                self.device.name.clone(),
                Trust::Network,
                Timestamp(1),
            )
        };
        self.store
            .write(move |connection| {
                Box::pin(async move { boot::device_put(connection, &row).await })
            })
            .await
            .unwrap();
    }

    async fn order(&self) {
        let order = NetworkOrder::fresh(
            self.device.id,
            &self.device.name,
            "boot-1",
            SystemClock.now(),
        );
        self.store
            .write(move |connection| {
                Box::pin(async move { power::order_put(connection, &order).await })
            })
            .await
            .unwrap();
    }

    async fn read(&self) -> NetworkOrder {
        let mut connection = self.store.read().await.unwrap();
        power::order_get(&mut connection, self.device.id)
            .await
            .unwrap()
            .expect("an order")
    }

    async fn events(&self) -> Vec<BootEvent> {
        let mut connection = self.store.read().await.unwrap();
        boot::event_list(&mut connection, Some("web-1"), 0, 1000)
            .await
            .unwrap()
    }

    /// Looks as the daemon does, until the order is at this step.
    async fn until(&self, step: OrderStep) -> NetworkOrder {
        for _ in 0..1500 {
            self.hands.sweep().await.unwrap();
            let order = self.read().await;
            if order.step == step {
                return order;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not {step:?} but {:?}", self.read().await);
    }
}

fn power_error(error: HandsError) -> PowerError {
    match error {
        HandsError::Power(error) => error,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn after_two_refused_logins_there_are_no_more_until_a_person_has_looked() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::open(Manner::Good).await);
    let house = House::open(state.path()).await;
    house.tell_of(&fake, "hunter-two").await;
    let logins = || fake.with(|state| state.asked.iter().filter(|asked| asked.0 == "POST").count());
    for _ in 0..2 {
        let error = power_error(house.hands.status(&house.device).await.unwrap_err());
        assert!(matches!(error, PowerError::LoginRefused { .. }), "{error}");
    }
    let before = fake.asked();
    // A daemon that is started again has not forgotten it.
    let house = House::open(state.path()).await;
    for _ in 0..5 {
        let error = power_error(
            house
                .hands
                .switch(&house.device, Switch::Cycle)
                .await
                .unwrap_err(),
        );
        assert_eq!(error, PowerError::Locked { refused: 2 });
    }
    house.order().await;
    let order = house.until(OrderStep::Failed).await;
    assert!(order.said.contains("bmc unlock"), "{}", order.said);
    assert_eq!((fake.asked(), logins()), (before, 2), "nobody was asked");
    // Somebody repaired the account.
    fake.with(|state| state.password = "hunter-two".into());
    house.hands.unlock(&house.device).await.unwrap();
    house.hands.status(&house.device).await.unwrap();
    // And another password begins anew, one refused login being forgotten by a good one.
    fake.with(|state| state.password = PASSWORD.into());
    house.hands.status(&house.device).await.unwrap_err();
    house.tell_of(&fake, PASSWORD).await;
    house.hands.status(&house.device).await.unwrap();
    assert_eq!(house.hands.bmc(&house.device).await.unwrap().refused, 0);
    fake.is_satisfied();
}

#[tokio::test]
async fn a_password_is_in_its_file_and_nowhere_else() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::open(Manner::Good).await);
    let house = House::open(state.path()).await;
    house.tell_of(&fake, "hunter-two").await;
    house.tell_of(&fake, "hunter-three").await;
    let bmc = house.hands.bmc(&house.device).await.unwrap();
    assert!(!format!("{bmc:?}").contains("hunter"));
    let files = || std::fs::read_dir(state.path().join("bmc")).unwrap().count();
    assert_eq!(files(), 1, "the one before is gone");
    for file in std::fs::read_dir(state.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(6).any(|six| six == b"hunter");
            assert!(!found, "the password is in {}", path.display());
        }
    }
    house.hands.remove(&house.device).await.unwrap();
    assert_eq!(files(), 0);
    let error = house.hands.status(&house.device).await.unwrap_err();
    assert!(matches!(error, HandsError::NoBmc(_)), "{error}");
}

#[tokio::test]
async fn what_can_be_seen_to_be_wrong_is_refused_when_it_is_set() {
    let state = tempfile::tempdir().unwrap();
    let house = House::open(state.path()).await;
    let redfish = |url: &str, user: &str| BmcAddress::Redfish {
        url: url.into(),
        user: user.into(),
        trust: BmcTrust::Authorities,
        system: None,
    };
    let ipmi = |host: &str, cipher: u8| BmcAddress::Ipmi {
        host: host.into(),
        port: 623,
        user: "ada".into(),
        cipher,
    };
    let long = "x".repeat(21);
    for (address, password) in [
        (redfish("http://10.0.0.7", "ada"), Some("p")),
        (
            redfish("https://10.0.0.7/redfish/v1/Systems/1", "ada"),
            Some("p"),
        ),
        (redfish("https://10.0.0.7", ""), Some("p")),
        (redfish("https://10.0.0.7", "a:b"), Some("p")),
        (redfish("https://10.0.0.7", "ada"), None),
        (ipmi("-x", 17), Some("p")),
        (ipmi("10.0.0.7", 0), Some("p")),
        (ipmi("10.0.0.7", 17), Some(&*long)),
        (
            BmcAddress::Manual {
                note: "a\u{1b}[2J".into(),
            },
            None,
        ),
    ] {
        let shown = format!("{address:?}");
        let password = password.map(|text| Password::parse(text.to_owned()).unwrap());
        let refused = house.hands.set(&house.device, address, password).await;
        assert!(matches!(refused, Err(HandsError::Invalid(_))), "{shown}");
    }
    assert!(
        house.hands.bmc(&house.device).await.is_err(),
        "nothing is stored"
    );
}

#[tokio::test]
async fn an_order_is_carried_out_and_told() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::open(Manner::Good).await);
    let house = House::open(state.path()).await;
    house.tell_of(&fake, PASSWORD).await;
    house.registers("boot-1").await;
    house.order().await;
    let order = house.until(OrderStep::Await).await;
    assert!(order.said.contains("ramdisk is awaited"), "{}", order.said);
    fake.with(|state| {
        assert_eq!((state.on, state.switched), (true, (1, 1)));
        assert_eq!(state.boot["BootSourceOverrideTarget"], "Pxe");
    });
    house.registers("boot-2").await;
    house.until(OrderStep::Done).await;
    let told: Vec<String> = house
        .events()
        .await
        .into_iter()
        .map(|event| event.message)
        .collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(
        told[0].contains("boots next from pxe once") && told[3].contains("came from the network"),
        "{told:?}"
    );
    fake.is_satisfied();
}

#[tokio::test]
async fn a_machine_that_does_not_obey_or_forgets_is_not_taken_for_one_that_did() {
    for (manner, step) in [
        (Manner::Forgets, OrderStep::SetBoot),
        (Manner::Busy, OrderStep::SetBoot),
    ] {
        let (state, fake) = (
            tempfile::tempdir().unwrap(),
            Fake::open(manner.clone()).await,
        );
        let house = House::open(state.path()).await;
        house.tell_of(&fake, PASSWORD).await;
        house.order().await;
        while house.events().await.is_empty() {
            house.hands.sweep().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let order = house.read().await;
        assert_eq!((order.step, order.failures > 0), (step, true), "{manner:?}");
        assert_eq!(house.events().await[0].kind, "power_failed");
        // It comes to its senses, and the order goes on by itself.
        fake.with(|state| {
            assert_eq!(
                state.switched,
                (0, 0),
                "nothing was switched off before its next boot was certain"
            );
            state.manner = Manner::Good;
        });
        house.until(OrderStep::Await).await;
    }
}

#[tokio::test]
async fn a_person_is_told_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    let house = House::open(state.path()).await;
    let address = BmcAddress::Manual {
        note: "room 12".into(),
    };
    house.hands.set(&house.device, address, None).await.unwrap();
    let error = power_error(
        house
            .hands
            .boot_once(&house.device, BootTarget::Pxe)
            .await
            .unwrap_err(),
    );
    assert!(
        matches!(&error, PowerError::Person(what) if what.contains("room 12")),
        "{error}"
    );
    house.order().await;
    let order = house.until(OrderStep::Await).await;
    assert!(
        order.said.contains("room 12") && order.said.contains("off and on"),
        "{}",
        order.said
    );
    house.registers("boot-2").await;
    house.until(OrderStep::Done).await;
}

/// The daemon ends with a runtime of its own, at the moment of each request that the order needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_request_an_order_still_comes_to_its_end() {
    let mut at = 0;
    loop {
        at += 1;
        let (state, fake) = (tempfile::tempdir().unwrap(), Fake::open(Manner::Good).await);
        let house = House::open(state.path()).await;
        house.tell_of(&fake, PASSWORD).await;
        house.registers("boot-1").await;
        house.order().await;
        drop(house);
        let (folder, watched) = (state.path().to_owned(), fake.clone());
        let killed = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let killed = runtime.block_on(async {
                let house = House::open(&folder).await;
                tokio::spawn(house.hands.clone().run(CancellationToken::new()));
                loop {
                    if watched.asked() >= at {
                        return true;
                    }
                    if house.read().await.step == OrderStep::Await {
                        return false;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            runtime.shutdown_background();
            killed
        });
        let killed = killed.await.unwrap();
        let house = House::open(state.path()).await;
        let order = house.until(OrderStep::Await).await;
        assert_eq!(order.tries, 1, "killed at request {at}");
        fake.with(|state| {
            assert!(state.on, "killed at request {at}: it is off");
            assert_eq!(
                state.boot["BootSourceOverrideTarget"], "Pxe",
                "killed at request {at}"
            );
            assert_eq!(
                state.switched,
                (1, 1),
                "killed at request {at}: switched more than once"
            );
        });
        if !killed {
            break;
        }
    }
    eprintln!("killed at {} requests", at - 1);
    assert!(at > 10, "an order has more requests than {at}");
}

#[tokio::test]
async fn switching_waits_until_the_machine_is_seen_to_obey() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Fake::open(Manner::Good).await);
    let house = House::open(state.path()).await;
    house.tell_of(&fake, PASSWORD).await;
    let off = house
        .hands
        .switch(&house.device, Switch::Off(Off::Graceful))
        .await
        .unwrap();
    assert_eq!(off, PowerState::Off);
    let on = house.hands.switch(&house.device, Switch::On).await.unwrap();
    assert_eq!(on, PowerState::On);
    let told: Vec<String> = house
        .events()
        .await
        .into_iter()
        .map(|event| event.message)
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    fake.is_satisfied();
}
