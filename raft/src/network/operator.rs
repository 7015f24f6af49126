//! Calling a node as its operator: from outside the cluster, with nothing but an address and the secret.

use super::auth::{Credentials, named_by};
use crate::codec;
use crate::command::{Command, Reply};
use crate::members::{MemberChange, Unchanged};
use crate::overview::{MemberOverview, Overview, Restoring, Role};
use crate::settings::{MESSAGE_BYTES_MAX, Secret};
use crate::tls::{self, Tls};
use domain::account::Plan;
use domain::id::{AccountId, NodeId};
use domain::node::FeatureLevel;
use domain::time::Timestamp;
use proto::admin::admin_client::AdminClient;
use proto::admin::{
    Account, AdministerRequest, InspectRequest, InspectResponse, ListAccountsRequest, Member,
};
use proto::backup::backup_client::BackupClient;
use std::future::Future;
use std::time::Duration;
use storage::Digest;
use tokio::time::timeout;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A node that vanished under a call without a bound of its own is noticed after both. It may be busy, and nobody waits for
/// an operator, so this is longer than among nodes.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);
/// Longer than the node itself tries for.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Likewise, for changes of the members.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// No node has this id, so any node says which one it is.
const NOBODY: NodeId = NodeId(0);

/// Why an operator did not get what was asked for: one line for the person who asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// Nobody is there.
    #[error("no node answers at {addr}: {reason}")]
    Unreachable {
        /// Where.
        addr: String,
        /// What the system says.
        reason: String,
    },
    /// Somebody else is there.
    #[error("what listens at {addr} is not the rpc port of a node")]
    NotANode {
        /// Where.
        addr: String,
    },
    /// The node belongs to another cluster, as far as the secret tells.
    #[error("the node at {addr} refuses this cluster secret")]
    WrongSecret {
        /// Where.
        addr: String,
    },
    /// Nobody leads. Nothing has happened.
    #[error("the cluster has no leader at the moment; nothing was changed, try again")]
    NoLeader,
    /// No answer came in time. It may have taken effect.
    #[error("no answer came in time; the change may have taken effect, look before trying again")]
    Unknown,
    /// The cluster will not do it. Nothing has happened.
    #[error("{0}")]
    Refused(String),
    /// The node cannot do it, and says why.
    #[error("the node cannot do this: {0}")]
    Failed(String),
}

/// An account, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSummary {
    /// Its id.
    pub id: AccountId,
    /// What it may use.
    pub plan: Plan,
    /// Where its owner is reached.
    pub email: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many jobs it has.
    pub jobs: u64,
}

/// A node that does what an operator asks.
#[derive(Clone, Debug)]
pub struct Operator {
    node: NodeId,
    addr: String,
    client: AdminClient<InterceptedService<Channel, Credentials>>,
    pub(super) backups: BackupClient<InterceptedService<Channel, Credentials>>,
}

impl Operator {
    /// The node whose RPC server listens at `addr` (`host:port`), whichever it is.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn connect(addr: &str, secret: &Secret, tls: Option<&Tls>) -> Result<Self, OperatorError> {
        let unreachable = |reason: String| OperatorError::Unreachable { addr: addr.to_owned(), reason };
        let endpoint = tls::endpoint(addr, tls).map_err(|error| unreachable(error.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            // What has no bound of its own ends with the node.
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .http2_adaptive_window(true);
        let channel = match timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(unreachable(innermost(&error))),
            Err(_) => return Err(unreachable("it takes too long".to_owned())),
        };
        let node = node_at(addr, &channel, secret).await?;
        let backups = BackupClient::with_interceptor(channel.clone(), Credentials::new(secret, None, node))
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { node, addr: addr.to_owned(), client: client(channel, secret, node), backups })
    }

    /// Which node it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Has commands proposed. One reply each.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn propose(&self, commands: &[Command]) -> Result<Vec<Reply>, OperatorError> {
        let request = AdministerRequest { commands: codec::encode_commands(commands) };
        let response = self.call(self.client.clone().administer(request)).await?;
        codec::decode_replies(&response.replies).map_err(|error| OperatorError::Failed(error.to_string()))
    }

    /// Changes the members, through whoever leads. Safe to ask again.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn change(&self, change: &MemberChange) -> Result<(), OperatorError> {
        let mut client = self.client.clone();
        let response = self.call_for(CHANGE_TIMEOUT, client.change_members(change.to_request(false))).await?;
        match Unchanged::from_response(response) {
            Ok(()) => Ok(()),
            Err(Unchanged::Refused(reason)) => Err(OperatorError::Refused(reason)),
            Err(Unchanged::NotLeader(_)) => Err(OperatorError::NoLeader),
            Err(Unchanged::Unknown(_)) => Err(OperatorError::Unknown),
        }
    }

    /// The cluster as the node sees it.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn overview(&self) -> Result<Overview, OperatorError> {
        let response = self.call(self.client.clone().inspect(InspectRequest {})).await?;
        response.try_into()
    }

    /// Some accounts behind `after`, in the order of their ids, and whether there are more.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn accounts(
        &self,
        after: Option<AccountId>,
    ) -> Result<(Vec<AccountSummary>, bool), OperatorError> {
        let request = ListAccountsRequest { after: after.map(|after| after.0) };
        let response = self.call(self.client.clone().list_accounts(request)).await?;
        let accounts = response.accounts.into_iter().map(AccountSummary::try_from);
        Ok((accounts.collect::<Result<_, _>>()?, response.more))
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, OperatorError> {
        self.call_for(CALL_TIMEOUT, call).await
    }

    async fn call_for<T>(
        &self,
        patience: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, OperatorError> {
        match timeout(patience, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.refused(&status)),
            Err(_) => Err(OperatorError::Unknown),
        }
    }

    pub(super) fn refused(&self, status: &Status) -> OperatorError {
        let addr = self.addr.clone();
        match status.code() {
            Code::Unauthenticated => OperatorError::WrongSecret { addr },
            Code::Aborted => OperatorError::NoLeader,
            // The connection broke while the node was at it.
            Code::DeadlineExceeded | Code::Unavailable | Code::Unknown | Code::Cancelled => {
                OperatorError::Unknown
            }
            Code::Unimplemented => OperatorError::Failed("it runs an older release".to_owned()),
            _ => OperatorError::Failed(status.message().to_owned()),
        }
    }
}

fn client(
    channel: Channel,
    secret: &Secret,
    node: NodeId,
) -> AdminClient<InterceptedService<Channel, Credentials>> {
    AdminClient::with_interceptor(channel, Credentials::new(secret, None, node))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Which node listens there. Every call names the node it is for, and one that is for another is told so.
async fn node_at(addr: &str, channel: &Channel, secret: &Secret) -> Result<NodeId, OperatorError> {
    let asked = timeout(CONNECT_TIMEOUT, async {
        client(channel.clone(), secret, NOBODY).inspect(InspectRequest {}).await
    });
    match asked.await {
        Ok(Err(status)) => named_by(&status).ok_or_else(|| OperatorError::NotANode { addr: addr.to_owned() }),
        Ok(Ok(_)) => Err(OperatorError::NotANode { addr: addr.to_owned() }),
        Err(_) => {
            let reason = "it takes too long".to_owned();
            Err(OperatorError::Unreachable { addr: addr.to_owned(), reason })
        }
    }
}

/// What the system said, below what each layer made of it.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

fn unreadable(what: &str) -> OperatorError {
    OperatorError::Failed(format!("its answer cannot be read: {what}"))
}

impl TryFrom<Account> for AccountSummary {
    type Error = OperatorError;

    fn try_from(account: Account) -> Result<Self, OperatorError> {
        let plan = Plan::ALL.into_iter().find(|plan| plan.as_str() == account.plan);
        Ok(Self {
            id: AccountId(account.id),
            plan: plan.ok_or_else(|| unreadable("an unknown plan"))?,
            email: account.email,
            created_at: Timestamp::from_millis(account.created_at_ms),
            jobs: account.jobs,
        })
    }
}

impl TryFrom<Member> for MemberOverview {
    type Error = OperatorError;

    fn try_from(member: Member) -> Result<Self, OperatorError> {
        let role = Role::ALL.into_iter().find(|role| role.as_str() == member.role);
        Ok(Self {
            id: NodeId(member.id),
            role: role.ok_or_else(|| unreadable("an unknown role"))?,
            live: member.live,
            api_url: member.api_url,
            rpc_addr: member.rpc_addr,
            applied: member.applied,
            shards: member.shards,
            version: member.version,
            level: member.feature_level.map(FeatureLevel),
        })
    }
}

impl TryFrom<InspectResponse> for Overview {
    type Error = OperatorError;

    fn try_from(response: InspectResponse) -> Result<Self, OperatorError> {
        let members = response.members.into_iter().map(MemberOverview::try_from);
        Ok(Self {
            node: NodeId(response.node),
            leader: response.leader.map(NodeId),
            term: response.term,
            applied: response.applied,
            digest: response.digest.map(Digest::from_u64),
            level: FeatureLevel(response.feature_level),
            shard_map_version: response.shard_map_version,
            members: members.collect::<Result<_, _>>()?,
            restoring: response
                .restoring
                .map(|restoring| Restoring { parts: restoring.parts, parts_in: restoring.parts_in }),
        })
    }
}
