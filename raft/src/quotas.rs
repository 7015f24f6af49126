//! How much of its limits each account has taken in the present window of time, counted for the whole cluster.
//!
//! The leader counts, in memory: a limit on requests is not worth a write to the log. A new leader starts from
//! zero, so an account may get up to twice its limit in the window in which leadership changed.

use domain::id::AccountId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is taken, and from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// Whose limit.
    pub account: AccountId,
    /// Which of its limits.
    pub bucket: u8,
    /// The number of the window; rises with time.
    pub window: u64,
    /// What the account may have in a window.
    pub limit: u64,
    /// How much of it is wanted.
    pub wanted: u64,
}

/// What was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// At most what was wanted.
    pub tokens: u64,
    /// What nobody has taken yet.
    pub left: u64,
}

/// The counts. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quotas {
    taken: Arc<Mutex<Taken>>,
}

/// Tokens by window, account and bucket.
type Taken = BTreeMap<(u64, AccountId, u8), u64>;

impl Quotas {
    pub(crate) fn take(&self, take: Take) -> Granted {
        let Take { account, bucket, window, limit, wanted } = take;
        let mut taken = self.taken.lock();
        // Clocks differ a little, so the window before the newest one is still asked for; what is older is over.
        let newest = taken.last_key_value().map_or(window, |((newest, ..), _)| window.max(*newest));
        *taken = taken.split_off(&(newest.saturating_sub(1), AccountId(0), 0));
        let count = taken.entry((window, account, bucket)).or_default();
        let tokens = wanted.min(limit.saturating_sub(*count));
        *count += tokens;
        Granted { tokens, left: limit.saturating_sub(*count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(quotas: &Quotas, account: u64, window: u64, wanted: u64) -> (u64, u64) {
        let take = Take { account: AccountId(account), bucket: 0, window, limit: 10, wanted };
        let Granted { tokens, left } = quotas.take(take);
        (tokens, left)
    }

    #[test]
    fn no_more_than_the_limit_is_given_in_a_window() {
        let quotas = Quotas::default();
        assert_eq!(take(&quotas, 1, 7, 6), (6, 4));
        assert_eq!(take(&quotas, 1, 7, 6), (4, 0));
        assert_eq!(take(&quotas, 1, 7, 1), (0, 0));
        assert_eq!(take(&quotas, 2, 7, 1), (1, 9), "another account has its own");
        assert_eq!(take(&quotas, 1, 8, 1), (1, 9), "another window begins anew");
    }

    #[test]
    fn windows_that_are_over_take_no_memory() {
        let quotas = Quotas::default();
        for window in 0..100 {
            take(&quotas, 1, window, 1);
        }
        assert_eq!(quotas.taken.lock().len(), 2);
        assert_eq!(take(&quotas, 1, 98, 1), (1, 8), "a clock that is a little behind");
    }
}
