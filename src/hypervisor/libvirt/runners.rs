//! Lines to and from guests' job runners: a Unix socket per machine, whose other end QEMU leads to a
//! virtio-serial port of the guest. No libvirt in between.
//!
//! Best effort: whatever goes wrong ends the connection, and jobs go through the guest agent.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Mutex as AsyncMutex;

use super::seen::Seen;
use crate::vocab::MachineId;

/// The longest line that a guest may say: an end record, every byte of it escaped, and room to spare.
const LONGEST: usize = 64 << 10;

#[derive(Default)]
pub struct Runners {
    lines: Mutex<HashMap<MachineId, Arc<AsyncMutex<Line>>>>,
    /// Machines that were asked and said nothing.
    silent: Seen,
}

struct Line {
    stream: UnixStream,
    /// Said, and not taken yet.
    said: Vec<u8>,
}

impl Runners {
    pub async fn ask(
        &self,
        id: MachineId,
        socket: &Path,
        line: &[u8],
        within: Duration,
    ) -> Option<Vec<u8>> {
        if self.silent.contains(&id) {
            return None;
        }
        let asked = async {
            let known = self.of(id);
            let held = match known {
                Some(known) => known,
                None => {
                    let stream = UnixStream::connect(socket).await.ok()?;
                    let said = Vec::new();
                    let fresh = Arc::new(AsyncMutex::new(Line { stream, said }));
                    self.all().insert(id, fresh.clone());
                    fresh
                }
            };
            let mut held = held.lock().await;
            // What somebody may have left unfinished ends with the first line's end.
            held.stream.write_all(b"\n").await.ok()?;
            held.stream.write_all(line).await.ok()?;
            held.stream.write_all(b"\n").await.ok()?;
            held.next().await
        };
        let answer = tokio::time::timeout(within, asked).await;
        if answer.is_err() {
            self.silent.insert(id);
        }
        let answer = answer.ok().flatten();
        if answer.is_none() {
            self.leave(id);
        }
        answer
    }

    pub fn hears(&self, id: MachineId) -> bool {
        self.of(id).is_some()
    }

    /// Never ends when nobody is there any more.
    pub async fn hear(&self, id: MachineId) -> Vec<u8> {
        if let Some(line) = self.of(id) {
            if let Some(said) = line.lock().await.next().await {
                return said;
            }
            self.leave(id);
        }
        std::future::pending().await
    }

    pub fn leave(&self, id: MachineId) {
        self.all().remove(&id);
    }

    fn of(&self, id: MachineId) -> Option<Arc<AsyncMutex<Line>>> {
        self.all().get(&id).cloned()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<MachineId, Arc<AsyncMutex<Line>>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The next line without its end; none when the other side closed, failed or talks nonsense.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.said.iter().position(|byte| *byte == b'\n') {
                let rest = self.said.split_off(at + 1);
                let mut line = std::mem::replace(&mut self.said, rest);
                line.pop();
                return Some(line);
            }
            if self.said.len() > LONGEST {
                return None;
            }
            // Dropped here, nothing was taken.
            if self.stream.read_buf(&mut self.said).await.ok()? == 0 {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn lines_go_both_ways_and_silence_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run");
        let runners = Runners::default();
        let id = MachineId::fresh();
        assert_eq!(runners.ask(id, &socket, b"job", SOON).await, None);
        assert!(!runners.hears(id));

        let listener = UnixListener::bind(&socket).unwrap();
        let guest = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut order = [0; 5];
            stream.read_exact(&mut order).await.unwrap();
            assert_eq!(&order, b"\njob\n");
            stream.write_all(b"started\nen").await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(b"ded\n").await.unwrap();
            (stream, listener)
        });
        let answer = runners.ask(id, &socket, b"job", SOON).await;
        assert_eq!(answer.as_deref(), Some(b"started".as_slice()));
        assert!(runners.hears(id));
        assert_eq!(runners.hear(id).await, b"ended");
        runners.leave(id);
        assert!(!runners.hears(id));

        // It accepts, as QEMU does for a guest without a runner, and says nothing.
        let (_stream, _listener) = guest.await.unwrap();
        let short = Duration::from_millis(20);
        assert_eq!(runners.ask(id, &socket, b"job", short).await, None);
        assert!(runners.silent.contains(&id));
    }

    #[tokio::test]
    async fn a_guest_that_never_ends_its_line_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run");
        let listener = UnixListener::bind(&socket).unwrap();
        let runners = Runners::default();
        let id = MachineId::fresh();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        });
        assert_eq!(runners.ask(id, &socket, b"job", SOON).await, None);
        assert!(!runners.hears(id));
    }
}
