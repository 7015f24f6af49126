//! Calling peers: their channels, and openraft's network over them.

use super::auth::Credentials;
use super::{KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, convert};
use crate::belonging::Belonging;
use crate::settings::{MESSAGE_BYTES_MAX, Secret};
use crate::tls::{self, Tls};
use crate::types::{
    AppendRequest, AppendResult, Membership, MetricsReceiver, NetworkError, RpcError, Snapshot,
    SnapshotResponse, StreamingError, TransferRequest, TransferResponse, TypeConfig, Unreachable, Vote,
    VoteRequest, VoteResponse,
};
use bytes::BytesMut;
use domain::id::NodeId;
use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::async_runtime::WatchReceiver;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::ReplicationClosed;
use openraft::impls::BasicNode;
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};
use parking_lot::Mutex;
use proto::admin::admin_client::AdminClient;
use proto::cluster::cluster_client::ClusterClient;
use proto::raft::raft_client::RaftClient;
use proto::raft::snapshot_chunk::Part;
use proto::raft::{SnapshotChunk, TransferLeaderRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use storage::SnapshotFile;
use tokio::io::AsyncReadExt;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Appends without an answer for this long mean that the stream is dead, though the connection may live.
const APPEND_STALL: Duration = Duration::from_secs(3);
/// Bytes of a snapshot in one message.
const SNAPSHOT_CHUNK_BYTES: usize = 512 * 1024;
/// A transfer of leadership waits for the target's disk at most.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(1);
/// Pauses before an unreachable peer is tried again; the last one for ever.
const BACKOFF_MS: [u64; 5] = [50, 100, 200, 400, 500];

type Authorized = InterceptedService<Channel, Credentials>;

/// What a connection is used for. Bulk must not hold up signs of life, so each has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Heartbeats, votes, pings, proposals, read indexes.
    Control,
    /// Replication.
    Log,
    /// Snapshots.
    Snapshot,
}

/// Channels to the other members. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    me: NodeId,
    secret: Secret,
    tls: Option<Tls>,
    /// What this node was told of addresses when it started. It wins over what the members agreed on: a node may have
    /// moved.
    routes: BTreeMap<NodeId, String>,
    /// Where the members are says the log.
    metrics: OnceLock<MetricsReceiver>,
    belonging: Belonging,
    channels: Mutex<BTreeMap<(NodeId, Lane), (String, Channel)>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("me", &self.me).field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl Peers {
    pub(crate) fn new(
        me: NodeId,
        secret: Secret,
        tls: Option<Tls>,
        routes: BTreeMap<NodeId, String>,
        belonging: Belonging,
    ) -> Self {
        let (metrics, channels) = (OnceLock::new(), Mutex::default());
        Self { shared: Arc::new(Shared { me, secret, tls, routes, metrics, belonging, channels }) }
    }

    /// Takes addresses from the members that consensus knows, from now on.
    pub(crate) fn follow(&self, metrics: MetricsReceiver) {
        // Only the first counts, and there is only one.
        let _ = self.shared.metrics.set(metrics);
    }

    /// The other members, and those this node was told of.
    pub(crate) fn others(&self) -> BTreeSet<NodeId> {
        let mut others: BTreeSet<NodeId> = self.shared.routes.keys().copied().collect();
        if let Some(metrics) = self.shared.metrics.get() {
            let metrics = metrics.borrow_watched();
            others.extend(metrics.membership_config.membership().nodes().map(|(id, _)| NodeId(*id)));
        }
        others.remove(&self.shared.me);
        others
    }

    fn addr(&self, node: NodeId) -> Result<String, Status> {
        let agreed = || {
            let metrics = self.shared.metrics.get()?.borrow_watched();
            metrics.membership_config.membership().get_node(&node.0).map(|node| node.addr.clone())
        };
        let known = self.shared.routes.get(&node).cloned().or_else(agreed);
        known.ok_or_else(|| Status::not_found(format!("no node {node}")))
    }

    /// Closes the connections to nodes that are neither members nor were ever told of.
    pub(crate) fn forget_all_but(&self, membership: &Membership) {
        let routes = &self.shared.routes;
        let stays = |node: &NodeId| routes.contains_key(node) || membership.get_node(&node.0).is_some();
        self.shared.channels.lock().retain(|(node, _), _| stays(node));
    }

    fn credentials(&self, to: NodeId) -> Credentials {
        Credentials::new(&self.shared.secret, Some(self.shared.me), to)
    }

    /// A client for everything besides replication.
    pub(crate) fn cluster(&self, node: NodeId) -> Result<ClusterClient<Authorized>, Status> {
        let channel = self.channel(node, Lane::Control, &self.addr(node)?)?;
        Ok(ClusterClient::with_interceptor(channel, self.credentials(node))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// A client for what operators ask, to pass it on.
    pub(crate) fn admin(&self, node: NodeId) -> Result<AdminClient<Authorized>, Status> {
        let channel = self.channel(node, Lane::Control, &self.addr(node)?)?;
        Ok(AdminClient::with_interceptor(channel, self.credentials(node)))
    }

    fn raft(&self, node: NodeId, lane: Lane, addr: &str) -> Result<RaftClient<Authorized>, Status> {
        let channel = self.channel(node, lane, addr)?;
        Ok(RaftClient::with_interceptor(channel, self.credentials(node))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// A channel that connects when it is used, and again when it was cut.
    fn channel(&self, node: NodeId, lane: Lane, addr: &str) -> Result<Channel, Status> {
        let mut channels = self.shared.channels.lock();
        if let Some((known, channel)) = channels.get(&(node, lane))
            && known == addr
        {
            return Ok(channel.clone());
        }
        let channel = tls::endpoint(addr, self.shared.tls.as_ref())
            .map_err(|error| {
                Status::invalid_argument(format!("{addr} is no address of node {node}: {error}"))
            })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .http2_adaptive_window(true)
            .connect_lazy();
        channels.insert((node, lane), (addr.to_owned(), channel.clone()));
        Ok(channel)
    }
}

/// Makes openraft's connections.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    peers: Peers,
}

impl Network {
    pub(crate) fn new(peers: Peers) -> Self {
        Self { peers }
    }

    fn connection(&self, target: u64, node: &BasicNode, lane: Lane) -> Connection {
        let target = NodeId(target);
        let addr = self.peers.shared.routes.get(&target).unwrap_or(&node.addr).clone();
        Connection { peers: self.peers.clone(), target, addr, lane }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        self.connection(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        self.connection(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        self.connection(target, node, Lane::Snapshot)
    }
}

/// openraft's way to one peer.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    peers: Peers,
    target: NodeId,
    addr: String,
    lane: Lane,
}

impl Connection {
    fn client(&self, lane: Lane) -> Result<RaftClient<Authorized>, RpcError> {
        self.peers.raft(self.target, lane, &self.addr).map_err(|status| self.failed(&status))
    }

    /// A peer that is not there, or will not talk to us, is left alone for a while.
    fn failed(&self, status: &Status) -> RpcError {
        self.peers.shared.belonging.heed(status);
        match status.code() {
            // The cluster goes on without this node; see [`Belonging`].
            Code::PermissionDenied => Unreachable::new(status).into(),
            Code::Unauthenticated | Code::FailedPrecondition | Code::InvalidArgument => {
                tracing::warn!(peer = %self.target, addr = %self.addr, reason = status.message(), "peer refuses our calls");
                Unreachable::new(status).into()
            }
            Code::Unavailable => Unreachable::new(status).into(),
            _ => NetworkError::new(status).into(),
        }
    }
}

impl NetBackoff<TypeConfig> for Connection {
    fn backoff(&self) -> Option<Backoff> {
        let last = BACKOFF_MS[BACKOFF_MS.len() - 1];
        Some(Backoff::new(BACKOFF_MS.into_iter().chain(std::iter::repeat(last)).map(Duration::from_millis)))
    }
}

impl NetVote<TypeConfig> for Connection {
    async fn vote(&mut self, rpc: VoteRequest, _: RPCOption) -> Result<VoteResponse, RpcError> {
        let answer = self.client(Lane::Control)?.vote(convert::vote_request_to_proto(&rpc)).await;
        answer
            .and_then(|response| convert::vote_response_from_proto(response.into_inner()))
            .map_err(|status| self.failed(&status))
    }

    async fn pre_vote(&mut self, rpc: VoteRequest, _: RPCOption) -> Result<VoteResponse, RpcError> {
        let answer = self.client(Lane::Control)?.pre_vote(convert::vote_request_to_proto(&rpc)).await;
        answer
            .and_then(|response| convert::vote_response_from_proto(response.into_inner()))
            .map_err(|status| self.failed(&status))
    }
}

impl NetStreamAppend<TypeConfig> for Connection {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let this: &'s Self = self;
            let mut input = input;
            // openraft waits out its back-off when it is asked for a request. A connection that is refused before that
            // would be tried again at once, without end.
            let Some(first) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
            let input = futures::stream::once(std::future::ready(first)).chain(input);
            let mut client = this.client(this.lane)?;
            let sent = Arc::new(AtomicU64::new(0));
            let counter = Arc::clone(&sent);
            let requests = input.map(move |request| {
                counter.fetch_add(1, Ordering::Relaxed);
                convert::append_request_to_proto(&request)
            });
            let answers = match tokio::time::timeout(APPEND_STALL, client.append(requests)).await {
                Ok(answer) => answer.map_err(|status| this.failed(&status))?.into_inner(),
                Err(_) => return Err(this.failed(&Status::unavailable("the append stream did not open"))),
            };
            let start = Some((answers, 0));
            let results = futures::stream::unfold(start, move |state| {
                let sent = Arc::clone(&sent);
                async move {
                    let (mut answers, answered) = state?;
                    loop {
                        let before = sent.load(Ordering::Relaxed);
                        match tokio::time::timeout(APPEND_STALL, answers.next()).await {
                            Ok(None) => return None,
                            Ok(Some(answer)) => {
                                let result = answer
                                    .and_then(convert::append_result_from_proto)
                                    .map_err(|status| this.failed(&status));
                                let next = result.is_ok().then_some((answers, answered + 1));
                                return Some((result, next));
                            }
                            // Something sent before the pause is still without an answer.
                            Err(_) if before > answered => {
                                let stalled = Status::unavailable("the append stream stalled");
                                return Some((Err(this.failed(&stalled)), None));
                            }
                            Err(_) => {}
                        }
                    }
                }
            });
            Ok(Box::pin(results) as BoxStream<'s, _>)
        })
    }
}

impl NetSnapshot<TypeConfig> for Connection {
    type SnapshotData = SnapshotFile;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError> {
        let mut client = self.client(Lane::Snapshot)?;
        let file = tokio::fs::File::open(&snapshot.snapshot.path)
            .await
            .map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
        tracing::info!(peer = %self.target, size_bytes = snapshot.snapshot.size_bytes, "sending a snapshot");
        let header = SnapshotChunk { part: Some(Part::Ballot(convert::vote_to_proto(&vote))) };
        let chunks = futures::stream::unfold(Some(file), |file| async {
            let mut file = file?;
            let mut chunk = BytesMut::with_capacity(SNAPSHOT_CHUNK_BYTES);
            while chunk.len() < SNAPSHOT_CHUNK_BYTES {
                match file.read_buf(&mut chunk).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        // The receiver finds the file cut off and refuses it.
                        tracing::error!(%error, "a snapshot file cannot be read");
                        return None;
                    }
                }
            }
            (!chunk.is_empty())
                .then(|| (SnapshotChunk { part: Some(Part::Data(chunk.freeze())) }, Some(file)))
        });
        let messages = futures::stream::once(std::future::ready(header)).chain(chunks);
        let answer = tokio::select! {
            closed = cancel => return Err(closed.into()),
            answer = client.snapshot(messages) => answer,
        };
        let response = answer.map_err(|status| self.failed(&status))?.into_inner();
        let vote = convert::vote_from_proto(response.ballot).map_err(|status| self.failed(&status))?;
        Ok(SnapshotResponse::new(vote))
    }
}

impl NetTransferLeader<TypeConfig> for Connection {
    async fn transfer_leader(
        &mut self,
        request: TransferRequest,
        _: RPCOption,
    ) -> Result<TransferResponse, RpcError> {
        let request: TransferLeaderRequest = convert::transfer_request_to_proto(&request);
        let mut client = self.client(Lane::Control)?;
        match tokio::time::timeout(TRANSFER_TIMEOUT, client.transfer_leader(request)).await {
            Ok(answer) => answer
                .and_then(|response| convert::transfer_response_from_proto(response.into_inner()))
                .map_err(|status| self.failed(&status)),
            Err(_) => Err(self.failed(&Status::unavailable("the transfer of leadership was not answered"))),
        }
    }
}
