//! The bytes of a backup as they arrive, read like a file by a thread that may wait for them.

use crate::operator::OperateError;
use bytes::{Buf, Bytes};
use raft::BackupStream;
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Messages that wait to be read, so that neither side holds more than that.
const WAITING_MAX: usize = 4;

/// Where the bytes are read.
pub(super) struct Arriving {
    pieces: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

/// Where they are put.
pub(super) struct Feed(mpsc::Sender<Bytes>);

impl Arriving {
    pub(super) fn new() -> (Self, Feed) {
        let (sender, pieces) = mpsc::channel(WAITING_MAX);
        (Self { pieces, rest: Bytes::new() }, Feed(sender))
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Feed {
    /// Passes on all that comes, until its end or until nobody reads any more.
    pub(super) async fn all(self, mut stream: BackupStream) -> Result<(), OperateError> {
        while let Some(piece) = stream.next().await? {
            if self.0.send(piece).await.is_err() {
                // Whoever read it says why that was enough.
                return Ok(());
            }
        }
        Ok(())
    }
}
