//! `etcdserverpb.KV/Put`, with the few fields of its messages that are needed, as they stand in etcd's `rpc.proto`.

use crate::raw::{self, Outcome};
use bytes::Bytes;
use cluster_tests::Error;
use http::uri::PathAndQuery;
use prost::Message;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tonic::{
    Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

const PUT: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.KV/Put");

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    /// Rises by one with each write.
    #[prost(int64, tag = "3")]
    revision: i64,
}

/// One connection to one member. Clones share it.
#[derive(Clone)]
struct Kv {
    grpc: Grpc<Channel>,
}

impl Kv {
    async fn open(member: SocketAddr) -> Result<Self, Error> {
        let failed = |error: tonic::transport::Error| Error::Input(format!("etcd at {member}: {error}"));
        let endpoint = Endpoint::from_shared(format!("http://{member}")).map_err(failed)?;
        let channel = endpoint.tcp_nodelay(true).connect().await.map_err(failed)?;
        Ok(Self { grpc: Grpc::new(channel) })
    }

    /// Gives the store's revision after the write.
    async fn put(&mut self, key: String, value: Bytes) -> Result<i64, Status> {
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let request = Request::new(PutRequest { key: key.into(), value });
        let codec = ProstCodec::<PutRequest, PutResponse>::default();
        let answer = self.grpc.unary(request, PUT, codec).await?.into_inner();
        let header = answer.header.ok_or_else(|| Status::internal("an answer without a header"))?;
        Ok(header.revision)
    }
}

/// The store's revision, asked by a write under `prefix`.
pub(super) async fn revision(members: &[SocketAddr], prefix: &str) -> Result<i64, Error> {
    let first = members.first().ok_or_else(|| Error::Input("no member of etcd".to_owned()))?;
    let put = Kv::open(*first).await?.put(format!("{prefix}/revision"), Bytes::new()).await;
    put.map_err(|status| Error::Input(format!("etcd at {first}: {status}")))
}

/// Puts keys that are all new under `prefix`, from `clients` for `span`, one at a time each. They share `connections`, which
/// are spread evenly over `members`.
pub(super) async fn run(
    members: &[SocketAddr],
    prefix: &str,
    value: &Bytes,
    clients: usize,
    connections: usize,
    span: Duration,
) -> Result<Outcome, Error> {
    let mut open = Vec::new();
    for member in members.iter().cycle().take(connections.clamp(1, clients.max(1))) {
        open.push(Kv::open(*member).await?);
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (client, kv) in open.iter().cycle().take(clients).enumerate() {
        let (mut kv, prefix, value) = (kv.clone(), format!("{prefix}/{client}"), value.clone());
        tasks.spawn(raw::repeat(start + span, async move |before| {
            let put = kv.put(format!("{prefix}/{before}"), value.clone()).await;
            put.map(drop).map_err(|status| Error::Input(format!("etcd: {status}")))
        }));
    }
    raw::gather(tasks, start).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_etcd() {
        let put = PutRequest { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"vw") };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x02vw");
        // cluster_id 1, member_id 2, revision 3, raft_term 4
        let answer = PutResponse::decode(&b"\x0a\x08\x08\x01\x10\x02\x18\x03\x20\x04"[..]).unwrap();
        assert_eq!(answer.header.unwrap().revision, 3);
    }
}
