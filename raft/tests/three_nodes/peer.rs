//! Calls that no node would make.

use crate::nodes::SECRET;
use bytes::Bytes;
use domain::id::NodeId;
use hmac::{Hmac, KeyInit, Mac};
use proto::admin::admin_client::AdminClient;
use proto::cluster::cluster_client::ClusterClient;
use proto::cluster::{ProposeRequest, ProposeResponse};
use proto::raft::raft_client::RaftClient;
use sha2::Sha256;
use std::fmt::Write;
use std::net::SocketAddr;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// What opens `to` to whoever has `secret`.
pub(crate) fn token(secret: &str, to: NodeId) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(b"justrun rpc v1 to node ");
    mac.update(&to.0.to_be_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

type Signed = Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send>;

fn channel(addr: SocketAddr, to: NodeId, token: Option<String>) -> InterceptedService<Channel, Signed> {
    let channel = Endpoint::from_shared(format!("http://{addr}")).unwrap().connect_lazy();
    InterceptedService::new(
        channel,
        Box::new(move |mut request: Request<()>| {
            request.metadata_mut().insert("x-justrun-to", MetadataValue::from(to.0));
            if let Some(token) = &token {
                request.metadata_mut().insert("x-justrun-token", token.parse().unwrap());
            }
            Ok(request)
        }),
    )
}

pub(crate) fn cluster(
    addr: SocketAddr,
    to: NodeId,
    token: Option<String>,
) -> ClusterClient<InterceptedService<Channel, Signed>> {
    ClusterClient::new(channel(addr, to, token))
}

pub(crate) fn admin(
    addr: SocketAddr,
    to: NodeId,
    token: Option<String>,
) -> AdminClient<InterceptedService<Channel, Signed>> {
    AdminClient::new(channel(addr, to, token))
}

pub(crate) fn raft(
    addr: SocketAddr,
    to: NodeId,
    token: Option<String>,
) -> RaftClient<InterceptedService<Channel, Signed>> {
    RaftClient::new(channel(addr, to, token))
}

/// Hands a proposal to a node, as a peer that knows the secret.
pub(crate) async fn propose(
    addr: SocketAddr,
    to: NodeId,
    proposal: Bytes,
) -> Result<ProposeResponse, Status> {
    let mut client = cluster(addr, to, Some(token(SECRET, to)));
    client.propose(ProposeRequest { proposal }).await.map(tonic::Response::into_inner)
}
