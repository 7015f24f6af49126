//! Keyspaces: typed parts of the one tree that holds the state.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A part of the state with its own types of keys and values.
pub trait Keyspace {
    /// The first byte of each of its keys. Never reused.
    const PREFIX: u8;
    /// For messages.
    const NAME: &'static str;
    /// What names a value.
    type Key;
    /// What is stored.
    type Value: Serialize + DeserializeOwned;

    /// Appends bytes that sort as the keys sort.
    fn encode_key(key: &Self::Key, out: &mut Vec<u8>);

    /// The inverse; `None` when the bytes are no key.
    fn decode_key(bytes: &[u8]) -> Option<Self::Key>;
}

/// A whole key: prefix byte and key bytes.
pub(crate) fn full_key<K: Keyspace>(key: &K::Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    bytes.push(K::PREFIX);
    K::encode_key(key, &mut bytes);
    bytes
}
