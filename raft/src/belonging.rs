//! Who does not belong to the cluster any more, as far as this node knows, and whether it may itself go on.

use crate::network::removed_by;
use domain::id::NodeId;
use domain::node::FeatureLevel;
use parking_lot::RwLock;
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::schema::RemovedNodes;
use storage::{Read, State};
use tokio::sync::watch;
use tonic::Status;

/// Removed nodes that are remembered at most, by far.
const REMOVED_MAX: usize = 100_000;

/// Why a node must end and not be started again as it is: one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dismissed {
    /// It was removed.
    #[error(
        "node {0} was removed from this cluster, for good; to use this machine again, start it with another --node-id, an \
         empty --data-dir and --join"
    )]
    Removed(NodeId),
    /// Its build is too old for the cluster.
    #[error(
        "this build supports feature level {supported} at most, and the cluster is at level {level}: start the node with the \
         release that the others run; its data is unharmed"
    )]
    TooOld {
        /// What the cluster can do.
        level: FeatureLevel,
        /// What this build can.
        supported: FeatureLevel,
    },
    /// It asked to join, and the cluster refused.
    #[error("cannot join the cluster: {0}")]
    Refused(String),
}

/// What a node knows of belonging. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Belonging {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    me: NodeId,
    supported: FeatureLevel,
    removed: RwLock<BTreeSet<NodeId>>,
    dismissed: watch::Sender<Option<Dismissed>>,
}

impl Belonging {
    /// Of a build that supports up to this level.
    pub(crate) fn new(me: NodeId, supported: FeatureLevel) -> Self {
        let dismissed = watch::Sender::new(None);
        Self { shared: Arc::new(Shared { me, supported, removed: RwLock::default(), dismissed }) }
    }

    /// Whether this build may read a state of that level. If not, the node may not go on.
    pub(crate) fn supports(&self, level: FeatureLevel) -> bool {
        let supported = self.shared.supported;
        if level > supported {
            self.dismiss(Dismissed::TooOld { level, supported });
        }
        level <= supported
    }

    /// Takes over whom the state remembers as removed.
    pub(crate) fn follow(&self, state: &State) -> Result<(), storage::Error> {
        let removed = state.view().keys_prefix::<RemovedNodes>(&[], None, REMOVED_MAX)?;
        self.set_removed(removed.into_iter().collect());
        Ok(())
    }

    pub(crate) fn set_removed(&self, removed: BTreeSet<NodeId>) {
        if removed.contains(&self.shared.me) {
            self.dismiss(Dismissed::Removed(self.shared.me));
        }
        *self.shared.removed.write() = removed;
    }

    pub(crate) fn is_removed(&self, node: NodeId) -> bool {
        self.shared.removed.read().contains(&node)
    }

    /// Looks whether a peer refused this node's call because it was removed. What a peer has applied is final.
    pub(crate) fn heed(&self, refusal: &Status) {
        if removed_by(refusal) == Some(self.shared.me) {
            self.dismiss(Dismissed::Removed(self.shared.me));
        }
    }

    /// The first reason stays.
    pub(crate) fn dismiss(&self, why: Dismissed) {
        self.shared.dismissed.send_if_modified(|dismissed| {
            let is_first = dismissed.is_none();
            dismissed.get_or_insert(why);
            is_first
        });
    }

    /// Why this node may not go on, if it may not.
    pub(crate) fn dismissal(&self) -> Option<Dismissed> {
        self.shared.dismissed.borrow().clone()
    }

    /// Waits until this node may not go on.
    pub(crate) async fn dismissed(&self) -> Dismissed {
        let mut dismissed = self.shared.dismissed.subscribe();
        let reason = dismissed.wait_for(Option::is_some).await.expect("the sender is in self");
        reason.clone().expect("waited for")
    }
}
