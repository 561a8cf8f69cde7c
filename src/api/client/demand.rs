//! The client's requests about demand: forecasts, planned events, policies of pool sizes.

use reqwest::Method;

use super::{Client, ClientError, segment};
use crate::api::demand::{
    ComparedView, ForecastView, LevelsView, PlannedEventView, PolicyView, PutPlannedEvent,
    SetPolicy,
};

impl Client {
    pub async fn forecast_list(&self) -> Result<Vec<ForecastView>, ClientError> {
        self.get("/forecasts", &[]).await
    }

    /// By class, or by an image of which there is one class; of one client or of all.
    pub async fn forecast_show(
        &self,
        which: &str,
        client: Option<&str>,
    ) -> Result<ForecastView, ClientError> {
        let client = client.map(|client| ("client", client.to_owned()));
        self.get(&format!("/forecasts/{}", segment(which)), client.as_slice())
            .await
    }

    /// Of each persona; of one client or of all.
    pub async fn persona_forecast_list(
        &self,
        client: Option<&str>,
    ) -> Result<Vec<ForecastView>, ClientError> {
        let client = client.map(|client| ("client", client.to_owned()));
        self.get("/persona-forecasts", client.as_slice()).await
    }

    pub async fn persona_forecast_show(
        &self,
        persona: &str,
        client: Option<&str>,
    ) -> Result<ForecastView, ClientError> {
        let client = client.map(|client| ("client", client.to_owned()));
        let path = format!("/persona-forecasts/{}", segment(persona));
        self.get(&path, client.as_slice()).await
    }

    pub async fn forecast_compare(
        &self,
        which: &str,
        client: Option<&str>,
        hours: usize,
        ahead_s: i64,
    ) -> Result<ComparedView, ClientError> {
        let path = format!("/forecasts/{}/compared", segment(which));
        self.get(&path, &compared(client, hours, ahead_s)).await
    }

    pub async fn persona_forecast_compare(
        &self,
        persona: &str,
        client: Option<&str>,
        hours: usize,
        ahead_s: i64,
    ) -> Result<ComparedView, ClientError> {
        let path = format!("/persona-forecasts/{}/compared", segment(persona));
        self.get(&path, &compared(client, hours, ahead_s)).await
    }

    /// How full the pool was of a class, beside who came.
    pub async fn forecast_levels(
        &self,
        which: &str,
        hours: usize,
    ) -> Result<LevelsView, ClientError> {
        let query = [("hours", hours.to_string())];
        self.get(&format!("/forecasts/{}/levels", segment(which)), &query)
            .await
    }

    pub async fn planned_event_list(&self) -> Result<Vec<PlannedEventView>, ClientError> {
        self.get("/planned-events", &[]).await
    }

    pub async fn planned_event_put(
        &self,
        event: &PutPlannedEvent,
    ) -> Result<PlannedEventView, ClientError> {
        let request = self
            .request(Method::PUT, "/planned-events", &[])
            .json(event);
        self.read(self.send(request).await?).await
    }

    pub async fn planned_event_remove(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/planned-events/{}", segment(name));
        let request = self.request(Method::DELETE, &path, &[]);
        self.send(request).await.map(|_| ())
    }

    pub async fn pool_policy_list(&self) -> Result<Vec<PolicyView>, ClientError> {
        self.get("/pool/policies", &[]).await
    }

    pub async fn pool_policy_show(&self, which: &str) -> Result<PolicyView, ClientError> {
        self.get(&format!("/pool/policies/{}", segment(which)), &[])
            .await
    }

    pub async fn pool_policy_set(&self, order: &SetPolicy) -> Result<PolicyView, ClientError> {
        let request = self.request(Method::PUT, "/pool/policies", &[]).json(order);
        self.read(self.send(request).await?).await
    }
}

fn compared(client: Option<&str>, hours: usize, ahead_s: i64) -> Vec<(&'static str, String)> {
    let mut query = vec![
        ("hours", hours.to_string()),
        ("ahead_s", ahead_s.to_string()),
    ];
    query.extend(client.map(|client| ("client", client.to_owned())));
    query
}
