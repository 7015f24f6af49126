//! What this node does for operators.

use crate::Overview;
use crate::codec;
use crate::error::{ProposeError, ReadError};
use crate::members::{MemberChange, Members, Unchanged};
use crate::overview::Restoring;
use domain::id::AccountId;
use proto::admin::admin_server::Admin;
use proto::admin::{
    Account, AdministerRequest, AdministerResponse, ChangeMembersRequest, ChangeMembersResponse,
    InspectRequest, InspectResponse, ListAccountsRequest, ListAccountsResponse, Member,
};
use storage::schema::{AccountUsage, Accounts};
use storage::{Digest, Read};
use tonic::{Request, Response, Status};

/// Accounts in one answer, which is read in one look at the state.
const ACCOUNTS_TOGETHER: usize = 200;

pub(super) struct AdminService {
    pub(super) members: Members,
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

impl From<ProposeError> for Status {
    fn from(error: ProposeError) -> Self {
        let text = error.to_string();
        match error {
            ProposeError::NoLeader | ProposeError::Stopping | ProposeError::ClockAstray => {
                Self::aborted(text)
            }
            ProposeError::Unknown => Self::deadline_exceeded(text),
            ProposeError::TooLarge { .. } => Self::invalid_argument(text),
            ProposeError::Rejected(_) => Self::failed_precondition(text),
        }
    }
}

impl From<ReadError> for Status {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoLeader | ReadError::Stopping => Self::aborted(error.to_string()),
        }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn administer(
        &self,
        request: Request<AdministerRequest>,
    ) -> Result<Response<AdministerResponse>, Status> {
        let commands = codec::decode_commands(&request.into_inner().commands)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let cluster = self.members.cluster();
        let patience = cluster.shared.settings.propose_timeout;
        let replies = cluster.propose_all(commands, patience).await?;
        Ok(Response::new(AdministerResponse { replies: codec::encode_replies(&replies) }))
    }

    async fn inspect(&self, _: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        Ok(Response::new(self.members.cluster().overview().map_err(failed)?.into()))
    }

    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        let after = request.into_inner().after.map(AccountId);
        self.members.cluster().read_barrier().await?;
        Ok(Response::new(self.accounts(after).map_err(failed)?))
    }

    async fn change_members(
        &self,
        request: Request<ChangeMembersRequest>,
    ) -> Result<Response<ChangeMembersResponse>, Status> {
        let request = request.into_inner();
        let passed_on = request.passed_on;
        let change = MemberChange::from_request(request)
            .ok_or_else(|| Status::unimplemented("an unknown change of members"))?;
        let changed = if passed_on {
            self.members.change(&change).await
        } else {
            self.members.change_anywhere(&change).await
        };
        match Unchanged::to_response(changed.clone()) {
            Some(response) => Ok(Response::new(response)),
            None => Err(Status::deadline_exceeded(format!("{changed:?}"))),
        }
    }
}

impl AdminService {
    fn accounts(&self, after: Option<AccountId>) -> Result<ListAccountsResponse, storage::Error> {
        let view = self.members.cluster().state().view();
        let found = view.prefix::<Accounts>(&[], after.as_ref(), ACCOUNTS_TOGETHER)?;
        let more = found.len() == ACCOUNTS_TOGETHER;
        let mut accounts = Vec::with_capacity(found.len());
        for (id, account) in found {
            accounts.push(Account {
                id: id.0,
                plan: account.plan.as_str().to_owned(),
                email: account.email,
                created_at_ms: account.created_at.as_millis(),
                jobs: view.get::<AccountUsage>(&id)?.unwrap_or_default().jobs,
            });
        }
        Ok(ListAccountsResponse { accounts, more })
    }
}

impl From<Overview> for InspectResponse {
    fn from(overview: Overview) -> Self {
        let members = overview.members.into_iter().map(|member| Member {
            id: member.id.0,
            role: member.role.as_str().to_owned(),
            live: member.live,
            api_url: member.api_url,
            rpc_addr: member.rpc_addr,
            applied: member.applied,
            shards: member.shards,
            version: member.version,
            feature_level: member.level.map(|level| level.0),
        });
        Self {
            node: overview.node.0,
            leader: overview.leader.map(|leader| leader.0),
            term: overview.term,
            applied: overview.applied,
            digest: overview.digest.map(Digest::to_u64),
            feature_level: overview.level.0,
            shard_map_version: overview.shard_map_version,
            members: members.collect(),
            restoring: overview
                .restoring
                .map(|Restoring { parts, parts_in }| proto::admin::Restoring { parts, parts_in }),
        }
    }
}
