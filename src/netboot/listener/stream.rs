//! What is large: kernel, initial ramdisk, images. Sent piece by piece, from the middle where asked.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;

use super::{OCTETS, Shared, bearer, failed};
use crate::blocking;
use crate::netboot::delivery::{self, Packed};
use crate::netboot::desk::DeskError;

/// Read and sent at a time: what one stream takes of our memory, twice.
const BLOCK_BYTES: u64 = 256 << 10;

pub async fn ramdisk(
    State(desk): Shared,
    Path((digest, part)): Path<(String, String)>,
) -> Response {
    let there_is_none = || (StatusCode::NOT_FOUND, "there is no such image\n").into_response();
    let Ok(digest) = digest.parse() else {
        return there_is_none();
    };
    // By digest: a device that was given its script just before an image was built anew gets what it
    // was promised.
    let looking = desk.clone();
    let Ok(image) = blocking::run(move || looking.ramdisk_of(digest)).await else {
        return there_is_none();
    };
    let path = match part.as_str() {
        "kernel" => image.kernel.path,
        "initrd" => image.initrd.path,
        _ => return (StatusCode::NOT_FOUND, "there is no such part\n").into_response(),
    };
    let opened = blocking::run(move || {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok::<_, io::Error>((file, size))
    });
    match opened.await {
        Ok((file, size)) => send(file, 0, size, None),
        Err(error) => failed(&error.to_string()),
    }
}

pub async fn manifest(State(desk): Shared, headers: HeaderMap) -> Result<Response, DeskError> {
    let (run, _) = desk.image_right(bearer(&headers)?).await?;
    let packed = Packed::of(&desk.settings.state, run);
    let bytes = delivery::manifest(packed)
        .await
        .map_err(|error| DeskError::Failed(error.to_string()))?;
    Ok(bytes.into_response())
}

/// The image's data, with at most as many streams as there may be: who comes later is asked to wait.
pub async fn data(State(desk): Shared, headers: HeaderMap) -> Result<Response, DeskError> {
    let (run, _) = desk.image_right(bearer(&headers)?).await?;
    let place = desk
        .streams
        .clone()
        .try_acquire_owned()
        .map_err(|_| DeskError::Busy)?;
    let packed = Packed::of(&desk.settings.state, run);
    let (file, size) = delivery::data(packed)
        .await
        .map_err(|error| DeskError::Failed(error.to_string()))?;
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let from = match range.map(first_byte) {
        None => 0,
        Some(Some(from)) if from < size => from,
        Some(_) => {
            let said = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((
                StatusCode::RANGE_NOT_SATISFIABLE,
                said,
                "there is no such range\n",
            )
                .into_response());
        }
    };
    let mut response = send(file, from, size, Some(place));
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let said = format!("bytes {from}-{}/{size}", size - 1);
        if let Ok(value) = said.parse() {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
    }
    Ok(response)
}

/// `bytes=N-` of RFC 9110, 14.2: the only kind of range that a resumed stream needs.
fn first_byte(range: &str) -> Option<u64> {
    let digits = range.strip_prefix("bytes=")?.strip_suffix('-')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// `place` is given back when the stream ends, however it ends.
fn send(file: File, from: u64, size: u64, place: Option<OwnedSemaphorePermit>) -> Response {
    let file = Arc::new(file);
    let blocks = stream::try_unfold((from, place), move |(at, place)| {
        let file = file.clone();
        async move {
            if at >= size {
                return Ok::<_, io::Error>(None);
            }
            let length = BLOCK_BYTES.min(size - at);
            let block = blocking::run(move || {
                let mut block = vec![0; length as usize];
                file.read_exact_at(&mut block, at).map(|()| block)
            });
            Ok(Some((block.await?, (at + length, place))))
        }
    });
    let headers = [
        (header::CONTENT_TYPE, OCTETS),
        (header::CONTENT_LENGTH, (size - from).into()),
    ];
    (headers, Body::from_stream(blocks)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_from_the_first_byte() {
        assert_eq!(first_byte("bytes=0-"), Some(0));
        assert_eq!(first_byte("bytes=18446744073709551615-"), Some(u64::MAX));
        for range in [
            "bytes=-5",
            "bytes=5-9",
            "bytes=1-,3-",
            "bytes=+1-",
            "bytes=18446744073709551616-",
            "lines=1-",
            "",
            "bytes=-",
        ] {
            assert_eq!(first_byte(range), None, "{range}");
        }
    }

    proptest! {
        #[test]
        fn any_range_is_read(range: String) {
            let _ = first_byte(&range);
            let _ = first_byte(&format!("bytes={range}"));
        }
    }
}
