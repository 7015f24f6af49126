//! By which replicas are compared.

use crate::codec;
use std::fmt;

/// A running hash over bytes: FNV-1a, 64 bits (Fowler, Noll, Vo), the same on every machine and in every release. Enough to
/// tell replicas apart that differ by accident.
///
/// Each of its steps can be undone. Two digests that differ therefore differ for as long as the same bytes follow.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(u64);

impl Digest {
    /// One that goes on from where another was.
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// As a number, to be kept.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// Goes on over `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Goes on over a change of one key, which `None` takes away. Of the value it looks at its length and its header, which
    /// holds the checksum of the rest.
    pub(crate) fn update_write(&mut self, key: &[u8], value: Option<&[u8]>) {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.update(&length(key));
        self.update(key);
        if let Some(value) = value {
            self.update(&length(value));
            self.update(codec::header(value));
        } else {
            // As no value is that short.
            self.update(&length(&[]));
        }
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

/// 16 hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode_value;
    use std::collections::BTreeSet;

    /// A key, and its value.
    type Write = (&'static str, Option<Vec<u8>>);

    fn of(bytes: &[u8]) -> Digest {
        let mut digest = Digest::default();
        digest.update(bytes);
        digest
    }

    #[test]
    fn it_is_the_published_function() {
        assert_eq!(of(b"").to_string(), "cbf29ce484222325");
        assert_eq!(of(b"a").to_string(), "af63dc4c8601ec8c");
        assert_eq!(of(b"foobar").to_string(), "85944171f73967e8");
    }

    #[test]
    fn it_goes_on_from_where_it_was() {
        let mut digest = Digest::from_u64(of(b"foo").to_u64());
        digest.update(b"bar");
        assert_eq!(digest, of(b"foobar"));
    }

    #[test]
    fn writes_that_differ_anywhere_have_other_digests() {
        let value = |text: &str| Some(encode_value(text));
        let writes: [&[Write]; 9] = [
            &[],
            &[("a", None)],
            &[("b", None)],
            &[("a", value(""))],
            &[("a", value("x"))],
            &[("a", value("y"))],
            &[("ax", value(""))],
            &[("a", value("x")), ("b", None)],
            &[("b", None), ("a", value("x"))],
        ];
        let digests = writes.iter().map(|writes| {
            let mut digest = Digest::default();
            for (key, value) in *writes {
                digest.update_write(key.as_bytes(), value.as_deref());
            }
            digest.to_u64()
        });
        assert_eq!(digests.collect::<BTreeSet<_>>().len(), writes.len());
    }
}
