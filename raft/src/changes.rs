//! What this node's scheduler is told about changes of the state: hints, after they are committed.
//!
//! The queue is bounded. When it overflows, or when the state was replaced as a whole, the receiver is
//! told once to read everything afresh. Loss is legal, silence is not.

use crate::apply::Effect;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;

/// Hints that wait at most; a scheduler that is this far behind is better off reading the state.
const WAITING_MAX: usize = 65_536;

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Hints were lost: read everything afresh from the state.
    Reload,
    /// What changed, in the order of the log.
    Effects(Vec<Effect>),
}

#[derive(Debug, Default)]
struct Waiting {
    effects: Vec<Effect>,
    reload: bool,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

/// Where the state machine puts its hints.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChangesSender {
    shared: Arc<Shared>,
}

/// Where the scheduler takes them. There is one.
#[derive(Debug)]
pub struct ChangesReceiver {
    shared: Arc<Shared>,
}

impl ChangesSender {
    pub(crate) fn receiver(&self) -> ChangesReceiver {
        ChangesReceiver { shared: Arc::clone(&self.shared) }
    }

    /// Adds hints. Never waits.
    pub(crate) fn send(&self, effects: Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        {
            let mut waiting = self.shared.waiting.lock();
            if waiting.reload {
                // The state will be read after this commit anyway.
                return;
            }
            if waiting.effects.len() + effects.len() > WAITING_MAX {
                waiting.effects = Vec::new();
                waiting.reload = true;
            } else {
                waiting.effects.extend(effects);
            }
        }
        self.shared.arrived.notify_one();
    }

    /// Says that hints alone do not tell what changed.
    pub(crate) fn reload(&self) {
        {
            let mut waiting = self.shared.waiting.lock();
            waiting.effects = Vec::new();
            waiting.reload = true;
        }
        self.shared.arrived.notify_one();
    }
}

impl ChangesReceiver {
    /// Waits for the next change. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Change {
        loop {
            {
                let mut waiting = self.shared.waiting.lock();
                if std::mem::take(&mut waiting.reload) {
                    return Change::Reload;
                }
                if !waiting.effects.is_empty() {
                    return Change::Effects(std::mem::take(&mut waiting.effects));
                }
            }
            self.shared.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::NodeId;
    use futures::FutureExt;

    #[test]
    fn hints_come_in_order_and_together() {
        let sender = ChangesSender::default();
        let mut receiver = sender.receiver();
        sender.send(vec![Effect::ShardMap]);
        sender.send(vec![Effect::Node(NodeId(1))]);
        let expected = Change::Effects(vec![Effect::ShardMap, Effect::Node(NodeId(1))]);
        assert_eq!(receiver.next().now_or_never(), Some(expected));
        assert_eq!(receiver.next().now_or_never(), None);
    }

    #[test]
    fn an_overflow_is_told_once_and_hides_nothing_that_follows() {
        let sender = ChangesSender::default();
        let mut receiver = sender.receiver();
        sender.send(vec![Effect::ShardMap; WAITING_MAX]);
        sender.send(vec![Effect::ShardMap]);
        assert_eq!(receiver.next().now_or_never(), Some(Change::Reload));
        assert_eq!(receiver.next().now_or_never(), None);
        sender.send(vec![Effect::ShardMap]);
        assert_eq!(receiver.next().now_or_never(), Some(Change::Effects(vec![Effect::ShardMap])));
    }
}
