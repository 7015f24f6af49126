//! Saving the state of a cluster, and restoring it, from outside.

use super::operator::{Operator, OperatorError};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use proto::backup::restore_piece::Part;
use proto::backup::{RestoreHeader, RestorePiece, SaveRequest};
use std::fs::File;
use std::io;
use tonic::Streaming;

/// The bytes of a backup as they arrive.
#[derive(Debug)]
pub struct BackupStream {
    operator: Operator,
    pieces: Streaming<proto::backup::Piece>,
}

impl BackupStream {
    /// The next bytes; `None` at the end. Whether that was the end of the file only the file itself tells.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, OperatorError> {
        let piece = self.pieces.message().await.map_err(|status| self.operator.refused(&status))?;
        Ok(piece.map(|piece| piece.data))
    }
}

impl Operator {
    /// The bytes of a backup file: every change that was acknowledged before the call, at one point in the log.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn backup(&self) -> Result<BackupStream, OperatorError> {
        // As long as it takes: the connection itself tells when the node is gone.
        let response = self.backups.clone().save(SaveRequest {}).await;
        let pieces = response.map_err(|status| self.refused(&status))?.into_inner();
        Ok(BackupStream { operator: self.clone(), pieces })
    }

    /// Restores the backup in `file`, from where that stands, whose number is known by [`crate::backup::inspect`]. With
    /// `restart`, another one that was restored by half gives way. Returns how far the log has got by then.
    ///
    /// # Errors
    /// [`OperatorError`]. Done again after it was cut off, it goes on where it was.
    pub async fn restore(&self, file: File, number: u64, restart: bool) -> Result<u64, OperatorError> {
        let header = RestorePiece { part: Some(Part::Header(RestoreHeader { number, restart })) };
        let messages = futures::stream::once(std::future::ready(header)).chain(data(file));
        let response = self.backups.clone().restore(messages).await;
        Ok(response.map_err(|status| self.refused(&status))?.into_inner().applied)
    }
}

/// A file that cannot be read on ends early, which the node will notice.
fn data(file: File) -> impl Stream<Item = RestorePiece> + Send {
    super::backup::pieces(file)
        .take_while(|piece: &io::Result<Bytes>| std::future::ready(piece.is_ok()))
        .filter_map(|piece| std::future::ready(piece.ok()))
        .map(|data| RestorePiece { part: Some(Part::Data(data)) })
}
