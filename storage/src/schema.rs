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
//! | 0x05 | `secrets` | the one | [`Secrets`] |
//! | 0x06 | `restores` | the one | [`Restore`] |
//! | 0x07 | `removed_nodes` | node | [`RemovedNode`] |
//! | 0x10 | `accounts` | account | [`Account`] |
//! | 0x11 | `api_keys` | key hash | [`ApiKey`] |
//! | 0x12 | `account_keys` | account, key | key hash |
//! | 0x13 | `users` | email in lower case | [`User`] |
//! | 0x14 | `ended_sessions` | expiry, session | `()` |
//! | 0x15 | `customers` | customer of the payment service | account |
//! | 0x20 | `spaces` | space | [`Space`] |
//! | 0x21 | `account_spaces` | account, space | `()` |
//! | 0x22 | `unaligned_spaces` | space | `()` |
//! | 0x28 | `channels` | account, channel | [`Channel`] |
//! | 0x30 | `jobs` | job | [`Job`] |
//! | 0x31 | `job_states` | job | [`JobState`] |
//! | 0x32 | `account_jobs` | account, newest first, job | `()` |
//! | 0x33 | `space_jobs` | space, job | `()` |
//! | 0x34 | `account_usage` | account | [`Usage`] |
//! | 0x35 | `timetables` | job, last change first | [`Timetable`] |
//! | 0x40 | `executions` | job, newest first | [`Execution`](domain::execution::Execution) |
//! | 0x41 | `response_bodies` | job, newest first | [`ResponseBody`](domain::execution::ResponseBody) |
//! | 0x42 | `due` | shard, instant, item | `()` |
//! | 0x43 | `claims` | node, execution | `()` |
//! | 0x44 | `deleted_jobs` | job | `()` |
//! | 0x45 | `diagnoses` | job, newest first | [`Diagnosis`](domain::execution::Diagnosis) |
//! | 0x46 | `pulses` | job | [`Pulse`] |
//! | 0x47 | `execution_hours` | job, hour, newest first | number of executions |
//! | 0x50 | `deliveries` | delivery | [`Delivery`](domain::delivery::Delivery) |
//! | 0x51 | `delivery_claims` | node, delivery | `()` |
//! | 0x60 | `answers` | account, hash of the idempotency key | [`Answer`] |
//! | 0x61 | `answers_by_expiry` | expiry, account, hash of the idempotency key | `()` |

mod executions; // keys that hold an execution
mod key; // keys as bytes
mod records; // values that are no noun of the domain

pub use executions::{
    Claims, Deliveries, DeliveryClaims, Diagnoses, Due, DueKey, ExecutionHours, Executions, JobHour,
    ResponseBodies,
};
pub use records::{Answer, Meta, RemovedNode, Restore, RestoreStage, Secrets, Session, Usage};

use crate::keyspace::Keyspace;
use domain::account::{Account, ApiKey, KeyHash, User};
use domain::channel::Channel;
use domain::id::{AccountId, ChannelId, JobId, KeyId, NodeId, SpaceId};
use domain::job::{Job, JobState};
use domain::ledger::Timetable;
use domain::node::Node;
use domain::pulse::Pulse;
use domain::shard::ShardMap;
use domain::space::Space;
use domain::time::Timestamp;
use key::{Key, KeyReader, NewestFirst};

/// A keyspace: its prefix, its name, and its key and value.
macro_rules! keyspace {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $label:literal, $key:ty => $value:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Keyspace for $name {
            const PREFIX: u8 = $prefix;
            const NAME: &'static str = $label;
            type Key = $key;
            type Value = $value;

            fn encode_key(key: &$key, out: &mut Vec<u8>) {
                Key::write(key, out);
            }

            fn decode_key(bytes: &[u8]) -> Option<$key> {
                let mut reader = KeyReader(bytes);
                let key = Key::read(&mut reader)?;
                reader.end(key)
            }
        }
    };
}
use keyspace;

keyspace!(
    /// The one [`Meta`] record.
    Metas, 0x01, "meta", () => Meta
);
keyspace!(
    /// The proposals of each node's process that were applied.
    Sessions, 0x02, "sessions", NodeId => Session
);
keyspace!(
    /// The members that have registered.
    Nodes, 0x03, "nodes", NodeId => Node
);
keyspace!(
    /// The one [`ShardMap`].
    ShardMaps, 0x04, "shard_map", () => ShardMap
);
keyspace!(
    /// The one [`Secrets`].
    SecretsOf, 0x05, "secrets", () => Secrets
);
keyspace!(
    /// The backup that is being restored, while one is.
    Restores, 0x06, "restores", () => Restore
);

keyspace!(
    /// The nodes that were removed from the cluster. Their ids are never used again.
    RemovedNodes, 0x07, "removed_nodes", NodeId => RemovedNode
);

keyspace!(
    /// The accounts.
    Accounts, 0x10, "accounts", AccountId => Account
);
keyspace!(
    /// API keys by the hash of the key, which is what a request presents.
    ApiKeys, 0x11, "api_keys", KeyHash => ApiKey
);
keyspace!(
    /// The API keys of each account.
    AccountKeys, 0x12, "account_keys", (AccountId, KeyId) => KeyHash
);
keyspace!(
    /// Who signs in with a password, by email in lower case.
    Users, 0x13, "users", String => User
);
keyspace!(
    /// Session tokens that were given up before they expired: when that is, and the token's id.
    EndedSessions, 0x14, "ended_sessions", (Timestamp, u64) => ()
);
keyspace!(
    /// The account of each customer of the payment service.
    Customers, 0x15, "customers", String => AccountId
);

keyspace!(
    /// The spaces.
    Spaces, 0x20, "spaces", SpaceId => Space
);
keyspace!(
    /// The spaces of each account.
    AccountSpaces, 0x21, "account_spaces", (AccountId, SpaceId) => ()
);
keyspace!(
    /// Spaces that were paused or resumed, and whose jobs' cursors have not all followed yet.
    UnalignedSpaces, 0x22, "unaligned_spaces", SpaceId => ()
);
keyspace!(
    /// The alert channels of each account.
    Channels, 0x28, "channels", (AccountId, ChannelId) => Channel
);

keyspace!(
    /// What people set.
    Jobs, 0x30, "jobs", JobId => Job
);
keyspace!(
    /// How far each job has got.
    JobStates, 0x31, "job_states", JobId => JobState
);
keyspace!(
    /// The jobs of an account, newest first.
    AccountJobs, 0x32, "account_jobs", AccountJob => ()
);
keyspace!(
    /// The jobs of a space.
    SpaceJobs, 0x33, "space_jobs", (SpaceId, JobId) => ()
);
keyspace!(
    /// What each account has.
    AccountUsage, 0x34, "account_usage", AccountId => Usage
);
keyspace!(
    /// What made each job due, from one change of its configuration to the next. In front of the histories that it
    /// explains, so that whoever reads all records in their order knows it by then.
    Timetables, 0x35, "timetables", JobChange => Timetable
);
keyspace!(
    /// Jobs that are gone but whose history is still to be removed.
    DeletedJobs, 0x44, "deleted_jobs", JobId => ()
);
keyspace!(
    /// How each job has been doing lately, apart from its state because a claim does not need it.
    Pulses, 0x46, "pulses", JobId => Pulse
);

keyspace!(
    /// Answers to requests that named themselves, by account and the hash of the name.
    Answers, 0x60, "answers", (AccountId, KeyHash) => Answer
);
keyspace!(
    /// The same in the order in which they are forgotten.
    AnswersByExpiry, 0x61, "answers_by_expiry", (Timestamp, AccountId, KeyHash) => ()
);

/// A change of when a job is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobChange {
    /// The job.
    pub job: JobId,
    /// Which of its changes, from 0. One under which nothing came due gives its number to the next.
    pub number: u64,
}

impl Key for JobChange {
    fn write(&self, out: &mut Vec<u8>) {
        (self.job, !self.number).write(out);
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        let (job, number): (_, u64) = Key::read(reader)?;
        Some(Self { job, number: !number })
    }
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

impl Key for AccountJob {
    fn write(&self, out: &mut Vec<u8>) {
        (self.account, NewestFirst(self.created_at), self.job).write(out);
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        let (account, NewestFirst(created_at), job) = Key::read(reader)?;
        Some(Self { account, created_at, job })
    }
}
