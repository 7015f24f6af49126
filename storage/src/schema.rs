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
mod key_reader; // numbers off a key
mod records; // values that are no noun of the domain

pub use executions::{
    Claims, Deliveries, DeliveryClaims, Diagnoses, Due, DueKey, ExecutionHours, Executions, JobHour,
    ResponseBodies,
};
pub use records::{Answer, Meta, Secrets, Session, Usage};

use crate::keyspace::Keyspace;
use domain::account::{Account, ApiKey, KeyHash, User};
use domain::channel::Channel;
use domain::id::{AccountId, ChannelId, JobId, KeyId, NodeId, SpaceId};
use domain::job::{Job, JobState};
use domain::node::Node;
use domain::pulse::Pulse;
use domain::shard::ShardMap;
use domain::space::Space;
use domain::time::Timestamp;
use key_reader::KeyReader;

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
    /// Spaces that were paused or resumed, and whose jobs' cursors have not all followed yet.
    UnalignedSpaces, 0x22, "unaligned_spaces", SpaceId => ()
);
numbered!(
    /// How each job has been doing lately, apart from its state because a claim does not need it.
    Pulses, 0x46, "pulses", JobId => Pulse
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

single!(
    /// The one [`Secrets`].
    SecretsOf, 0x05, "secrets", Secrets
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

/// A key of two 64-bit numbers.
macro_rules! paired {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $label:literal, $first:ident, $second:ident => $value:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Keyspace for $name {
            const PREFIX: u8 = $prefix;
            const NAME: &'static str = $label;
            type Key = ($first, $second);
            type Value = $value;

            fn encode_key((first, second): &Self::Key, out: &mut Vec<u8>) {
                out.extend_from_slice(&first.0.to_be_bytes());
                out.extend_from_slice(&second.0.to_be_bytes());
            }

            fn decode_key(bytes: &[u8]) -> Option<Self::Key> {
                let mut reader = KeyReader(bytes);
                let key = ($first(reader.u64()?), $second(reader.u64()?));
                reader.end(key)
            }
        }
    };
}

paired!(
    /// The API keys of each account.
    AccountKeys, 0x12, "account_keys", AccountId, KeyId => KeyHash
);
paired!(
    /// The spaces of each account.
    AccountSpaces, 0x21, "account_spaces", AccountId, SpaceId => ()
);
paired!(
    /// The alert channels of each account.
    Channels, 0x28, "channels", AccountId, ChannelId => Channel
);
paired!(
    /// The jobs of a space.
    SpaceJobs, 0x33, "space_jobs", SpaceId, JobId => ()
);

/// A key that is a text.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $label:literal => $value:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Keyspace for $name {
            const PREFIX: u8 = $prefix;
            const NAME: &'static str = $label;
            type Key = String;
            type Value = $value;

            fn encode_key(key: &String, out: &mut Vec<u8>) {
                out.extend_from_slice(key.as_bytes());
            }

            fn decode_key(bytes: &[u8]) -> Option<String> {
                String::from_utf8(bytes.to_vec()).ok()
            }
        }
    };
}

named!(
    /// Who signs in with a password, by email in lower case.
    Users, 0x13, "users" => User
);
named!(
    /// The account of each customer of the payment service.
    Customers, 0x15, "customers" => AccountId
);

/// Session tokens that were given up before they expired.
#[derive(Clone, Copy, Debug)]
pub struct EndedSessions;

impl Keyspace for EndedSessions {
    const PREFIX: u8 = 0x14;
    const NAME: &'static str = "ended_sessions";
    /// When the token expires, and its id.
    type Key = (Timestamp, u64);
    type Value = ();

    fn encode_key((expires_at, session): &Self::Key, out: &mut Vec<u8>) {
        out.extend_from_slice(&expires_at.as_millis().to_be_bytes());
        out.extend_from_slice(&session.to_be_bytes());
    }

    fn decode_key(bytes: &[u8]) -> Option<Self::Key> {
        let mut reader = KeyReader(bytes);
        let key = (Timestamp::from_millis(reader.u64()?), reader.u64()?);
        reader.end(key)
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

/// Answers to requests that named themselves, by account and the hash of the name.
#[derive(Clone, Copy, Debug)]
pub struct Answers;

impl Keyspace for Answers {
    const PREFIX: u8 = 0x60;
    const NAME: &'static str = "answers";
    type Key = (AccountId, KeyHash);
    type Value = Answer;

    fn encode_key((account, name): &Self::Key, out: &mut Vec<u8>) {
        out.extend_from_slice(&account.0.to_be_bytes());
        out.extend_from_slice(name);
    }

    fn decode_key(bytes: &[u8]) -> Option<Self::Key> {
        let mut reader = KeyReader(bytes);
        let key = (AccountId(reader.u64()?), reader.hash()?);
        reader.end(key)
    }
}

/// The same in the order in which they are forgotten.
#[derive(Clone, Copy, Debug)]
pub struct AnswersByExpiry;

impl Keyspace for AnswersByExpiry {
    const PREFIX: u8 = 0x61;
    const NAME: &'static str = "answers_by_expiry";
    type Key = (Timestamp, AccountId, KeyHash);
    type Value = ();

    fn encode_key((expires_at, account, name): &Self::Key, out: &mut Vec<u8>) {
        out.extend_from_slice(&expires_at.as_millis().to_be_bytes());
        Answers::encode_key(&(*account, *name), out);
    }

    fn decode_key(bytes: &[u8]) -> Option<Self::Key> {
        let mut reader = KeyReader(bytes);
        let key = (Timestamp::from_millis(reader.u64()?), AccountId(reader.u64()?), reader.hash()?);
        reader.end(key)
    }
}
