//! Who waits for which proposal of this process to be applied here.

use crate::command::Reply;
use domain::id::NodeId;
use domain::node::SessionId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The proposals of one process that are under way, by sequence. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Waiters {
    node: NodeId,
    session: SessionId,
    waiting: Arc<Mutex<BTreeMap<u64, oneshot::Sender<Vec<Reply>>>>>,
}

impl Waiters {
    pub(crate) fn new(node: NodeId, session: SessionId) -> Self {
        Self { node, session, waiting: Arc::default() }
    }

    /// The replies to proposal `sequence`, once it is applied here.
    pub(crate) fn wait(&self, sequence: u64) -> oneshot::Receiver<Vec<Reply>> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(sequence, sender);
        receiver
    }

    /// Nobody waits for `sequence` any longer.
    pub(crate) fn forget(&self, sequence: u64) {
        self.waiting.lock().remove(&sequence);
    }

    /// A proposal was applied and committed. Sessions tell the processes of one node apart, not those of several.
    pub(crate) fn complete(&self, node: NodeId, session: SessionId, sequence: u64, replies: Vec<Reply>) {
        if (node, session) == (self.node, self.session)
            && let Some(waiter) = self.waiting.lock().remove(&sequence)
        {
            // Its proposer may have given up this moment.
            let _ = waiter.send(replies);
        }
    }
}
