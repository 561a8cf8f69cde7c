//! Redfish (DMTF DSP0266): one computer system behind one BMC.
//!
//! The way to it is followed from the service root by the links of the answers. Changes carry the tag of
//! the state that they change (`If-Match`), and what was set is read back.

use async_trait::async_trait;
use hyper::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::read::{Boot, Link, MOST_MEMBERS, Root, System, allowed_by_info, members};
use self::wire::{Answer, Auth, Place, Wire};
use super::vault::Password;
use super::{Limits, PowerControl, PowerError};
use crate::vocab::power::{BmcTrust, BootOverride, BootTarget, Capabilities, Off, PowerState};

mod media;
pub mod read;
pub mod tls;
pub mod wire;

/// Changes of one resource that are tried because somebody else changed it between.
const MOST_CHANGES: usize = 4;

pub struct Redfish {
    wire: Wire,
    user: String,
    password: Password,
    wanted: Option<String>,
    /// Where this conversation's session is ended.
    session: Option<Link>,
    root: Option<Root>,
    system: Option<Link>,
}

impl Redfish {
    /// A conversation that begins with its first question.
    ///
    /// `system`: which one is meant where the BMC has several; None: the only one.
    pub fn new(
        url: &str,
        user: &str,
        password: Password,
        trust: &BmcTrust,
        system: Option<&str>,
        limits: Limits,
    ) -> Result<Self, PowerError> {
        let place = Place::parse(url, trust).map_err(PowerError::Untrusted)?;
        Ok(Self {
            wire: Wire::new(place, trust, limits)?,
            user: user.to_owned(),
            password,
            wanted: system.map(str::to_owned),
            session: None,
            root: None,
            system: None,
        })
    }

    /// Logs in, once per conversation. A refused login is not tried again.
    async fn enter(&mut self) -> Result<&Root, PowerError> {
        if self.root.is_none() {
            let answer = self
                .wire
                .ask(Method::GET, &Link::root(), None, None)
                .await?;
            // Some keep even the root to themselves, and then there is no link to make a session by.
            let root = match answer.status {
                401 | 403 => {
                    self.wire.auth = Auth::basic(&self.user, self.password.reveal());
                    let body = self.get(&Link::root()).await?.body;
                    Root::read(&body)?
                }
                _ => {
                    let root = Root::read(&self.heard(answer)?.body)?;
                    self.log_in(&root).await?;
                    root
                }
            };
            self.root = Some(root);
        }
        self.root
            .as_ref()
            .ok_or_else(|| PowerError::Unreachable("the BMC has no service root".into()))
    }

    async fn log_in(&mut self, root: &Root) -> Result<(), PowerError> {
        let Some(sessions) = &root.sessions else {
            self.wire.auth = Auth::basic(&self.user, self.password.reveal());
            return Ok(());
        };
        let order = json!({ "UserName": self.user, "Password": self.password.reveal() });
        let answer = self
            .wire
            .ask(Method::POST, sessions, Some(&order), None)
            .await?;
        match answer.status {
            200 | 201 => {
                let token = answer.header("x-auth-token").map(str::to_owned);
                let location = answer
                    .header("location")
                    .map(str::to_owned)
                    .or_else(|| answer.body["@odata.id"].as_str().map(str::to_owned));
                let token = token.ok_or_else(|| {
                    PowerError::Unreachable(
                        "the BMC made a session and gave no X-Auth-Token".into(),
                    )
                })?;
                self.wire.auth = Auth::Session(Zeroizing::new(token));
                self.session = location
                    .map(|location| self.wire.place().own(&location))
                    .transpose()?;
                Ok(())
            }
            // Linked, and not there: requests carry the password then.
            404 | 405 | 501 => {
                self.wire.auth = Auth::basic(&self.user, self.password.reveal());
                Ok(())
            }
            401 | 403 => Err(self.login_refused(&answer)),
            _ => self.heard(answer).map(|_| ()),
        }
    }

    fn login_refused(&self, answer: &Answer) -> PowerError {
        PowerError::LoginRefused {
            user: self.user.clone(),
            why: answer.says(),
        }
    }

    /// An answer that is a success, or what its status means.
    fn heard(&self, answer: Answer) -> Result<Answer, PowerError> {
        match answer.status {
            200..300 => Ok(answer),
            // The session ended meanwhile; that says nothing about the password.
            401 if matches!(self.wire.auth, Auth::Session(_)) => Err(PowerError::Unreachable(
                "the BMC ended the session in the middle".into(),
            )),
            401 => Err(self.login_refused(&answer)),
            403 => Err(PowerError::Refused(format!(
                "the BMC's user {} may not do this: {}",
                self.user,
                answer.says()
            ))),
            // Busy: with its own start, with the machine's, or with too many sessions.
            408 | 409 | 423 | 429 | 500.. => Err(PowerError::Unreachable(format!(
                "the BMC is busy or broken: {}",
                answer.says()
            ))),
            _ => Err(PowerError::Refused(format!(
                "the BMC refused: {}",
                answer.says()
            ))),
        }
    }

    async fn get(&mut self, link: &Link) -> Result<Answer, PowerError> {
        let answer = self.wire.ask(Method::GET, link, None, None).await?;
        self.heard(answer)
    }

    /// Follows a collection through all its parts.
    async fn collection(&mut self, link: &Link) -> Result<Vec<Link>, PowerError> {
        let (mut found, mut next) = (Vec::new(), Some(link.clone()));
        while let Some(link) = next.take().filter(|_| found.len() < MOST_MEMBERS) {
            let (links, more) = members(&self.get(&link).await?.body)?;
            if links.is_empty() {
                break;
            }
            found.extend(links);
            next = more;
        }
        Ok(found)
    }

    /// The system as it is now.
    async fn system(&mut self) -> Result<System, PowerError> {
        if let Some(link) = self.system.clone() {
            return self.look(&link).await;
        }
        let systems = self.enter().await?.systems.clone();
        let mut links = self.collection(&systems).await?;
        let wanted = self.wanted.clone();
        if let ([only], None) = (links.as_slice(), &wanted) {
            let system = self.look(only).await?;
            self.system = Some(system.link.clone());
            return Ok(system);
        }
        // Most ids stand in the link: that one first.
        links.sort_by_key(|link| Some(link.name()) != wanted.as_deref());
        let (mut names, mut trouble) = (Vec::new(), None);
        for link in &links {
            let system = match self.look(link).await {
                Ok(system) => system,
                // One that went meanwhile, or is broken, may be another than the one that is meant.
                Err(error @ (PowerError::Refused(_) | PowerError::Unreachable(_))) => {
                    trouble = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if wanted
                .as_ref()
                .is_some_and(|wanted| system.is_called(wanted))
            {
                self.system = Some(system.link.clone());
                return Ok(system);
            }
            names.push(system.says());
        }
        if let (Some(_), Some(trouble)) = (&wanted, trouble) {
            return Err(trouble);
        }
        let names = match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        };
        Err(PowerError::Refused(match wanted {
            Some(wanted) => format!("the BMC has no system {wanted:?}; it has {names}"),
            None => format!("the BMC has several systems, say which with --system: {names}"),
        }))
    }

    async fn look(&mut self, link: &Link) -> Result<System, PowerError> {
        let answer = self.get(link).await?;
        let mut system = System::read(&answer.body, link)?;
        system.etag = answer.etag().or(system.etag);
        Ok(system)
    }

    /// Asks for one of the kinds of reset, the first that the BMC allows.
    async fn reset(&mut self, wanted: &[&'static str]) -> Result<(), PowerError> {
        let system = self.system().await?;
        let mut reset = system.reset.ok_or_else(|| {
            PowerError::Refused("the BMC cannot switch this system: it names no reset".into())
        })?;
        if let (None, Some(info)) = (&reset.allowed, reset.info.clone()) {
            reset.allowed = allowed_by_info(&self.get(&info).await?.body);
        }
        let word = reset.word(wanted)?;
        let order = json!({ "ResetType": word });
        let answer = self
            .wire
            .ask(Method::POST, &reset.target, Some(&order), None)
            .await?;
        self.heard(answer).map(|_| ())
    }

    /// Changes a resource, on the condition that it is what was read. `make`: the change, from what was
    /// read.
    async fn change(
        &mut self,
        link: &Link,
        make: impl Fn(&Value) -> Result<Value, PowerError>,
    ) -> Result<(), PowerError> {
        let mut refused_tag: Option<String> = None;
        for _ in 0..MOST_CHANGES {
            let now = self.get(link).await?;
            let tag = now
                .etag()
                .or_else(|| now.body["@odata.etag"].as_str().and_then(read::etag));
            // A BMC that refuses its own tag compares strongly what it made weakly; then without the mark,
            // and with "whatever it is" when that does not help either. What was set is read back anyhow.
            let tag = match (tag, &refused_tag) {
                (Some(tag), Some(refused)) if tag == *refused => match tag.strip_prefix("W/") {
                    Some(strong) => Some(strong.to_owned()),
                    None => Some("*".to_owned()),
                },
                (Some(tag), Some(refused)) if tag.strip_prefix("W/") == Some(refused) => {
                    Some("*".to_owned())
                }
                (tag, _) => tag,
            };
            let order = make(&now.body)?;
            let answer = self
                .wire
                .ask(Method::PATCH, link, Some(&order), tag.as_deref())
                .await?;
            match answer.status {
                412 => refused_tag = tag,
                428 => refused_tag = None,
                _ => return self.heard(answer).map(|_| ()),
            }
        }
        Err(PowerError::Unreachable(format!(
            "{link} of the BMC is changed by somebody else all the time (HTTP 412, {MOST_CHANGES} times)"
        )))
    }

    async fn boot_now(&mut self) -> Result<Boot, PowerError> {
        Ok(self.system().await?.boot)
    }
}

#[async_trait]
impl PowerControl for Redfish {
    async fn capabilities(&mut self) -> Result<Capabilities, PowerError> {
        let system = self.system().await?;
        let product = self.enter().await?.product.clone();
        let mut reset = system.reset.clone();
        if let Some(reset) = reset.as_mut()
            && let (None, Some(info)) = (&reset.allowed, reset.info.clone())
        {
            reset.allowed = allowed_by_info(&self.get(&info).await?.body);
        }
        let allows = |word| reset.as_ref().is_some_and(|reset| reset.allows(word));
        let known = [
            (BootTarget::Pxe, "Pxe"),
            (BootTarget::UefiHttp, "UefiHttp"),
            (BootTarget::Cd, "Cd"),
            (BootTarget::Disk, "Hdd"),
        ];
        let targets = system.boot.targets.as_deref().unwrap_or_default();
        Ok(Capabilities {
            graceful_off: allows("GracefulShutdown"),
            cycle: allows("ForceRestart") || allows("PowerCycle"),
            boot_targets: known
                .into_iter()
                .filter(|(_, word)| targets.iter().any(|one| one == word))
                .map(|(target, _)| target)
                .collect(),
            virtual_media: system.media.is_some(),
            product: format!("{product}, {} {}", system.product, system.says()),
        })
    }

    async fn state(&mut self) -> Result<PowerState, PowerError> {
        Ok(self.system().await?.state)
    }

    async fn on(&mut self) -> Result<(), PowerError> {
        self.reset(&["On", "ForceOn", "PushPowerButton"]).await
    }

    async fn off(&mut self, how: Off) -> Result<(), PowerError> {
        match how {
            Off::Graceful => self.reset(&["GracefulShutdown"]).await,
            Off::Forced => self.reset(&["ForceOff"]).await,
        }
    }

    async fn cycle(&mut self) -> Result<(), PowerError> {
        match self.state().await? {
            PowerState::Off => self.on().await,
            _ => self.reset(&["ForceRestart", "PowerCycle"]).await,
        }
    }

    async fn boot_once(&mut self, from: BootTarget) -> Result<BootOverride, PowerError> {
        let system = self.system().await?;
        let word = system.boot.word_for(from)?;
        let make = |now: &Value| {
            let boot = match now["Boot"].is_object() {
                true => Boot::read(&now["Boot"]),
                false => system.boot.clone(),
            };
            Ok(boot.patch(word))
        };
        let set = self.change(&system.link, make).await;
        // Some take what holds from the next start on at another place only.
        match (set, &system.settings) {
            (Err(PowerError::Refused(_)), Some(settings)) => self.change(settings, make).await?,
            (set, _) => set?,
        }
        let found = self.boot_now().await?;
        if found.fits(from) {
            return Ok(found.now);
        }
        if let Some(settings) = &system.settings {
            let pending = Boot::read(&self.get(settings).await?.body["Boot"]);
            if pending.fits(from) {
                return Ok(pending.now);
            }
        }
        Err(PowerError::DidNotStick {
            wanted: word.to_owned(),
            found: found.now,
        })
    }

    async fn boot_override(&mut self) -> Result<BootOverride, PowerError> {
        Ok(self.boot_now().await?.now)
    }

    async fn insert_media(&mut self, url: &str) -> Result<(), PowerError> {
        self.insert(url).await
    }

    async fn eject_media(&mut self) -> Result<(), PowerError> {
        self.eject().await
    }

    async fn leave(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = self.wire.ask(Method::DELETE, &session, None, None).await
        {
            tracing::debug!(%error, "a BMC's session was not ended; it ends by itself later");
        }
    }
}
