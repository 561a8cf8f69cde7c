//! Models as artefacts: compressed JSON under its digest, so that what serves after a restart is what was
//! judged before it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::book::{Book, Kept, Serving, ServingPersona};
use super::labels::PERSONA;
use crate::learn::classify::Classifier;
use crate::store::artefacts::Artefacts;
use crate::store::models::ModelRow;
use crate::vocab::Digest;
use crate::vocab::prediction::Resource;

/// Fast, and a forest's numbers compress to a third.
const LEVEL: i32 = 3;
/// Nothing of ours is larger unpacked; what claims to be is not ours.
const MOST_BYTES: usize = 1 << 30;

/// Packs a model; blocking.
pub fn pack<T: Serialize>(model: &T) -> Result<Vec<u8>, String> {
    let text = serde_json::to_vec(model).map_err(|error| error.to_string())?;
    zstd::bulk::compress(&text, LEVEL).map_err(|error| error.to_string())
}

fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut reader = zstd::stream::Decoder::new(bytes).map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    let limit = MOST_BYTES as u64;
    std::io::Read::read_to_end(&mut std::io::Read::take(&mut reader, limit), &mut text)
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

/// Puts the model of a row that serves to use. One that cannot be read is left out, with a warning: the
/// plain rule serves then.
pub async fn take_down(artefacts: &Artefacts, row: ModelRow, book: &mut Book) {
    let name = format!("{}#{}", row.name, row.id);
    if let Err(error) = try_take_down(artefacts, row, book).await {
        tracing::warn!(
            model = name,
            error,
            "a model cannot be used; the plain rule serves until the next training"
        );
    }
}

async fn try_take_down(
    artefacts: &Artefacts,
    row: ModelRow,
    book: &mut Book,
) -> Result<(), String> {
    let digest: Digest = row.digest.ok_or("it has no artefact")?;
    let bytes = artefacts
        .get(digest)
        .await
        .map_err(|error| error.to_string())?;
    if row.name == PERSONA {
        let classifier: Classifier = read(bytes).await?;
        book.persona = Some(std::sync::Arc::new(ServingPersona { row, classifier }));
        return Ok(());
    }
    let resource = Resource::from_word(&row.name).ok_or("it is of no kind that is known")?;
    let kept: Kept = read(bytes).await?;
    book.serve(resource, Serving { row, kept });
    Ok(())
}

async fn read<T: DeserializeOwned + Send + 'static>(bytes: Vec<u8>) -> Result<T, String> {
    crate::blocking::run(move || unpack(&bytes)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked_and_nothing_else() {
        let packed = pack(&vec![1.5, f64::MIN_POSITIVE, 1e300]).unwrap();
        let read: Vec<f64> = unpack(&packed).unwrap();
        assert_eq!(read, [1.5, f64::MIN_POSITIVE, 1e300]);
        unpack::<Vec<f64>>(b"not packed").unwrap_err();
        unpack::<Vec<f64>>(&packed[..packed.len() / 2]).unwrap_err();
    }
}
