//! Documents as real BMCs and the emulator give them, and what is none.

use proptest::prelude::*;

use super::*;

fn system(value: Value) -> System {
    System::read(&value, &Link::parse("/redfish/v1/Systems/1").unwrap()).unwrap()
}

#[test]
fn a_system_is_read_with_what_it_says_and_without() {
    let full = system(json!({
        "@odata.id": "/redfish/v1/Systems/437XR1138R2", "@odata.etag": "W/\"3B\"", "Id": "437XR1138R2",
        "Name": "WebFrontEnd483", "UUID": "38947555-7742-3448-3784-823347823834", "SerialNumber": "437XR1138R2",
        "Manufacturer": "Contoso", "Model": "3500", "PowerState": "On",
        "Boot": {
            "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "UEFI",
            "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Cd", "Hdd", "UefiHttp"]
        },
        "VirtualMedia": { "@odata.id": "/redfish/v1/Systems/437XR1138R2/VirtualMedia" },
        "Actions": { "#ComputerSystem.Reset": {
            "target": "/redfish/v1/Systems/437XR1138R2/Actions/ComputerSystem.Reset",
            "@Redfish.ActionInfo": "/redfish/v1/Systems/437XR1138R2/ResetActionInfo"
        } }
    }));
    assert_eq!(full.link.as_str(), "/redfish/v1/Systems/437XR1138R2");
    assert_eq!(full.etag.as_deref(), Some("W/\"3B\""));
    assert_eq!(
        (full.state, full.boot.now.is_network()),
        (PowerState::On, true)
    );
    assert!(full.reset.unwrap().info.is_some());
    for name in [
        "437xr1138r2",
        "38947555-7742-3448-3784-823347823834",
        "WebFrontEnd483",
        "/redfish/v1/Systems/437XR1138R2",
    ] {
        assert!(system(json!({ "@odata.id": "/redfish/v1/Systems/437XR1138R2", "Id": "437XR1138R2", "Name": "WebFrontEnd483", "UUID": "38947555-7742-3448-3784-823347823834" })).is_called(name), "{name}");
    }
    let bare = system(json!({ "Boot": null, "PowerState": 7 }));
    assert_eq!(bare.state, PowerState::Unclear);
    assert_eq!(bare.boot.now, BootOverride::USUAL);
    assert!(bare.reset.is_none() && !bare.is_called(""));
    assert!(System::read(&json!([]), &Link::root()).is_err());
}

#[test]
fn a_boot_is_asked_for_in_the_words_that_are_allowed() {
    let read = |value: Value| Boot::read(&value);
    let silent = read(json!({}));
    assert_eq!(silent.word_for(BootTarget::Pxe).unwrap(), "Pxe");
    let http =
        read(json!({ "BootSourceOverrideTarget@Redfish.AllowableValues": ["UefiHttp", "Hdd"] }));
    assert_eq!(http.word_for(BootTarget::Pxe).unwrap(), "UefiHttp");
    assert_eq!(http.word_for(BootTarget::Usual).unwrap(), "None");
    let error = http.word_for(BootTarget::Cd).unwrap_err().to_string();
    assert!(error.contains("UefiHttp, Hdd"), "{error}");
    assert_eq!(
        silent.patch("Pxe"),
        json!({ "Boot": { "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe" } })
    );
    let uefi = read(
        json!({ "BootSourceOverrideMode": "UEFI", "BootSourceOverrideEnabled@Redfish.AllowableValues": ["Continuous", "Disabled"] }),
    );
    assert_eq!(
        uefi.patch("Pxe"),
        json!({ "Boot": { "BootSourceOverrideEnabled": "Continuous", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "UEFI" } })
    );
    assert_eq!(
        silent.patch("None"),
        json!({ "Boot": { "BootSourceOverrideEnabled": "Disabled" } })
    );
}

#[test]
fn what_was_set_has_to_be_what_is_read() {
    let fits = |enabled: &str, target: &str, wanted| {
        Boot::read(
            &json!({ "BootSourceOverrideEnabled": enabled, "BootSourceOverrideTarget": target }),
        )
        .fits(wanted)
    };
    assert!(fits("Once", "Pxe", BootTarget::Pxe));
    assert!(fits("Once", "UefiHttp", BootTarget::Pxe));
    assert!(fits("Continuous", "Pxe", BootTarget::Pxe));
    assert!(!fits("Disabled", "Pxe", BootTarget::Pxe));
    assert!(!fits("Once", "Hdd", BootTarget::Pxe));
    assert!(!fits("Once", "None", BootTarget::Pxe));
    assert!(!fits("Once", "Pxe", BootTarget::UefiHttp));
    assert!(fits("Disabled", "Pxe", BootTarget::Usual));
    assert!(!fits("Once", "Pxe", BootTarget::Usual));
}

#[test]
fn a_link_is_a_path_of_the_bmc() {
    for good in [
        "/redfish/v1/Systems/1",
        "/redfish/v1/$metadata",
        "/redfish/v1/Systems/1#/Boot",
    ] {
        assert!(!Link::parse(good).unwrap().as_str().contains('#'), "{good}");
    }
    for bad in [
        "",
        "redfish",
        "//evil/x",
        "http://evil/",
        "/a b",
        "/a\r\nHost: evil",
        "/ä",
        "/a\"b",
        &format!("/{}", "a".repeat(2000)),
    ] {
        assert!(
            matches!(Link::parse(bad), Err(PowerError::Untrusted(_))),
            "{bad:?}"
        );
    }
}

#[test]
fn the_first_reset_that_is_allowed_is_taken() {
    let reset = |allowed: Value| {
        let value = json!({ "target": "/x", "ResetType@Redfish.AllowableValues": allowed });
        Reset::read(&value).unwrap().unwrap()
    };
    assert_eq!(
        reset(json!(["ForceOn", "ForceOff"]))
            .word(&["On", "ForceOn"])
            .unwrap(),
        "ForceOn"
    );
    assert_eq!(reset(Value::Null).word(&["On", "ForceOn"]).unwrap(), "On");
    assert!(
        reset(json!(["Nmi"]))
            .word(&["On"])
            .unwrap_err()
            .to_string()
            .contains("Nmi")
    );
    let info = json!({ "Parameters": [{ "Name": "Other" }, { "Name": "ResetType", "AllowableValues": ["On"] }] });
    assert_eq!(allowed_by_info(&info).unwrap(), ["On"]);
}

#[test]
fn complaints_are_one_short_line() {
    let said = complaint(
        &json!({ "error": { "message": "general", "@Message.ExtendedInfo": [{ "Message": "too\r\n\u{1b}[31m hot" }] } }),
    );
    assert_eq!(said.unwrap(), "too [31m hot");
    let long = complaint(&json!({ "error": { "message": "x".repeat(9999) } })).unwrap();
    assert_eq!(long.len(), 200);
    assert!(complaint(&json!(null)).is_none());
}

/// Any JSON, with the words of Redfish in it more often than chance would have it.
fn anything() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("@odata.id".to_owned()),
        Just("Systems".to_owned()),
        Just("Links".to_owned()),
        Just("Sessions".to_owned()),
        Just("Members".to_owned()),
        Just("Members@odata.nextLink".to_owned()),
        Just("Boot".to_owned()),
        Just("Actions".to_owned()),
        Just("#ComputerSystem.Reset".to_owned()),
        Just("target".to_owned()),
        Just("BootSourceOverrideTarget".to_owned()),
        Just("BootSourceOverrideEnabled".to_owned()),
        Just("ResetType@Redfish.AllowableValues".to_owned()),
        Just("PowerState".to_owned()),
        Just("error".to_owned()),
        Just("Parameters".to_owned()),
        Just("Name".to_owned()),
        Just("AllowableValues".to_owned()),
        ".{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("/redfish/v1/Systems/1")),
        Just(json!("http://evil/")),
        Just(json!("Pxe")),
        Just(json!("Once")),
        Just(json!("ResetType")),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Nothing that a BMC says is a panic, and no link leaves the BMC.
    #[test]
    fn anything_is_read_or_refused(value in anything()) {
        let mut links = Vec::new();
        if let Ok(root) = Root::read(&value) {
            links.extend([Some(root.systems), root.sessions].into_iter().flatten());
        }
        if let Ok((found, next)) = members(&value) {
            links.extend(found);
            links.extend(next);
        }
        if let Ok(system) = System::read(&value, &Link::root()) {
            let _ = system.boot.word_for(BootTarget::Pxe).map(|word| system.boot.patch(word));
            let _ = system.says();
            links.push(system.link);
            links.extend([system.settings, system.media].into_iter().flatten());
            links.extend(system.reset.map(|reset| reset.target));
        }
        let _ = Drive::read(&value);
        let _ = (complaint(&value), allowed_by_info(&value));
        for link in links {
            prop_assert!(link.as_str().starts_with('/') && !link.as_str().starts_with("//"));
        }
    }

    /// An override that the BMC keeps as it was told is one that fits.
    #[test]
    fn what_is_set_and_kept_fits(mode in prop::option::of("UEFI|Legacy"), index in 0..4_usize) {
        let target = [BootTarget::Pxe, BootTarget::UefiHttp, BootTarget::Cd, BootTarget::Disk][index];
        let mut boot = Boot::read(&json!({}));
        boot.mode = mode;
        let set = boot.patch(boot.word_for(target).unwrap());
        prop_assert!(Boot::read(&set["Boot"]).fits(target));
    }
}
