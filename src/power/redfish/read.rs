//! What Redfish answers mean: JSON in, our words out. Pure.
//!
//! The schemas are DMTF's DSP8010 (ComputerSystem, ServiceRoot, VirtualMedia), the protocol DSP0266.
//! Everything is optional here that a real BMC has been seen to leave out; what is needed and missing is an
//! error that names the property. Links are taken from the answers and never made up.

use std::fmt;

use serde_json::{Value, json};

use crate::power::{PowerError, quoted};
use crate::vocab::power::{BootOverride, BootTarget, Lasts, PowerState};

/// Most members of a collection that are looked at.
pub const MOST_MEMBERS: usize = 256;

/// A path on the BMC, as its own answers name it: begins with one `/`, and has nothing in it that would
/// change the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link(String);

/// Where every Redfish service begins (DSP0266, 6.3): the one path that is not taken from an answer.
pub const ROOT: &str = "/redfish/v1/";

impl Link {
    pub fn root() -> Self {
        Self(ROOT.to_owned())
    }

    /// A path; an address of another host is none.
    pub fn parse(text: &str) -> Result<Self, PowerError> {
        let is_path = text.starts_with('/')
            && !text.starts_with("//")
            && text.len() <= 1024
            && text
                .chars()
                .all(|c| c.is_ascii_graphic() && !matches!(c, '\\' | '"' | '<' | '>'));
        if !is_path {
            return Err(PowerError::Untrusted(format!(
                "the BMC names {:?} where a path of its own is expected; it was not followed",
                quoted(text)
            )));
        }
        // A fragment names a part of a document, and is not sent.
        let path = text.split('#').next().unwrap_or(text);
        Ok(Self(path.to_owned()))
    }

    /// The link that `{"@odata.id": …}` at this place holds.
    fn at(value: &Value) -> Option<Result<Self, PowerError>> {
        value["@odata.id"].as_str().map(Self::parse)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part: what most BMCs use as the id.
    pub fn name(&self) -> &str {
        self.0
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or("")
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The service root.
#[derive(Debug, PartialEq, Eq)]
pub struct Root {
    pub systems: Link,
    /// Where a session is made; none: there are none, and each request carries the password.
    pub sessions: Option<Link>,
    pub product: String,
}

impl Root {
    pub fn read(value: &Value) -> Result<Self, PowerError> {
        let systems = Link::at(&value["Systems"])
            .ok_or_else(|| missing("Systems", "the service root; is this a Redfish BMC?"))??;
        let word = |key: &str| value[key].as_str().map(quoted).unwrap_or_default();
        let product = format!(
            "{} {} Redfish {}",
            word("Vendor"),
            word("Product"),
            word("RedfishVersion")
        );
        Ok(Self {
            systems,
            sessions: Link::at(&value["Links"]["Sessions"]).transpose()?,
            product: quoted(&product),
        })
    }
}

/// Members of a collection, and the rest of it where it comes in parts.
pub fn members(value: &Value) -> Result<(Vec<Link>, Option<Link>), PowerError> {
    let all = value["Members"]
        .as_array()
        .ok_or_else(|| missing("Members", "a collection"))?;
    let links: Result<Vec<Link>, PowerError> =
        all.iter().take(MOST_MEMBERS).filter_map(Link::at).collect();
    let next = value["Members@odata.nextLink"].as_str().map(Link::parse);
    Ok((links?, next.transpose()?))
}

/// A computer system, as far as power and boot order go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    pub link: Link,
    pub id: String,
    pub name: String,
    pub uuid: String,
    pub serial: String,
    pub product: String,
    pub state: PowerState,
    pub boot: Boot,
    pub reset: Option<Reset>,
    /// Where what holds from the next start on is set, on BMCs that want it there (DSP0266, 9.10).
    pub settings: Option<Link>,
    pub media: Option<Link>,
    /// Tag of this state, from the document; the header's has precedence.
    pub etag: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    pub now: BootOverride,
    /// `UEFI` or `Legacy`, where it is said.
    pub mode: Option<String>,
    /// None: it is not said what is allowed.
    pub targets: Option<Vec<String>>,
    /// Durations that are allowed.
    pub lasts: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    pub target: Link,
    pub allowed: Option<Vec<String>>,
    /// Where it is said what is allowed, when it is not said here.
    pub info: Option<Link>,
}

impl System {
    pub fn read(value: &Value, from: &Link) -> Result<Self, PowerError> {
        if !value.is_object() {
            return Err(missing("an object", "a computer system"));
        }
        let word = |key: &str| value[key].as_str().map(quoted).unwrap_or_default();
        // Its own name for itself counts, where it has one: it may be reached by more than one path.
        let link = Link::at(value).transpose()?.unwrap_or_else(|| from.clone());
        let media = [&value["VirtualMedia"], &value["Links"]["VirtualMedia"]];
        Ok(Self {
            id: value["Id"]
                .as_str()
                .map_or_else(|| link.name().to_owned(), quoted),
            link,
            name: word("Name"),
            uuid: word("UUID"),
            serial: word("SerialNumber"),
            product: quoted(&format!("{} {}", word("Manufacturer"), word("Model"))),
            state: state(&value["PowerState"]),
            boot: Boot::read(&value["Boot"]),
            reset: Reset::read(&value["Actions"]["#ComputerSystem.Reset"])?,
            settings: Link::at(&value["@Redfish.Settings"]["SettingsObject"]).transpose()?,
            media: media.into_iter().find_map(Link::at).transpose()?,
            etag: value["@odata.etag"].as_str().and_then(etag),
        })
    }

    /// Whether this is the one that a person means.
    pub fn is_called(&self, name: &str) -> bool {
        [&self.id, &self.uuid, &self.serial, &self.name]
            .into_iter()
            .any(|own| !own.is_empty() && own.eq_ignore_ascii_case(name))
            || self.link.name() == name
            || self.link.as_str() == name
    }

    /// For a list from which a person chooses.
    pub fn says(&self) -> String {
        match self.name.is_empty() || self.name == self.id {
            true => self.id.clone(),
            false => format!("{} ({})", self.id, self.name),
        }
    }
}

/// An entity tag that may stand in a header (RFC 9110, 8.8.3).
pub fn etag(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= 256 && text.chars().all(|c| c.is_ascii_graphic());
    fits.then(|| text.to_owned())
}

fn state(value: &Value) -> PowerState {
    match value.as_str() {
        Some("On") => PowerState::On,
        Some("Off") => PowerState::Off,
        Some("PoweringOn") => PowerState::Rising,
        Some("PoweringOff") => PowerState::Falling,
        _ => PowerState::Unclear,
    }
}

fn words(value: &Value) -> Option<Vec<String>> {
    let all = value.as_array()?.iter().take(MOST_MEMBERS);
    Some(all.filter_map(Value::as_str).map(quoted).collect())
}

impl Boot {
    pub fn read(value: &Value) -> Self {
        let target = match value["BootSourceOverrideTarget"].as_str() {
            Some("Pxe") => BootTarget::Pxe,
            Some("UefiHttp") => BootTarget::UefiHttp,
            Some("Cd") => BootTarget::Cd,
            Some("Hdd") => BootTarget::Disk,
            Some("None") | None => BootTarget::Usual,
            Some(_) => BootTarget::Other,
        };
        let lasts = match value["BootSourceOverrideEnabled"].as_str() {
            Some("Once") => Lasts::Once,
            Some("Continuous") => Lasts::UntilChanged,
            _ => Lasts::Never,
        };
        let now = match target {
            BootTarget::Usual => BootOverride::USUAL,
            target => BootOverride { target, lasts },
        };
        Self {
            now,
            mode: value["BootSourceOverrideMode"]
                .as_str()
                .filter(|mode| matches!(*mode, "UEFI" | "Legacy"))
                .map(str::to_owned),
            targets: words(&value["BootSourceOverrideTarget@Redfish.AllowableValues"]),
            lasts: words(&value["BootSourceOverrideEnabled@Redfish.AllowableValues"]),
        }
    }

    /// Redfish's word for a target that this BMC allows; [`BootTarget::Pxe`] stands for the network, however
    /// it is reached. A BMC that does not say what it allows is asked and read back.
    pub fn word_for(&self, target: BootTarget) -> Result<&'static str, PowerError> {
        let wanted: &[&'static str] = match target {
            BootTarget::Pxe => &["Pxe", "UefiHttp"],
            BootTarget::UefiHttp => &["UefiHttp"],
            BootTarget::Cd => &["Cd"],
            BootTarget::Disk => &["Hdd"],
            BootTarget::Usual | BootTarget::Other => &["None"],
        };
        let Some(allowed) = &self.targets else {
            return Ok(wanted[0]);
        };
        // "None" is always allowed, and many do not list it.
        let fits = |word: &&&str| **word == "None" || allowed.iter().any(|one| one == **word);
        wanted.iter().find(fits).copied().ok_or_else(|| {
            PowerError::Refused(format!(
                "the BMC cannot boot from {}; it allows {}",
                target.word(),
                allowed.join(", ")
            ))
        })
    }

    /// The body that sets the next boot. The mode is said as it is: without it some BMCs fall back to
    /// Legacy.
    pub fn patch(&self, word: &str) -> Value {
        let lasts = match (word, &self.lasts) {
            ("None", _) => "Disabled",
            (_, Some(allowed))
                if !allowed.iter().any(|one| one == "Once")
                    && allowed.iter().any(|one| one == "Continuous") =>
            {
                "Continuous"
            }
            _ => "Once",
        };
        let mut boot = json!({ "BootSourceOverrideEnabled": lasts });
        if word != "None" {
            boot["BootSourceOverrideTarget"] = json!(word);
            if let Some(mode) = &self.mode {
                boot["BootSourceOverrideMode"] = json!(mode);
            }
        }
        json!({ "Boot": boot })
    }

    /// What the BMC says fits what was asked for.
    pub fn fits(&self, target: BootTarget) -> bool {
        match target {
            BootTarget::Pxe => self.now.is_network(),
            BootTarget::Usual | BootTarget::Other => self.now.lasts == Lasts::Never,
            target => self.now.target == target && self.now.lasts != Lasts::Never,
        }
    }
}

impl Reset {
    fn read(value: &Value) -> Result<Option<Self>, PowerError> {
        let Some(target) = value["target"].as_str() else {
            return Ok(None);
        };
        Ok(Some(Self {
            target: Link::parse(target)?,
            allowed: words(&value["ResetType@Redfish.AllowableValues"]),
            info: value["@Redfish.ActionInfo"]
                .as_str()
                .map(Link::parse)
                .transpose()?,
        }))
    }

    /// The first of these words that the BMC allows; the first of all where it does not say.
    pub fn word(&self, wanted: &[&'static str]) -> Result<&'static str, PowerError> {
        let Some(allowed) = &self.allowed else {
            return Ok(wanted[0]);
        };
        let allows = |word: &&&str| allowed.iter().any(|one| one == **word);
        wanted.iter().find(allows).copied().ok_or_else(|| {
            PowerError::Refused(format!(
                "the BMC knows none of {}; it allows {}",
                wanted.join(", "),
                allowed.join(", ")
            ))
        })
    }

    pub fn allows(&self, word: &str) -> bool {
        self.allowed
            .as_ref()
            .is_none_or(|allowed| allowed.iter().any(|one| one == word))
    }
}

/// What an action's information says it allows (ActionInfo of DSP8010).
pub fn allowed_by_info(value: &Value) -> Option<Vec<String>> {
    value["Parameters"]
        .as_array()?
        .iter()
        .find(|parameter| parameter["Name"] == "ResetType")
        .and_then(|parameter| words(&parameter["AllowableValues"]))
}

/// A drive of the BMC into which an image can be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    pub is_optical: bool,
    pub inserted: bool,
    pub image: Option<String>,
    pub insert: Option<Link>,
    pub eject: Option<Link>,
}

impl Drive {
    pub fn read(value: &Value) -> Result<Self, PowerError> {
        let action = |name: &str| {
            value["Actions"][name]["target"]
                .as_str()
                .map(Link::parse)
                .transpose()
        };
        let image = value["Image"].as_str().filter(|image| !image.is_empty());
        Ok(Self {
            is_optical: words(&value["MediaTypes"])
                .unwrap_or_default()
                .iter()
                .any(|kind| kind == "CD" || kind == "DVD"),
            // Some say the image and not whether it is in.
            inserted: value["Inserted"].as_bool().unwrap_or(image.is_some()),
            image: image.map(quoted),
            insert: action("#VirtualMedia.InsertMedia")?,
            eject: action("#VirtualMedia.EjectMedia")?,
        })
    }
}

/// What a BMC says about a failure, in one line (DSP0266, 8.6).
pub fn complaint(value: &Value) -> Option<String> {
    let error = &value["error"];
    let first = &error["@Message.ExtendedInfo"][0]["Message"];
    let said = [first, &error["message"], &value["message"]]
        .into_iter()
        .find_map(Value::as_str)?;
    Some(quoted(said))
}

fn missing(what: &str, place: &str) -> PowerError {
    PowerError::Unreachable(format!("the BMC's answer has no {what} in {place}"))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
