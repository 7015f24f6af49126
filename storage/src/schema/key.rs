//! Keys as bytes: their parts one after the other, numbers big-endian, so that bytes sort as keys do.

use domain::account::KeyHash;
use domain::id::{AccountId, ChannelId, JobId, KeyId, NodeId, SpaceId};
use domain::time::Timestamp;

/// A key, or a part of one.
pub(super) trait Key: Sized {
    /// Appends it.
    fn write(&self, out: &mut Vec<u8>);

    /// Takes it off the front of what is left; `None` when that is no such part.
    fn read(reader: &mut KeyReader<'_>) -> Option<Self>;
}

/// What is left to read of a key.
pub(super) struct KeyReader<'a>(pub(super) &'a [u8]);

impl KeyReader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    /// `value`, if nothing is left.
    pub(super) fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

macro_rules! number {
    ($($number:ty),*) => { $(
        impl Key for $number {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
                reader.take().map(Self::from_be_bytes)
            }
        }
    )* };
}
number!(u8, u16, u64);

macro_rules! id {
    ($($id:ident),*) => { $(
        impl Key for $id {
            fn write(&self, out: &mut Vec<u8>) {
                self.0.write(out);
            }

            fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
                Key::read(reader).map($id)
            }
        }
    )* };
}
id!(AccountId, ChannelId, JobId, KeyId, NodeId, SpaceId);

macro_rules! tuple {
    ($($part:ident),*) => {
        impl<$($part: Key),*> Key for ($($part,)*) {
            #[expect(non_snake_case, reason = "parts are named as their types")]
            fn write(&self, out: &mut Vec<u8>) {
                let ($($part,)*) = self;
                $($part.write(out);)*
            }

            fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
                Some(($($part::read(reader)?,)*))
            }
        }
    };
}
tuple!(A, B);
tuple!(A, B, C);

/// The key of what there is one of.
impl Key for () {
    fn write(&self, _: &mut Vec<u8>) {}

    fn read(_: &mut KeyReader<'_>) -> Option<Self> {
        Some(())
    }
}

impl Key for Timestamp {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_millis().write(out);
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        Key::read(reader).map(Self::from_millis)
    }
}

/// An instant the other way round: the complement sorts newest first.
pub(super) struct NewestFirst(pub(super) Timestamp);

impl Key for NewestFirst {
    fn write(&self, out: &mut Vec<u8>) {
        (!self.0.as_millis()).write(out);
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        u64::read(reader).map(|millis| Self(Timestamp::from_millis(!millis)))
    }
}

impl Key for KeyHash {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        reader.take()
    }
}

/// A text takes all that is left, so nothing can come after it.
impl Key for String {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn read(reader: &mut KeyReader<'_>) -> Option<Self> {
        Self::from_utf8(std::mem::take(&mut reader.0).to_vec()).ok()
    }
}
