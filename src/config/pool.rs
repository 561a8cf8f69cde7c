//! Section `pool`: machines that wait before they are asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigFault;
use crate::vocab::device::is_plain_name;
use crate::vocab::pool::{Class, Target, Tier, TrustDomain};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolConfig {
    /// Without the pool every machine boots.
    pub enabled: bool,
    /// Memory that all waiting machines together may take, MiB; a quarter of the host's when not
    /// given.
    pub budget_mib: Option<u64>,
    /// A machine that waited for so long is replaced, such as `30m`.
    pub max_age: String,
    /// Memory that can be added to a machine when it is claimed, MiB, in steps of 128.
    pub growth_mib: u64,
    /// Trust domain of each client that does not have one of its own name: clients of one domain
    /// share memory pages of templates.
    pub trust: BTreeMap<String, String>,
    /// What is kept ready from the first start on. What `pool set` said of a class goes before it.
    pub targets: Vec<PoolTarget>,
}

/// Either a class or an image, and what is wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolTarget {
    /// Such as `toolbox:2x1024+net`.
    pub class: Option<String>,
    /// With 1 vCPU and the smallest memory with which it boots.
    pub image: Option<String>,
    /// How many wait in memory.
    pub hot: u32,
    /// `warm` keeps a template, `cool` keeps none; `warm` when not given.
    pub floor: Option<String>,
}

/// A target as it is applied at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartTarget {
    pub of: TargetOf,
    pub target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetOf {
    Class(Class),
    /// Its smallest memory is known only when it is built.
    Image(String),
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            budget_mib: None,
            max_age: "30m".into(),
            growth_mib: 4096,
            trust: BTreeMap::new(),
            targets: Vec::new(),
        }
    }
}

/// Not even one small shell fits into less.
const LEAST_BUDGET_MIB: u64 = 64;
/// 1 TiB: beyond what a guest's address space keeps free for it.
const MOST_GROWTH_MIB: u64 = 1 << 20;
/// virtio-mem adds memory in blocks; 128 MiB is what Linux guests can take anywhere (the size of
/// their memory sections on x86_64).
const GROWTH_STEP_MIB: u64 = 128;
const MOST_HOT: u32 = 10_000;

impl PoolConfig {
    pub(super) fn check(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut add = |key: &str, message: String| {
            faults.push(ConfigFault::new(format!("pool.{key}"), message));
        };
        if let Some(budget) = self.budget_mib
            && budget < LEAST_BUDGET_MIB
        {
            let message = format!(
                "{budget} is less than one waiting machine takes; give at least {LEAST_BUDGET_MIB}, or set pool.enabled to false"
            );
            add("budget_mib", message);
        }
        match span(&self.max_age) {
            None => add(
                "max_age",
                format!(
                    "{:?} is not a span of time such as 90s, 30m or 1h30m",
                    self.max_age
                ),
            ),
            Some(age) if !(60..=7 * 86_400).contains(&age.as_secs()) => add(
                "max_age",
                format!("{:?} is not within 1m and 168h", self.max_age),
            ),
            Some(_) => {}
        }
        if !self.growth_mib.is_multiple_of(GROWTH_STEP_MIB) || self.growth_mib > MOST_GROWTH_MIB {
            let above = self
                .growth_mib
                .min(MOST_GROWTH_MIB)
                .next_multiple_of(GROWTH_STEP_MIB);
            add(
                "growth_mib",
                format!(
                    "{} is not a multiple of {GROWTH_STEP_MIB} up to {MOST_GROWTH_MIB}; {above} is",
                    self.growth_mib
                ),
            );
        }
        for (client, domain) in &self.trust {
            for (what, name) in [("client", client), ("trust domain", domain)] {
                if !is_plain_name(name) {
                    let message = format!(
                        "{name:?} is not a {what}'s name (letters, digits, `.`, `_`, `-`, at most 64)"
                    );
                    add(&format!("trust.{client}"), message);
                }
            }
        }
        let mut seen: Vec<TargetOf> = Vec::new();
        for (index, target) in self.targets.iter().enumerate() {
            match target.read() {
                Ok(read) if seen.contains(&read.of) => add(
                    &format!("targets[{index}]"),
                    "the same is named before; give each once".to_owned(),
                ),
                Ok(read) => seen.push(read.of),
                Err(why) => {
                    for (key, message) in why {
                        add(&format!("targets[{index}]{key}"), message);
                    }
                }
            }
        }
        faults
    }

    /// What all shells together may take, MiB; 0 switches the pool off.
    pub fn budget_mib(&self, host_memory_mib: u64) -> u64 {
        match (self.enabled, self.budget_mib) {
            (false, _) => 0,
            (true, Some(budget)) => budget,
            (true, None) => (host_memory_mib / 4).max(LEAST_BUDGET_MIB),
        }
    }

    pub fn max_age(&self) -> Duration {
        // Checked before anybody asks.
        span(&self.max_age).unwrap_or(Duration::from_secs(1800))
    }

    pub fn trust(&self) -> BTreeMap<String, TrustDomain> {
        self.trust
            .iter()
            .map(|(client, domain)| (client.clone(), TrustDomain(domain.clone())))
            .collect()
    }

    /// What is wanted from the first start on; nothing where the pool is switched off.
    pub fn start_targets(&self) -> Vec<StartTarget> {
        if !self.enabled {
            return Vec::new();
        }
        let read = |target: &PoolTarget| target.read().ok();
        self.targets.iter().filter_map(read).collect()
    }
}

impl PoolTarget {
    /// All faults, each with the rest of its key.
    fn read(&self) -> Result<StartTarget, Vec<(&'static str, String)>> {
        let mut faults = Vec::new();
        let of = match (&self.class, &self.image) {
            (Some(class), None) => match class.parse() {
                Ok(class) => Some(TargetOf::Class(class)),
                Err(error) => {
                    faults.push((".class", format!("{error}")));
                    None
                }
            },
            (None, Some(image)) if is_plain_name(image) => Some(TargetOf::Image(image.clone())),
            (None, Some(image)) => {
                let message = format!("{image:?} is not an image's name; a class goes under class");
                faults.push((".image", message));
                None
            }
            (Some(_), Some(_)) | (None, None) => {
                let message =
                    "give either class (such as toolbox:2x1024+net) or image (its smallest class)";
                faults.push(("", message.to_owned()));
                None
            }
        };
        if self.hot > MOST_HOT {
            faults.push((".hot", format!("{} is more than {MOST_HOT}", self.hot)));
        }
        let floor = match self.floor.as_deref() {
            None | Some("warm") => Tier::Warm,
            Some("cool") => Tier::Cool,
            Some(other) => {
                let message = format!(
                    "{other:?} is no floor; \"warm\" keeps a template, \"cool\" keeps none"
                );
                faults.push((".floor", message));
                Tier::Warm
            }
        };
        match of {
            Some(of) if faults.is_empty() => Ok(StartTarget {
                of,
                target: Target {
                    hot: self.hot,
                    floor,
                },
            }),
            _ => Err(faults),
        }
    }
}

/// A span of time as people write it; none where it is not one, or is negative.
fn span(text: &str) -> Option<Duration> {
    let span: jiff::SignedDuration = text.parse().ok()?;
    span.try_into().ok()
}
