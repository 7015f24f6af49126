//! How many messages are on their way at a time, overall and to one channel, and which have begun here.
//!
//! A receiver that hangs keeps the few places of its channel and holds up nobody else. What finds no place
//! is not claimed: it stays in the due index, is remembered here, and is told of when a place is free.

use domain::id::{ChannelId, DeliveryId};
use domain::time::Timestamp;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use storage::schema::DueKey;
use tokio::sync::Notify;

/// Messages on their way from this node.
const OVERALL_MAX: usize = 1_024;
/// Messages on their way from this node to one channel.
const PER_CHANNEL_MAX: usize = 4;
/// Messages remembered that wait for a place. Others are found again in the due index a little later.
const WAITING_MAX: usize = 20_000;

/// Shared between the scheduler, which claims, and the notifier, which sends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// Claimed, or being claimed, by channel.
    lanes: HashMap<ChannelId, HashSet<DeliveryId>>,
    held: usize,
    /// Attempts that were begun here and whose outcome is not in the state yet.
    begun: HashSet<(DeliveryId, u32)>,
    /// Oldest first.
    waiting: HashMap<ChannelId, BTreeMap<(Timestamp, DeliveryId), DueKey>>,
    waiting_count: usize,
    freed: Vec<DueKey>,
}

impl Known {
    fn hold(&mut self, id: DeliveryId) {
        if self.lanes.entry(id.channel).or_default().insert(id) {
            self.held += 1;
        }
    }

    /// Frees a place and calls the next one that waits for it. Says whether there is one.
    fn leave(&mut self, id: DeliveryId) -> bool {
        if let Some(lane) = self.lanes.get_mut(&id.channel)
            && lane.remove(&id)
        {
            self.held -= 1;
            if lane.is_empty() {
                self.lanes.remove(&id.channel);
            }
        }
        let Some(waiting) = self.waiting.get_mut(&id.channel) else { return false };
        let next = waiting.pop_first();
        if waiting.is_empty() {
            self.waiting.remove(&id.channel);
        }
        let Some((_, key)) = next else { return false };
        self.waiting_count -= 1;
        self.freed.push(key);
        true
    }
}

impl Lanes {
    /// Takes a place for a message that is about to be claimed. False when there is none; the message is then
    /// remembered.
    pub(crate) fn admit(&self, key: DueKey, id: DeliveryId) -> bool {
        let mut known = self.shared.known.lock();
        let in_lane = known.lanes.get(&id.channel);
        let is_held = in_lane.is_some_and(|lane| lane.contains(&id));
        let lane_full = in_lane.is_some_and(|lane| lane.len() >= PER_CHANNEL_MAX);
        if is_held || !lane_full && known.held < OVERALL_MAX {
            known.hold(id);
            return true;
        }
        if lane_full && known.waiting_count < WAITING_MAX {
            let place = known.waiting.entry(id.channel).or_default();
            if place.insert((key.due, id), key).is_none() {
                known.waiting_count += 1;
            }
        }
        false
    }

    /// Notes the start of an attempt. False when this process has begun it already.
    pub(crate) fn begin(&self, id: DeliveryId, attempt: u32) -> bool {
        let mut known = self.shared.known.lock();
        known.hold(id);
        known.begun.insert((id, attempt))
    }

    /// Whether an attempt was begun here.
    pub(crate) fn has_begun(&self, id: DeliveryId, attempt: u32) -> bool {
        self.shared.known.lock().begun.contains(&(id, attempt))
    }

    /// Notes that the state has what there is to know of an attempt.
    pub(crate) fn end(&self, id: DeliveryId, attempt: u32) {
        self.shared.known.lock().begun.remove(&(id, attempt));
        self.leave(id);
    }

    /// Gives back the place of a message that this process does not hold after all.
    pub(crate) fn leave(&self, id: DeliveryId) {
        let called = self.shared.known.lock().leave(id);
        if called {
            self.shared.freed.notify_one();
        }
    }

    /// Starts afresh from what this process holds by the state, and what it has begun.
    pub(crate) fn restart(&self, held: impl IntoIterator<Item = DeliveryId>) {
        let mut known = self.shared.known.lock();
        let begun = std::mem::take(&mut known.begun);
        *known = Known { begun, ..Known::default() };
        let begun: Vec<_> = known.begun.iter().map(|(id, _)| *id).collect();
        for id in held.into_iter().chain(begun) {
            known.hold(id);
        }
    }

    /// Waits until somebody has been called. Dropping the future loses nothing.
    pub(crate) async fn freed(&self) {
        self.shared.freed.notified().await;
    }

    /// Those whose turn has come.
    pub(crate) fn take_freed(&self) -> Vec<DueKey> {
        std::mem::take(&mut self.shared.known.lock().freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::channel::EventKind;
    use domain::execution::DueItem;
    use domain::id::{ExecutionId, JobId};

    fn id(channel: u64, n: u64) -> DeliveryId {
        let execution = ExecutionId::scheduled(JobId(1), Timestamp::from_secs(n));
        DeliveryId { execution, event: EventKind::Failed, channel: ChannelId(channel) }
    }

    fn key(id: DeliveryId) -> DueKey {
        DueKey::new(id.execution.at, DueItem::Delivery(id))
    }

    fn admit(lanes: &Lanes, channel: u64, n: u64) -> bool {
        lanes.admit(key(id(channel, n)), id(channel, n))
    }

    #[test]
    fn a_channel_that_hangs_holds_up_itself_alone() {
        let lanes = Lanes::default();
        let taken: Vec<_> = (0..6).map(|n| admit(&lanes, 1, n)).collect();
        assert_eq!(taken, [true, true, true, true, false, false]);
        assert!(admit(&lanes, 1, 0), "what has a place keeps it");
        assert!(admit(&lanes, 2, 0));
        lanes.end(id(1, 2), 1);
        assert_eq!(lanes.take_freed(), [key(id(1, 4))], "the oldest one");
        assert!(admit(&lanes, 1, 4));
        assert!(!admit(&lanes, 1, 5), "waits as before");
        lanes.leave(id(1, 0));
        assert_eq!(lanes.take_freed(), [key(id(1, 5))]);
    }

    #[test]
    fn no_more_are_on_their_way_than_may_be() {
        let lanes = Lanes::default();
        let taken = (0..2_000).filter(|channel| admit(&lanes, *channel, 0)).count();
        assert_eq!(taken, OVERALL_MAX);
        lanes.leave(id(0, 0));
        assert!(admit(&lanes, 5_000, 0));
        assert!(!admit(&lanes, 5_001, 0));
    }

    #[test]
    fn an_attempt_begins_once() {
        let lanes = Lanes::default();
        assert!(lanes.begin(id(1, 0), 1));
        assert!(!lanes.begin(id(1, 0), 1));
        assert!(lanes.begin(id(1, 0), 2));
        lanes.end(id(1, 0), 1);
        assert!(!lanes.has_begun(id(1, 0), 1));
        assert!(lanes.has_begun(id(1, 0), 2));
    }

    #[test]
    fn a_fresh_start_keeps_what_is_under_way() {
        let lanes = Lanes::default();
        for n in 0..6 {
            admit(&lanes, 1, n);
        }
        lanes.begin(id(1, 0), 1);
        lanes.restart([id(1, 1)]);
        assert!(lanes.has_begun(id(1, 0), 1));
        let taken: Vec<_> = (2..5).map(|n| admit(&lanes, 1, n)).collect();
        assert_eq!(taken, [true, true, false]);
    }
}
