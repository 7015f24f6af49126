//! Identifiers: how they are written, read and ordered.
//!
//! Ids are minted at the edge, before a command is proposed; nothing in this crate mints one.
//! The text form is the documented prefix and base62 digits of fixed width in ASCII order
//! (`0-9A-Za-z`), so that texts sort as the numbers do.

use crate::channel::EventKind;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A text that is no id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id")]
pub struct InvalidId;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Digits that hold any 64-bit number.
const WIDTH_64: usize = 11;
/// Digits that hold any 128-bit number.
const WIDTH_128: usize = 22;

fn to_base62(mut number: u128, width: usize) -> String {
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        // The remainder is below 62, so it indexes the table.
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

fn from_base62(text: &str, width: usize) -> Result<u128, InvalidId> {
    if text.len() != width {
        return Err(InvalidId);
    }
    text.bytes().try_fold(0u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'a'..=b'z' => byte - b'a' + 36,
            _ => return Err(InvalidId),
        };
        number.checked_mul(62).and_then(|n| n.checked_add(u128::from(digit))).ok_or(InvalidId)
    })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// What the text form starts with.
            pub const PREFIX: &'static str = $prefix;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Self::PREFIX)?;
                f.write_str(&to_base62(u128::from(self.0), WIDTH_64))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let digits = text.strip_prefix(Self::PREFIX).ok_or(InvalidId)?;
                let number = from_base62(digits, WIDTH_64)?;
                u64::try_from(number).map(Self).map_err(|_| InvalidId)
            }
        }
    };
}

id!(
    /// Names an account.
    AccountId,
    "acc_"
);
id!(
    /// Names a job. Random, so that jobs spread evenly over the shards.
    JobId,
    "job_"
);
id!(
    /// Names a space.
    SpaceId,
    "sp_"
);
id!(
    /// Names an alert channel.
    ChannelId,
    "ch_"
);
id!(
    /// Names an API key (not the key itself).
    KeyId,
    "key_"
);

/// Names a member of the cluster: 1, 2, 3, …, as given by `--node-id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names one execution of one job.
///
/// Derived, never minted, for a scheduled firing: every node that sees this due instant builds the
/// same id, so claiming the same firing twice changes nothing. It holds the job, so that an
/// execution is found by its id alone, and starts with the instant, so that ids sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u64, u16, u64)", into = "(u64, u16, u64)")]
pub struct ExecutionId {
    /// The due instant of a scheduled firing, or when a manual run was asked for. 48 bits.
    pub at: Timestamp,
    /// 0 for a scheduled firing, [`ExecutionId::SKIPPED`] for a record of firings that were
    /// missed, anything else for a manual run.
    pub sequence: u16,
    /// The job that runs.
    pub job: JobId,
}

impl ExecutionId {
    /// What the text form starts with.
    pub const PREFIX: &'static str = "exec_";
    /// The sequence of a record of missed firings.
    pub const SKIPPED: u16 = u16::MAX;
    /// The latest instant an id can hold (the year 10889).
    pub const AT_MAX: Timestamp = Timestamp::from_millis((1 << 48) - 1);

    /// The execution of `job` that is due at `at`.
    #[must_use]
    pub fn scheduled(job: JobId, at: Timestamp) -> Self {
        Self { at: at.min(Self::AT_MAX), sequence: 0, job }
    }

    /// The record of firings missed from `first` on.
    #[must_use]
    pub fn skipped(job: JobId, first: Timestamp) -> Self {
        Self { at: first.min(Self::AT_MAX), sequence: Self::SKIPPED, job }
    }

    /// A run that somebody asked for at `at`; `salt` tells several of one millisecond apart.
    #[must_use]
    pub fn manual(job: JobId, at: Timestamp, salt: u16) -> Self {
        Self { at: at.min(Self::AT_MAX), sequence: salt % (Self::SKIPPED - 1) + 1, job }
    }

    /// Whether it names a scheduled firing.
    #[must_use]
    pub fn is_scheduled(self) -> bool {
        self.sequence == 0
    }

    /// The id as one number that sorts as the id does.
    #[must_use]
    pub fn as_u128(self) -> u128 {
        u128::from(self.at.as_millis()) << 80 | u128::from(self.sequence) << 64 | u128::from(self.job.0)
    }

    /// The inverse of [`ExecutionId::as_u128`].
    #[must_use]
    pub fn from_u128(number: u128) -> Self {
        // Each cast keeps just the bits of its part.
        Self {
            at: Timestamp::from_millis((number >> 80) as u64),
            sequence: (number >> 64) as u16,
            job: JobId(number as u64),
        }
    }
}

impl From<(u64, u16, u64)> for ExecutionId {
    fn from((at, sequence, job): (u64, u16, u64)) -> Self {
        Self { at: Timestamp::from_millis(at), sequence, job: JobId(job) }
    }
}

impl From<ExecutionId> for (u64, u16, u64) {
    fn from(id: ExecutionId) -> Self {
        (id.at.as_millis(), id.sequence, id.job.0)
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::PREFIX)?;
        f.write_str(&to_base62(self.as_u128(), WIDTH_128))
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ExecutionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = text.strip_prefix(Self::PREFIX).ok_or(InvalidId)?;
        from_base62(digits, WIDTH_128).map(Self::from_u128)
    }
}

/// Names one message to one channel about one execution, and the event it tells of.
///
/// Derived, never minted: recording an outcome twice makes the same deliveries. It starts with the
/// execution, so that ids sort by time and show their job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryId {
    /// What it tells of.
    pub execution: ExecutionId,
    /// Which event.
    pub event: EventKind,
    /// To whom.
    pub channel: ChannelId,
}

impl DeliveryId {
    /// What the text form starts with.
    pub const PREFIX: &'static str = "evt_";
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::PREFIX)?;
        f.write_str(&to_base62(self.execution.as_u128(), WIDTH_128))?;
        f.write_str(&to_base62(u128::from(self.event.number()), 1))?;
        f.write_str(&to_base62(u128::from(self.channel.0), WIDTH_64))
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_read_back_and_sort_as_the_ids(a: u64, b: u64) {
            let (x, y) = (JobId(a), JobId(b));
            prop_assert_eq!(x.to_string().parse(), Ok(x));
            prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
        }

        #[test]
        fn execution_ids_read_back_and_sort_by_time(a in 0u64..1 << 48, b in 0u64..1 << 48, s: u16, job: u64) {
            let id = |at| ExecutionId { at: Timestamp::from_millis(at), sequence: s, job: JobId(job) };
            prop_assert_eq!(id(a).to_string().parse(), Ok(id(a)));
            prop_assert_eq!(a.cmp(&b), id(a).to_string().cmp(&id(b).to_string()));
        }

        #[test]
        fn manual_ids_never_meet_the_other_kinds(salt: u16) {
            let id = ExecutionId::manual(JobId(7), Timestamp::from_secs(9), salt);
            prop_assert!(id.sequence != 0 && id.sequence != ExecutionId::SKIPPED);
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,40}") {
            let _ = text.parse::<JobId>();
            let _ = text.parse::<ExecutionId>();
        }
    }

    #[test]
    fn ids_look_as_documented() {
        assert_eq!(JobId(0).to_string(), "job_00000000000");
        assert_eq!(JobId(u64::MAX).to_string(), "job_LygHa16AHYF");
        assert_eq!("job_zzzzzzzzzzz".parse::<JobId>(), Err(InvalidId), "more than 64 bits");
        assert_eq!("sp_00000000000".parse::<JobId>(), Err(InvalidId));
        assert_eq!("job_1".parse::<JobId>(), Err(InvalidId));
    }
}
