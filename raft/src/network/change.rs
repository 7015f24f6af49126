//! Changes of members on their way from an operator to the leader, and what came of them.

use crate::members::{MemberChange, Unchanged};
use domain::id::NodeId;
use domain::node::FeatureLevel;
use proto::admin as pb;

impl MemberChange {
    pub(crate) fn to_request(&self, passed_on: bool) -> pb::ChangeMembersRequest {
        use pb::change_members_request::{AddNode, Change, Upgrade};
        let change = match self {
            Self::Add { node, addr, level } => {
                let feature_level = level.map(|level| level.0);
                Change::Add(AddNode { id: node.0, rpc_addr: addr.clone(), feature_level })
            }
            Self::Upgrade => Change::Upgrade(Upgrade {}),
            Self::Remove(node) => Change::Remove(node.0),
            Self::TransferLeader(node) => Change::TransferLeader(node.0),
        };
        pb::ChangeMembersRequest { change: Some(change), passed_on }
    }

    /// `None` for a change that this release does not know.
    pub(crate) fn from_request(request: pb::ChangeMembersRequest) -> Option<Self> {
        use pb::change_members_request::Change;
        Some(match request.change? {
            Change::Add(add) => Self::Add {
                node: NodeId(add.id),
                addr: add.rpc_addr,
                level: add.feature_level.map(FeatureLevel),
            },
            Change::Upgrade(_) => Self::Upgrade,
            Change::Remove(node) => Self::Remove(NodeId(node)),
            Change::TransferLeader(node) => Self::TransferLeader(NodeId(node)),
        })
    }
}

impl Unchanged {
    /// The answer to a change, unless nobody can say what came of it.
    pub(crate) fn to_response(changed: Result<(), Self>) -> Option<pb::ChangeMembersResponse> {
        use pb::change_members_response::{Done, NotLeader, Result};
        let result = match changed {
            Ok(()) => Result::Done(Done {}),
            Err(Self::Refused(reason)) => Result::Refused(reason),
            Err(Self::NotLeader(leader)) => {
                Result::NotLeader(NotLeader { leader: leader.map(|leader| leader.0) })
            }
            Err(Self::Unknown(_)) => return None,
        };
        Some(pb::ChangeMembersResponse { result: Some(result) })
    }

    /// What an answer says.
    pub(crate) fn from_response(response: pb::ChangeMembersResponse) -> Result<(), Self> {
        use pb::change_members_response::Result;
        match response.result {
            Some(Result::Done(_)) => Ok(()),
            Some(Result::Refused(reason)) => Err(Self::Refused(reason)),
            Some(Result::NotLeader(other)) => Err(Self::NotLeader(other.leader.map(NodeId))),
            None => Err(Self::Unknown("the answer cannot be read".to_owned())),
        }
    }
}
