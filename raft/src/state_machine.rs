//! openraft's state machine over [`storage::State`]: entries are applied in runs, each run one commit
//! together with the last log id. Replies and hints go out only after the commit.
//!
//! An error from here stops the node. A refusal is a reply, never an error.

use crate::apply::{Effect, apply};
use crate::belonging::Belonging;
use crate::changes::ChangesSender;
use crate::codec::{self, Mark};
use crate::command::Command;
use crate::digest::{self, Releases};
use crate::level::SUPPORTED;
use crate::types::{
    Entry, EntryResponder, LeaderId, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
};
use crate::waiters::Waiters;
use domain::id::NodeId;
use domain::node::{FeatureLevel, SessionId};
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use storage::schema::Metas;
use storage::{Digest, Read, SnapshotFile, State};
use tokio::sync::watch;

/// Entries in one commit at most, so that hints and replies do not wait for a long catch-up.
const RUN_ENTRIES_MAX: usize = 256;
/// Bytes of proposals in one commit, for the same reason: it is one piece of work, of some tens of milliseconds at most.
const RUN_BYTES_MAX: usize = 256 * 1024;

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The term in which the entry was appended.
    pub term: u64,
    /// Who appended it.
    pub leader: NodeId,
    /// From 1.
    pub index: u64,
}

/// The state machine of one node.
#[derive(Debug)]
pub struct StateMachine {
    state: State,
    mark: Mark,
    changes: ChangesSender,
    waiters: Waiters,
    belonging: Belonging,
    applied: watch::Sender<u64>,
    snapshot_bytes: Arc<AtomicU64>,
}

impl StateMachine {
    /// The state machine whose state is `state`, without anybody who listens.
    ///
    /// # Errors
    /// When the state was written by a newer release or is damaged.
    pub fn new(state: State) -> io::Result<Self> {
        let waiters = Waiters::new(NodeId::default(), SessionId::default());
        let belonging = Belonging::new(NodeId::default(), SUPPORTED);
        Self::with(state, ChangesSender::default(), waiters, belonging, watch::Sender::new(0))
    }

    pub(crate) fn with(
        state: State,
        changes: ChangesSender,
        waiters: Waiters,
        belonging: Belonging,
        applied: watch::Sender<u64>,
    ) -> io::Result<Self> {
        let (mark, snapshot_bytes) = (Mark::default(), Arc::default());
        let mut machine = Self { state, mark, changes, waiters, belonging, applied, snapshot_bytes };
        machine.read_mark()?;
        Ok(machine)
    }

    /// Bytes of the newest snapshot, as far as one was made or met since the start.
    pub(crate) fn snapshot_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.snapshot_bytes)
    }

    fn read_mark(&mut self) -> io::Result<()> {
        self.mark = match self.state.applied() {
            Some(mark) => codec::decode_mark(&mark)?,
            None => Mark::default(),
        };
        // The rest of a state that is too new for this build is not looked at.
        if self.belonging.supports(self.mark.level) {
            self.belonging.follow(&self.state).map_err(io::Error::other)?;
        }
        self.publish();
        Ok(())
    }

    /// Stops before anything is stored that this build may not read.
    fn must_support(&self, level: FeatureLevel) -> io::Result<()> {
        if self.belonging.supports(level) {
            Ok(())
        } else {
            Err(io::Error::other("the cluster's feature level is too high for this build"))
        }
    }

    fn publish(&self) {
        self.applied.send_replace(self.mark.applied.map_or(0, |id| id.index));
    }

    /// Applies committed entries as one run, each given by its place in the log and what it holds, if anything. For
    /// [`crate::Cluster::over`], whose consensus is not openraft.
    ///
    /// # Errors
    /// When a proposal cannot be read or the storage is broken. The node must stop.
    pub fn apply_committed(&mut self, run: Vec<(Place, Option<Payload>)>) -> io::Result<()> {
        let run = run.into_iter().map(|(Place { term, leader, index }, payload)| {
            let log_id = LogId::new(LeaderId { term, node_id: leader.0 }, index);
            (Entry { log_id, payload: payload.map_or(EntryPayload::Blank, EntryPayload::Normal) }, None)
        });
        self.apply_run(run.collect())
    }

    /// Replaces the state by a copy of `other`, as a snapshot of it would; both are in memory alone.
    ///
    /// # Errors
    /// When one of them is on disk.
    pub fn adopt(&mut self, other: &State) -> io::Result<()> {
        self.state.become_copy_of(other).map_err(io::Error::other)?;
        self.read_mark()?;
        self.changes.reload();
        Ok(())
    }

    fn apply_run(&mut self, run: Vec<EntryResponder>) -> io::Result<()> {
        let mut effects = Vec::new();
        let mut replies = Vec::new();
        let mut responders: Vec<ApplyResponder<TypeConfig>> = Vec::new();
        let mut txn = self.state.begin();
        for (entry, responder) in run {
            let mut releases_changed = false;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(payload) => {
                    let proposal = codec::decode_proposal(&payload.proposal)?;
                    let name = (proposal.node, proposal.session, proposal.sequence);
                    let releases = Releases::before(&txn, &proposal).map_err(io::Error::other)?;
                    let raises =
                        proposal.commands.iter().any(|command| matches!(command, Command::RaiseLevel(_)));
                    let answer =
                        apply(&mut txn, payload.at, proposal, &mut effects).map_err(io::Error::other)?;
                    replies.push((name, answer));
                    releases_changed = releases.changed(&txn).map_err(io::Error::other)?;
                    if raises {
                        let meta = txn.get::<Metas>(&()).map_err(io::Error::other)?;
                        self.mark.level = meta.unwrap_or_default().level;
                        self.must_support(self.mark.level)?;
                    }
                }
                EntryPayload::Membership(membership) => {
                    self.mark.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            let begun = if releases_changed { Some(Digest::default()) } else { self.mark.digest };
            let written = txn.take_digest();
            self.mark.digest = begun.map(|before| digest::chain(before, &entry.log_id, written));
            self.mark.applied = Some(entry.log_id);
            responders.extend(responder);
        }
        txn.commit(codec::encode_mark(&self.mark)).map_err(io::Error::other)?;

        if effects.iter().any(|effect| matches!(effect, Effect::Node(_))) {
            self.belonging.follow(&self.state).map_err(io::Error::other)?;
        }
        self.publish();
        self.changes.send(effects);
        for ((node, session, sequence), answer) in replies {
            self.waiters.complete(node, session, sequence, answer);
        }
        for responder in responders {
            responder.send(());
        }
        Ok(())
    }
}

/// What openraft wants to know of a snapshot file is in its mark.
pub(crate) fn describe(file: SnapshotFile) -> io::Result<Snapshot> {
    let mark = if file.mark.is_empty() { Mark::default() } else { codec::decode_mark(&file.mark)? };
    let meta = SnapshotMeta { last_log_id: mark.applied, last_membership: mark.membership };
    Ok(Snapshot { meta, snapshot: file })
}

/// Runs something that waits for the disk where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, storage::Error> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?.map_err(io::Error::other)
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.mark.applied, self.mark.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder>> + Unpin + OptionalSend,
    {
        let mut run = Vec::new();
        let mut run_bytes = 0;
        while let Some(item) = entries.next().await {
            let item = item?;
            if let EntryPayload::Normal(payload) = &item.0.payload {
                run_bytes += payload.proposal.len();
            }
            run.push(item);
            if run.len() >= RUN_ENTRIES_MAX || run_bytes >= RUN_BYTES_MAX {
                self.apply_run(std::mem::take(&mut run))?;
                run_bytes = 0;
            }
        }
        if run.is_empty() { Ok(()) } else { self.apply_run(run) }
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { state: self.state.clone(), snapshot_bytes: self.snapshot_bytes() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        if !snapshot.mark.is_empty() {
            self.must_support(codec::decode_mark(&snapshot.mark)?.level)?;
        }
        tracing::info!(last = ?meta.last_log_id, size_bytes = snapshot.size_bytes, "installing a snapshot");
        self.snapshot_bytes.store(snapshot.size_bytes, Ordering::Relaxed);
        let state = self.state.clone();
        blocking(move || state.install(&snapshot)).await?;
        self.read_mark()?;
        self.changes.reload();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let state = self.state.clone();
        let Some(file) = blocking(move || state.latest_snapshot()).await? else {
            return Ok(None);
        };
        self.snapshot_bytes.store(file.size_bytes, Ordering::Relaxed);
        describe(file).map(Some)
    }
}

/// Writes snapshots beside the applies.
#[derive(Debug)]
pub struct SnapshotBuilder {
    state: State,
    snapshot_bytes: Arc<AtomicU64>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let state = self.state.clone();
        let file = blocking(move || state.snapshot()).await?;
        tracing::info!(size_bytes = file.size_bytes, "snapshot written");
        self.snapshot_bytes.store(file.size_bytes, Ordering::Relaxed);
        describe(file)
    }
}
