//! Guest files, read and written in pieces that the agent is known to survive.

use qapi::qga;

use super::super::{AGENT_CHUNK, HvError};
use super::call::CALL_DEADLINE;
use super::{Content, Guest};

/// The agent's words for a file that does not exist (`strerror`, in the agent's C locale).
const NO_SUCH_FILE: &str = "No such file or directory";

impl Guest<'_> {
    /// `None` when there is no such file.
    pub(super) async fn open_to_read(&self, path: &str) -> Result<Option<i64>, HvError> {
        let open = qga::guest_file_open {
            path: path.to_owned(),
            mode: Some("r".to_owned()),
        };
        match self.call(open, CALL_DEADLINE).await {
            Ok(handle) => Ok(Some(handle)),
            Err(HvError::Agent(words)) if words.contains(NO_SUCH_FILE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next bytes at the handle's position, empty at the end of the file as it is now.
    pub(super) async fn read_handle(
        &self,
        handle: i64,
        at_most: usize,
    ) -> Result<Vec<u8>, HvError> {
        let count = at_most.min(AGENT_CHUNK);
        let read = qga::guest_file_read {
            handle,
            count: Some(count as i64),
        };
        let reply = self.call(read, CALL_DEADLINE).await?;
        if reply.buf_b64.len() > count || i64::try_from(reply.buf_b64.len()) != Ok(reply.count) {
            return Err(HvError::Agent(format!(
                "asked for {count} bytes of a file, it announced {} and sent {}",
                reply.count,
                reply.buf_b64.len()
            )));
        }
        Ok(reply.buf_b64)
    }

    pub(super) async fn seek_handle(&self, handle: i64, offset: u64) -> Result<(), HvError> {
        let position =
            i64::try_from(offset).map_err(|_| HvError::Refused(format!("file offset {offset}")))?;
        let whence = qga::GuestFileWhence::name(qga::QGASeek::set);
        let reply = self
            .call(
                qga::guest_file_seek {
                    handle,
                    offset: position,
                    whence,
                },
                CALL_DEADLINE,
            )
            .await?;
        if reply.position != position {
            return Err(HvError::Agent(format!(
                "sought {position} and arrived at {}",
                reply.position
            )));
        }
        Ok(())
    }

    async fn close_handle(&self, handle: i64) -> Result<(), HvError> {
        self.call(qga::guest_file_close { handle }, CALL_DEADLINE)
            .await
            .map(|_| ())
    }
}

pub(super) async fn read_file(
    guest: &Guest<'_>,
    path: &str,
    max_bytes: u64,
) -> Result<Content, HvError> {
    let Some(handle) = guest.open_to_read(path).await? else {
        return Ok(Content::Missing);
    };
    let content = read_to_end(guest, handle, max_bytes).await;
    // A handle that could not be closed ends with the machine.
    let _ = guest.close_handle(handle).await;
    content
}

async fn read_to_end(guest: &Guest<'_>, handle: i64, max_bytes: u64) -> Result<Content, HvError> {
    let mut bytes = Vec::new();
    loop {
        // One byte more than allowed tells a file that is too large from one that just fits.
        let room = max_bytes.saturating_add(1) - bytes.len() as u64;
        let piece = guest
            .read_handle(handle, usize::try_from(room).unwrap_or(usize::MAX))
            .await?;
        if piece.is_empty() {
            return Ok(Content::Bytes(bytes));
        }
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > max_bytes {
            return Ok(Content::TooLarge);
        }
    }
}

pub(super) async fn write_file(guest: &Guest<'_>, path: &str, bytes: &[u8]) -> Result<(), HvError> {
    let open = qga::guest_file_open {
        path: path.to_owned(),
        mode: Some("w".to_owned()),
    };
    let handle = guest.call(open, CALL_DEADLINE).await?;
    let written = write_handle(guest, handle, bytes).await;
    let closed = guest.close_handle(handle).await;
    written.and(closed)
}

async fn write_handle(guest: &Guest<'_>, handle: i64, bytes: &[u8]) -> Result<(), HvError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let piece = &rest[..rest.len().min(AGENT_CHUNK)];
        let write = qga::guest_file_write {
            handle,
            buf_b64: piece.to_vec(),
            count: None,
        };
        let reply = guest.call(write, CALL_DEADLINE).await?;
        match usize::try_from(reply.count) {
            Ok(count) if count > 0 && count <= piece.len() => rest = &rest[count..],
            _ => {
                return Err(HvError::Agent(format!(
                    "wrote {} of {} bytes of a file",
                    reply.count,
                    piece.len()
                )));
            }
        }
    }
    Ok(())
}
