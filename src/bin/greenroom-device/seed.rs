//! What the delivered system needs to report by itself: this program, whom to report to, and a unit
//! that starts it. Written on the device, into its own root file system.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::http::Server;
use crate::report::{HOME, Settings};
use crate::sys::names;

const ROOT: &str = "/mnt";
const UNIT: &str = "\
[Unit]
Description=Reports how this device does
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/local/sbin/greenroom-device report
Restart=always
RestartSec=5
MemoryMax=64M
CPUQuota=20%
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
";

pub fn plant(disk: &str, server: &Server, token: &str) -> Result<(), String> {
    // The kernel shows the partitions a moment after it has read the table.
    for _ in 0..50 {
        for name in names(format!("/sys/block/{disk}")) {
            if !name.starts_with(disk) || !Path::new(&format!("/dev/{name}")).exists() {
                continue;
            }
            if mount(&name).is_ok() {
                let is_root = Path::new("/mnt/etc/os-release").exists()
                    && Path::new("/mnt/etc/systemd/system").is_dir();
                let result = if is_root {
                    write(server, token)
                } else {
                    Ok(())
                };
                let _ = Command::new("/bin/umount").arg(ROOT).status();
                result?;
                if is_root {
                    return Ok(());
                }
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("no partition of the image has a root file system with systemd".to_owned())
}

fn mount(name: &str) -> Result<(), String> {
    let status = Command::new("/bin/mount")
        .args(["-t", "ext4", "-o", "nodev,nosuid,noexec"])
        .args([&format!("/dev/{name}"), ROOT])
        .stderr(std::process::Stdio::null())
        .status()
        .map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{name} is not ext4"))
    }
}

fn write(server: &Server, token: &str) -> Result<(), String> {
    let steps = || -> std::io::Result<()> {
        let program = format!("{ROOT}/usr/local/sbin/greenroom-device");
        fs::create_dir_all(format!("{ROOT}/usr/local/sbin"))?;
        fs::copy("/proc/self/exe", &program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        fs::create_dir_all(format!("{ROOT}{HOME}"))?;
        let settings = Settings {
            url: server.url(),
            token: token.to_owned(),
        };
        let path = format!("{ROOT}{HOME}/device.json");
        let _ = fs::remove_file(&path);
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        serde_json::to_writer(&file, &settings)?;
        file.sync_all()?;
        let units = format!("{ROOT}/etc/systemd/system");
        fs::write(format!("{units}/greenroom-report.service"), UNIT)?;
        fs::create_dir_all(format!("{units}/multi-user.target.wants"))?;
        let link = format!("{units}/multi-user.target.wants/greenroom-report.service");
        let _ = fs::remove_file(&link);
        symlink("/etc/systemd/system/greenroom-report.service", &link)
    };
    steps().map_err(|error| error.to_string())
}
