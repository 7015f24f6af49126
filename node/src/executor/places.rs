//! Places for requests in flight: so many overall, so many to one host, shared fairly among accounts. Pure.

use domain::id::AccountId;
use domain::time::Timestamp;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// An account takes a further place only while it holds fewer than so many times the places that are free. Alone it
/// gets eight ninths, and whoever comes finds room: however many accounts hold all they may, one in `8n + 1` is free.
///
/// Dynamic thresholds, as A. K. Choudhury and E. L. Hahne share the memory of a switch among its queues (IEEE/ACM
/// Transactions on Networking 6, 1998).
const HELD_PER_FREE_MAX: usize = 8;

/// How many requests may be in flight from one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// To all hosts together; 1 or more.
    pub overall: usize,
    /// To one host; 1 or more.
    pub per_host: usize,
}

impl Default for Bounds {
    /// All jobs of a host share a quarter of all places, so that a slow endpoint holds up the other jobs of its host
    /// late, and those of other hosts not at all.
    fn default() -> Self {
        Self { overall: 1_024, per_host: 256 }
    }
}

/// Grants places to what waits for them: accounts in turns, and of one account what was due first.
///
/// Who waits for a busy host holds no place of the others: the place at the host comes first. Memory is held only for hosts
/// that somebody is calling or waiting for.
#[derive(Debug)]
pub(crate) struct Places<T> {
    per_host_max: usize,
    hosts: HashMap<Arc<str>, Gate<T>>,
    /// For what has its place at a host, which it names.
    overall: Gate<(Arc<str>, T)>,
    waiting: usize,
}

/// To be given back by [`Places::leave`].
#[derive(Debug)]
pub(crate) struct Place {
    account: AccountId,
    host: Arc<str>,
}

impl<T> Places<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let Bounds { overall, per_host } = bounds;
        Self { per_host_max: per_host, hosts: HashMap::new(), overall: Gate::new(overall), waiting: 0 }
    }

    /// Lets `item` wait for a place to call `host`.
    pub(crate) fn wait(&mut self, account: AccountId, host: Arc<str>, due: Timestamp, item: T) {
        let gate = self.hosts.entry(Arc::clone(&host)).or_insert_with(|| Gate::new(self.per_host_max));
        gate.wait(account, due, item);
        self.waiting += 1;
        self.forward(host);
    }

    /// What may go now, with its place.
    pub(crate) fn next(&mut self) -> Option<(Place, T)> {
        let Granted { account, item: (host, item), .. } = self.overall.next()?;
        self.waiting -= 1;
        Some((Place { account, host }, item))
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Gives a place back.
    pub(crate) fn leave(&mut self, place: Place) {
        let Place { account, host } = place;
        self.overall.leave(account);
        if let Some(gate) = self.hosts.get_mut(&host) {
            gate.leave(account);
        }
        self.forward(host);
    }

    /// Lets those that have a place at the host wait for one of all.
    fn forward(&mut self, host: Arc<str>) {
        let Some(gate) = self.hosts.get_mut(&host) else { return };
        while let Some(Granted { account, due, item }) = gate.next() {
            self.overall.wait(account, due, (Arc::clone(&host), item));
        }
        if gate.is_idle() {
            self.hosts.remove(&host);
        }
    }
}

/// So many places of one kind.
#[derive(Debug)]
struct Gate<T> {
    max: usize,
    held: usize,
    /// Those that hold or wait for a place.
    accounts: HashMap<AccountId, Share<T>>,
    /// Those that wait, who is to be next first.
    turns: VecDeque<AccountId>,
    /// How many have come.
    count: u64,
}

#[derive(Debug)]
struct Share<T> {
    held: usize,
    /// By their instant, and then as they came.
    waiting: BTreeMap<(Timestamp, u64), T>,
}

struct Granted<T> {
    account: AccountId,
    due: Timestamp,
    item: T,
}

impl<T> Gate<T> {
    fn new(max: usize) -> Self {
        Self { max, held: 0, accounts: HashMap::new(), turns: VecDeque::new(), count: 0 }
    }

    fn wait(&mut self, account: AccountId, due: Timestamp, item: T) {
        let share =
            self.accounts.entry(account).or_insert_with(|| Share { held: 0, waiting: BTreeMap::new() });
        if share.waiting.is_empty() {
            self.turns.push_back(account);
        }
        share.waiting.insert((due, self.count), item);
        self.count += 1;
    }

    fn next(&mut self) -> Option<Granted<T>> {
        let free = self.max.saturating_sub(self.held);
        if free == 0 {
            return None;
        }
        // Few are passed over: each of them holds many places.
        let may =
            |account| self.accounts.get(account).is_some_and(|share| share.held < free * HELD_PER_FREE_MAX);
        let turn = self.turns.iter().position(may)?;
        let account = self.turns.remove(turn)?;
        let share = self.accounts.get_mut(&account)?;
        let ((due, _), item) = share.waiting.pop_first()?;
        share.held += 1;
        self.held += 1;
        if !share.waiting.is_empty() {
            self.turns.push_back(account);
        }
        Some(Granted { account, due, item })
    }

    fn leave(&mut self, account: AccountId) {
        let Some(share) = self.accounts.get_mut(&account) else { return };
        share.held -= 1;
        self.held -= 1;
        if share.held == 0 && share.waiting.is_empty() {
            self.accounts.remove(&account);
        }
    }

    fn is_idle(&self) -> bool {
        self.accounts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: Timestamp = Timestamp::from_secs(60);

    fn places(overall: usize, per_host: usize) -> Places<u32> {
        Places::new(Bounds { overall, per_host })
    }

    /// What is granted until nothing is.
    fn granted(places: &mut Places<u32>) -> (Vec<Place>, Vec<u32>) {
        std::iter::from_fn(|| places.next()).unzip()
    }

    fn wait(places: &mut Places<u32>, account: u64, host: &str, item: u32) {
        places.wait(AccountId(account), host.into(), AT, item);
    }

    #[test]
    fn a_busy_host_leaves_the_places_of_others_alone() {
        let mut places = places(2, 1);
        for (host, item) in [("a", 1), ("a", 2), ("b", 3)] {
            wait(&mut places, 1, host, item);
        }
        let (mut held, items) = granted(&mut places);
        assert_eq!(items, [1, 3], "one at a time to one host");
        places.leave(held.remove(0));
        assert_eq!(granted(&mut places).1, [2]);
    }

    #[test]
    fn what_waits_goes_in_the_order_in_which_it_was_due() {
        let mut places = places(1, 1);
        for (secs, item) in [(9, 0), (5, 1), (3, 2), (5, 3), (4, 4)] {
            places.wait(AccountId(1), "a".into(), Timestamp::from_secs(secs), item);
        }
        let mut order = Vec::new();
        while let Some((place, item)) = places.next() {
            order.push(item);
            places.leave(place);
        }
        assert_eq!(order, [0, 2, 4, 1, 3], "the first was alone when it came");
    }

    #[test]
    fn accounts_take_turns() {
        let mut places = places(1, 1);
        for item in 0..100 {
            wait(&mut places, 1, "a", item);
        }
        wait(&mut places, 2, "a", 1_000);
        wait(&mut places, 3, "a", 2_000);
        let mut order = Vec::new();
        while let Some((place, item)) = places.next() {
            order.push(item);
            places.leave(place);
        }
        assert_eq!(order[..5], [0, 1, 1_000, 2_000, 2], "the first two were there before the others came");
        assert_eq!(order.len(), 102);
    }

    #[test]
    fn one_account_leaves_room_for_others_at_a_host_and_overall() {
        let mut places = places(900, 90);
        for item in 0..5_000 {
            wait(&mut places, 1, &format!("host {}", item % 20), item);
        }
        let (held, items) = granted(&mut places);
        assert_eq!(items.len(), 800, "eight ninths");
        wait(&mut places, 2, "host 0", 9_999);
        assert_eq!(granted(&mut places).1, [9_999], "a newcomer waits for nobody");
        // Nor does one at a host that is as full of one account as it may be.
        let at_host = held.iter().filter(|place| &*place.host == "host 0").count();
        assert!(at_host <= 80, "{at_host}");
    }

    #[test]
    fn idle_hosts_and_accounts_take_no_memory() {
        let mut places = places(4, 1);
        wait(&mut places, 1, "a", 1);
        wait(&mut places, 2, "a", 2);
        while let Some((place, _)) = places.next() {
            places.leave(place);
        }
        assert!(places.hosts.is_empty() && places.overall.is_idle() && places.overall.turns.is_empty());
    }

    proptest! {
        /// Whatever comes and goes: no bound is broken, nothing is lost, and nothing waits that may go.
        #[test]
        fn bounds_hold_and_nothing_is_forgotten(
            overall in 1usize..20,
            per_host in 1usize..20,
            steps in proptest::collection::vec((0u64..4, 0u8..3, any::<bool>(), 0u64..5), 1..200),
        ) {
            let mut places = places(overall, per_host);
            let (mut held, mut come, mut gone) = (Vec::new(), 0, Vec::new());
            for (account, host, leaves, secs) in steps {
                if leaves && !held.is_empty() {
                    places.leave(held.swap_remove(usize::from(host) % held.len()));
                } else {
                    let (host, due) = (host.to_string().into(), Timestamp::from_secs(secs));
                    places.wait(AccountId(account), host, due, come);
                    come += 1;
                }
                let (new, items) = granted(&mut places);
                held.extend(new);
                gone.extend(items);
                prop_assert!(held.len() <= overall);
                prop_assert_eq!(places.waiting() + gone.len(), usize::try_from(come).unwrap());
                for host in ["0", "1", "2"] {
                    prop_assert!(held.iter().filter(|place| &*place.host == host).count() <= per_host);
                }
            }
            while let Some(place) = held.pop() {
                places.leave(place);
                let (new, items) = granted(&mut places);
                held.extend(new);
                gone.extend(items);
            }
            gone.sort_unstable();
            prop_assert_eq!(gone, (0..come).collect::<Vec<_>>());
        }
    }
}
