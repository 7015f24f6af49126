//! Keyspaces whose keys hold an execution, and what is kept of a history beside it.

use super::key::{Key, KeyReader, NewestFirst};
use super::keyspace;
use crate::keyspace::Keyspace;
use domain::channel::EventKind;
use domain::delivery::Delivery;
use domain::execution::{Diagnosis, DueItem, Execution, ResponseBody};
use domain::id::{DeliveryId, ExecutionId, JobId, NodeId};
use domain::shard::ShardId;
use domain::time::Timestamp;

/// Kinds of what is due, as a key has them.
const FIRING: u8 = 1;
const EXECUTION: u8 = 2;
const DELIVERY: u8 = 3;

/// By job, newest first.
impl Key for ExecutionId {
    fn write(&self, out: &mut Vec<u8>) {
        (self.job, NewestFirst(self.at), !self.sequence).write(out);
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        let (job, NewestFirst(at), sequence): (_, _, u16) = Key::read(reader)?;
        Some(Self { at, sequence: !sequence, job })
    }
}

keyspace!(
    /// The history of each job, newest first.
    Executions, 0x40, "executions", ExecutionId => Execution
);
keyspace!(
    /// What targets answered, apart from the history so that listing it stays cheap.
    ResponseBodies, 0x41, "response_bodies", ExecutionId => ResponseBody
);
keyspace!(
    /// The due index: everything that waits for a claim, by shard and instant.
    Due, 0x42, "due", DueKey => ()
);
keyspace!(
    /// What each node's process holds, so that it is found when the process is gone.
    Claims, 0x43, "claims", (NodeId, ExecutionId) => ()
);
keyspace!(
    /// What an assistant made of failed executions.
    Diagnoses, 0x45, "diagnoses", ExecutionId => Diagnosis
);
keyspace!(
    /// How many executions each job has in each hour, newest first: a page deep in a long history is found by
    /// adding up hours instead of reading what lies before it.
    ExecutionHours, 0x47, "execution_hours", JobHour => u64
);
keyspace!(
    /// Messages on their way to channels.
    Deliveries, 0x50, "deliveries", DeliveryId => Delivery
);
keyspace!(
    /// What each node's process is delivering, so that it is found when the process is gone.
    DeliveryClaims, 0x51, "delivery_claims", (NodeId, DeliveryId) => ()
);

impl Executions {
    /// The executions of `job` before `until`, as a byte range.
    #[must_use]
    pub fn before(job: JobId, until: Timestamp) -> (Vec<u8>, Option<Vec<u8>>) {
        // Newest first: whatever lies before `until` sorts behind its last millisecond.
        let last = Timestamp::from_millis(until.as_millis().saturating_sub(1));
        let mut lower = Vec::new();
        (job, NewestFirst(last)).write(&mut lower);
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

impl Key for JobHour {
    fn write(&self, out: &mut Vec<u8>) {
        (self.job, !self.hour).write(out);
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        let (job, hour): (_, u64) = Key::read(reader)?;
        Some(Self { job, hour: !hour })
    }
}

impl Key for DeliveryId {
    fn write(&self, out: &mut Vec<u8>) {
        (self.execution, self.event.number(), self.channel).write(out);
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        let (execution, event, channel) = Key::read(reader)?;
        Some(Self { execution, event: EventKind::from_number(event)?, channel })
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

impl Key for DueKey {
    fn write(&self, out: &mut Vec<u8>) {
        (self.shard.0, self.due).write(out);
        match &self.item {
            DueItem::Firing(job) => (FIRING, *job).write(out),
            DueItem::Execution(id) => (EXECUTION, *id).write(out),
            DueItem::Delivery(id) => (DELIVERY, *id).write(out),
        }
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        let (shard, due, kind) = Key::read(reader)?;
        let item = match kind {
            FIRING => DueItem::Firing(Key::read(reader)?),
            EXECUTION => DueItem::Execution(Key::read(reader)?),
            DELIVERY => DueItem::Delivery(Key::read(reader)?),
            _ => return None,
        };
        Some(Self { shard: ShardId(shard), due, item })
    }
}
