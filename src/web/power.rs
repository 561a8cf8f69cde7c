//! `/devices/NAME/power` and `/devices/NAME/bmc`: power, boot order, and how they are reached.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::extract::{Body, InPath};
use super::refusal::{Refusal, Why};
use super::routes::{Op, Routes};
use super::{Shared, devices};
use crate::access::{Access, Caller};
use crate::api::Time;
use crate::api::power::{BmcView, BootFrom, ChangePower, PowerView, SetBmc, TestedBmc};
use crate::power::PowerError;
use crate::power::hands::{HandsError, Switch};
use crate::power::redfish::tls;
use crate::power::vault::Password;
use crate::vocab::Device;
use crate::vocab::access::Role;
use crate::vocab::power::{Bmc, BmcAddress, BmcTrust, BootTarget, Off};

/// A conversation with a BMC waits for its turn and then has as long again.
const PATIENCE: Duration = Duration::from_secs(320);
/// IPMI over LAN (RMCP+), IANA.
const IPMI_PORT: u16 = 623;

/// Looking is for operators too: each look is a login of the BMC's, of which it stands a few wrong ones.
pub fn routes() -> Routes {
    let (switch, credentials) = (
        Access::per_client(Role::Operator),
        Access::per_client(Role::Admin),
    );
    Routes::of("power", "Power and boot order, by a device's BMC.")
        .with(
            Op::get("power_show", "/devices/{name}/power", switch, show)
                .says("Asks the BMC whether the device is on, and what it boots next")
                .answers::<PowerView>(200)
                .within(PATIENCE),
        )
        .with(
            Op::post("power_change", "/devices/{name}/power", switch, change)
                .says("Switches the device, or sets its next boot, and reads that back")
                .takes::<ChangePower>()
                .answers::<PowerView>(200)
                .within(PATIENCE),
        )
        .with(
            Op::get("bmc_show", "/devices/{name}/bmc", switch, bmc)
                .says("How the device's BMC is reached, without the password")
                .answers::<BmcView>(200),
        )
        .with(
            Op::put("bmc_set", "/devices/{name}/bmc", credentials, set)
                .says("Says how the device's BMC is reached; refused logins begin anew")
                .takes::<SetBmc>()
                .answers::<BmcView>(200),
        )
        .with(
            Op::delete("bmc_remove", "/devices/{name}/bmc", credentials, remove)
                .says("Forgets the device's BMC and its password")
                .answers_bytes(204, ""),
        )
        .with(
            Op::post("bmc_test", "/devices/{name}/bmc/test", switch, test)
                .says("Logs in and asks what the BMC can do; nothing is changed")
                .answers::<TestedBmc>(200)
                .within(PATIENCE),
        )
        .with(
            Op::post(
                "bmc_unlock",
                "/devices/{name}/bmc/unlock",
                credentials,
                unlock,
            )
            .says("Lets the daemon log in again after refused logins")
            .answers::<BmcView>(200),
        )
}

impl From<HandsError> for Refusal {
    fn from(error: HandsError) -> Self {
        let why = match &error {
            HandsError::NoBmc(_) => Why::Refused,
            HandsError::Invalid(_) => Why::Mistake,
            HandsError::Power(PowerError::Unreachable(_)) => Why::Unavailable,
            HandsError::Power(_) => Why::Refused,
            HandsError::Store(_) | HandsError::Failed(_) => Why::Internal,
        };
        match error {
            HandsError::Store(error) => error.into(),
            error => Self::new(why, error.to_string()),
        }
    }
}

async fn show(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Json<PowerView>, Refusal> {
    let device = devices::find(&app, &caller, &name).await?;
    let standing = app.state.power.status(&device).await?;
    Ok(Json(PowerView {
        device: device.name,
        state: Some(standing.state.word().to_owned()),
        boot: Some(standing.boot.to_string()),
        media: None,
    }))
}

async fn change(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(order): Body<ChangePower>,
) -> Result<Json<PowerView>, Refusal> {
    let device = devices::find(&app, &caller, &name).await?;
    let hands = &app.state.power;
    let switch = match order {
        ChangePower::On => Switch::On,
        ChangePower::Off { force: true } => Switch::Off(Off::Forced),
        ChangePower::Off { force: false } => Switch::Off(Off::Graceful),
        ChangePower::Cycle => Switch::Cycle,
        ChangePower::InsertMedia { url } => {
            hands.change_media(&device, Some(url.clone())).await?;
            return Ok(Json(media(device, url)));
        }
        ChangePower::EjectMedia => {
            hands.change_media(&device, None).await?;
            return Ok(Json(media(device, String::new())));
        }
        ChangePower::BootOnce { from } => {
            let from = match from {
                BootFrom::Network => BootTarget::Pxe,
                BootFrom::Disk => BootTarget::Disk,
                BootFrom::Cd => BootTarget::Cd,
                BootFrom::Usual => BootTarget::Usual,
            };
            let set = hands.boot_once(&device, from).await?;
            return Ok(Json(PowerView {
                device: device.name,
                state: None,
                boot: Some(set.to_string()),
                media: None,
            }));
        }
    };
    let state = hands.switch(&device, switch).await?;
    Ok(Json(PowerView {
        device: device.name,
        state: Some(state.word().to_owned()),
        boot: None,
        media: None,
    }))
}

fn media(device: Device, media: String) -> PowerView {
    PowerView {
        device: device.name,
        state: None,
        boot: None,
        media: Some(media),
    }
}

async fn bmc(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Json<BmcView>, Refusal> {
    let device = devices::find(&app, &caller, &name).await?;
    let bmc = app.state.power.bmc(&device).await?;
    Ok(Json(view(&device, &bmc)))
}

async fn set(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(order): Body<SetBmc>,
) -> Result<Json<BmcView>, Refusal> {
    let device = devices::find(&app, &caller, &name).await?;
    let (address, password) = address(order).map_err(Refusal::mistake)?;
    let bmc = app.state.power.set(&device, address, password).await?;
    Ok(Json(view(&device, &bmc)))
}

fn address(order: SetBmc) -> Result<(BmcAddress, Option<Password>), String> {
    Ok(match order {
        SetBmc::Redfish {
            url,
            user,
            password,
            fingerprint,
            insecure,
            system,
        } => {
            let trust = match (fingerprint, insecure) {
                (Some(_), true) => {
                    return Err(
                        "a fingerprint and insecure contradict each other: choose one".into(),
                    );
                }
                (Some(text), false) => BmcTrust::Fingerprint(tls::fingerprint(&text)?),
                (None, true) => BmcTrust::Insecure,
                (None, false) => BmcTrust::Authorities,
            };
            let address = BmcAddress::Redfish {
                url,
                user,
                trust,
                system,
            };
            (address, Some(Password::parse(password.0)?))
        }
        SetBmc::Ipmi {
            host,
            port,
            user,
            password,
            cipher,
        } => {
            let address = BmcAddress::Ipmi {
                host,
                port: port.unwrap_or(IPMI_PORT),
                user,
                cipher: cipher.unwrap_or(17),
            };
            (address, Some(Password::parse(password.0)?))
        }
        SetBmc::Manual { note } => (BmcAddress::Manual { note }, None),
    })
}

async fn remove(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<StatusCode, Refusal> {
    let device = devices::find(&app, &caller, &name).await?;
    app.state.power.remove(&device).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn test(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Json<TestedBmc>, Refusal> {
    let device = devices::find(&app, &caller, &name).await?;
    let (can, standing) = app.state.power.test(&device).await?;
    let targets = can.boot_targets.iter();
    Ok(Json(TestedBmc {
        product: can.product,
        state: standing.state.word().to_owned(),
        boot: standing.boot.to_string(),
        boot_targets: targets.map(|target| target.word().to_owned()).collect(),
        graceful_off: can.graceful_off,
        cycle: can.cycle,
        virtual_media: can.virtual_media,
    }))
}

async fn unlock(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Json<BmcView>, Refusal> {
    let device = devices::find(&app, &caller, &name).await?;
    let bmc = app.state.power.unlock(&device).await?;
    Ok(Json(view(&device, &bmc)))
}

fn view(device: &Device, bmc: &Bmc) -> BmcView {
    let (address, trust, system) = match &bmc.address {
        BmcAddress::Redfish {
            url, trust, system, ..
        } => {
            let trust = match trust {
                BmcTrust::Authorities => "authorities".to_owned(),
                BmcTrust::Fingerprint(digits) => format!("fingerprint {digits}"),
                BmcTrust::Insecure => "insecure".to_owned(),
            };
            (url.clone(), Some(trust), system.clone())
        }
        BmcAddress::Ipmi {
            host, port, cipher, ..
        } => {
            let cipher = format!("cipher suite {cipher}");
            (format!("{host} port {port}"), Some(cipher), None)
        }
        BmcAddress::Manual { note } => (note.clone(), None, None),
    };
    BmcView {
        device: device.name.clone(),
        kind: bmc.address.kind().to_owned(),
        address,
        user: bmc.address.user().map(str::to_owned),
        trust,
        system,
        refused_logins: bmc.refused,
        locked: bmc.is_locked(),
        set_at: Time::of(bmc.set_at),
    }
}
