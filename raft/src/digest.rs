//! The digest of a state: a chain over what each entry of the log wrote. Replicas that have applied the same entries have the
//! same one, however the entries were cut into commits, and one that ever wrote something else has another.
//!
//! It is kept in the mark, so it is as far as the state is, and goes with snapshots. See ADR 15.

use crate::codec::{self, Mark};
use crate::command::{Command, Proposal};
use crate::types::LogId;
use domain::id::NodeId;
use storage::schema::Nodes;
use storage::{Digest, Read, StateTxn, StateView};

/// How far a state has got and what it was made of, both of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Index of the last entry applied; 0 before the first.
    pub applied: u64,
    /// The chain up to that entry. Unknown while the state goes back to a build that kept none.
    pub digest: Option<Digest>,
}

impl Position {
    /// The position of the state that a view shows.
    ///
    /// # Errors
    /// When its mark is damaged or of a newer release.
    pub fn of(view: &StateView<'_>) -> Result<Self, storage::Error> {
        let mark = match view.applied() {
            Some(mark) => codec::decode_mark(mark)
                .map_err(|error| storage::Error::Corrupt { keyspace: "mark", reason: error.to_string() })?,
            None => Mark::default(),
        };
        Ok(Self { applied: mark.applied.map_or(0, |id| id.index), digest: mark.digest })
    }
}

/// The chain with one more entry: its place in the log, and a digest of what it wrote.
pub(crate) fn chain(before: Digest, id: &LogId, written: Digest) -> Digest {
    let mut digest = before;
    for number in [id.leader_id.term, id.leader_id.node_id, id.index, written.to_u64()] {
        digest.update(&number.to_be_bytes());
    }
    digest
}

/// Tells whether a proposal changes the release that a node is known to run.
///
/// Releases may write the same change in other bytes. While they are mixed, replicas have other digests, and for ever after if
/// the chain went on. So it begins anew wherever a node comes with another release: after the last of them all replicas write alike.
pub(crate) struct Releases {
    registered: Option<(NodeId, Option<String>)>,
}

impl Releases {
    /// Before the proposal is applied.
    pub(crate) fn before(txn: &StateTxn<'_>, proposal: &Proposal) -> Result<Self, storage::Error> {
        let node = proposal.commands.iter().find_map(|command| match command {
            Command::RegisterNode(register) => Some(register.node),
            _ => None,
        });
        let registered = match node {
            Some(node) => Some((node, release(txn, node)?)),
            None => None,
        };
        Ok(Self { registered })
    }

    /// After it was applied: whether a node that was known runs another release now.
    pub(crate) fn changed(self, txn: &StateTxn<'_>) -> Result<bool, storage::Error> {
        match self.registered {
            Some((node, Some(before))) => Ok(release(txn, node)?.as_ref() != Some(&before)),
            Some((_, None)) | None => Ok(false),
        }
    }
}

fn release(txn: &StateTxn<'_>, node: NodeId) -> Result<Option<String>, storage::Error> {
    Ok(txn.get::<Nodes>(&node)?.map(|node| node.version))
}
