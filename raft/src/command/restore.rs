//! Commands that restore a backup into an empty cluster. Each says which backup it means, so that what is left of one attempt
//! never gets into another.

use bytes::Bytes;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A backup is to be restored: from now on nothing else changes. Refused unless the cluster is empty. Sent again it changes
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginRestore {
    /// The number of the backup, by what is in it.
    pub backup: u64,
    /// How many parts it has, 1 or more.
    pub parts: u64,
    /// The backup whose half-done restoration gives way to this one. What it has brought goes.
    #[serde(default)]
    pub replaces: Option<u64>,
}

/// The next part of a backup comes in. Refused as stale when it is another one's turn.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePart {
    /// Of which backup.
    pub backup: u64,
    /// Which part, from 0.
    pub number: u64,
    /// The part as it stands in the file.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    pub block: Bytes,
}

/// Hashes and secrets of channels are in there.
impl fmt::Debug for RestorePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestorePart")
            .field("backup", &self.backup)
            .field("number", &self.number)
            .field("block_bytes", &self.block.len())
            .finish()
    }
}

/// A bounded step of a stage that needs no part: removes what was there, or makes indexes of what has come in. The last one
/// ends the restoration. Refused as stale while parts are to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRestore {
    /// Of which backup.
    pub backup: u64,
}

/// As bytes, and not as a list of numbers.
fn write_bytes<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    struct Whole;

    impl Visitor<'_> for Whole {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
            Ok(Bytes::copy_from_slice(bytes))
        }
    }

    deserializer.deserialize_bytes(Whole)
}
