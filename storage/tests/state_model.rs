//! The state against a sorted map of it, through flushes, restarts, snapshots and installations.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod replay;

use bytes::Bytes;
use domain::execution::DueItem;
use domain::id::{AccountId, ExecutionId, JobId, NodeId, SpaceId};
use domain::shard::ShardId;
use domain::time::Timestamp;
use proptest::prelude::*;
use replay::{index_of, mark, open};
use std::collections::BTreeMap;
use storage::schema::{
    AccountJob, AccountJobs, AccountUsage, Accounts, ApiKeys, Claims, DeletedJobs, Due, DueKey, Executions,
    Jobs, Metas, ResponseBodies, SpaceJobs, Usage,
};
use storage::{Keyspace, Read, State};

/// Everything by key bytes. Jobs of accounts have no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    usage: BTreeMap<u64, u64>,
    jobs: BTreeMap<Vec<u8>, AccountJob>,
}

#[derive(Clone, Copy, Debug)]
enum Write {
    Usage(u64, Option<u64>),
    Job(AccountJob, bool),
}

impl Model {
    fn write(&mut self, write: Write) {
        match write {
            Write::Usage(account, Some(jobs)) => drop(self.usage.insert(account, jobs)),
            Write::Usage(account, None) => drop(self.usage.remove(&account)),
            Write::Job(job, true) => drop(self.jobs.insert(key_bytes::<AccountJobs>(&job), job)),
            Write::Job(job, false) => drop(self.jobs.remove(&key_bytes::<AccountJobs>(&job))),
        }
    }

    /// Looks at `read` in every way there is.
    fn check(&self, read: &impl Read, look: Look) {
        for account in 0..8 {
            let jobs = self.usage.get(&account).copied();
            assert_eq!(read.get::<AccountUsage>(&AccountId(account)).unwrap().map(|usage| usage.jobs), jobs);
            assert_eq!(read.contains::<AccountUsage>(&AccountId(account)).unwrap(), jobs.is_some());
        }
        let whole: Vec<(u64, u64)> = read
            .range::<AccountUsage>(&[], None, usize::MAX)
            .unwrap()
            .into_iter()
            .map(|(account, usage)| (account.0, usage.jobs))
            .collect();
        assert!(whole.iter().copied().eq(self.usage.iter().map(|(account, jobs)| (*account, *jobs))));

        let (lower, upper) = (key_bytes::<AccountJobs>(&look.from), key_bytes::<AccountJobs>(&look.until));
        let expected: Vec<AccountJob> = self
            .jobs
            .iter()
            .filter(|(key, _)| **key >= lower && **key < upper)
            .map(|(_, job)| *job)
            .take(look.limit)
            .collect();
        assert_eq!(read.keys::<AccountJobs>(&lower, Some(&upper), look.limit).unwrap(), expected);
        let items = read.range::<AccountJobs>(&lower, Some(&upper), look.limit).unwrap();
        assert!(items.into_iter().map(|(job, ())| job).eq(expected));

        let prefix = look.from.account.0.to_be_bytes();
        for after in [None, Some(look.until), Some(look.from)] {
            let after_key = after.map(|after| key_bytes::<AccountJobs>(&after));
            let expected: Vec<AccountJob> = self
                .jobs
                .iter()
                .filter(|(key, _)| {
                    key.starts_with(&prefix) && after_key.as_ref().is_none_or(|after| *key > after)
                })
                .map(|(_, job)| *job)
                .take(look.limit)
                .collect();
            let keys = read.keys_prefix::<AccountJobs>(&prefix, after.as_ref(), look.limit).unwrap();
            assert_eq!(keys, expected);
            let items = read.prefix::<AccountJobs>(&prefix, after.as_ref(), look.limit).unwrap();
            assert!(items.into_iter().map(|(job, ())| job).eq(expected));
        }
    }
}

/// The bounds of a query.
#[derive(Clone, Copy, Debug)]
struct Look {
    from: AccountJob,
    until: AccountJob,
    limit: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>, Look),
    Abandon(Vec<Write>, Look),
    Look(Look),
    Flush,
    Reopen,
    Snapshot,
    Install,
}

fn account_job() -> impl Strategy<Value = AccountJob> {
    // The largest account: behind its prefix there is no greater key of as many bytes.
    let account = prop_oneof![4 => 0u64..3, 1 => Just(u64::MAX)];
    (account, 0u64..4, 0u64..3).prop_map(|(account, at, job)| AccountJob {
        account: AccountId(account),
        created_at: Timestamp::from_millis(at),
        job: JobId(job),
    })
}

fn look() -> impl Strategy<Value = Look> {
    let limit = prop_oneof![0usize..6, Just(usize::MAX)];
    (account_job(), account_job(), limit).prop_map(|(from, until, limit)| Look { from, until, limit })
}

fn step() -> impl Strategy<Value = Step> {
    let write = || {
        prop_oneof![
            (0u64..8, proptest::option::of(any::<u64>()))
                .prop_map(|(account, jobs)| Write::Usage(account, jobs)),
            (account_job(), any::<bool>()).prop_map(|(job, there)| Write::Job(job, there)),
        ]
    };
    let writes = move || proptest::collection::vec(write(), 0..20);
    prop_oneof![
        8 => (writes(), look()).prop_map(|(writes, look)| Step::Commit(writes, look)),
        2 => (writes(), look()).prop_map(|(writes, look)| Step::Abandon(writes, look)),
        3 => look().prop_map(Step::Look),
        3 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Install),
    ]
}

fn change(state: &State, model: &Model, writes: &[Write], look: Look, commit_as: Option<u64>) {
    let mut own = model.clone();
    let mut txn = state.begin();
    for write in writes {
        match *write {
            Write::Usage(account, Some(jobs)) => {
                txn.put::<AccountUsage>(&AccountId(account), &Usage { jobs, ..Usage::default() }).unwrap();
            }
            Write::Usage(account, None) => txn.remove::<AccountUsage>(&AccountId(account)).unwrap(),
            Write::Job(job, true) => txn.put::<AccountJobs>(&job, &()).unwrap(),
            Write::Job(job, false) => txn.remove::<AccountJobs>(&job).unwrap(),
        }
        own.write(*write);
    }
    // It sees its own writes, and nobody else does yet.
    own.check(&txn, look);
    model.check(&state.view(), look);
    if let Some(index) = commit_as {
        txn.commit(mark(index)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_what_was_committed(steps in proptest::collection::vec(step(), 1..50)) {
        let dir = tempfile::tempdir().unwrap();
        let mut storage = open(dir.path());
        // The state after each commit, by its mark; the first is that of nothing.
        let mut history = vec![Model::default()];
        let mut snapshot = None;
        for step in steps {
            let state = &storage.state;
            let now = history.last().unwrap().clone();
            match step {
                Step::Commit(writes, look) => {
                    let mut next = now.clone();
                    writes.iter().for_each(|write| next.write(*write));
                    change(state, &now, &writes, look, Some(history.len() as u64));
                    next.check(&state.view(), look);
                    history.push(next);
                }
                Step::Abandon(writes, look) => {
                    change(state, &now, &writes, look, None);
                    now.check(&state.view(), look);
                }
                Step::Look(look) => now.check(&state.view(), look),
                Step::Flush => {
                    state.flush().unwrap();
                    prop_assert_eq!(state.flushed(), state.applied());
                }
                Step::Snapshot => snapshot = Some(state.snapshot().unwrap()),
                Step::Install => {
                    if let Some(file) = state.latest_snapshot().unwrap() {
                        prop_assert_eq!(Some(&file), snapshot.as_ref());
                        let installed = state.install(&file).unwrap();
                        prop_assert_eq!(&installed, &file.mark);
                        prop_assert_eq!(state.flushed(), state.applied());
                        let at = (!installed.is_empty()).then(|| index_of(&installed));
                        history.truncate(at.map_or(0, |at| usize::try_from(at).unwrap()) + 1);
                    }
                }
                Step::Reopen => {
                    let flushed = state.flushed();
                    drop(storage);
                    storage = open(dir.path());
                    // What was only in memory is gone, and comes back from the log.
                    prop_assert_eq!(storage.state.applied(), flushed.clone());
                    let at = flushed.map_or(0, |mark| usize::try_from(index_of(&mark)).unwrap());
                    history.truncate(at + 1);
                }
            }
            let view = storage.state.view();
            prop_assert_eq!(view.applied().map_or(0, index_of), history.len() as u64 - 1);
            let look = Look {
                from: AccountJob { account: AccountId(0), created_at: Timestamp::from_millis(9), job: JobId(0) },
                until: AccountJob { account: AccountId(u64::MAX), created_at: Timestamp::from_millis(0), job: JobId(9) },
                limit: usize::MAX,
            };
            history.last().unwrap().check(&view, look);
        }
    }
}

#[test]
fn changes_under_a_mark_that_was_flushed_before_reach_the_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    for jobs in [1, 2] {
        let mut txn = storage.state.begin();
        txn.put::<AccountUsage>(&AccountId(jobs), &Usage { jobs, ..Usage::default() }).unwrap();
        txn.commit(mark(7)).unwrap();
        storage.state.flush().unwrap();
    }
    drop(storage);
    let storage = open(dir.path());
    for jobs in [1, 2] {
        assert_eq!(
            storage.state.view().get::<AccountUsage>(&AccountId(jobs)).unwrap(),
            Some(Usage { jobs, ..Usage::default() })
        );
    }
}

#[test]
fn a_page_after_a_key_before_the_prefix_begins_with_the_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut txn = storage.state.begin();
    for space in 0..3 {
        for job in 0..3 {
            txn.put::<SpaceJobs>(&(SpaceId(space), JobId(job)), &()).unwrap();
        }
    }
    txn.commit(mark(1)).unwrap();
    let prefix = 1u64.to_be_bytes();
    let page =
        storage.state.view().keys_prefix::<SpaceJobs>(&prefix, Some(&(SpaceId(0), JobId(1))), 10).unwrap();
    assert_eq!(page, [0, 1, 2].map(|job| (SpaceId(1), JobId(job))));
}

fn key_bytes<K: Keyspace>(key: &K::Key) -> Vec<u8> {
    let mut bytes = Vec::new();
    K::encode_key(key, &mut bytes);
    bytes
}

/// Keys come back as they went in, and their bytes sort as `sort_key` does. Cut or longer bytes are no key.
fn check_keys<K: Keyspace, S: Ord>(keys: &[K::Key], sort_key: impl Fn(&K::Key) -> S)
where
    K::Key: PartialEq + std::fmt::Debug,
{
    for a in keys {
        let bytes = key_bytes::<K>(a);
        assert_eq!(K::decode_key(&bytes).as_ref(), Some(a), "{}", K::NAME);
        assert_eq!(K::decode_key(&[&bytes[..], &[0]].concat()), None, "{}", K::NAME);
        if let Some((_, cut)) = bytes.split_last() {
            assert_eq!(K::decode_key(cut), None, "{}", K::NAME);
        }
        for b in keys {
            let by_bytes = bytes.cmp(&key_bytes::<K>(b));
            assert_eq!(by_bytes, sort_key(a).cmp(&sort_key(b)), "{}: {a:?} and {b:?}", K::NAME);
        }
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0u64..3, Just(u64::MAX), (0u32..64).prop_map(|bit| 1 << bit)]
}

fn execution() -> impl Strategy<Value = ExecutionId> {
    (number(), any::<u16>(), number()).prop_map(|(at, sequence, job)| ExecutionId {
        at: Timestamp::from_millis(at),
        sequence,
        job: JobId(job),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn numbered_keys_sort_as_their_numbers(numbers in proptest::collection::vec(number(), 2..8)) {
        check_keys::<Accounts, _>(&numbers.iter().map(|n| AccountId(*n)).collect::<Vec<_>>(), |key| key.0);
        check_keys::<Jobs, _>(&numbers.iter().map(|n| JobId(*n)).collect::<Vec<_>>(), |key| key.0);
        check_keys::<DeletedJobs, _>(&numbers.iter().map(|n| JobId(*n)).collect::<Vec<_>>(), |key| key.0);
        let hashes: Vec<_> = numbers.iter().map(|n| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_be_bytes());
            hash
        }).collect();
        check_keys::<ApiKeys, _>(&hashes, |key| *key);
        let pairs: Vec<_> = numbers.windows(2).map(|pair| (SpaceId(pair[0]), JobId(pair[1]))).collect();
        check_keys::<SpaceJobs, _>(&pairs, |key| *key);
        check_keys::<Metas, _>(&[()], |()| ());
    }

    #[test]
    fn jobs_of_an_account_sort_newest_first(parts in proptest::collection::vec((number(), number(), number()), 1..8)) {
        let keys: Vec<AccountJob> = parts
            .into_iter()
            .map(|(account, at, job)| AccountJob {
                account: AccountId(account),
                created_at: Timestamp::from_millis(at),
                job: JobId(job),
            })
            .collect();
        check_keys::<AccountJobs, _>(&keys, |key| (key.account, std::cmp::Reverse(key.created_at), key.job));
    }

    #[test]
    fn executions_of_a_job_sort_newest_first(keys in proptest::collection::vec(execution(), 1..8)) {
        let newest_first =
            |id: &ExecutionId| (id.job, std::cmp::Reverse(id.at), std::cmp::Reverse(id.sequence));
        check_keys::<Executions, _>(&keys, newest_first);
        check_keys::<ResponseBodies, _>(&keys, newest_first);
        let claims: Vec<_> = keys.iter().map(|id| (NodeId(id.job.0 % 3), *id)).collect();
        check_keys::<Claims, _>(&claims, |(node, id)| (*node, newest_first(id)));
    }

    #[test]
    fn what_is_due_sorts_by_shard_then_instant(
        parts in proptest::collection::vec((any::<u8>(), number(), proptest::bool::ANY, execution()), 1..8),
    ) {
        let keys: Vec<DueKey> = parts
            .into_iter()
            .map(|(shard, due, is_firing, id)| DueKey {
                shard: ShardId(shard % 3),
                due: Timestamp::from_millis(due),
                item: if is_firing { DueItem::Firing(id.job) } else { DueItem::Execution(id) },
            })
            .collect();
        check_keys::<Due, _>(&keys, |key| {
            let item = match key.item {
                DueItem::Firing(job) => (1, job, None),
                DueItem::Execution(id) => {
                    (2, id.job, Some((std::cmp::Reverse(id.at), std::cmp::Reverse(id.sequence))))
                }
                DueItem::Delivery(id) => (3, id.execution.job, None),
            };
            (key.shard, key.due, item)
        });
        // A range of the index is what is due from one instant to before another.
        for key in &keys {
            let until = Timestamp::from_millis(key.due.as_millis().saturating_add(1));
            let (lower, upper) = DueKey::range(key.shard, key.due, until);
            let bytes = key_bytes::<Due>(key);
            prop_assert!(lower <= bytes);
            prop_assert!(bytes < upper || until == key.due);
            let (_, before) = DueKey::range(key.shard, Timestamp::from_millis(0), key.due);
            prop_assert!(bytes >= before);
        }
    }
}

#[test]
fn a_value_is_gone_for_a_reader_only_when_it_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let put = |jobs: Option<u64>, at: u64| {
        let mut txn = storage.state.begin();
        match jobs {
            Some(jobs) => {
                txn.put::<AccountUsage>(&AccountId(1), &Usage { jobs, ..Usage::default() }).unwrap()
            }
            None => txn.remove::<AccountUsage>(&AccountId(1)).unwrap(),
        }
        txn.commit(mark(at)).unwrap();
    };
    let get = || storage.state.view().get::<AccountUsage>(&AccountId(1)).unwrap().map(|usage| usage.jobs);
    // On disk, removed in memory, put again in memory, removed on disk.
    put(Some(1), 1);
    storage.state.flush().unwrap();
    put(None, 2);
    assert_eq!(get(), None);
    put(Some(3), 3);
    assert_eq!(get(), Some(3));
    put(None, 4);
    storage.state.flush().unwrap();
    assert_eq!(get(), None);
    assert_eq!(storage.state.applied(), Some(Bytes::copy_from_slice(&4u64.to_be_bytes())));
}

#[test]
fn a_state_in_memory_is_a_state_that_can_be_copied() {
    let put = |state: &State, jobs: u64, at: u64| {
        let mut txn = state.begin();
        txn.put::<AccountUsage>(&AccountId(jobs), &Usage { jobs, ..Usage::default() }).unwrap();
        txn.commit(mark(at)).unwrap();
    };
    let dir = tempfile::tempdir().unwrap();
    let on_disk = open(dir.path()).state;
    let (one, other) = (State::in_memory(), State::in_memory());
    for state in [&on_disk, &one] {
        put(state, 1, 1);
        put(state, 2, 2);
    }
    put(&other, 3, 9);
    assert_eq!(one.digest().unwrap(), on_disk.digest().unwrap());
    assert_ne!(other.digest().unwrap(), one.digest().unwrap());

    other.become_copy_of(&one).unwrap();
    assert_eq!(other.digest().unwrap(), one.digest().unwrap());
    assert_eq!(other.applied(), one.applied());
    put(&one, 4, 3);
    assert!(!other.view().contains::<AccountUsage>(&AccountId(4)).unwrap(), "a copy goes its own way");

    one.flush().unwrap();
    assert!(one.snapshot().is_err() && one.incoming_snapshot().is_err());
    assert_eq!(one.latest_snapshot().unwrap(), None);
    assert!(on_disk.become_copy_of(&one).is_err() && one.become_copy_of(&on_disk).is_err());
}
