//! The client's requests about power and BMCs.

use std::time::Duration;

use reqwest::Method;

use super::{Client, ClientError, segment};
use crate::api::power::{BmcView, ChangePower, PowerView, SetBmc, TestedBmc};

/// A BMC takes its time, and a machine that is to obey too: longer than the daemon waits itself.
const PATIENCE: Duration = Duration::from_secs(330);

impl Client {
    pub async fn power_show(&self, device: &str) -> Result<PowerView, ClientError> {
        let path = format!("/devices/{}/power", segment(device));
        let request = self.request(Method::GET, &path, &[]);
        self.read(self.send_within(request, PATIENCE).await?).await
    }

    pub async fn power_change(
        &self,
        device: &str,
        order: &ChangePower,
    ) -> Result<PowerView, ClientError> {
        let path = format!("/devices/{}/power", segment(device));
        let request = self.request(Method::POST, &path, &[]).json(order);
        self.read(self.send_within(request, PATIENCE).await?).await
    }

    pub async fn bmc_show(&self, device: &str) -> Result<BmcView, ClientError> {
        self.get(&format!("/devices/{}/bmc", segment(device)), &[])
            .await
    }

    pub async fn bmc_set(&self, device: &str, order: &SetBmc) -> Result<BmcView, ClientError> {
        let path = format!("/devices/{}/bmc", segment(device));
        let request = self.request(Method::PUT, &path, &[]).json(order);
        self.read(self.send(request).await?).await
    }

    pub async fn bmc_remove(&self, device: &str) -> Result<(), ClientError> {
        let path = format!("/devices/{}/bmc", segment(device));
        let request = self.request(Method::DELETE, &path, &[]);
        self.send(request).await.map(|_| ())
    }

    pub async fn bmc_test(&self, device: &str) -> Result<TestedBmc, ClientError> {
        let path = format!("/devices/{}/bmc/test", segment(device));
        let request = self.request(Method::POST, &path, &[]);
        self.read(self.send_within(request, PATIENCE).await?).await
    }

    pub async fn bmc_unlock(&self, device: &str) -> Result<BmcView, ClientError> {
        let path = format!("/devices/{}/bmc/unlock", segment(device));
        let request = self.request(Method::POST, &path, &[]);
        self.read(self.send(request).await?).await
    }
}
