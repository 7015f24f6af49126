//! What this process has started and whose outcome is not in the state yet.

use domain::id::ExecutionId;
use domain::node::Incarnation;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

/// Shared between the scheduler, which must not start an attempt twice, and the recorder, which knows
/// when an outcome has arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holding {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Given to the executor, which has not taken them up yet.
    ordered: HashSet<(ExecutionId, Incarnation)>,
    begun: HashSet<(ExecutionId, u32)>,
    /// Their last outcome is known here.
    settled: HashSet<ExecutionId>,
}

impl Holding {
    /// Notes that an execution, held under this incarnation, is given to the executor. False when it has it already.
    pub(crate) fn order(&self, id: ExecutionId, incarnation: Incarnation) -> bool {
        self.known.lock().ordered.insert((id, incarnation))
    }

    /// Notes that the executor takes up an execution.
    pub(crate) fn take_up(&self, id: ExecutionId, incarnation: Incarnation) {
        self.known.lock().ordered.remove(&(id, incarnation));
    }

    /// Notes the start of an attempt. False when this process has started it already.
    pub(crate) fn begin(&self, id: ExecutionId, attempt: u32) -> bool {
        self.known.lock().begun.insert((id, attempt))
    }

    /// Notes that the last outcome of an execution is known, though not yet in the state.
    pub(crate) fn settle(&self, id: ExecutionId) {
        self.known.lock().settled.insert(id);
    }

    /// Notes that the state has what there is to know of an attempt.
    pub(crate) fn end(&self, id: ExecutionId, attempt: u32) {
        let mut known = self.known.lock();
        known.begun.remove(&(id, attempt));
        known.settled.remove(&id);
    }

    /// Whether an attempt was started here.
    pub(crate) fn has_begun(&self, id: ExecutionId, attempt: u32) -> bool {
        self.known.lock().begun.contains(&(id, attempt))
    }

    /// Whether an execution is known here to be over, though the state does not say so yet.
    pub(crate) fn is_settled(&self, id: ExecutionId) -> bool {
        self.known.lock().settled.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::JobId;
    use domain::time::Timestamp;

    #[test]
    fn an_execution_is_ordered_once_until_it_is_taken_up() {
        let holding = Holding::default();
        let id = ExecutionId::scheduled(JobId(1), Timestamp::from_secs(60));
        let (earlier, later) = (Incarnation(1), Incarnation(2));
        assert!(holding.order(id, earlier));
        assert!(!holding.order(id, earlier));
        assert!(holding.order(id, later), "the earlier order finds that it holds nothing");
        holding.take_up(id, later);
        assert!(holding.order(id, later), "a retry");
    }

    #[test]
    fn an_attempt_begins_once_and_is_settled_before_it_ends() {
        let holding = Holding::default();
        let id = ExecutionId::scheduled(JobId(1), Timestamp::from_secs(60));
        assert!(holding.begin(id, 1));
        assert!(!holding.begin(id, 1), "a second timer for the same attempt");
        assert!(holding.begin(id, 2), "another attempt is another matter");
        assert!(!holding.is_settled(id));
        holding.settle(id);
        assert!(holding.is_settled(id));
        holding.end(id, 1);
        assert!(!holding.is_settled(id));
        assert!(!holding.has_begun(id, 1));
        assert!(holding.has_begun(id, 2));
    }
}
