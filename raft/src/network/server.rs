//! The services this node offers to its peers.

use super::admin::AdminService;
use super::auth::Doorkeeper;
use super::backup::BackupService;
use super::{KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, convert};
use crate::codec;
use crate::contact::Hearing;
use crate::error::ServiceError;
use crate::members::Members;
use crate::office::Office;
use crate::quotas::Take;
use crate::settings::{MESSAGE_BYTES_MAX, Settings};
use crate::state_machine::describe;
use crate::types::AppendRequest;
use crate::way::{Refused, Way};
use domain::id::{AccountId, NodeId};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::async_runtime::WatchReceiver;
use proto::admin::admin_server::AdminServer;
use proto::backup::backup_server::BackupServer;
use proto::cluster::cluster_server::{Cluster, ClusterServer};
use proto::cluster::{
    FormationRequest, FormationResponse, NotLeader, PingRequest, PingResponse, ProposeRequest,
    ProposeResponse, ReadIndexRequest, ReadIndexResponse, SupportRequest, SupportResponse, TakeRequest,
    TakeResponse, ping_response, propose_response, read_index_response, take_response,
};
use proto::raft::raft_server::{Raft, RaftServer};
use proto::raft::snapshot_chunk::Part;
use proto::raft::{
    AppendRequest as AppendMessage, AppendResponse, SnapshotChunk, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use std::sync::atomic::Ordering;
use storage::State;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Serves peers and operators that know the secret, until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    office: Office,
    state: State,
    members: Members,
    settings: Settings,
    stop: CancellationToken,
) -> Result<(), ServiceError> {
    let raft = RaftServer::new(RaftService { office: office.clone(), state })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let doorkeeper = Doorkeeper::new(&settings.secret, office.me, office.belonging.clone());
    let cluster = ClusterServer::new(ClusterService { office })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let backup = BackupServer::new(BackupService { cluster: members.cluster().clone() })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let admin = AdminServer::new(AdminService { members })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let mut server = Server::builder();
    if let Some(tls) = &settings.tls {
        server = server.tls_config(tls.server()).map_err(ServiceError::Server)?;
    }
    let server = server
        .http2_adaptive_window(Some(true))
        // Otherwise a stream whose sender is gone, and half a snapshot with it, would stay for ever.
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .add_service(tonic::service::interceptor::InterceptedService::new(raft, doorkeeper.clone()))
        .add_service(tonic::service::interceptor::InterceptedService::new(cluster, doorkeeper.clone()))
        .add_service(tonic::service::interceptor::InterceptedService::new(admin, doorkeeper.clone()))
        .add_service(tonic::service::interceptor::InterceptedService::new(backup, doorkeeper))
        // The builder's own setting counts only for sockets that it binds itself; without this, small answers
        // wait 40 ms for an acknowledgement.
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    tokio::select! {
        ended = server => ended.map_err(ServiceError::Server),
        // Append streams have no end of their own, so there is nothing to wait for.
        () = stop.cancelled() => Ok(()),
    }
}

struct RaftService {
    office: Office,
    state: State,
}

impl RaftService {
    /// Refuses to vote while this node may not.
    fn must_vote(&self) -> Result<(), Status> {
        if self.office.may_vote.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(Status::unavailable("this node has lost its data and is being filled"))
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        self.must_vote()?;
        let request = convert::vote_request_from_proto(request.into_inner())?;
        let response = self.office.raft.vote(request).await.map_err(failed)?;
        Ok(Response::new(convert::vote_response_to_proto(&response)))
    }

    async fn pre_vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        self.must_vote()?;
        let request = convert::vote_request_from_proto(request.into_inner())?;
        let response = self.office.raft.pre_vote(request).await.map_err(failed)?;
        Ok(Response::new(convert::vote_response_to_proto(&response)))
    }

    type AppendStream = BoxStream<'static, Result<AppendResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<AppendMessage>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let requests = until_broken(request.into_inner());
        let answers = self.office.raft.stream_append(requests).map(|answer| match answer {
            Ok(result) => Ok(convert::append_result_to_proto(&result)),
            Err(fatal) => Err(failed(fatal)),
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotResponse>, Status> {
        let mut chunks = request.into_inner();
        let Some(SnapshotChunk { part: Some(Part::Ballot(ballot)) }) = chunks.message().await? else {
            return Err(Status::invalid_argument("a snapshot begins with its sender's ballot"));
        };
        let vote = convert::vote_from_proto(Some(ballot))?;
        let mut writer = self.state.incoming_snapshot().map_err(failed)?;
        while let Some(chunk) = chunks.message().await? {
            match chunk.part {
                Some(Part::Data(data)) => {
                    writer = tokio::task::spawn_blocking(move || writer.write(&data).map(|()| writer))
                        .await
                        .map_err(failed)?
                        .map_err(failed)?;
                }
                Some(Part::Ballot(_)) | None => {
                    return Err(Status::invalid_argument("a snapshot has one ballot, then data"));
                }
            }
        }
        let applied = self.state.applied();
        let belonging = self.office.belonging.clone();
        // Consensus must not begin with what it cannot end: it has cut the log by then.
        let is_news = move |mark: &[u8]| match (codec::decode_mark(mark), applied.as_deref()) {
            (Ok(sent), _) if !belonging.supports(sent.level) => false,
            (Ok(sent), Some(applied)) => {
                codec::decode_mark(applied).is_ok_and(|applied| sent.applied > applied.applied)
            }
            (Ok(_), None) => true,
            (Err(_), _) => false,
        };
        let finished = tokio::task::spawn_blocking(move || writer.finish_if(is_news)).await;
        let Some(file) = finished.map_err(failed)?.map_err(failed)? else {
            if let Some(why) = self.office.belonging.dismissal() {
                return Err(Status::failed_precondition(why.to_string()));
            }
            // A late copy: this node is further already.
            let vote = self.office.raft.metrics().borrow_watched().vote;
            return Ok(Response::new(SnapshotResponse { ballot: Some(convert::vote_to_proto(&vote)) }));
        };
        let snapshot = describe(file).map_err(failed)?;
        let response = self.office.raft.install_full_snapshot(vote, snapshot).await.map_err(failed)?;
        Ok(Response::new(SnapshotResponse { ballot: Some(convert::vote_to_proto(&response.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        // Who may not vote may not stand for election either.
        self.must_vote()?;
        let request = convert::transfer_request_from_proto(request.into_inner())?;
        let response = self.office.raft.handle_transfer_leader(request).await.map_err(failed)?;
        Ok(Response::new(convert::transfer_response_to_proto(&response)))
    }
}

/// The requests of a stream up to the first that cannot be read. The sender notices by the answers that stop.
fn until_broken(
    messages: Streaming<AppendMessage>,
) -> impl Stream<Item = AppendRequest> + Unpin + Send + 'static {
    Box::pin(futures::stream::unfold(messages, |mut messages| async {
        match messages.message().await {
            Ok(Some(message)) => match convert::append_request_from_proto(message) {
                Ok(request) => Some((request, messages)),
                Err(status) => {
                    tracing::warn!(reason = status.message(), "an append cannot be read");
                    None
                }
            },
            Ok(None) => None,
            Err(status) => {
                tracing::debug!(reason = status.message(), "an append stream broke");
                None
            }
        }
    }))
}

struct ClusterService {
    office: Office,
}

fn not_leader(leader: Option<NodeId>) -> NotLeader {
    NotLeader { leader: leader.map(|leader| leader.0) }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        use propose_response::{Applied, Result};
        let proposal = request.into_inner().proposal;
        // Once it is committed, what cannot be read stops every node, and again at each start.
        if let Err(error) = codec::decode_proposal(&proposal) {
            tracing::warn!(%error, "a peer's proposal cannot be read");
            return Err(Status::invalid_argument(error.to_string()));
        }
        let result = match self.office.accept(proposal).await {
            Ok(index) => Result::Applied(Applied { index }),
            Err(Refused::NotLeader(leader)) => Result::NotLeader(not_leader(leader)),
            Err(Refused::Unknown) => return Err(Status::unavailable("consensus has stopped")),
        };
        Ok(Response::new(ProposeResponse { result: Some(result) }))
    }

    async fn read_index(
        &self,
        request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexResponse>, Status> {
        use read_index_response::Result;
        let support = request.into_inner().support.map(Into::into);
        let result = match self.office.read_index(support).await {
            Ok(index) => Result::Index(index),
            Err(Refused::NotLeader(leader)) => Result::NotLeader(not_leader(leader)),
            Err(Refused::Unknown) => return Err(Status::unavailable("consensus has stopped")),
        };
        Ok(Response::new(ReadIndexResponse { result: Some(result) }))
    }

    async fn support(&self, _: Request<SupportRequest>) -> Result<Response<SupportResponse>, Status> {
        Ok(Response::new(SupportResponse { support: self.office.support().await.map(Into::into) }))
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        use ping_response::Result;
        let PingRequest { node, applied, clock, .. } = request.into_inner();
        let node = NodeId(node);
        let result = match self.office.contact.hear(node, applied, clock.map(Into::into)) {
            Hearing::Counted => Result::Heard(self.office.heard(node, false)),
            Hearing::Discounted => Result::Heard(self.office.heard(node, true)),
            Hearing::NotLeader => {
                let leader = self.office.leader().filter(|leader| *leader != self.office.me);
                Result::NotLeader(not_leader(leader))
            }
        };
        Ok(Response::new(PingResponse { result: Some(result) }))
    }

    async fn take(&self, request: Request<TakeRequest>) -> Result<Response<TakeResponse>, Status> {
        use take_response::{Granted, Result};
        let TakeRequest { account, bucket, window, limit, wanted } = request.into_inner();
        let bucket = u8::try_from(bucket).map_err(|_| Status::invalid_argument("no such bucket"))?;
        let result = if self.office.raft.as_leader().is_ok() {
            let take = Take { account: AccountId(account), bucket, window, limit, wanted };
            let granted = self.office.quotas.take(take);
            Result::Granted(Granted { tokens: granted.tokens, left: granted.left })
        } else {
            Result::NotLeader(not_leader(self.office.leader().filter(|leader| *leader != self.office.me)))
        };
        Ok(Response::new(TakeResponse { result: Some(result) }))
    }

    async fn formation(
        &self,
        request: Request<FormationRequest>,
    ) -> Result<Response<FormationResponse>, Status> {
        let asks = request.into_inner().node;
        let is_member = {
            let metrics = self.office.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().get_node(&asks).is_some()
        };
        let may_vote = self.office.may_vote.load(Ordering::Acquire);
        Ok(Response::new(FormationResponse { formed: self.office.has_applied(), is_member, may_vote }))
    }
}
