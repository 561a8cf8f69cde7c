//! What a device gets to boot: standing, decision, script.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::Desk;
use crate::blocking;
use crate::images::ImageError;
use crate::netboot::client::Client;
use crate::netboot::decide::{self, Answer, Decision, Request, Standing};
use crate::netboot::life::Happening;
use crate::netboot::script::{Ramdisk, Scene, Url};
use crate::store::{StoreError, boot};
use crate::vocab::Digest;
use crate::vocab::boot::{BootDevice, Mac};
use crate::vocab::image::Image;

/// How long what scripts are made from is good for before the image's files are looked at again.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// What scripts are made from, and when it was looked up.
#[derive(Default)]
pub(super) struct Prepared(Mutex<Option<(Instant, Scene)>>);

impl Prepared {
    fn get(&self, now: Instant) -> Option<Scene> {
        let kept = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let (at, scene) = kept.as_ref()?;
        (now.duration_since(*at) < GOOD_FOR).then(|| scene.clone())
    }

    fn put(&self, now: Instant, scene: Scene) {
        *self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((now, scene));
    }
}

fn standing_of(device: Option<&BootDevice>) -> Standing {
    match device {
        None => Standing::Unknown,
        Some(device) => Standing::Known {
            phase: device.phase.clone(),
            boots_since_delivery: device.boots_since_delivery,
        },
    }
}

impl Desk {
    /// The device of an address, as everything noted until now has left it.
    pub(super) async fn device_at(&self, mac: Mac) -> Result<Option<BootDevice>, StoreError> {
        let look = async || {
            let mut connection = self.services.store.read().await?;
            boot::device_of_client(&mut connection, mac).await
        };
        match look().await? {
            Some(device) if self.is_unsettled(device.device) => {
                self.settled().await?;
                look().await
            }
            device => Ok(device),
        }
    }

    /// What is known of an address.
    pub async fn standing(&self, mac: Mac) -> Result<Standing, StoreError> {
        Ok(standing_of(self.device_at(mac).await?.as_ref()))
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

    /// The image of a digest that some script names: also when a newer one has been built since.
    pub fn ramdisk_of(&self, digest: Digest) -> Result<Image, ImageError> {
        self.images.by_digest(&self.settings.image, digest)
    }

    /// What scripts are made from. A new image is offered within a second.
    pub async fn scene(&self) -> Result<Scene, String> {
        let now = Instant::now();
        if let Some(scene) = self.scene.get(now) {
            return Ok(scene);
        }
        let base = Url::new(&self.settings.decision.base_url).map_err(|error| error.to_string())?;
        let (images, name) = (self.images.clone(), self.settings.image.clone());
        let ramdisk = match blocking::run(move || images.get(&name)).await {
            Ok(image) => Some(Ramdisk {
                digest: image.digest,
                cmdline: image.cmdline,
            }),
            Err(error) => {
                tracing::warn!(%error, "devices cannot be booted");
                None
            }
        };
        let scene = Scene {
            base,
            give_up: self.settings.give_up,
            ramdisk,
        };
        self.scene.put(now, scene.clone());
        Ok(scene)
    }

    /// The script for an address, with its consequences: who is sent to its own disk has booted.
    ///
    /// One read of the database and no write is waited for; see [`super::notes`].
    pub async fn script(&self, mac: Mac, claimed: &str) -> Result<Option<String>, String> {
        let client = Client {
            mac: Some(mac),
            ..Client::default()
        };
        let failed = |error: StoreError| error.to_string();
        let device = self.device_at(mac).await.map_err(failed)?;
        let decision = decide::decide(
            &client,
            &Request::Script,
            &standing_of(device.as_ref()),
            &self.settings.decision,
        );
        // One line per script would let whoever asks a thousand times a second fill the log.
        tracing::debug!(%mac, claimed, answer = ?decision.answer, reason = %decision.reason, "a script");
        let script = self
            .scene()
            .await?
            .of_device(mac, &decision.answer, &decision.reason)
            .map_err(|error| error.to_string())?;
        self.heard(mac, "it asked for its script".to_owned())
            .await
            .map_err(failed)?;
        if let Some(device) = device {
            match decision.answer {
                Answer::OwnDisk => self.note_leaving(device.device, Happening::ToOwnDisk),
                // decide has counted its returns and stops it here; the row says so too.
                Answer::Wait { .. } if device.phase.boots_from_disk() => {
                    let reason = decision.reason;
                    self.note_leaving(device.device, Happening::Held { reason });
                }
                _ => {}
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
