//! Requests about what was learned.

use super::{Client, ClientError, segment};
use crate::api::models::{
    ModelDetail, ModelExplanation, ModelSummary, ModelView, PredictionView, RecordView, TrainModel,
};

impl Client {
    pub async fn model_list(&self) -> Result<Vec<ModelSummary>, ClientError> {
        self.get("/models", &[]).await
    }

    pub async fn model_show(&self, name: &str) -> Result<ModelDetail, ClientError> {
        self.get(&format!("/models/{}", segment(name)), &[]).await
    }

    pub async fn model_train(
        &self,
        name: &str,
        order: &TrainModel,
    ) -> Result<ModelView, ClientError> {
        self.post(&format!("/models/{}/train", segment(name)), order)
            .await
    }

    pub async fn model_explain(
        &self,
        name: &str,
        device: &str,
        chain: Option<&str>,
        stage: Option<&str>,
    ) -> Result<ModelExplanation, ClientError> {
        let mut query = vec![("device", device.to_owned())];
        query.extend(chain.map(|chain| ("chain", chain.to_owned())));
        query.extend(stage.map(|stage| ("stage", stage.to_owned())));
        self.get(&format!("/models/{}/explain", segment(name)), &query)
            .await
    }

    /// What came of what was said of the newest stages.
    pub async fn prediction_record(&self) -> Result<RecordView, ClientError> {
        self.get("/predictions/record", &[]).await
    }

    /// What a chain would need for a device.
    pub async fn predict(
        &self,
        device: &str,
        chain: Option<&str>,
    ) -> Result<PredictionView, ClientError> {
        let query: Vec<_> = chain
            .map(|chain| ("chain", chain.to_owned()))
            .into_iter()
            .collect();
        self.get(&format!("/devices/{}/prediction", segment(device)), &query)
            .await
    }
}
