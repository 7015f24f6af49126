//! What the tests apply: entries that say by themselves what they do to the state, and the same done in memory.

#![allow(dead_code, reason = "each test uses its part")]

use bytes::Bytes;
use domain::id::{AccountId, JobId, NodeId};
use domain::node::SessionId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use storage::schema::{AccountUsage, DeletedJobs, Session, Sessions, Usage};
use storage::{Error, Flushed, Log, LogEntry, Read, Settings, State, StateTxn, Storage};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers that look random and come from a seed (`SplitMix64`; Steele, Lea, Flood, 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(length).collect()
    }
}

/// The entry that `salt` gives at `index`: mostly small, now and then large.
pub(crate) fn entry(index: u64, salt: u64) -> LogEntry {
    let mut random = Random(salt);
    let length = match random.below(100) {
        0 => 50_000,
        1..=9 => 4_000,
        _ => 200,
    };
    let length = usize::try_from(random.below(length)).unwrap();
    let bytes = [&salt.to_be_bytes()[..], &random.bytes(length)].concat();
    LogEntry { index, bytes: Bytes::from(bytes) }
}

/// The salt of an entry, which must be whole.
pub(crate) fn salt(read: &LogEntry) -> u64 {
    let salt = u64::from_be_bytes(*read.bytes.first_chunk().unwrap());
    assert_eq!(*read, entry(read.index, salt), "an entry is not as it was written");
    salt
}

/// The state in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) sessions: BTreeMap<NodeId, Session>,
    pub(crate) usage: BTreeMap<AccountId, u64>,
    pub(crate) deleted: BTreeSet<JobId>,
}

enum Change {
    Session(NodeId, Option<Session>),
    Usage(AccountId, u64),
    Deleted(JobId, bool),
}

/// What an entry does, by its salt.
fn changes(index: u64, salt: u64) -> Vec<Change> {
    let mut random = Random(salt ^ 0x5eed);
    let mut changes = vec![Change::Usage(AccountId(0), index)];
    for _ in 0..random.below(6) {
        changes.push(match random.below(8) {
            0..=2 => Change::Deleted(JobId(random.below(500)), true),
            3 => Change::Deleted(JobId(random.below(500)), false),
            4 | 5 => Change::Usage(AccountId(1 + random.below(300)), random.next()),
            6 => {
                let length = usize::try_from(random.below(600)).unwrap();
                let replies = BTreeMap::from([(random.next(), random.bytes(length))]);
                let session = SessionId(random.next());
                let session = Session { session, acknowledged_below: index, replies };
                Change::Session(NodeId(random.below(100)), Some(session))
            }
            _ => Change::Session(NodeId(random.below(100)), None),
        });
    }
    changes
}

impl Model {
    pub(crate) fn apply(&mut self, index: u64, salt: u64) {
        for change in changes(index, salt) {
            match change {
                Change::Session(node, Some(session)) => drop(self.sessions.insert(node, session)),
                Change::Session(node, None) => drop(self.sessions.remove(&node)),
                Change::Usage(account, jobs) => drop(self.usage.insert(account, jobs)),
                Change::Deleted(job, true) => drop(self.deleted.insert(job)),
                Change::Deleted(job, false) => drop(self.deleted.remove(&job)),
            }
        }
    }

    /// What entries with these salts, from index 0 on, make of nothing.
    pub(crate) fn replay(salts: impl IntoIterator<Item = u64>) -> Self {
        let mut model = Self::default();
        for (index, salt) in (0..).zip(salts) {
            model.apply(index, salt);
        }
        model
    }

    /// What a store holds, and its mark.
    pub(crate) fn read(state: &State) -> Result<(Option<u64>, Self), Error> {
        let view = state.view();
        let model = Self {
            sessions: view.range::<Sessions>(&[], None, usize::MAX)?.into_iter().collect(),
            usage: view
                .range::<AccountUsage>(&[], None, usize::MAX)?
                .into_iter()
                .map(|(account, usage)| (account, usage.jobs))
                .collect(),
            deleted: view.keys::<DeletedJobs>(&[], None, usize::MAX)?.into_iter().collect(),
        };
        Ok((view.applied().map(index_of), model))
    }
}

/// Applies an entry within a transaction.
pub(crate) fn apply(txn: &mut StateTxn<'_>, index: u64, salt: u64) {
    for change in changes(index, salt) {
        match change {
            Change::Session(node, Some(session)) => txn.put::<Sessions>(&node, &session).unwrap(),
            Change::Session(node, None) => txn.remove::<Sessions>(&node).unwrap(),
            Change::Usage(account, jobs) => {
                txn.put::<AccountUsage>(&account, &Usage { jobs, ..Usage::default() }).unwrap()
            }
            Change::Deleted(job, true) => txn.put::<DeletedJobs>(&job, &()).unwrap(),
            Change::Deleted(job, false) => txn.remove::<DeletedJobs>(&job).unwrap(),
        }
    }
}

/// Applies entries with these salts, from `first` on, in one transaction.
pub(crate) fn commit(state: &State, first: u64, salts: &[u64]) {
    let mut txn = state.begin();
    let mut last = first;
    for (index, salt) in (first..).zip(salts) {
        apply(&mut txn, index, *salt);
        last = index;
    }
    txn.commit(mark(last)).unwrap();
}

/// The mark of a state to which everything up to `index` was applied.
pub(crate) fn mark(index: u64) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

pub(crate) fn index_of(mark: &Bytes) -> u64 {
    u64::from_be_bytes(mark.as_ref().try_into().unwrap())
}

/// One behind what a mark covers; that of a snapshot of nothing is empty.
pub(crate) fn end_of(mark: Option<&Bytes>) -> u64 {
    mark.filter(|mark| !mark.is_empty()).map_or(0, |mark| index_of(mark) + 1)
}

/// Carries out an operation of the log and waits until it is on disk.
pub(crate) fn done(operation: impl FnOnce(Flushed)) -> Result<(), Error> {
    let (sender, receiver) = mpsc::channel();
    operation(Box::new(move |result| drop(sender.send(result))));
    receiver.recv_timeout(PATIENCE).expect("the log answers")
}

/// All there is in a log.
pub(crate) fn read_all(log: &Log) -> Vec<LogEntry> {
    let first = log.bounds().purged.map_or(0, |(purged, _)| purged + 1);
    log.read(first..u64::MAX, usize::MAX).unwrap()
}

/// Settings under which flushes happen only when asked for.
pub(crate) fn quiet() -> Settings {
    Settings {
        sled_cache_bytes: 8 << 20,
        flush_interval: Duration::from_secs(3_600),
        flush_bytes: usize::MAX,
    }
}

pub(crate) fn open(dir: &Path) -> Storage {
    Storage::open(dir, quiet()).unwrap()
}

/// Copies a data directory.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
