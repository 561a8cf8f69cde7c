//! The pool's nouns: classes, templates, shells, claims.
//!
//! A *shell* is a machine made ahead of need from a *template*. Everything about what it could become
//! is its *class*; shells and templates of one class are interchangeable.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::device::is_plain_name;
use super::machine::EngineKind;
use super::{Digest, MachineId, Timestamp};

/// What shells are interchangeable: written `IMAGE[:VCPUSxMEMORY][+net][@TRUST]`, such as
/// `toolbox:2x1024+net@acme`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Class {
    pub image: String,
    /// vCPUs that are present; a machine that needs fewer gets a quota.
    pub vcpus: u32,
    /// The floor; a machine that needs more gets it added while it is paused.
    pub memory_mib: u64,
    /// A network card of its own, attached while the shell is made.
    pub network: bool,
    /// Shells share a template's memory only inside one trust domain.
    pub trust: TrustDomain,
}

/// Clients that may share memory pages of a template. A lower-case name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrustDomain(pub String);

impl Default for TrustDomain {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            image,
            vcpus,
            memory_mib,
            network,
            trust,
        } = self;
        write!(f, "{image}:{vcpus}x{memory_mib}")?;
        if *network {
            f.write_str("+net")?;
        }
        if *trust != TrustDomain::default() {
            write!(f, "@{}", trust.0)?;
        }
        Ok(())
    }
}

/// Why a text is no class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no class of shells: expected IMAGE:VCPUSxMEMORY, optionally followed by +net and @TRUST, such as toolbox:2x1024+net ({why})"
)]
pub struct NoClass {
    pub text: String,
    pub why: &'static str,
}

impl FromStr for Class {
    type Err = NoClass;

    fn from_str(text: &str) -> Result<Self, NoClass> {
        let wrong = |why| NoClass {
            text: text.to_owned(),
            why,
        };
        let (rest, trust) = match text.split_once('@') {
            Some((rest, trust)) => (rest, TrustDomain(trust.to_owned())),
            None => (text, TrustDomain::default()),
        };
        let (rest, network) = match rest.strip_suffix("+net") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (image, size) = rest
            .split_once(':')
            .ok_or_else(|| wrong("there is no size"))?;
        let (vcpus, memory) = size
            .split_once('x')
            .ok_or_else(|| wrong("the size has no \"x\""))?;
        let vcpus = vcpus
            .parse()
            .ok()
            .filter(|vcpus| (1..=255).contains(vcpus))
            .ok_or_else(|| wrong("vCPUs are a number from 1 to 255"))?;
        let memory_mib = memory
            .parse()
            .ok()
            .filter(|mib| (64..=1 << 24).contains(mib))
            .ok_or_else(|| wrong("memory is a number of MiB, at least 64"))?;
        if !is_plain_name(image) {
            return Err(wrong(
                "the image's name has other characters than a-z, 0-9 and \"-\"",
            ));
        }
        if !is_plain_name(&trust.0) {
            return Err(wrong(
                "the trust domain's name has other characters than a-z, 0-9 and \"-\"",
            ));
        }
        Ok(Self {
            image: image.to_owned(),
            vcpus,
            memory_mib,
            network,
            trust,
        })
    }
}

/// How ready a machine of a class is to be had, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// A shell waits in memory, warmed and paused.
    Hot,
    /// A template is there: fork on demand.
    Warm,
    /// The base image is on the local disk: clone and boot.
    Cool,
    /// The image has to be built or fetched first.
    Cold,
}

impl Tier {
    pub const ALL: [Self; 4] = [Self::Hot, Self::Warm, Self::Cool, Self::Cold];

    pub fn word(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cool => "cool",
            Self::Cold => "cold",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What somebody wants of a class: how many hot shells, or at least a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Hot shells to keep.
    pub hot: u32,
    /// The tier below which the class does not fall: `Warm` keeps a template, `Cool` keeps none.
    pub floor: Tier,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words!(
    /// `Building → Ready → Draining → Gone`, or `Building → Failed → Gone`.
    TemplateState {
        /// Its machine boots, settles, is warmed and captured.
        Building = "building",
        /// Sealed: shells are forked from it.
        Ready = "ready",
        /// No new shells; goes with the last one.
        Draining = "draining",
        /// It could not be made, or is not as it was sealed. Nothing is forked from it.
        Failed = "failed",
        /// Its files are removed.
        Gone = "gone",
    }
);

words!(
    /// `Filling → Ready → Claimed → Releasing → Gone`, or `Filling → Standby → Claimed …` for one that
    /// waits empty; from any state to `Releasing`.
    ShellState {
        /// Being forked, given its identity and warmed.
        Filling = "filling",
        /// Started and empty: a fork on demand loads the template into it.
        Standby = "standby",
        /// Paused, waiting for a claim.
        Ready = "ready",
        /// Somebody's. Used once: never back to `Ready`.
        Claimed = "claimed",
        /// Being destroyed.
        Releasing = "releasing",
        Gone = "gone",
    }
);

/// One generation of a class's template. Its id is also that of the machine it is captured from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    pub id: MachineId,
    pub class: Class,
    /// Counts the templates of the class, from 1.
    pub generation: i64,
    pub state: TemplateState,
    /// Digest over every effective input; another key means that it is out of date.
    pub key: Digest,
    /// What the key is made of, for people: name and value.
    pub inputs: Vec<(String, String)>,
    /// Sizes and digests of its files as sealed; none before.
    pub seal: Option<Seal>,
    /// Why it is draining or failed.
    pub reason: Option<String>,
    pub made_at: Timestamp,
    pub ready_at: Option<Timestamp>,
    /// How long building it took, milliseconds by phase, in order.
    pub phases: Vec<(String, f64)>,
}

/// A template's files as they were when they were made read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    pub memory: SealedFile,
    pub state: SealedFile,
    pub disk: SealedFile,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedFile {
    pub size_bytes: u64,
    /// Changes whenever somebody writes or replaces the file: inode and time of last modification.
    pub stamp: String,
    /// None where only a quick look was asked for.
    pub digest: Option<Digest>,
}

/// A machine of the pool. Its id is its libvirt domain's UUID.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shell {
    pub id: MachineId,
    /// In `virsh list`: `gr-shell-<image>-<serial>-<deployment>`.
    pub name: String,
    pub class: Class,
    pub template: MachineId,
    /// Counts all shells of this installation, from 1.
    pub serial: u32,
    pub state: ShellState,
    /// What its guest said of itself after it got its identity.
    pub identity: Option<Identity>,
    pub made_at: Timestamp,
    pub ready_at: Option<Timestamp>,
    pub gone_at: Option<Timestamp>,
    /// Proportional set size when last measured, MiB.
    pub pss_mib: Option<f64>,
    /// Key of the claim that has it, or had it.
    pub claim: Option<String>,
    /// Why it was thrown away unused, or what went wrong with it.
    pub reason: Option<String>,
    /// Milliseconds by phase, in order.
    pub phases: Vec<(String, f64)>,
}

/// What must be different in every shell, as its guest reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub host_name: String,
    pub machine_id: String,
    /// 128 bits that the guest drew after the fork.
    pub draw: String,
    pub mac: Option<String>,
    /// Fingerprints or contents of the host's public keys, where the image has any.
    #[serde(default)]
    pub keys: Vec<String>,
    /// The guest's kernel said that it reseeded because of the fork.
    pub reseeded: bool,
}

/// One taking of a shell. Idempotent by its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Chosen by the claimant; the same key gets the same shell.
    pub key: String,
    /// For people: `run 7, stage apply`.
    pub owner: String,
    /// On whose behalf.
    #[serde(default)]
    pub client: String,
    pub shell: MachineId,
    /// Name of the shell's domain.
    #[serde(default)]
    pub name: String,
    pub class: Class,
    pub engine: EngineKind,
    pub tier: Tier,
    /// Why this engine.
    pub reason: String,
    pub made_at: Timestamp,
    /// The shell is taken away then; none for claims that end with their owner.
    pub until: Option<Timestamp>,
    pub released_at: Option<Timestamp>,
    /// What the guest really has, where that was asked.
    pub achieved: Option<Achieved>,
    /// Where that is less than was wanted: how, in words.
    #[serde(default)]
    pub shortfall: Option<String>,
    /// Milliseconds by phase, in order.
    pub phases: Vec<(String, f64)>,
}

/// Size that a guest reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Achieved {
    pub vcpus: u32,
    pub memory_mib: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_written_and_read_back() {
        for text in [
            "tiny:1x128",
            "toolbox:2x1024+net@acme",
            "toolbox:1x512@acme",
        ] {
            let class: Class = text.parse().unwrap();
            assert_eq!(class.to_string(), text);
        }
        for text in [
            "tiny",
            "tiny:1",
            "tiny:0x128",
            "tiny:1x8",
            "ti ny:1x128",
            "tiny:1x128@",
            "tiny:1x128@A+net",
        ] {
            assert!(text.parse::<Class>().is_err(), "{text}");
        }
    }
}
