//! What a device gets to boot: standing, decision, script.

use super::Desk;
use crate::images::ImageError;
use crate::netboot::client::Client;
use crate::netboot::decide::{self, Answer, Decision, Request, Standing};
use crate::netboot::life::Happening;
use crate::netboot::script::{Ramdisk, Scene, Url};
use crate::store::{StoreError, boot};
use crate::vocab::boot::Mac;
use crate::vocab::image::Image;

impl Desk {
    /// What is known of an address.
    pub async fn standing(&self, mac: Mac) -> Result<Standing, StoreError> {
        let mut connection = self.services.store.read().await?;
        let Some(device) = boot::client_get(&mut connection, mac)
            .await?
            .and_then(|client| client.device)
        else {
            return Ok(Standing::Unknown);
        };
        Ok(match boot::device_get(&mut connection, device).await? {
            None => Standing::Unknown,
            Some(device) => Standing::Known {
                phase: device.phase,
                boots_since_delivery: device.boots_since_delivery,
            },
        })
    }

    pub async fn decide(&self, client: &Client, request: &Request) -> Result<Decision, StoreError> {
        let standing = match client.mac {
            Some(mac) => self.standing(mac).await?,
            None => Standing::Unknown,
        };
        Ok(decide::decide(
            client,
            request,
            &standing,
            &self.settings.decision,
        ))
    }

    pub fn ramdisk_image(&self) -> Result<Image, ImageError> {
        self.images.get(&self.settings.image)
    }

    /// What scripts are made from, now.
    pub fn scene(&self) -> Result<Scene, String> {
        let base = Url::new(&self.settings.decision.base_url).map_err(|error| error.to_string())?;
        let ramdisk = match self.ramdisk_image() {
            Ok(image) => Some(Ramdisk {
                digest: image.digest,
                cmdline: image.cmdline,
            }),
            Err(error) => {
                tracing::warn!(%error, "devices cannot be booted");
                None
            }
        };
        Ok(Scene {
            base,
            give_up: self.settings.give_up,
            ramdisk,
        })
    }

    /// The script for an address, with its consequences: who is sent to its own disk has booted.
    pub async fn script(&self, mac: Mac, claimed: &str) -> Result<Option<String>, String> {
        let client = Client {
            mac: Some(mac),
            ..Client::default()
        };
        let failed = |error: StoreError| error.to_string();
        self.heard(mac, "it asked for its script".to_owned())
            .await
            .map_err(failed)?;
        let decision = self
            .decide(&client, &Request::Script)
            .await
            .map_err(failed)?;
        tracing::info!(%mac, claimed, answer = ?decision.answer, reason = %decision.reason, "a script");
        let script = self
            .scene()?
            .of_device(mac, &decision.answer, &decision.reason)
            .map_err(|error| error.to_string())?;
        let known = {
            let mut connection = self.services.store.read().await.map_err(failed)?;
            boot::client_get(&mut connection, mac)
                .await
                .map_err(failed)?
                .and_then(|client| client.device)
        };
        if let Some(device) = known {
            let happening = match decision.answer {
                Answer::OwnDisk => Some(Happening::ToOwnDisk),
                // decide has counted its returns and stops it here; the row says so too.
                Answer::Wait { .. } => match self.standing(mac).await.map_err(failed)? {
                    Standing::Known { phase, .. } if phase.boots_from_disk() => {
                        Some(Happening::Held {
                            reason: decision.reason.clone(),
                        })
                    }
                    _ => None,
                },
                _ => None,
            };
            if let Some(happening) = happening {
                self.happen(device, happening).await.map_err(failed)?;
            }
        }
        Ok(script)
    }

    /// A script of ours gave up.
    pub async fn script_failed(&self, mac: Mac, at: &str) -> Result<(), StoreError> {
        let at = match at {
            "script" | "kernel" | "initrd" | "boot" => at,
            _ => "an unknown place",
        };
        self.tell(
            &mac.to_string(),
            "boot_failed",
            format!("its boot script gave up at {at}"),
        )
        .await
    }
}
