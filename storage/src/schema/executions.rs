//! Keyspaces whose keys hold an execution, and what is kept of a history beside it.

use super::{KeyReader, newest_first};
use crate::keyspace::Keyspace;
use domain::channel::EventKind;
use domain::delivery::Delivery;
use domain::execution::{Diagnosis, DueItem, Execution, ResponseBody};
use domain::id::{ChannelId, DeliveryId, ExecutionId, JobId, NodeId};
use domain::shard::ShardId;
use domain::time::Timestamp;

/// Bytes of an execution in a key.
const EXECUTION_BYTES: usize = 18;

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

/// A key that is an execution: by job, newest first.
macro_rules! by_execution {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $label:literal => $value:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Keyspace for $name {
            const PREFIX: u8 = $prefix;
            const NAME: &'static str = $label;
            type Key = ExecutionId;
            type Value = $value;

            fn encode_key(key: &ExecutionId, out: &mut Vec<u8>) {
                encode_execution(key, out);
            }

            fn decode_key(bytes: &[u8]) -> Option<ExecutionId> {
                decode_execution(bytes)
            }
        }
    };
}

by_execution!(
    /// The history of each job, newest first.
    Executions, 0x40, "executions" => Execution
);
by_execution!(
    /// What targets answered, apart from the history so that listing it stays cheap.
    ResponseBodies, 0x41, "response_bodies" => ResponseBody
);
by_execution!(
    /// What an assistant made of failed executions.
    Diagnoses, 0x45, "diagnoses" => Diagnosis
);

impl Executions {
    /// The executions of `job` before `until`, as a byte range.
    #[must_use]
    pub fn before(job: JobId, until: Timestamp) -> (Vec<u8>, Option<Vec<u8>>) {
        let job_key = job.0.to_be_bytes();
        // Newest first: whatever lies before `until` sorts behind its last millisecond.
        let last = Timestamp::from_millis(until.as_millis().saturating_sub(1));
        let lower = [&job_key[..], &newest_first(last)].concat();
        (lower, job.0.checked_add(1).map(|next| next.to_be_bytes().to_vec()))
    }
}

/// An hour of a job's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobHour {
    /// The job.
    pub job: JobId,
    /// Hours since the Unix epoch.
    pub hour: u64,
}

impl JobHour {
    /// The hour in which an execution stands.
    #[must_use]
    pub fn of(id: &ExecutionId) -> Self {
        Self { job: id.job, hour: id.at.as_secs() / 3_600 }
    }

    /// What sorts right before the executions of this hour: the last that the hour after it could hold.
    #[must_use]
    pub fn threshold(self) -> ExecutionId {
        let at = Timestamp::from_secs((self.hour + 1).saturating_mul(3_600));
        ExecutionId { at, sequence: 0, job: self.job }
    }
}

/// How many executions each job has in each hour, newest first: a page deep in a long history is found by
/// adding up hours instead of reading what lies before it.
#[derive(Clone, Copy, Debug)]
pub struct ExecutionHours;

impl Keyspace for ExecutionHours {
    const PREFIX: u8 = 0x47;
    const NAME: &'static str = "execution_hours";
    type Key = JobHour;
    type Value = u64;

    fn encode_key(key: &JobHour, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.job.0.to_be_bytes());
        out.extend_from_slice(&(!key.hour).to_be_bytes());
    }

    fn decode_key(bytes: &[u8]) -> Option<JobHour> {
        let mut reader = KeyReader(bytes);
        let key = JobHour { job: JobId(reader.u64()?), hour: !reader.u64()? };
        reader.end(key)
    }
}

fn encode_delivery(id: &DeliveryId, out: &mut Vec<u8>) {
    encode_execution(&id.execution, out);
    out.push(id.event.number());
    out.extend_from_slice(&id.channel.0.to_be_bytes());
}

fn decode_delivery(bytes: &[u8]) -> Option<DeliveryId> {
    let (execution, rest) = bytes.split_at_checked(EXECUTION_BYTES)?;
    let mut reader = KeyReader(rest);
    let event = EventKind::from_number(reader.u8()?)?;
    let channel = ChannelId(reader.u64()?);
    reader.end(DeliveryId { execution: decode_execution(execution)?, event, channel })
}

/// Messages on their way to channels.
#[derive(Clone, Copy, Debug)]
pub struct Deliveries;

impl Keyspace for Deliveries {
    const PREFIX: u8 = 0x50;
    const NAME: &'static str = "deliveries";
    type Key = DeliveryId;
    type Value = Delivery;

    fn encode_key(key: &DeliveryId, out: &mut Vec<u8>) {
        encode_delivery(key, out);
    }

    fn decode_key(bytes: &[u8]) -> Option<DeliveryId> {
        decode_delivery(bytes)
    }
}

/// What each node's process is delivering, so that it is found when the process is gone.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryClaims;

impl Keyspace for DeliveryClaims {
    const PREFIX: u8 = 0x51;
    const NAME: &'static str = "delivery_claims";
    type Key = (NodeId, DeliveryId);
    type Value = ();

    fn encode_key((node, id): &Self::Key, out: &mut Vec<u8>) {
        out.extend_from_slice(&node.0.to_be_bytes());
        encode_delivery(id, out);
    }

    fn decode_key(bytes: &[u8]) -> Option<Self::Key> {
        let (node, rest) = bytes.split_first_chunk()?;
        Some((NodeId(u64::from_be_bytes(*node)), decode_delivery(rest)?))
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
            DueItem::Delivery(id) => {
                out.push(3);
                encode_delivery(id, out);
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
            3 => DueItem::Delivery(decode_delivery(reader.0)?),
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
