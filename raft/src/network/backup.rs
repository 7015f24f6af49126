//! What this node does for an operator who saves the state to a file, or restores it.

use crate::Cluster;
use crate::apply::restore::is_empty;
use crate::backup::{self, Summary};
use crate::command::{BeginRestore, Command, RestorePart, StepRestore};
use crate::error::ProposeError;
use bytes::{Bytes, BytesMut};
use domain::rejection::Rejection;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use proto::backup::backup_server::Backup;
use proto::backup::restore_piece::Part;
use proto::backup::{Piece, RestoreHeader, RestorePiece, RestoreResponse, SaveRequest};
use std::fs::File;
use std::io::{BufReader, Seek, Write};
use std::time::Duration;
use storage::backup::BackupReader;
use storage::schema::{Restore, RestoreStage, Restores};
use storage::{BackupError, Read};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status, Streaming};

/// Bytes of a backup in one message.
pub(super) const PIECE_BYTES: usize = 512 * 1024;
/// How long a restoration waits for a leader before it is left for the operator to go on with.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause before a step is taken again that found no leader.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Said to whoever would restore into a cluster that has something.
const NOT_EMPTY: &str = "the cluster has accounts, jobs or a history already; a backup is restored into a new cluster, whose \
     only account is the one that --bootstrap-api-key makes";

pub(super) struct BackupService {
    pub(super) cluster: Cluster,
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// Runs something that waits for the disk where it holds up nobody.
async fn blocking<T: Send + 'static, E: std::error::Error + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(failed)?.map_err(|error| {
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        failed(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    })
}

/// The bytes of a file from where it stands, in pieces.
pub(super) fn pieces(file: File) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    futures::stream::unfold(Some(tokio::fs::File::from_std(file)), |file| async {
        let mut file = file?;
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        while piece.len() < PIECE_BYTES {
            match file.read_buf(&mut piece).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Some((Err(error), None)),
            }
        }
        (!piece.is_empty()).then(|| (Ok(piece.freeze()), Some(file)))
    })
}

#[tonic::async_trait]
impl Backup for BackupService {
    type SaveStream = BoxStream<'static, Result<Piece, Status>>;

    async fn save(&self, _: Request<SaveRequest>) -> Result<Response<Self::SaveStream>, Status> {
        self.cluster.read_barrier().await?;
        if self.restoring()?.is_some() {
            return Err(Status::failed_precondition("a backup is being restored into this cluster"));
        }
        let state = self.cluster.state().clone();
        let file = blocking(move || backup::write(&state)).await?;
        tracing::info!("sending a backup");
        let pieces = pieces(file).map(|piece| match piece {
            Ok(data) => Ok(Piece { data }),
            Err(error) => Err(failed(error)),
        });
        Ok(Response::new(pieces.boxed()))
    }

    async fn restore(
        &self,
        request: Request<Streaming<RestorePiece>>,
    ) -> Result<Response<RestoreResponse>, Status> {
        let mut messages = request.into_inner();
        let Some(RestorePiece { part: Some(Part::Header(header)) }) = messages.message().await? else {
            return Err(Status::invalid_argument("a restoration begins with a header"));
        };
        self.cluster.read_barrier().await?;
        // Before all of it has travelled.
        self.must_take(&header)?;
        let state = self.cluster.state().clone();
        let mut file = blocking(move || state.incoming_backup()).await?;
        while let Some(message) = messages.message().await? {
            let Some(Part::Data(data)) = message.part else {
                return Err(Status::invalid_argument("a restoration has one header, then data"));
            };
            file = blocking(move || file.write_all(&data).map(|()| file)).await?;
        }
        // Looked at here as well, and as a whole: nothing has changed yet.
        let (file, summary) = blocking(move || {
            file.rewind().map_err(BackupError::Io)?;
            let summary = backup::inspect(BufReader::new(&file))?;
            Ok::<_, backup::UnusableBackup>((file, summary))
        })
        .await
        .map_err(|status| {
            Status::invalid_argument(format!("what arrived cannot be used: {}", status.message()))
        })?;
        if summary.number != header.number {
            return Err(Status::invalid_argument("what arrived is another backup than was announced"));
        }
        self.must_understand(&summary)?;
        tracing::info!(jobs = summary.jobs, parts = summary.parts, "restoring a backup");
        self.carry_out(&header, &summary, Parts { file, reader: None }).await?;
        tracing::info!("backup restored");
        Ok(Response::new(RestoreResponse { applied: self.cluster.status().applied }))
    }
}

impl BackupService {
    /// The restoration that is under way, as far as this node knows.
    fn restoring(&self) -> Result<Option<Restore>, Status> {
        self.cluster.state().view().get::<Restores>(&()).map_err(failed)
    }

    /// Refuses a backup that the cluster would not take, by what this node knows.
    fn must_take(&self, header: &RestoreHeader) -> Result<(), Status> {
        match self.restoring()? {
            Some(known) if known.backup == header.number || header.restart => Ok(()),
            Some(known) => Err(other_backup(&known)),
            None if is_empty(&self.cluster.state().view()).map_err(failed)? => Ok(()),
            None => Err(Status::failed_precondition(NOT_EMPTY)),
        }
    }

    /// Refuses a backup of a cluster that could do more, before anything is cleared for it.
    fn must_understand(&self, summary: &Summary) -> Result<(), Status> {
        let (needed, level) = (summary.level, self.cluster.level().map_err(failed)?);
        if needed <= level {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "the backup is of feature level {needed}, and this cluster is at level {level}; run justrun cluster upgrade first"
        )))
    }

    /// Does what the record in the state says is next, until there is none any more.
    async fn carry_out(
        &self,
        header: &RestoreHeader,
        summary: &Summary,
        mut parts: Parts,
    ) -> Result<(), Status> {
        let (backup, mut begun) = (header.number, false);
        let mut progress_at = Instant::now();
        loop {
            let command = match self.restoring()? {
                None if begun => return Ok(()),
                None => Command::BeginRestore(BeginRestore { backup, parts: summary.parts, replaces: None }),
                Some(known) if known.backup != backup => {
                    // Nobody begins anew twice: another operator may have done so meanwhile, and would answer in kind.
                    if begun || !header.restart {
                        return Err(other_backup(&known));
                    }
                    let replaces = Some(known.backup);
                    Command::BeginRestore(BeginRestore { backup, parts: summary.parts, replaces })
                }
                Some(Restore { stage: RestoreStage::Filling { next }, .. }) => {
                    let (rest, block) = blocking(move || parts.part(next)).await?;
                    parts = rest;
                    Command::RestorePart(RestorePart { backup, number: next, block })
                }
                Some(_) => Command::StepRestore(StepRestore { backup }),
            };
            match self.cluster.propose(command).await {
                Ok(_) => {
                    begun = true;
                    progress_at = Instant::now();
                    continue;
                }
                Err(ProposeError::Rejected(Rejection::NotEmpty)) => {
                    return Err(Status::failed_precondition(NOT_EMPTY));
                }
                // Somebody else has taken that step, or this node's state was behind.
                Err(ProposeError::Rejected(Rejection::Stale | Rejection::Restoring)) => {}
                Err(ProposeError::NoLeader | ProposeError::Unknown) => {}
                Err(error) => return Err(error.into()),
            }
            if progress_at.elapsed() >= PATIENCE {
                return Err(ProposeError::NoLeader.into());
            }
            sleep(AGAIN_AFTER).await;
            // So that the next look is not at an old state; without a leader it is another round.
            let _ = self.cluster.read_barrier().await;
        }
    }
}

fn other_backup(known: &Restore) -> Status {
    Status::failed_precondition(format!(
        "another backup is being restored, {}; give its file to go on with it, or --restart to begin anew with this one",
        stage(known)
    ))
}

/// How far a restoration has got, in words.
fn stage(restore: &Restore) -> String {
    match restore.stage {
        RestoreStage::Clearing => "and has not begun to come in".to_owned(),
        RestoreStage::Filling { next } => format!("of which {next} of {} parts are in", restore.parts),
        RestoreStage::Jobs { .. } | RestoreStage::Deliveries { .. } => "and is nearly done".to_owned(),
    }
}

/// The parts of a backup on this node's disk, of which nearly always the next one is wanted.
struct Parts {
    file: File,
    reader: Option<BackupReader<BufReader<File>>>,
}

impl Parts {
    /// The part with this number, as it stands in the file.
    fn part(mut self, number: u64) -> Result<(Self, Bytes), BackupError> {
        let mut reader = match self.reader.take().filter(|reader| reader.parts() <= number) {
            Some(reader) => reader,
            None => {
                let mut file = self.file.try_clone().map_err(BackupError::Io)?;
                file.rewind().map_err(BackupError::Io)?;
                BackupReader::new(BufReader::new(file))?
            }
        };
        while let Some(part) = reader.next_part()? {
            if reader.parts() == number + 1 {
                self.reader = Some(reader);
                return Ok((self, part.block));
            }
        }
        Err(BackupError::CutOff)
    }
}
