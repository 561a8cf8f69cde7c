//! What `ipmitool` 1.8.19 prints, as recorded against `virtualbmc` 3.3.0, and a tool that behaves badly.

use std::os::unix::fs::PermissionsExt;

use super::*;

const NOISE: &str = "Loading IANA PEN Registry...
Running Get VSO Capabilities my_addr 0x20, transit 0, target 0x20
Invalid completion code received: Invalid command
Discovered IPMB address 0x0
";

fn means(said: &str) -> PowerError {
    refusal(&format!("{NOISE}{said}"), "ada", "10.0.0.7")
}

#[test]
fn a_wrong_password_and_a_dead_bmc_are_told_apart() {
    for said in [
        "> RAKP 2 HMAC is invalid\nError: Unable to establish IPMI v2 / RMCP+ session\n",
        "> Error: no response from RAKP 1 message\nSet Session Privilege Level to ADMINISTRATOR failed\nError: Unable to establish IPMI v2 / RMCP+ session\n",
        "RAKP 2 message indicates an error : unauthorized name\nError: Unable to establish IPMI v2 / RMCP+ session\n",
    ] {
        assert!(
            matches!(means(said), PowerError::LoginRefused { .. }),
            "{said}"
        );
    }
    let dead = means("Error: Unable to establish IPMI v2 / RMCP+ session\n");
    assert!(dead.may_pass(), "{dead}");
    let old = means(
        "Authentication algorithm 0x01 is not what we requested 0x03\nError: Unable to establish IPMI v2 / RMCP+ session\n",
    );
    assert!(old.to_string().contains("--cipher 3"), "{old}");
    let cannot =
        means("Set Chassis Power Control to Cycle failed: Invalid data field in request\n");
    assert!(matches!(cannot, PowerError::Refused(_)), "{cannot}");
    // The same words in what -v always tells mean nothing.
    assert!(means("").may_pass());
}

#[test]
fn states_and_overrides_are_read() {
    assert_eq!(read_state("Chassis Power is on\n"), PowerState::On);
    assert_eq!(read_state("Chassis Power is off\n"), PowerState::Off);
    assert_eq!(
        read_state("Chassis Power is on fire\n"),
        PowerState::Unclear
    );
    assert_eq!(read_state(""), PowerState::Unclear);
    let answer = |selector: &str, lasts: &str, valid: &str| {
        format!(
            "Boot parameter version: 1\nBoot parameter 5 is valid/unlocked\nBoot parameter data: 8004000000\n Boot Flags :\n   - Boot Flag {valid}\n   - Options apply to {lasts}\n   - BIOS PC Compatible (legacy) boot \n   - Boot Device Selector : {selector}\n"
        )
    };
    let once = BootOverride {
        target: BootTarget::Pxe,
        lasts: Lasts::Once,
    };
    assert_eq!(
        read_boot(&answer("Force PXE", "only next boot", "Valid")),
        once
    );
    let always = BootOverride {
        target: BootTarget::Pxe,
        lasts: Lasts::UntilChanged,
    };
    assert_eq!(
        read_boot(&answer("Force PXE", "all future boots", "Valid")),
        always
    );
    let disk = read_boot(&answer(
        "Force Boot from default Hard-Drive",
        "only next boot",
        "Valid",
    ));
    assert_eq!(disk.target, BootTarget::Disk);
    for usual in [
        answer("No override", "only next boot", "Valid"),
        answer("Force PXE", "only next boot", "Invalid"),
        String::new(),
    ] {
        assert_eq!(read_boot(&usual), BootOverride::USUAL, "{usual}");
    }
}

#[test]
fn a_password_is_no_argument_and_a_host_no_option() {
    let ipmi = Ipmi::new("10.0.0.7", 623, "ada", 17, "/state/bmc/1f2e".into());
    let all = ipmi.arguments(&["chassis", "power", "status"]).join(" ");
    assert!(all.contains("-f /state/bmc/1f2e"), "{all}");
    assert!(all.contains("-C 17") && !all.contains("-P"), "{all}");
    for bad in ["", "-x", "a b", "a;b", "$(x)", "a\n", &"a".repeat(254)] {
        assert!(check_host(bad).is_err(), "{bad:?}");
    }
    for good in ["10.0.0.7", "bmc-7.example", "::1", "fd00::7"] {
        assert!(check_host(good).is_ok(), "{good}");
    }
}

fn tool(folder: &std::path::Path, script: &str) -> Ipmi {
    let path = folder.join("tool");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    Ipmi::new("10.0.0.7", 623, "ada", 17, folder.join("secret")).with_tool(path)
}

#[tokio::test]
async fn a_tool_that_fails_or_talks_on_and_on_is_an_error_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut ipmi = tool(
        folder.path(),
        "env | grep -vE '^(PATH|LANG|HOME|PWD|SHLVL|_|OLDPWD)=' >&2 && exit 9; echo Chassis Power is on",
    );
    assert_eq!(
        ipmi.state().await.unwrap(),
        PowerState::On,
        "nothing else is in its environment"
    );
    let mut ipmi = tool(folder.path(), "yes 'Chassis Power is on'");
    let error = ipmi.state().await;
    assert!(error.is_err(), "{error:?}");
    let mut ipmi = tool(folder.path(), "echo 'Chassis Power is off'; exit 1");
    assert!(ipmi.state().await.unwrap_err().may_pass());
    let mut ipmi = tool(folder.path(), "x").with_tool(folder.path().join("none"));
    let absent = ipmi.state().await.unwrap_err();
    assert!(
        absent.to_string().contains("package `ipmitool`"),
        "{absent}"
    );
}
