//! THE TABLE: what is on disk.
//!
//! All keyspaces share one tree, told apart by the prefix byte of their keys. Prefixes are never
//! reused, even after a keyspace is retired. Numbers in keys are big-endian, so that a range of keys is
//! the query.
//!
//! | prefix | keyspace | key | value |
//! |---|---|---|---|
//! | 0x01 | `meta` | which | [`Meta`] record |
//! | 0x02 | `sessions` | node | the proposals of its process that were applied |
//! | 0x03 | `nodes` | node | [`Node`] |
//! | 0x04 | `shard_map` | the one | [`ShardMap`] |
//! | 0x10 | `accounts` | account | [`Account`] |
//! | 0x11 | `api_keys` | key hash | [`ApiKey`] |
//! | 0x20 | `spaces` | space | [`Space`] |
//! | 0x30 | `jobs` | job | [`Job`] |
//! | 0x31 | `job_states` | job | [`JobState`] |
//! | 0x32 | `account_jobs` | account, newest first, job | `()` |
//! | 0x33 | `space_jobs` | space, job | `()` |
//! | 0x34 | `account_usage` | account | [`Usage`] |
//! | 0x40 | `executions` | job, newest first | [`Execution`] |
//! | 0x41 | `response_bodies` | job, newest first | [`ResponseBody`] |
//! | 0x42 | `due` | shard, instant, item | `()` |
//! | 0x43 | `claims` | node, execution | `()` |
//! | 0x44 | `deleted_jobs` | job | `()` |

use crate::keyspace::Keyspace;
use domain::account::{Account, ApiKey, KeyHash};
use domain::execution::{DueItem, Execution, ResponseBody};
use domain::id::{AccountId, ExecutionId, JobId, NodeId, SpaceId};
use domain::job::{Job, JobState};
use domain::node::{Node, SessionId};
use domain::shard::{ShardId, ShardMap};
use domain::space::Space;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Facts about the state as a whole, in one record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The latest instant a command was applied at; the state's clock never runs backwards.
    #[serde(default)]
    pub now: Timestamp,
    /// The last incarnation given out.
    #[serde(default)]
    pub last_incarnation: u64,
    /// Whether there has been a first account.
    #[serde(default)]
    pub bootstrapped: bool,
    /// Jobs that are not paused themselves.
    #[serde(default)]
    pub jobs_active: u64,
    /// Jobs that are.
    #[serde(default)]
    pub jobs_paused: u64,
}

/// The proposals of one process that have been applied, and what was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The process.
    pub session: SessionId,
    /// Everything below is over and forgotten.
    pub acknowledged_below: u64,
    /// The encoded replies by sequence.
    pub replies: BTreeMap<u64, Vec<u8>>,
}

/// What an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// How many jobs.
    #[serde(default)]
    pub jobs: u64,
}

/// A key that is one 64-bit number.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $label:literal, $key:ident => $value:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Keyspace for $name {
            const PREFIX: u8 = $prefix;
            const NAME: &'static str = $label;
            type Key = $key;
            type Value = $value;

            fn encode_key(key: &$key, out: &mut Vec<u8>) {
                out.extend_from_slice(&key.0.to_be_bytes());
            }

            fn decode_key(bytes: &[u8]) -> Option<$key> {
                bytes.try_into().ok().map(u64::from_be_bytes).map($key)
            }
        }
    };
}

numbered!(
    /// The proposals of each node's process that were applied.
    Sessions, 0x02, "sessions", NodeId => Session
);
numbered!(
    /// The members that have registered.
    Nodes, 0x03, "nodes", NodeId => Node
);
numbered!(
    /// The accounts.
    Accounts, 0x10, "accounts", AccountId => Account
);
numbered!(
    /// The spaces.
    Spaces, 0x20, "spaces", SpaceId => Space
);
numbered!(
    /// What people set.
    Jobs, 0x30, "jobs", JobId => Job
);
numbered!(
    /// How far each job has got.
    JobStates, 0x31, "job_states", JobId => JobState
);
numbered!(
    /// What each account has.
    AccountUsage, 0x34, "account_usage", AccountId => Usage
);
numbered!(
    /// Jobs that are gone but whose history is still to be removed.
    DeletedJobs, 0x44, "deleted_jobs", JobId => ()
);

/// A keyspace of one record.
macro_rules! single {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $label:literal, $value:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Keyspace for $name {
            const PREFIX: u8 = $prefix;
            const NAME: &'static str = $label;
            type Key = ();
            type Value = $value;

            fn encode_key((): &(), _: &mut Vec<u8>) {}

            fn decode_key(bytes: &[u8]) -> Option<()> {
                bytes.is_empty().then_some(())
            }
        }
    };
}

single!(
    /// The one [`Meta`] record.
    Metas, 0x01, "meta", Meta
);
single!(
    /// The one [`ShardMap`].
    ShardMaps, 0x04, "shard_map", ShardMap
);

/// API keys by the hash of the key, which is what a request presents.
#[derive(Clone, Copy, Debug)]
pub struct ApiKeys;

impl Keyspace for ApiKeys {
    const PREFIX: u8 = 0x11;
    const NAME: &'static str = "api_keys";
    type Key = KeyHash;
    type Value = ApiKey;

    fn encode_key(key: &KeyHash, out: &mut Vec<u8>) {
        out.extend_from_slice(key);
    }

    fn decode_key(bytes: &[u8]) -> Option<KeyHash> {
        bytes.try_into().ok()
    }
}

/// Takes big-endian numbers off the front of a key.
struct KeyReader<'a>(&'a [u8]);

impl KeyReader<'_> {
    fn u64(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    fn u16(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    fn u8(&mut self) -> Option<u8> {
        let (number, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*number)
    }

    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// Newest first: the complement sorts the other way round.
fn newest_first(at: Timestamp) -> [u8; 8] {
    (!at.as_millis()).to_be_bytes()
}

/// Where a job stands among its account's: newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountJob {
    /// The account.
    pub account: AccountId,
    /// When the job was made.
    pub created_at: Timestamp,
    /// The job.
    pub job: JobId,
}

/// The jobs of an account, newest first.
#[derive(Clone, Copy, Debug)]
pub struct AccountJobs;

impl Keyspace for AccountJobs {
    const PREFIX: u8 = 0x32;
    const NAME: &'static str = "account_jobs";
    type Key = AccountJob;
    type Value = ();

    fn encode_key(key: &AccountJob, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.account.0.to_be_bytes());
        out.extend_from_slice(&newest_first(key.created_at));
        out.extend_from_slice(&key.job.0.to_be_bytes());
    }

    fn decode_key(bytes: &[u8]) -> Option<AccountJob> {
        let mut reader = KeyReader(bytes);
        let account = AccountId(reader.u64()?);
        let created_at = Timestamp::from_millis(!reader.u64()?);
        let job = JobId(reader.u64()?);
        reader.end(AccountJob { account, created_at, job })
    }
}

/// The jobs of a space.
#[derive(Clone, Copy, Debug)]
pub struct SpaceJobs;

impl Keyspace for SpaceJobs {
    const PREFIX: u8 = 0x33;
    const NAME: &'static str = "space_jobs";
    type Key = (SpaceId, JobId);
    type Value = ();

    fn encode_key((space, job): &Self::Key, out: &mut Vec<u8>) {
        out.extend_from_slice(&space.0.to_be_bytes());
        out.extend_from_slice(&job.0.to_be_bytes());
    }

    fn decode_key(bytes: &[u8]) -> Option<Self::Key> {
        let mut reader = KeyReader(bytes);
        let key = (SpaceId(reader.u64()?), JobId(reader.u64()?));
        reader.end(key)
    }
}

fn encode_execution(id: &ExecutionId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.job.0.to_be_bytes());
    out.extend_from_slice(&newest_first(id.at));
    out.extend_from_slice(&(!id.sequence).to_be_bytes());
}

fn decode_execution(bytes: &[u8]) -> Option<ExecutionId> {
    let mut reader = KeyReader(bytes);
    let job = JobId(reader.u64()?);
    let at = Timestamp::from_millis(!reader.u64()?);
    let sequence = !reader.u16()?;
    reader.end(ExecutionId { at, sequence, job })
}

/// The history of each job, newest first.
#[derive(Clone, Copy, Debug)]
pub struct Executions;

impl Keyspace for Executions {
    const PREFIX: u8 = 0x40;
    const NAME: &'static str = "executions";
    type Key = ExecutionId;
    type Value = Execution;

    fn encode_key(key: &ExecutionId, out: &mut Vec<u8>) {
        encode_execution(key, out);
    }

    fn decode_key(bytes: &[u8]) -> Option<ExecutionId> {
        decode_execution(bytes)
    }
}

/// What targets answered, apart from the history so that listing it stays cheap.
#[derive(Clone, Copy, Debug)]
pub struct ResponseBodies;

impl Keyspace for ResponseBodies {
    const PREFIX: u8 = 0x41;
    const NAME: &'static str = "response_bodies";
    type Key = ExecutionId;
    type Value = ResponseBody;

    fn encode_key(key: &ExecutionId, out: &mut Vec<u8>) {
        encode_execution(key, out);
    }

    fn decode_key(bytes: &[u8]) -> Option<ExecutionId> {
        decode_execution(bytes)
    }
}

/// Something to claim, and when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DueKey {
    /// Whose owner claims it.
    pub shard: ShardId,
    /// When it is due.
    pub due: Timestamp,
    /// What is due.
    pub item: DueItem,
}

impl DueKey {
    /// The entry of `item` in the due index.
    #[must_use]
    pub fn new(due: Timestamp, item: DueItem) -> Self {
        Self { shard: ShardId::of(item.job()), due, item }
    }

    /// The keys of `shard` due before `until`, as a byte range of [`Due`].
    #[must_use]
    pub fn range(shard: ShardId, from: Timestamp, until: Timestamp) -> (Vec<u8>, Vec<u8>) {
        let bound = |at: Timestamp| [&[shard.0][..], &at.as_millis().to_be_bytes()].concat();
        (bound(from), bound(until))
    }
}

/// The due index: everything that waits for a claim, by shard and instant.
#[derive(Clone, Copy, Debug)]
pub struct Due;

impl Keyspace for Due {
    const PREFIX: u8 = 0x42;
    const NAME: &'static str = "due";
    type Key = DueKey;
    type Value = ();

    fn encode_key(key: &DueKey, out: &mut Vec<u8>) {
        out.push(key.shard.0);
        out.extend_from_slice(&key.due.as_millis().to_be_bytes());
        match &key.item {
            DueItem::Firing(job) => {
                out.push(1);
                out.extend_from_slice(&job.0.to_be_bytes());
            }
            DueItem::Execution(id) => {
                out.push(2);
                encode_execution(id, out);
            }
        }
    }

    fn decode_key(bytes: &[u8]) -> Option<DueKey> {
        let mut reader = KeyReader(bytes);
        let shard = ShardId(reader.u8()?);
        let due = Timestamp::from_millis(reader.u64()?);
        let item = match reader.u8()? {
            1 => {
                let job = JobId(reader.u64()?);
                reader.end(DueItem::Firing(job))?
            }
            2 => DueItem::Execution(decode_execution(reader.0)?),
            _ => return None,
        };
        Some(DueKey { shard, due, item })
    }
}

/// What each node's process holds, so that it is found when the process is gone.
#[derive(Clone, Copy, Debug)]
pub struct Claims;

impl Keyspace for Claims {
    const PREFIX: u8 = 0x43;
    const NAME: &'static str = "claims";
    type Key = (NodeId, ExecutionId);
    type Value = ();

    fn encode_key((node, id): &Self::Key, out: &mut Vec<u8>) {
        out.extend_from_slice(&node.0.to_be_bytes());
        encode_execution(id, out);
    }

    fn decode_key(bytes: &[u8]) -> Option<Self::Key> {
        let (node, rest) = bytes.split_first_chunk()?;
        Some((NodeId(u64::from_be_bytes(*node)), decode_execution(rest)?))
    }
}
