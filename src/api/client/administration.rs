//! The client's requests about who may do what: tokens, users, audit, webhooks.

use reqwest::Method;

use super::{Client, ClientError, segment};
use crate::api::{
    AddWebhook, AddedWebhook, AuditVerdict, AuditView, CreateToken, CreateUser, CreatedToken,
    DeliveryView, Page, SetPassword, TestedWebhook, TokenView, UserView, WebhookView,
};

impl Client {
    pub async fn token_list(&self) -> Result<Vec<TokenView>, ClientError> {
        self.get("/tokens", &[]).await
    }

    pub async fn token_create(&self, order: &CreateToken) -> Result<CreatedToken, ClientError> {
        self.post("/tokens", order).await
    }

    pub async fn token_revoke(&self, id: &str) -> Result<TokenView, ClientError> {
        let path = format!("/tokens/{}", segment(id));
        let request = self.request(Method::DELETE, &path, &[]);
        self.read(self.send(request).await?).await
    }

    pub async fn user_list(&self) -> Result<Vec<UserView>, ClientError> {
        self.get("/users", &[]).await
    }

    pub async fn user_create(&self, order: &CreateUser) -> Result<UserView, ClientError> {
        self.post("/users", order).await
    }

    pub async fn user_password(&self, name: &str, order: &SetPassword) -> Result<(), ClientError> {
        let path = format!("/users/{}/password", segment(name));
        let request = self.request(Method::PUT, &path, &[]).json(order);
        self.send(request).await.map(|_| ())
    }

    pub async fn user_remove(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/users/{}", segment(name));
        self.send(self.request(Method::DELETE, &path, &[]))
            .await
            .map(|_| ())
    }

    /// Newest first, at most `limit`.
    pub async fn audit_list(
        &self,
        who: Option<&str>,
        action: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AuditView>, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(who.map(|who| ("who", who.to_owned())));
        query.extend(action.map(|action| ("action", action.to_owned())));
        let page: Page<AuditView> = self.get("/audit", &query).await?;
        Ok(page.items)
    }

    /// `head`: `SEQ:HASH` that was noted elsewhere.
    pub async fn audit_verify(&self, head: Option<&str>) -> Result<AuditVerdict, ClientError> {
        let query = head.map(|head| ("head", head.to_owned()));
        self.get("/audit/verify", query.as_slice()).await
    }

    pub async fn webhook_list(&self) -> Result<Vec<WebhookView>, ClientError> {
        self.get("/webhooks", &[]).await
    }

    pub async fn webhook_add(&self, order: &AddWebhook) -> Result<AddedWebhook, ClientError> {
        self.post("/webhooks", order).await
    }

    pub async fn webhook_remove(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/webhooks/{}", segment(name));
        self.send(self.request(Method::DELETE, &path, &[]))
            .await
            .map(|_| ())
    }

    pub async fn webhook_test(&self, name: &str) -> Result<TestedWebhook, ClientError> {
        let path = format!("/webhooks/{}/test", segment(name));
        self.post(&path, &serde_json::json!({})).await
    }

    pub async fn webhook_deliveries(&self, name: &str) -> Result<Vec<DeliveryView>, ClientError> {
        self.get(&format!("/webhooks/{}/deliveries", segment(name)), &[])
            .await
    }
}
