//! Which node looks after which jobs.

use crate::id::{JobId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many parts the jobs are dealt in. Fixed for ever: the shard is part of stored keys.
pub const SHARDS: usize = 256;

/// One of the [`SHARDS`] parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u8);

impl ShardId {
    /// Every shard, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    /// The shard of `job`: the top byte of the finalizer of `SplitMix64` (Steele, Lea, Flood, 2014).
    /// Ids are random already; the mixing guards against a client that can choose them.
    #[must_use]
    pub fn of(job: JobId) -> Self {
        let mut z = job.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        Self(z.to_be_bytes()[0])
    }
}

/// Who owns each shard. Only a hint about who should claim: a claim is checked by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMap {
    /// Rises with every change; 0 is the empty map.
    pub version: u64,
    /// The owner of each shard by its number; empty before the first assignment.
    pub owners: Vec<NodeId>,
}

impl ShardMap {
    /// Who owns `shard`.
    #[must_use]
    pub fn owner(&self, shard: ShardId) -> Option<NodeId> {
        self.owners.get(usize::from(shard.0)).copied()
    }

    /// The shards of `node`.
    pub fn owned_by(&self, node: NodeId) -> impl Iterator<Item = ShardId> + '_ {
        ShardId::all().filter(move |shard| self.owner(*shard) == Some(node))
    }

    /// The owners that `live` nodes should have, moving as few shards as can be.
    ///
    /// With two or more live followers the leader owns nothing; with fewer it takes part. Shares
    /// differ by at most one. `None` when nobody lives.
    #[must_use]
    pub fn assign(&self, live: &BTreeSet<NodeId>, leader: NodeId) -> Option<Vec<NodeId>> {
        let followers = live.iter().copied().filter(|node| *node != leader).count();
        let eligible: Vec<NodeId> =
            live.iter().copied().filter(|node| followers < 2 || *node != leader).collect();
        if eligible.is_empty() {
            return None;
        }

        let mut held: BTreeMap<NodeId, usize> = eligible.iter().map(|node| (*node, 0)).collect();
        for owner in &self.owners {
            if let Some(count) = held.get_mut(owner) {
                *count += 1;
            }
        }
        // Whoever holds most keeps the larger shares, so that a remainder moves nothing.
        let mut by_held = eligible;
        by_held.sort_by_key(|node| (std::cmp::Reverse(held[node]), *node));
        let (share, larger) = (SHARDS / by_held.len(), SHARDS % by_held.len());
        let mut room: BTreeMap<NodeId, usize> = by_held
            .iter()
            .enumerate()
            .map(|(rank, node)| (*node, share + usize::from(rank < larger)))
            .collect();

        let mut take = |node: NodeId| match room.get_mut(&node) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            Some(_) | None => false,
        };
        let kept: Vec<Option<NodeId>> =
            ShardId::all().map(|shard| self.owner(shard).filter(|owner| take(*owner))).collect();
        let mut free = by_held.iter().flat_map(|node| std::iter::repeat_n(*node, room[node]));
        Some(
            kept.into_iter()
                .map(|owner| owner.or_else(|| free.next()).expect("the shares add up to all shards"))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn shares(owners: &[NodeId]) -> BTreeMap<NodeId, usize> {
        let mut shares = BTreeMap::new();
        for owner in owners {
            *shares.entry(*owner).or_insert(0) += 1;
        }
        shares
    }

    #[test]
    fn two_followers_relieve_the_leader() {
        let owners = ShardMap::default().assign(&nodes(&[1, 2, 3]), NodeId(1)).unwrap();
        assert_eq!(shares(&owners), BTreeMap::from([(NodeId(2), 128), (NodeId(3), 128)]));
    }

    #[test]
    fn a_leader_with_one_follower_shares_and_alone_does_it_all() {
        let owners = ShardMap::default().assign(&nodes(&[1, 2]), NodeId(1)).unwrap();
        assert_eq!(shares(&owners), BTreeMap::from([(NodeId(1), 128), (NodeId(2), 128)]));
        let owners = ShardMap::default().assign(&nodes(&[4]), NodeId(4)).unwrap();
        assert_eq!(shares(&owners), BTreeMap::from([(NodeId(4), 256)]));
        assert_eq!(ShardMap::default().assign(&nodes(&[]), NodeId(4)), None);
    }

    #[test]
    fn a_dead_leader_moves_nothing() {
        let owners = ShardMap::default().assign(&nodes(&[1, 2, 3]), NodeId(1)).unwrap();
        let map = ShardMap { version: 1, owners };
        let after = map.assign(&nodes(&[2, 3]), NodeId(2)).unwrap();
        assert_eq!(after, map.owners);
    }

    proptest! {
        #[test]
        fn shares_are_even_and_moves_are_few(
            before in proptest::collection::btree_set(1u64..8, 1..6),
            after in proptest::collection::btree_set(1u64..8, 1..6),
            leader in 1u64..8,
        ) {
            let set = |ids: &BTreeSet<u64>| ids.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
            let map = ShardMap {
                version: 1,
                owners: ShardMap::default().assign(&set(&before), NodeId(leader)).unwrap(),
            };
            let owners = map.assign(&set(&after), NodeId(leader)).unwrap();
            prop_assert_eq!(owners.len(), SHARDS);
            let shares = shares(&owners);
            let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", shares);
            prop_assert!(shares.keys().all(|node| after.contains(&node.0)));
            // A shard moves only if its owner is gone or held more than its share.
            let moved = map.owners.iter().zip(&owners).filter(|(old, new)| old != new).count();
            let held = self::shares(&map.owners);
            let forced: usize = held
                .iter()
                .map(|(node, count)| count.saturating_sub(shares.get(node).copied().unwrap_or(0)))
                .sum();
            prop_assert_eq!(moved, forced);
        }
    }

    #[test]
    fn jobs_spread_evenly_even_with_consecutive_ids() {
        let mut counts = vec![0usize; SHARDS];
        for id in 0..256_000 {
            counts[usize::from(ShardId::of(JobId(id)).0)] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_shard_of_a_job_never_changes() {
        let shards = [1, 2, 0xdead_beef, u64::MAX].map(|id| ShardId::of(JobId(id)).0);
        assert_eq!(shards, [86, 219, 78, 180]);
    }
}
