//! The identity transaction of a fork, done natively.
//!
//! The pool gives each fork its host name, machine id and clock with one script, which needs more of a
//! shell than is simulated. It is recognised by its first line, [`MARKER`]; what it would do and print
//! is done here: `$1` host name, `$2` machine id (32 hexadecimal digits), `$3` seconds of the epoch,
//! or nothing to leave the clock. Prints one `name=value` a line.

use std::collections::HashMap;

use tokio::time::Instant;

use super::kernel::Kernel;

pub const MARKER: &str = "# greenroom-identity 1";

pub const MACHINE_ID: &str = "/etc/machine-id";
pub const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key.pub";

/// The script's arguments, where a command's arguments (without the program) are this script's.
pub fn arguments(words: &[String]) -> Option<[&str; 3]> {
    let [flag, text, _name, rest @ ..] = words else {
        return None;
    };
    if flag != "-c" || text.lines().next() != Some(MARKER) {
        return None;
    }
    let at = |n: usize| rest.get(n).map_or("", String::as_str);
    Some([at(0), at(1), at(2)])
}

/// What the script prints, or its complaint.
pub fn transact(
    [host_name, machine_id, epoch_s]: [&str; 3],
    kernel: &mut Kernel,
    files: &mut HashMap<String, Vec<u8>>,
    now: Instant,
) -> Result<String, String> {
    if host_name.is_empty() {
        return Err("identity: a host name is missing".into());
    }
    if machine_id.len() != 32 || !machine_id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("identity: {machine_id:?} is no machine id"));
    }
    if !epoch_s.is_empty() {
        let seconds = epoch_s
            .parse()
            .map_err(|_| format!("identity: {epoch_s:?} is no whole number of seconds"))?;
        kernel.set_clock(seconds, now);
    }
    kernel.host_name = host_name.to_owned();
    files.insert("/etc/hostname".into(), format!("{host_name}\n").into());
    files.insert(MACHINE_ID.into(), format!("{machine_id}\n").into());
    let mut lines = vec![
        format!("host_name={host_name}"),
        format!("machine_id={machine_id}"),
        format!("draw={}", kernel.draw()),
        format!("reseeded={}", if kernel.reseeded() { "yes" } else { "no" }),
        format!("vcpus={}", kernel.vcpus),
        format!("memory_mib={}", kernel.mem_total_kib() >> 10),
    ];
    lines.extend(kernel.nics.iter().map(|mac| format!("mac={mac}")));
    if files.contains_key(HOST_KEY) {
        let key = format!("ssh-ed25519 {}", hex::encode(kernel.random.bytes(32)));
        files.insert(HOST_KEY.into(), format!("{key}\n").into());
        lines.push(format!("key={key}"));
    }
    Ok(lines.join("\n") + "\n")
}
