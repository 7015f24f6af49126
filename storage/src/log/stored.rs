//! What the engine holds of the log: entries, and the records that say which of them count.

use super::{LogBounds, LogEntry};
use bytes::Bytes;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Engine, MessageExt};

/// The engine can hold many logs; ours is this one.
pub(super) const REGION: u64 = 1;
pub(super) const KEY_VOTE: &[u8] = b"vote";
pub(super) const KEY_COMMITTED: &[u8] = b"committed";
pub(super) const KEY_PURGED: &[u8] = b"purged";
/// The first entry as of when the log was last empty.
pub(super) const KEY_BEGIN: &[u8] = b"begin";
/// One behind the last entry that counts; 0 when there is none.
pub(super) const KEY_END: &[u8] = b"end";
/// The number of the synced flush of the state that was the newest when the log was purged.
pub(super) const KEY_COVERED: &[u8] = b"covered";
pub(super) struct Stored;

impl MessageExt for Stored {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }
}

pub(super) fn to_stored(entry: &LogEntry) -> BytesValue {
    let mut value = Vec::with_capacity(8 + entry.bytes.len());
    value.extend_from_slice(&entry.index.to_be_bytes());
    value.extend_from_slice(&entry.bytes);
    BytesValue { value, ..BytesValue::default() }
}

pub(super) fn from_stored(stored: BytesValue) -> LogEntry {
    let index = Stored::index(&stored);
    LogEntry { index, bytes: Bytes::from(stored.value).slice(8..) }
}

/// A record that is one number.
pub(super) fn number(engine: &Engine, key: &[u8]) -> Result<Option<u64>, &'static str> {
    engine
        .get(REGION, key)
        .map(|record| {
            record.try_into().map(u64::from_be_bytes).map_err(|_| "a record beside the log is damaged")
        })
        .transpose()
}

/// What the engine says about the log.
pub(super) fn recover(engine: &Engine) -> Result<LogBounds, &'static str> {
    let purged = match engine.get(REGION, KEY_PURGED) {
        Some(record) => {
            let (index, mark) = record.split_first_chunk().ok_or("the purge mark is too short")?;
            Some((u64::from_be_bytes(*index), Bytes::copy_from_slice(mark)))
        }
        None => None,
    };
    let stored = engine.first_index(REGION).zip(engine.last_index(REGION));
    let end = match (number(engine, KEY_END)?, stored) {
        (Some(end), _) => end,
        (None, None) => 0,
        (None, Some(_)) => return Err("there are entries, but no record of where they end"),
    };
    let begin = purged.as_ref().map_or(0, |(purged, _)| purged + 1);
    if end > begin {
        // The record is written together with the entries, so they can only be missing if something was damaged.
        let (first, last) = stored.ok_or("its entries are missing")?;
        if last + 1 < end {
            return Err("its last entries are missing");
        }
        let begun = number(engine, KEY_BEGIN)?.ok_or("there is no record of where it begins")?;
        if first > begin.max(begun) {
            return Err("its first entries are missing");
        }
    }
    let last = end.checked_sub(1).filter(|last| *last >= begin);
    Ok(LogBounds { purged, last })
}
