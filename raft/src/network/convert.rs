//! Raft messages to their wire form and back. Entries are opaque on the wire.

use crate::codec;
use crate::types::{
    AppendError, AppendRequest, AppendResult, LeaderId, LogId, TransferError, TransferRequest,
    TransferResponse, Vote, VoteRequest, VoteResponse,
};
use proto::raft as pb;
use tonic::Status;

/// A message without a part that it must have. Never sent by a node of any release.
fn missing(what: &'static str) -> Status {
    Status::invalid_argument(format!("the message has no {what}"))
}

pub(super) fn log_id_to_proto(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(super) fn log_id_from_proto(id: pb::LogId) -> LogId {
    LogId::new(LeaderId { term: id.term, node_id: id.node }, id.index)
}

pub(super) fn vote_to_proto(vote: &Vote) -> pb::Ballot {
    pb::Ballot { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(super) fn vote_from_proto(ballot: Option<pb::Ballot>) -> Result<Vote, Status> {
    let pb::Ballot { term, node, committed } = ballot.ok_or_else(|| missing("ballot"))?;
    Ok(if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) })
}

pub(super) fn vote_request_to_proto(request: &VoteRequest) -> pb::VoteRequest {
    pb::VoteRequest {
        ballot: Some(vote_to_proto(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_proto),
        transfer: request.leadership_transfer,
    }
}

pub(super) fn vote_request_from_proto(request: pb::VoteRequest) -> Result<VoteRequest, Status> {
    let mut result = VoteRequest::new(vote_from_proto(request.ballot)?, request.last.map(log_id_from_proto));
    result.leadership_transfer = request.transfer;
    Ok(result)
}

pub(super) fn vote_response_to_proto(response: &VoteResponse) -> pb::VoteResponse {
    pb::VoteResponse {
        ballot: Some(vote_to_proto(&response.vote)),
        last: response.last_log_id.as_ref().map(log_id_to_proto),
        granted: response.vote_granted,
    }
}

pub(super) fn vote_response_from_proto(response: pb::VoteResponse) -> Result<VoteResponse, Status> {
    let vote = vote_from_proto(response.ballot)?;
    Ok(VoteResponse::new(vote, response.last.map(log_id_from_proto), response.granted))
}

pub(super) fn append_request_to_proto(request: &AppendRequest) -> pb::AppendRequest {
    pb::AppendRequest {
        ballot: Some(vote_to_proto(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_proto),
        entries: request.entries.iter().map(codec::encode_entry).collect(),
        committed: request.leader_commit.as_ref().map(log_id_to_proto),
    }
}

pub(super) fn append_request_from_proto(request: pb::AppendRequest) -> Result<AppendRequest, Status> {
    let entries = request
        .entries
        .into_iter()
        .map(codec::decode_entry)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(AppendRequest {
        vote: vote_from_proto(request.ballot)?,
        prev_log_id: request.previous.map(log_id_from_proto),
        entries,
        leader_commit: request.committed.map(log_id_from_proto),
    })
}

pub(super) fn append_result_to_proto(result: &AppendResult) -> pb::AppendResponse {
    use pb::append_response::Result as Wire;
    let result = match result {
        Ok(last) => Wire::Matched(pb::Matched { last: last.as_ref().map(log_id_to_proto) }),
        Err(AppendError::Conflict(at)) => Wire::Conflict(log_id_to_proto(at)),
        Err(AppendError::HigherVote(vote)) => Wire::Higher(vote_to_proto(vote)),
    };
    pb::AppendResponse { result: Some(result) }
}

pub(super) fn append_result_from_proto(response: pb::AppendResponse) -> Result<AppendResult, Status> {
    use pb::append_response::Result as Wire;
    Ok(match response.result.ok_or_else(|| missing("result"))? {
        Wire::Matched(matched) => Ok(matched.last.map(log_id_from_proto)),
        Wire::Conflict(at) => Err(AppendError::Conflict(log_id_from_proto(at))),
        Wire::Higher(ballot) => Err(AppendError::HigherVote(vote_from_proto(Some(ballot))?)),
    })
}

pub(super) fn transfer_request_to_proto(request: &TransferRequest) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        from: Some(vote_to_proto(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(log_id_to_proto),
    }
}

pub(super) fn transfer_request_from_proto(
    request: pb::TransferLeaderRequest,
) -> Result<TransferRequest, Status> {
    let from = vote_from_proto(request.from)?;
    Ok(TransferRequest::new(from, request.to, request.last.map(log_id_from_proto)))
}

pub(super) fn transfer_response_to_proto(response: &TransferResponse) -> pb::TransferLeaderResponse {
    use pb::transfer_leader_response::{Accepted, LogBehind, Result as Wire, VoteChanged};
    let result = match response {
        Ok(()) => Wire::Accepted(Accepted {}),
        Err(TransferError::VoteChanged { expected, actual }) => Wire::VoteChanged(VoteChanged {
            expected: Some(vote_to_proto(expected)),
            actual: Some(vote_to_proto(actual)),
        }),
        Err(TransferError::LogNotFlushed { expected, actual }) => Wire::LogBehind(LogBehind {
            expected: expected.as_ref().map(log_id_to_proto),
            actual: actual.as_ref().map(log_id_to_proto),
        }),
    };
    pb::TransferLeaderResponse { result: Some(result) }
}

pub(super) fn transfer_response_from_proto(
    response: pb::TransferLeaderResponse,
) -> Result<TransferResponse, Status> {
    use pb::transfer_leader_response::Result as Wire;
    Ok(match response.result.ok_or_else(|| missing("result"))? {
        Wire::Accepted(_) => Ok(()),
        Wire::VoteChanged(changed) => Err(TransferError::VoteChanged {
            expected: vote_from_proto(changed.expected)?,
            actual: vote_from_proto(changed.actual)?,
        }),
        Wire::LogBehind(behind) => Err(TransferError::LogNotFlushed {
            expected: behind.expected.map(log_id_from_proto),
            actual: behind.actual.map(log_id_from_proto),
        }),
    })
}
