//! Files as a guest's agent opens, reads and writes them, by handles.

use std::collections::HashMap;

use qapi::qga;
use serde_json::json;

use super::agent::{Answer, to_value};
use super::system::System;

#[derive(Debug, Clone, Default)]
pub struct Handles {
    open: HashMap<i64, Handle>,
    last: i64,
}

#[derive(Debug, Clone)]
struct Handle {
    path: String,
    at: usize,
    writes: bool,
    /// What a file of the kernel's said when it was opened.
    made: Option<Vec<u8>>,
}

impl Handles {
    pub fn clear(&mut self) {
        self.open.clear();
    }

    pub fn open(&mut self, open: &qga::guest_file_open, system: &mut System) -> Answer {
        let mode = open.mode.as_deref().unwrap_or("r");
        let writes = mode.starts_with(['w', 'a']);
        let path = &open.path;
        let made = if writes {
            None
        } else {
            system.kernel.file(path, None)
        };
        if !writes && made.is_none() && !system.files.contains_key(path) {
            return Err(format!(
                "failed to open file '{path}' (mode: '{mode}'): No such file or directory"
            ));
        }
        let mut at = 0;
        if made.is_none() {
            let file = system.files.entry(path.clone()).or_default();
            if mode.starts_with('w') {
                file.clear();
            }
            if mode.starts_with('a') {
                at = file.len();
            }
        }
        self.last += 1;
        let handle = 1000 + self.last;
        let path = path.clone();
        self.open.insert(
            handle,
            Handle {
                path,
                at,
                writes,
                made,
            },
        );
        Ok(json!(handle))
    }

    pub fn close(&mut self, close: &qga::guest_file_close) -> Answer {
        let closed = self.open.remove(&close.handle);
        closed
            .map(|_| json!({}))
            .ok_or_else(|| no_handle(close.handle))
    }

    fn get(&mut self, handle: i64) -> Result<&mut Handle, String> {
        self.open.get_mut(&handle).ok_or_else(|| no_handle(handle))
    }

    pub fn read(&mut self, read: &qga::guest_file_read, system: &System) -> Answer {
        let count = usize::try_from(read.count.unwrap_or(4096))
            .map_err(|_| "value for count is invalid")?;
        let handle = self.get(read.handle)?;
        let stored = system.files.get(&handle.path);
        let file = handle
            .made
            .as_ref()
            .or(stored)
            .ok_or("failed to read file")?;
        let start = handle.at.min(file.len());
        let end = (start + count).min(file.len());
        let bytes = file[start..end].to_vec();
        handle.at = end;
        to_value(qga::GuestFileRead {
            count: bytes.len() as i64,
            eof: bytes.len() < count,
            buf_b64: bytes,
        })
    }

    pub fn seek(&mut self, seek: &qga::guest_file_seek) -> Answer {
        self.get(seek.handle)?.at =
            usize::try_from(seek.offset).map_err(|_| "failed to seek file: Invalid argument")?;
        to_value(qga::GuestFileSeek {
            eof: false,
            position: seek.offset,
        })
    }

    pub fn write(&mut self, write: &qga::guest_file_write, system: &mut System) -> Answer {
        let handle = self.get(write.handle)?;
        if !handle.writes {
            return Err("failed to write to file: Bad file descriptor".into());
        }
        let file = system
            .files
            .get_mut(&handle.path)
            .ok_or("failed to write to file")?;
        let end = handle.at + write.buf_b64.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[handle.at..end].copy_from_slice(&write.buf_b64);
        handle.at = end;
        system.kernel.was_written(&handle.path, &write.buf_b64);
        to_value(qga::GuestFileWrite {
            count: write.buf_b64.len() as i64,
            eof: false,
        })
    }
}

fn no_handle(handle: i64) -> String {
    format!("handle '{handle}' has not been found")
}
