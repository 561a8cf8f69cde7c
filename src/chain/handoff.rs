//! stub until the language lands
use super::model::Stage;
use crate::vocab::Failure;
use crate::vocab::envelope::{Artefact, Envelope};

pub struct Taken {
    pub envelope: Envelope,
    pub artefact: Option<Artefact>,
    pub checked: Vec<String>,
}

pub async fn stage_input(_stage: &Stage, envelope: &Envelope) -> Result<Vec<u8>, Failure> {
    Ok(envelope.document.to_string().into_bytes())
}

pub async fn take_output(
    _stage: &Stage,
    _envelope: &Envelope,
    _raw: &[u8],
) -> Result<Taken, Failure> {
    todo!()
}
