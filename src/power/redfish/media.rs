//! Virtual media: an image that the BMC shows to its machine as an optical disk.

use hyper::Method;
use serde_json::json;

use super::Redfish;
use super::read::{Drive, Link};
use crate::power::PowerError;

impl Redfish {
    /// The optical drive, and where it is.
    async fn drive(&mut self) -> Result<(Link, Drive), PowerError> {
        let system = self.system().await?;
        let collection = system.media.ok_or_else(|| {
            PowerError::Refused("the BMC names no virtual media of this system".into())
        })?;
        for link in self.collection(&collection).await? {
            let drive = Drive::read(&self.get(&link).await?.body)?;
            if drive.is_optical {
                return Ok((link, drive));
            }
        }
        Err(PowerError::Refused(
            "the BMC has no virtual optical drive".into(),
        ))
    }

    /// The image that is in the drive.
    pub async fn media(&mut self) -> Result<Option<String>, PowerError> {
        let (_, drive) = self.drive().await?;
        Ok(drive.image.filter(|_| drive.inserted))
    }

    /// Takes out what is in the drive, and reads back that it is empty.
    pub async fn eject(&mut self) -> Result<(), PowerError> {
        let (link, drive) = self.drive().await?;
        if !drive.inserted {
            return Ok(());
        }
        match &drive.eject {
            Some(action) => {
                let answer = self
                    .wire
                    .ask(Method::POST, action, Some(&json!({})), None)
                    .await?;
                self.heard(answer)?;
            }
            // Before the actions there was the property.
            None => {
                self.change(&link, |_| Ok(json!({ "Image": null, "Inserted": false })))
                    .await?;
            }
        }
        match self.media().await? {
            None => Ok(()),
            Some(image) => Err(PowerError::Unreachable(format!(
                "the BMC was told to eject {image}, and still has it"
            ))),
        }
    }

    /// Puts an image into the drive, in the place of what is there: many refuse a full drive, so that it
    /// is emptied first. `url`: what the BMC fetches; without `?` and `&`, which BMCs mangle.
    pub async fn insert(&mut self, url: &str) -> Result<(), PowerError> {
        if url.contains(['?', '&', '"', ' ']) || url.chars().any(char::is_control) {
            return Err(PowerError::Refused(format!(
                "{url:?} has a character that BMCs mangle (? & quotation marks, spaces); give it a plain path"
            )));
        }
        if self.media().await?.as_deref() == Some(url) {
            return Ok(());
        }
        self.eject().await?;
        let (link, drive) = self.drive().await?;
        let order = json!({ "Image": url, "Inserted": true, "WriteProtected": true });
        match &drive.insert {
            Some(action) => {
                let answer = self
                    .wire
                    .ask(Method::POST, action, Some(&order), None)
                    .await?;
                self.heard(answer)?;
            }
            None => {
                self.change(&link, |_| Ok(json!({ "Image": url, "Inserted": true })))
                    .await?;
            }
        }
        match self.media().await? {
            Some(image) if image == url => Ok(()),
            found => Err(PowerError::Unreachable(format!(
                "the BMC was told to insert {url}, and has {}",
                found.as_deref().unwrap_or("nothing")
            ))),
        }
    }
}
