//! Three nodes of consensus in one process that agree on commands nobody carries out: the state machine is empty, the network
//! is a call, and the log is a file that is only appended, with one `fdatasync` for all that waits for one. What the product's
//! commits cost beyond this is its own doing.

use crate::{
    raw::{self, Outcome},
    scene::say,
};
use bytes::Bytes;
use cluster_tests::Error;
use futures::{Stream, StreamExt};
use openraft::{
    Config, EntryPayload, OptionalSend, SnapshotPolicy,
    base::{BoxFuture, BoxStream},
    entry::RaftEntry,
    errors::{ReplicationClosed, Unreachable},
    impls::BasicNode,
    network::{RPCOption, RaftNetworkFactory, RaftNetworkV2},
    storage::{
        EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder,
        RaftStateMachine,
    },
    type_config::{
        TypeConfigExt,
        alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf},
    },
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Write},
    ops::RangeBounds,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Bytes of a command: those of a small job.
const COMMAND_BYTES: usize = 300;
/// A leader is there.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// What a node may have to write before whoever appends has to wait.
const QUEUED_MAX: usize = 4_096;
const NODES: [u64; 3] = [1, 2, 3];

/// What is agreed on.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Command(Bytes);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

openraft::declare_raft_types!(
    pub(super) Types:
        D = Command,
        R = (),
        NodeId = u64,
        Node = BasicNode,
);

type Raft = openraft::Raft<Types, Nothing>;
type Entry = EntryOf<Types>;
type LogId = LogIdOf<Types>;
type Vote = VoteOf<Types>;
type AppendRequest = openraft::raft::AppendEntriesRequest<Types>;
type AppendResponse = openraft::raft::AppendEntriesResponse<Types>;
type AppendResult = openraft::raft::StreamAppendResult<Types>;
type VoteRequest = openraft::raft::VoteRequest<Types>;
type VoteResponse = openraft::raft::VoteResponse<Types>;
type SnapshotResponse = openraft::raft::SnapshotResponse<Types>;
type RpcError = openraft::errors::RPCError<Types>;
type StreamingError = openraft::errors::StreamingError<Types>;

/// The three, with a leader.
pub(super) struct Trio {
    nodes: BTreeMap<u64, Raft>,
    leader: Raft,
}

impl Trio {
    /// Starts them; their logs are files in `dir`.
    pub(super) async fn start(dir: &Path) -> Result<Self, Error> {
        let config = Config {
            cluster_name: "ceiling".to_owned(),
            heartbeat_interval: 250,
            election_timeout_min: 1_000,
            election_timeout_max: 2_000,
            snapshot_policy: SnapshotPolicy::Never,
            ..Config::default()
        };
        let config = Arc::new(config.validate().map_err(refused)?);
        let peers = Peers::default();
        let mut nodes = BTreeMap::new();
        for id in NODES {
            let log = Log::create(&dir.join(format!("log-{id}"))).map_err(refused)?;
            let network = Network(Arc::clone(&peers));
            let raft = Raft::new(id, Arc::clone(&config), network, log, Nothing::default()).await;
            nodes.insert(id, raft.map_err(refused)?);
        }
        // Only this sets it.
        let _ = peers.set(nodes.clone());
        let members: BTreeMap<_, _> = NODES.into_iter().map(|id| (id, BasicNode::default())).collect();
        let first = &nodes[&NODES[0]];
        first.initialize(members).await.map_err(refused)?;
        let waiting = first.wait(Some(START_DEADLINE));
        // It takes commands once the first entry of its term is committed.
        let takes = |seen: &openraft::RaftMetrics<Types>| {
            seen.current_leader.is_some() && seen.last_applied.is_some_and(|id| id.leader_id.term > 0)
        };
        let seen = waiting.metrics(takes, "leader").await.map_err(refused)?;
        let leader = seen.current_leader.and_then(|id| nodes.get(&id)).cloned();
        let leader = leader.ok_or_else(|| Error::Input("no leader".to_owned()))?;
        Ok(Self { nodes, leader })
    }

    /// Has `writers` propose to the leader for `span`, one command at a time each.
    pub(super) async fn write(&self, writers: usize, span: Duration) -> Result<Outcome, Error> {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..writers {
            let leader = self.leader.clone();
            let command = Command(Bytes::from(vec![7; COMMAND_BYTES]));
            tasks.spawn(raw::repeat(start + span, async move |_| {
                leader.client_write(command.clone()).await.map(drop).map_err(refused)
            }));
        }
        raw::gather(tasks, start).await
    }

    /// Ends them; fails unless all have applied `commands`, so that nothing was answered that was not agreed on.
    pub(super) async fn stop(self, commands: usize) -> Result<(), Error> {
        let least = u64::try_from(commands).unwrap_or(u64::MAX);
        for raft in self.nodes.values() {
            let waiting = raft.wait(Some(START_DEADLINE));
            waiting.applied_index_at_least(Some(least), "all commands").await.map_err(refused)?;
        }
        for (id, raft) in self.nodes {
            if let Err(error) = raft.shutdown().await {
                say(format!("node {id} of openraft_empty does not end: {error}"));
            }
        }
        Ok(())
    }
}

fn refused(error: impl fmt::Display) -> Error {
    Error::Input(format!("openraft: {error}"))
}

/// A log in memory, and in a file that is written and never read: nobody starts again from it.
#[derive(Clone)]
struct Log {
    kept: Arc<Mutex<Kept>>,
    writer: mpsc::SyncSender<Written>,
}

#[derive(Default)]
struct Kept {
    vote: Option<Vote>,
    entries: BTreeMap<u64, Entry>,
}

/// What goes into the file, and who waits until it is durable.
struct Written {
    bytes: Vec<u8>,
    flushed: IOFlushed<Types>,
}

impl Log {
    fn create(path: &Path) -> io::Result<Self> {
        let (writer, queue) = mpsc::sync_channel(QUEUED_MAX);
        let file = File::create(path)?;
        // It ends with the last clone of the log.
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(file, &queue))?;
        Ok(Self { kept: Arc::default(), writer })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing that holds the lock can panic half-way through a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, bytes: Vec<u8>, flushed: IOFlushed<Types>) -> io::Result<()> {
        self.writer.send(Written { bytes, flushed }).map_err(|_| io::Error::other("the log was closed"))
    }
}

/// Takes all that waits, writes it, makes it durable once, and says so to everybody.
fn write_all(mut file: File, queue: &mpsc::Receiver<Written>) {
    while let Ok(first) = queue.recv() {
        let batch: Vec<_> = std::iter::once(first).chain(queue.try_iter()).collect();
        let bytes: Vec<u8> = batch.iter().flat_map(|written| written.bytes.iter().copied()).collect();
        let result = file.write_all(&bytes).and_then(|()| file.sync_data());
        for written in batch {
            let told = result.as_ref().copied().map_err(|error| io::Error::other(error.to_string()));
            written.flushed.io_completed(told);
        }
    }
}

/// Place, length and content, as any log must have them.
fn encode(entry: &Entry, bytes: &mut Vec<u8>) -> io::Result<()> {
    let log_id = entry.log_id();
    bytes.extend_from_slice(&log_id.index.to_le_bytes());
    bytes.extend_from_slice(&log_id.leader_id.term.to_le_bytes());
    match &entry.payload {
        EntryPayload::Normal(Command(command)) => {
            bytes.extend_from_slice(&command.len().to_le_bytes());
            bytes.extend_from_slice(command);
        }
        other => bytes.extend(serde_json::to_vec(other).map_err(io::Error::other)?),
    }
    Ok(())
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.lock().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let last = self.lock().entries.values().next_back().map(RaftEntry::log_id);
        Ok(LogState { last_purged_log_id: None, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (sender, flushed) = Types::oneshot();
        self.submit(serde_json::to_vec(vote).map_err(io::Error::other)?, IOFlushed::signal(sender))?;
        flushed.await.map_err(io::Error::other)??;
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut bytes = Vec::new();
        {
            let mut kept = self.lock();
            for entry in entries {
                encode(&entry, &mut bytes)?;
                kept.entries.insert(entry.index(), entry);
            }
        }
        self.submit(bytes, callback)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index + 1);
        drop(self.lock().entries.split_off(&from));
        Ok(())
    }

    async fn purge(&mut self, _: LogId) -> io::Result<()> {
        Err(io::Error::other("nothing is purged without snapshots"))
    }
}

/// A state machine that knows only how far it has come.
#[derive(Clone, Default)]
struct Nothing {
    applied: Option<LogId>,
    membership: StoredMembershipOf<Types>,
}

impl RaftStateMachine<Types> for Nothing {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembershipOf<Types>)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            self.applied = Some(entry.log_id());
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembershipOf::<Types>::new(self.applied, membership);
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, _: &SnapshotMetaOf<Types>, (): ()) -> io::Result<()> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, ()>>> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Types> for Nothing {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, ()>> {
        Err(no_snapshots())
    }
}

/// None is ever wanted: the logs stay whole.
fn no_snapshots() -> io::Error {
    io::Error::other("there are no snapshots")
}

/// All nodes, once they are there.
type Peers = Arc<OnceLock<BTreeMap<u64, Raft>>>;

struct Network(Peers);

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Peer {
        Peer { peers: Arc::clone(&self.0), target }
    }
}

/// The way to one node: its own queue.
struct Peer {
    peers: Peers,
    target: u64,
}

impl Peer {
    fn raft(&self) -> Result<Raft, RpcError> {
        let known = self.peers.get().and_then(|peers| peers.get(&self.target)).cloned();
        known.ok_or_else(|| Unreachable::from_string("not there yet").into())
    }
}

fn failed(error: impl std::error::Error + 'static) -> RpcError {
    Unreachable::new(&error).into()
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = ();

    async fn append_entries(&mut self, rpc: AppendRequest, _: RPCOption) -> Result<AppendResponse, RpcError> {
        self.raft()?.append_entries(rpc).await.map_err(failed)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let answers = self.raft()?.stream_append(input).map(|answer| answer.map_err(failed));
            Ok(Box::pin(answers) as BoxStream<'s, _>)
        })
    }

    async fn vote(&mut self, rpc: VoteRequest, _: RPCOption) -> Result<VoteResponse, RpcError> {
        self.raft()?.vote(rpc).await.map_err(failed)
    }

    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: SnapshotOf<Types, ()>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError> {
        Err(StreamingError::Unreachable(Unreachable::new(&no_snapshots())))
    }
}
