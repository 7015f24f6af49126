//! Bytes that outlive the process: proposals, log entries, votes and the mark of the state.
//!
//! Each starts with a version. What a build does not know it refuses, and the node stops: an entry that was
//! skipped would fork this replica. A log entry has one form, on disk and on the wire:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 8, 8, 8 | log id: term, node, index, big-endian |
//! | 1 | kind: 0 blank, 1 normal, 2 membership |
//! | rest | normal: instant (8, big-endian) and encoded proposal; membership: `MessagePack` |

use crate::command::{Command, Proposal, Reply};
use crate::types::{Entry, LeaderId, LogId, Membership, Payload, StoredMembership, Vote};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use domain::node::FeatureLevel;
use domain::time::Timestamp;
use openraft::EntryPayload;
use openraft::impls::BasicNode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use storage::Digest;

/// The version this build writes, of everything here.
const VERSION: u8 = 1;
const LOG_ID_BYTES: usize = 24;
const KIND_BLANK: u8 = 0;
const KIND_NORMAL: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// Bytes that this build cannot read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A newer release wrote them. The node must be brought to that release.
    #[error(
        "{what} has version {found}, this build reads up to {VERSION}: this node runs an older release than its cluster"
    )]
    TooNew {
        /// What was read.
        what: &'static str,
        /// Its version.
        found: u8,
    },
    /// They are cut off or damaged.
    #[error("{what} cannot be read: {reason}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What was found.
        reason: String,
    },
}

impl From<DecodeError> for io::Error {
    fn from(error: DecodeError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

fn malformed(what: &'static str) -> impl Fn(&str) -> DecodeError {
    move |reason| DecodeError::Malformed { what, reason: reason.to_owned() }
}

/// Takes the version byte off.
fn body<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
    match bytes.split_first() {
        None => Err(malformed(what)("no bytes")),
        Some((&VERSION, body)) => Ok(body),
        Some((&found, _)) => Err(DecodeError::TooNew { what, found }),
    }
}

fn to_named<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write_named(&mut bytes, value).expect("plain data can always be written to memory");
    bytes
}

fn from_named<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, DecodeError> {
    rmp_serde::from_slice(body(what, bytes)?).map_err(|error| malformed(what)(&error.to_string()))
}

/// Something of this crate that is stored in a file, with a version in front.
pub(crate) fn encode_named<T: Serialize>(value: &T) -> Vec<u8> {
    to_named(value)
}

/// The inverse of [`encode_named`].
pub(crate) fn decode_named<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, DecodeError> {
    from_named(what, bytes)
}

/// A proposal as it travels and is stored.
#[must_use]
pub fn encode_proposal(proposal: &Proposal) -> Bytes {
    to_named(proposal).into()
}

/// The inverse of [`encode_proposal`].
///
/// # Errors
/// [`DecodeError::TooNew`] also when the proposal holds a command that this build does not know.
pub fn decode_proposal(bytes: &[u8]) -> Result<Proposal, DecodeError> {
    from_named("a proposal", bytes)
}

/// Commands on their way from an operator to a node that will propose them.
pub(crate) fn encode_commands(commands: &[Command]) -> Bytes {
    to_named(&commands).into()
}

/// The inverse of [`encode_commands`].
pub(crate) fn decode_commands(bytes: &[u8]) -> Result<Vec<Command>, DecodeError> {
    from_named("a list of commands", bytes)
}

/// What came of commands, on its way back.
pub(crate) fn encode_replies(replies: &[Reply]) -> Bytes {
    to_named(&replies).into()
}

/// The inverse of [`encode_replies`].
pub(crate) fn decode_replies(bytes: &[u8]) -> Result<Vec<Reply>, DecodeError> {
    from_named("a list of replies", bytes)
}

/// How many bytes a value takes within a proposal.
pub(crate) fn encoded_bytes<T: Serialize>(value: &T) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    rmp_serde::encode::write_named(&mut counter, value).expect("plain data can always be counted");
    counter.0
}

#[derive(Serialize, Deserialize)]
struct MembershipRecord {
    /// More than one while the voters are being changed.
    configs: Vec<BTreeSet<u64>>,
    /// Where each node is reached by the others.
    nodes: BTreeMap<u64, String>,
}

impl From<&Membership> for MembershipRecord {
    fn from(membership: &Membership) -> Self {
        Self {
            configs: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }
}

impl MembershipRecord {
    fn into_membership(self) -> Result<Membership, DecodeError> {
        let nodes: BTreeMap<u64, BasicNode> =
            self.nodes.into_iter().map(|(id, addr)| (id, BasicNode::new(addr))).collect();
        Membership::new(self.configs, nodes).map_err(|error| malformed("a membership")(&error.to_string()))
    }
}

/// A log entry as it is stored and travels.
#[must_use]
pub fn encode_entry(entry: &Entry) -> Bytes {
    let payload_bytes = match &entry.payload {
        EntryPayload::Normal(payload) => 8 + payload.proposal.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    let mut bytes = BytesMut::with_capacity(2 + LOG_ID_BYTES + payload_bytes);
    bytes.put_u8(VERSION);
    put_log_id(&mut bytes, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => bytes.put_u8(KIND_BLANK),
        EntryPayload::Normal(payload) => {
            bytes.put_u8(KIND_NORMAL);
            bytes.put_u64(payload.at.as_millis());
            bytes.put_slice(&payload.proposal);
        }
        EntryPayload::Membership(membership) => {
            bytes.put_u8(KIND_MEMBERSHIP);
            bytes.put_slice(&to_named(&MembershipRecord::from(membership)));
        }
    }
    bytes.freeze()
}

/// The inverse of [`encode_entry`]. The proposal shares `bytes`.
///
/// # Errors
/// When this build cannot read the entry.
pub fn decode_entry(mut bytes: Bytes) -> Result<Entry, DecodeError> {
    const WHAT: &str = "a log entry";
    body(WHAT, &bytes)?;
    bytes.advance(1);
    let log_id = take_log_id(WHAT, &mut bytes)?;
    let kind = bytes.try_get_u8().map_err(|_| malformed(WHAT)("it ends before its kind"))?;
    let payload = match kind {
        KIND_BLANK => EntryPayload::Blank,
        KIND_NORMAL => {
            let at = bytes.try_get_u64().map_err(|_| malformed(WHAT)("it ends before its instant"))?;
            EntryPayload::Normal(Payload { at: Timestamp::from_millis(at), proposal: bytes })
        }
        KIND_MEMBERSHIP => {
            let record: MembershipRecord = from_named("a membership", &bytes)?;
            EntryPayload::Membership(record.into_membership()?)
        }
        _ => return Err(malformed(WHAT)("it has an unknown kind")),
    };
    Ok(Entry { log_id, payload })
}

/// The log id of an encoded entry.
pub(crate) fn entry_log_id(bytes: &[u8]) -> Result<LogId, DecodeError> {
    const WHAT: &str = "a log entry";
    take_log_id(WHAT, &mut body(WHAT, bytes)?)
}

fn put_log_id(bytes: &mut impl BufMut, id: &LogId) {
    bytes.put_u64(id.leader_id.term);
    bytes.put_u64(id.leader_id.node_id);
    bytes.put_u64(id.index);
}

fn take_log_id(what: &'static str, bytes: &mut impl Buf) -> Result<LogId, DecodeError> {
    if bytes.remaining() < LOG_ID_BYTES {
        return Err(malformed(what)("it ends within its log id"));
    }
    let leader = LeaderId { term: bytes.get_u64(), node_id: bytes.get_u64() };
    Ok(LogId::new(leader, bytes.get_u64()))
}

/// A log id, or none.
pub(crate) fn encode_log_id(id: Option<&LogId>) -> Bytes {
    let mut bytes = vec![VERSION];
    if let Some(id) = id {
        put_log_id(&mut bytes, id);
    }
    bytes.into()
}

/// The inverse of [`encode_log_id`].
pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<Option<LogId>, DecodeError> {
    const WHAT: &str = "a log id";
    let mut rest = body(WHAT, bytes)?;
    if rest.is_empty() { Ok(None) } else { take_log_id(WHAT, &mut rest).map(Some) }
}

/// A vote as it is stored.
pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    let mut bytes = vec![VERSION];
    bytes.put_u64(vote.leader_id.term);
    bytes.put_u64(vote.leader_id.node_id);
    bytes.put_u8(vote.committed.into());
    bytes.into()
}

/// The inverse of [`encode_vote`].
pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, DecodeError> {
    const WHAT: &str = "a vote";
    let mut rest = body(WHAT, bytes)?;
    if rest.len() != 17 {
        return Err(malformed(WHAT)("it has another length"));
    }
    let (term, node) = (rest.get_u64(), rest.get_u64());
    Ok(if rest.get_u8() == 0 { Vote::new(term, node) } else { Vote::new_committed(term, node) })
}

/// What the state was brought to by its last commit. Stored as its mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The last entry applied.
    pub(crate) applied: Option<LogId>,
    /// The chain up to that entry (see [`crate::digest`]). Unknown if the state goes back to a build that kept none.
    pub(crate) digest: Option<Digest>,
    /// The members as of that entry.
    pub(crate) membership: StoredMembership,
    /// The feature level as of that entry: it says whether this build may read the rest.
    pub(crate) level: FeatureLevel,
}

/// Before the first entry.
impl Default for Mark {
    fn default() -> Self {
        Self {
            applied: None,
            digest: Some(Digest::default()),
            membership: StoredMembership::default(),
            level: FeatureLevel::FIRST,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct MarkRecord {
    applied: Option<(u64, u64, u64)>,
    membership_at: Option<(u64, u64, u64)>,
    membership: MembershipRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<u64>,
    #[serde(default, skip_serializing_if = "FeatureLevel::is_first")]
    level: FeatureLevel,
}

fn to_parts(id: &LogId) -> (u64, u64, u64) {
    (id.leader_id.term, id.leader_id.node_id, id.index)
}

fn from_parts((term, node_id, index): (u64, u64, u64)) -> LogId {
    LogId::new(LeaderId { term, node_id }, index)
}

/// A mark as it is stored, also in snapshot files.
pub(crate) fn encode_mark(mark: &Mark) -> Bytes {
    to_named(&MarkRecord {
        applied: mark.applied.as_ref().map(to_parts),
        membership_at: mark.membership.log_id().as_ref().map(to_parts),
        membership: mark.membership.membership().into(),
        digest: mark.digest.map(Digest::to_u64),
        level: mark.level,
    })
    .into()
}

/// The inverse of [`encode_mark`].
pub(crate) fn decode_mark(bytes: &[u8]) -> Result<Mark, DecodeError> {
    let record: MarkRecord = from_named("a state's mark", bytes)?;
    let membership = match record.membership_at {
        Some(at) => StoredMembership::new(Some(from_parts(at)), record.membership.into_membership()?),
        None => StoredMembership::default(),
    };
    let digest = record.digest.map(Digest::from_u64);
    Ok(Mark { applied: record.applied.map(from_parts), digest, membership, level: record.level })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_at_which_level_it_was_written_once_that_is_not_the_first() {
        let raised = Mark { level: FeatureLevel(2), ..Mark::default() };
        assert_eq!(decode_mark(&encode_mark(&raised)).unwrap(), raised);
        let first = encode_mark(&Mark::default());
        assert_eq!(decode_mark(&first).unwrap().level, FeatureLevel::FIRST);
        assert!(!first.windows(5).any(|bytes| bytes == b"level"), "as it was before there were levels");
    }
}
