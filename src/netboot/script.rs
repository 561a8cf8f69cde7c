//! iPXE scripts (ipxe.org/scripting), built from typed parts: what is not in a part's alphabet cannot
//! get into a script. No templates.
//!
//! Whatever is fetched is tried a bounded number of times with growing pauses; then the reason is
//! reported to the server, and the machine is left to its firmware or switched off.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::decide::Answer;
use crate::vocab::Digest;
use crate::vocab::boot::Mac;

/// What a machine does when the network cannot help it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GiveUp {
    /// The firmware's next entry.
    Firmware,
    PowerOff,
}

/// Pauses after each failed try, seconds. Six tries in 31 s: longer than a switch port takes to
/// forward (spanning tree's fast mode), shorter than a person's patience.
const PAUSES_S: [u32; 6] = [1, 2, 4, 8, 16, 0];

/// A text that its sink cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot stand in {sink} of an iPXE script: {why}")]
pub struct Unfit {
    text: String,
    sink: &'static str,
    why: &'static str,
}

fn fit(
    text: &str,
    sink: &'static str,
    why: &'static str,
    may: impl Fn(char) -> bool,
) -> Result<String, Unfit> {
    if !text.is_empty() && text.len() <= 1024 && text.chars().all(may) {
        return Ok(text.to_owned());
    }
    Err(Unfit {
        text: text.chars().take(80).collect(),
        sink,
        why,
    })
}

/// A URL of ours: RFC 3986's unreserved characters and what separates them. No `$`, which iPXE would
/// expand, no space, nothing that ends a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    pub fn new(text: &str) -> Result<Self, Unfit> {
        let url = fit(
            text,
            "a URL",
            "letters, digits and -._~/:?=% only, at most 1024",
            |c| c.is_ascii_alphanumeric() || "-._~/:?=%".contains(c),
        )?;
        if url.starts_with("http://") {
            return Ok(Self(url));
        }
        Err(Unfit {
            text: url.chars().take(80).collect(),
            sink: "a URL",
            why: "it must begin with http://",
        })
    }

    pub fn join(&self, path: &str) -> Result<Self, Unfit> {
        Self::new(&format!("{}{path}", self.0))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One word of a kernel command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelArgument(String);

impl KernelArgument {
    pub fn new(text: &str) -> Result<Self, Unfit> {
        fit(
            text,
            "a kernel argument",
            "letters, digits and -._:/=,@%+ only, at most 1024",
            |c| c.is_ascii_alphanumeric() || "-._:/=,@%+".contains(c),
        )
        .map(Self)
    }

    /// A command line's words.
    pub fn split(line: &str) -> Result<Vec<Self>, Unfit> {
        line.split_ascii_whitespace().map(Self::new).collect()
    }
}

/// Text for the machine's console. What does not fit is replaced, because it never decides anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    pub fn new(text: &str) -> Self {
        let kept: String = text
            .chars()
            .take(200)
            .map(|c| {
                if c.is_ascii_alphanumeric() || " -._:/,()".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        Self(kept)
    }
}

/// iPXE's own settings that a URL may carry (ipxe.org/cfg), each in a form that is safe in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Mac,
    Uuid,
    Serial,
    Product,
    Asset,
    Arch,
    Platform,
}

impl Setting {
    fn expansion(self) -> &'static str {
        match self {
            Self::Mac => "${netX/mac:hexhyp}",
            Self::Uuid => "${uuid}",
            Self::Serial => "${serial:uristring}",
            Self::Product => "${product:uristring}",
            Self::Asset => "${asset:uristring}",
            Self::Arch => "${buildarch}",
            Self::Platform => "${platform}",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Mac => "mac",
            Self::Uuid => "uuid",
            Self::Serial => "serial",
            Self::Product => "product",
            Self::Asset => "asset",
            Self::Arch => "arch",
            Self::Platform => "platform",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    GotScript,
    GotKernel,
    GotInitrd,
    Failed,
}

impl Label {
    fn word(self) -> &'static str {
        match self {
            Self::GotScript => "got_script",
            Self::GotKernel => "got_kernel",
            Self::GotInitrd => "got_initrd",
            Self::Failed => "failed",
        }
    }
}

/// A script under construction.
struct Script(String);

impl Script {
    fn new() -> Self {
        Self("#!ipxe\n".into())
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn say(&mut self, text: &Shown) {
        self.line(&format!("echo Greenroom: {}", text.0));
    }

    fn label(&mut self, label: Label) {
        self.line(&format!(":{}", label.word()));
    }

    /// Tries `command` with growing pauses; goes to `done` or falls through.
    fn insist(&mut self, command: &str, done: Label) {
        for pause in PAUSES_S {
            self.line(&format!("{command} && goto {} ||", done.word()));
            if pause > 0 {
                self.line(&format!("sleep {pause}"));
            }
        }
    }

    /// The reason goes to the server first, then the machine goes its way. Neither may fail the other.
    fn give_up(&mut self, report: &str, how: GiveUp) {
        self.line(&format!("imgfetch --timeout 5000 {report} ||"));
        self.line("imgfree ||");
        if how == GiveUp::PowerOff {
            self.line("poweroff ||");
        }
        self.line("exit 1");
    }
}

/// What a ramdisk is booted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ramdisk {
    /// Folder of `kernel` and `initrd`; the digest makes it another URL for each build.
    pub digest: Digest,
    pub cmdline: String,
}

/// Everything that scripts are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    pub base: Url,
    pub give_up: GiveUp,
    pub ramdisk: Option<Ramdisk>,
}

/// Where device scripts are, below the base URL; the address follows, with hyphens.
pub const DEVICES: &str = "/boot/device/";
/// Where the ramdisk is, below the base URL.
pub const RAMDISK: &str = "/boot/ramdisk/";

impl Scene {
    /// Everyone's first script: asks again, with what the machine knows of itself.
    pub fn first(&self) -> String {
        let mut url = format!("{}{DEVICES}{}", self.base, Setting::Mac.expansion());
        let claims = [
            Setting::Uuid,
            Setting::Serial,
            Setting::Product,
            Setting::Asset,
            Setting::Arch,
            Setting::Platform,
        ];
        for (index, claim) in claims.into_iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            url.push_str(&format!("{separator}{}={}", claim.key(), claim.expansion()));
        }
        let mut script = Script::new();
        // Without --replace the end of the second script would come back to here.
        script.insist(
            &format!("imgfetch --name device.ipxe {url}"),
            Label::GotScript,
        );
        script.give_up(&self.report_of_first(), self.give_up);
        script.label(Label::GotScript);
        script.line("chain --replace device.ipxe");
        script.0
    }

    fn report_of_first(&self) -> String {
        format!(
            "{}{DEVICES}{}/failed?at=script",
            self.base,
            Setting::Mac.expansion()
        )
    }

    /// The script of one device, for an answer of [`super::decide::decide`]. None: there is none.
    pub fn of_device(
        &self,
        mac: Mac,
        answer: &Answer,
        reason: &str,
    ) -> Result<Option<String>, Unfit> {
        let mut script = Script::new();
        match answer {
            Answer::Ramdisk => {
                let Some(ramdisk) = &self.ramdisk else {
                    return self
                        .wait(Script::new(), 30, "the device image is not built yet")
                        .map(Some);
                };
                self.boot(&mut script, mac, ramdisk)?;
            }
            Answer::OwnDisk => {
                script.say(&Shown::new(reason));
                script.line("exit 0");
            }
            Answer::Wait { seconds } => return self.wait(script, *seconds, reason).map(Some),
            _ => return Ok(None),
        }
        Ok(Some(script.0))
    }

    fn wait(&self, mut script: Script, seconds: u32, reason: &str) -> Result<String, Unfit> {
        let first = self.base.join(super::decide::FIRST_SCRIPT)?;
        script.say(&Shown::new(reason));
        script.line(&format!("sleep {seconds}"));
        script.insist(
            &format!("imgfetch --name first.ipxe {first}"),
            Label::GotScript,
        );
        script.give_up(&self.report_of_first(), self.give_up);
        script.label(Label::GotScript);
        script.line("chain --replace first.ipxe");
        Ok(script.0)
    }

    fn boot(&self, script: &mut Script, mac: Mac, ramdisk: &Ramdisk) -> Result<(), Unfit> {
        let folder = format!("{RAMDISK}{}/", ramdisk.digest);
        let kernel = self.base.join(&format!("{folder}kernel"))?;
        let initrd = self.base.join(&format!("{folder}initrd"))?;
        let mut arguments = KernelArgument::split(&ramdisk.cmdline)?;
        // UEFI's kernels find it by this name only.
        arguments.push(KernelArgument::new("initrd=initrd")?);
        arguments.push(KernelArgument::new(&format!(
            "greenroom.url={}",
            self.base
        ))?);
        arguments.push(KernelArgument::new(&format!(
            "greenroom.mac={}",
            mac.dashed()
        ))?);
        let words: Vec<String> = arguments.into_iter().map(|argument| argument.0).collect();
        let report = format!("{}{DEVICES}{}/failed?at=", self.base, mac.dashed());
        script.line("imgfree ||");
        script.insist(
            &format!("kernel --name kernel {kernel} {}", words.join(" ")),
            Label::GotKernel,
        );
        script.give_up(&format!("{report}kernel"), self.give_up);
        script.label(Label::GotKernel);
        script.insist(&format!("initrd --name initrd {initrd}"), Label::GotInitrd);
        script.give_up(&format!("{report}initrd"), self.give_up);
        script.label(Label::GotInitrd);
        script.line(&format!("boot || goto {}", Label::Failed.word()));
        script.label(Label::Failed);
        script.give_up(&format!("{report}boot"), self.give_up);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scene(give_up: GiveUp) -> Scene {
        Scene {
            base: Url::new("http://192.0.2.1:8480").unwrap(),
            give_up,
            ramdisk: Some(Ramdisk {
                digest: Digest::of(b"image"),
                cmdline: "console=ttyS0 quiet".into(),
            }),
        }
    }

    fn mac() -> Mac {
        Mac([0x52, 0x54, 0, 1, 2, 3])
    }

    #[test]
    fn the_first_script_asks_again_with_the_address() {
        insta::assert_snapshot!(scene(GiveUp::Firmware).first());
    }

    #[test]
    fn the_ramdisk_is_fetched_insistently() {
        let script = scene(GiveUp::PowerOff)
            .of_device(mac(), &Answer::Ramdisk, "new")
            .unwrap()
            .unwrap();
        insta::assert_snapshot!(script);
    }

    #[test]
    fn a_device_with_its_own_disk_leaves() {
        let script = scene(GiveUp::Firmware)
            .of_device(mac(), &Answer::OwnDisk, "its image is on its disk (booted)")
            .unwrap()
            .unwrap();
        insta::assert_snapshot!(script);
    }

    #[test]
    fn nothing_gets_out_of_its_sink() {
        for text in [
            "http://a/${evil}",
            "http://a/ b",
            "http://a/\nexit",
            "http://a/|b",
            "ftp://a/",
            "",
            "http://a/#x",
            "http://a/&&b",
        ] {
            assert!(Url::new(text).is_err(), "{text}");
        }
        for text in ["a b", "a\nb", "${x}", "a|b", "a&b", "a;b", "a#b", "\"", "'"] {
            assert!(KernelArgument::new(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// A reason comes from names that strangers chose.
        #[test]
        fn a_reason_adds_no_command(reason: String, seconds in 0_u32..100) {
            let scene = scene(GiveUp::Firmware);
            for answer in [Answer::OwnDisk, Answer::Wait { seconds }] {
                let plain = scene.of_device(mac(), &answer, "x").unwrap().unwrap();
                let told = scene.of_device(mac(), &answer, &reason).unwrap().unwrap();
                prop_assert_eq!(plain.lines().count(), told.lines().count());
                prop_assert!(told.is_ascii());
                let shown = told.lines().find(|line| line.starts_with("echo")).unwrap();
                prop_assert!(!shown.contains(['$', '|', '&', '#', '\\', '`']));
            }
        }
    }
}
