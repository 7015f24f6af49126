//! What has a line in the file, and what a line must do.

use raft::codec::{decode_proposal, encode_proposal};
use raft::command::{Proposal, Reply};
use std::fmt::Debug;
use storage::Keyspace;
use storage::codec::{decode_body, decode_value, encode_body, encode_value};

/// Where the body of a record begins that is `MessagePack`, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Behind a version and a checksum.
    Checked,
    /// Behind a version.
    Versioned,
    /// At once.
    Bare,
    /// It is no `MessagePack`.
    Other,
}

pub(crate) type Decode = Box<dyn Fn(&[u8]) -> Result<bool, String>>;

/// Something with a line in the file.
pub(crate) struct Line {
    pub(crate) name: String,
    /// The bytes that this build writes, unless it no longer writes these.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Whether bytes read as the sample; an error when they cannot be read.
    pub(crate) decode: Decode,
    pub(crate) body: Body,
}

impl Line {
    pub(crate) fn new<T: PartialEq + 'static>(
        name: impl Into<String>,
        body: Body,
        sample: T,
        encode: impl Fn(&T) -> Vec<u8>,
        decode: impl Fn(&[u8]) -> Result<T, String> + 'static,
    ) -> Self {
        let bytes = Some(encode(&sample));
        let decode: Decode = Box::new(move |bytes| Ok(decode(bytes)? == sample));
        Self { name: name.into(), bytes, decode, body }
    }

    /// The line of an earlier form: read, but no longer written.
    pub(crate) fn readable(self) -> Self {
        Self { bytes: None, ..self }
    }

    pub(crate) fn value<K: Keyspace<Value: PartialEq + 'static>>(label: &str, sample: K::Value) -> Self {
        let decode = |bytes: &[u8]| decode_value::<K>(bytes).map_err(text);
        Self::new(format!("value/{}/{label}", K::NAME), Body::Checked, sample, encode_value, decode)
    }

    pub(crate) fn key<K: Keyspace<Key: PartialEq + 'static>>(label: &str, sample: K::Key) -> Self {
        let encode = |key: &K::Key| {
            let mut bytes = vec![K::PREFIX];
            K::encode_key(key, &mut bytes);
            bytes
        };
        let decode = |bytes: &[u8]| match bytes.split_first() {
            Some((prefix, key)) if *prefix == K::PREFIX => {
                K::decode_key(key).ok_or_else(|| "no key".to_owned())
            }
            Some(_) | None => Err("no prefix".to_owned()),
        };
        Self::new(format!("key/{}/{label}", K::NAME), Body::Other, sample, encode, decode)
    }

    pub(crate) fn proposal(name: String, sample: Proposal) -> Self {
        let encode = |proposal: &Proposal| encode_proposal(proposal).to_vec();
        Self::new(name, Body::Versioned, sample, encode, |bytes| decode_proposal(bytes).map_err(text))
    }

    pub(crate) fn reply(name: String, sample: Vec<Reply>) -> Self {
        Self::new(name, Body::Bare, sample, encode_body, |bytes| decode_body(bytes).map_err(text))
    }
}

pub(crate) fn text(error: impl Debug) -> String {
    format!("{error:?}")
}
