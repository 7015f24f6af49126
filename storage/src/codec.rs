//! Values to bytes and back.
//!
//! A stored value is a version byte, the CRC-32 of the body (little-endian), and the body: `MessagePack` with
//! named fields, so that records tolerate fields they do not know and fields that are missing.

use crate::error::Error;
use crate::keyspace::Keyspace;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version this build writes.
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;
/// Room for most values, so that they are written without growing.
const ROOM_BYTES: usize = 512;

/// The body alone, for records that carry their own version and checksum.
///
/// # Panics
/// Never for the types of this workspace: writing to memory cannot fail, and none of them refuses to be
/// written.
#[must_use]
pub fn encode_body<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("plain data can always be written to memory")
}

/// The inverse of [`encode_body`].
///
/// # Errors
/// [`Error::Corrupt`] when the bytes are no such value.
pub fn decode_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    rmp_serde::from_slice(bytes)
        .map_err(|error| Error::Corrupt { keyspace: "body", reason: error.to_string() })
}

/// A value as it is stored.
#[must_use]
pub fn encode_value<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROOM_BYTES);
    bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
    rmp_serde::encode::write_named(&mut bytes, value).expect("plain data can always be written to memory");
    let checksum = crc32fast::hash(&bytes[HEADER_BYTES..]);
    bytes[1..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    // Many of them are kept.
    bytes.shrink_to_fit();
    bytes
}

/// What identifies a stored value among others of its length: its version and the checksum of its body.
pub(crate) fn header(value: &[u8]) -> &[u8] {
    value.get(..HEADER_BYTES).unwrap_or(value)
}

/// The inverse of [`encode_value`] for a value of keyspace `K`.
///
/// # Errors
/// [`Error::Corrupt`] or [`Error::TooNew`] when the bytes are no such value.
pub fn decode_value<K: Keyspace>(bytes: &[u8]) -> Result<K::Value, Error> {
    let corrupt = |reason: String| Error::Corrupt { keyspace: K::NAME, reason };
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(corrupt(format!("only {} bytes", bytes.len())));
    };
    let [version, a, b, c, d] = *header;
    if version != VERSION {
        return Err(Error::TooNew { keyspace: K::NAME, found: version });
    }
    if crc32fast::hash(body) != u32::from_le_bytes([a, b, c, d]) {
        return Err(corrupt("the checksum does not match".to_owned()));
    }
    rmp_serde::from_slice(body).map_err(|error| corrupt(error.to_string()))
}
