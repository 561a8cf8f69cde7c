//! stub
pub struct Trigger;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct TriggerError;
impl Trigger {
    pub fn parse(_: &str) -> Result<Self, TriggerError> {
        Ok(Self)
    }
    pub fn holds(
        &self,
        _: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<bool, TriggerError> {
        Ok(true)
    }
}
