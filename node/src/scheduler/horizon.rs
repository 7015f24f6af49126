//! Which part of the due index is in the wheel. Pure.
//!
//! The wheel holds what falls due in the near future on this node's shards, however many jobs there
//! are. Each shard remembers up to which instant it has been read; what is put in the index before
//! that instant later on arrives as an effect, what is behind it is read in time.

use domain::id::NodeId;
use domain::shard::{ShardId, ShardMap};
use domain::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// How far ahead a shard is read.
pub(crate) const HORIZON: Duration = Duration::from_secs(60);
/// A shard is read on when less than this is left of what has been read.
const REFILL_BELOW: Duration = Duration::from_secs(30);

/// The shards of this node and how far each has been read.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    read_until: BTreeMap<ShardId, Timestamp>,
}

impl Horizon {
    /// Takes over `map`: shards that are new here are to be read from the beginning, those that went
    /// are forgotten.
    pub(crate) fn follow(&mut self, map: &ShardMap, node: NodeId) {
        let known = std::mem::take(&mut self.read_until);
        self.read_until = map
            .owned_by(node)
            .map(|shard| (shard, known.get(&shard).copied().unwrap_or(Timestamp::EPOCH)))
            .collect();
    }

    /// Forgets how far each shard was read, so that all are read again.
    pub(crate) fn forget(&mut self) {
        for read_until in self.read_until.values_mut() {
            *read_until = Timestamp::EPOCH;
        }
    }

    /// How many shards are ours.
    pub(crate) fn owned(&self) -> usize {
        self.read_until.len()
    }

    /// Whether `shard` is ours.
    pub(crate) fn owns(&self, shard: ShardId) -> bool {
        self.read_until.contains_key(&shard)
    }

    /// Whether something new that is due at `due` has to go into the wheel at once: the shard is ours
    /// and has been read beyond that instant.
    pub(crate) fn covers(&self, shard: ShardId, due: Timestamp) -> bool {
        self.read_until.get(&shard).is_some_and(|read_until| due < *read_until)
    }

    /// The shards that must be read on, each with the instant to read from.
    pub(crate) fn thirsty(&self, now: Timestamp) -> Vec<(ShardId, Timestamp)> {
        self.read_until
            .iter()
            .filter(|(_, read_until)| read_until.since(now) < REFILL_BELOW)
            .map(|(shard, read_until)| (*shard, *read_until))
            .collect()
    }

    /// Notes that `shard` has been read up to, but not including, `until`.
    pub(crate) fn has_read(&mut self, shard: ShardId, until: Timestamp) {
        if let Some(read_until) = self.read_until.get_mut(&shard) {
            *read_until = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(3);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn map(owner_of_three: u64) -> ShardMap {
        let owners =
            ShardId::all().map(|shard| NodeId(if shard == SHARD { owner_of_three } else { 9 })).collect();
        ShardMap { version: 1, owners }
    }

    #[test]
    fn a_new_shard_is_read_from_the_beginning_and_then_in_time() {
        let mut horizon = Horizon::default();
        horizon.follow(&map(1), NodeId(1));
        assert_eq!(horizon.thirsty(at(1_000)), [(SHARD, Timestamp::EPOCH)]);
        horizon.has_read(SHARD, at(1_060));
        assert_eq!(horizon.thirsty(at(1_020)), []);
        assert_eq!(horizon.thirsty(at(1_031)), [(SHARD, at(1_060))]);
    }

    #[test]
    fn only_what_lies_in_the_read_part_needs_a_hint() {
        let mut horizon = Horizon::default();
        horizon.follow(&map(1), NodeId(1));
        assert!(!horizon.covers(SHARD, at(5)), "it will be read anyway");
        horizon.has_read(SHARD, at(60));
        assert!(horizon.covers(SHARD, at(59)));
        assert!(!horizon.covers(SHARD, at(60)));
        assert!(!horizon.covers(ShardId(4), at(5)), "another node's");
    }

    #[test]
    fn a_shard_that_comes_back_is_read_again() {
        let mut horizon = Horizon::default();
        horizon.follow(&map(1), NodeId(1));
        horizon.has_read(SHARD, at(60));
        horizon.follow(&map(1), NodeId(1));
        assert!(horizon.covers(SHARD, at(5)), "nothing changed");
        horizon.follow(&map(2), NodeId(1));
        assert_eq!((horizon.owned(), horizon.owns(SHARD)), (0, false));
        horizon.follow(&map(1), NodeId(1));
        assert!(!horizon.covers(SHARD, at(5)));
    }

    #[test]
    fn forgetting_reads_everything_again() {
        let mut horizon = Horizon::default();
        horizon.follow(&map(1), NodeId(1));
        horizon.has_read(SHARD, at(60));
        horizon.forget();
        assert_eq!(horizon.thirsty(at(0)), [(SHARD, Timestamp::EPOCH)]);
    }
}
