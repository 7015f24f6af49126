//! How many requests an account may make a minute, over the whole cluster, and an address that shows no
//! credential, on this node.
//!
//! Windows are the minutes of the clock (documented). The leader counts; a node takes from it a few tokens at a
//! time and spends them by itself, so that most requests ask nobody. Tokens that a node took and did not spend
//! are lost with the window: an account never gets more than its limit, and at most a few per cent less. While
//! nobody can count, each node gives its share of the limit.

use crate::error::ApiError;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use domain::account::PlanLimits;
use domain::id::AccountId;
use domain::time::{Clock, Timestamp};
use parking_lot::Mutex;
use raft::{Cluster, Granted, Take};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Seconds of a window.
const WINDOW_SEC: u64 = 60;
/// A hundredth of the limit is taken at a time.
const BATCHES: u64 = 100;
/// How long the leader may take to answer by default.
const PATIENCE: Duration = Duration::from_millis(50);

/// What the headers of every answer say, with an example.
pub(crate) const HEADERS: [(&str, &str, u64); 3] = [
    ("X-RateLimit-Limit", "Your plan's requests-per-minute limit.", 300),
    ("X-RateLimit-Remaining", "Requests remaining in the current window.", 287),
    ("X-RateLimit-Reset", "Unix timestamp when the window resets.", 1_775_830_980),
];
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Which of an account's limits a request counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bucket {
    /// All requests but manual runs.
    General,
    /// Manual runs.
    Run,
}

/// Which of an address's limits a request without a credential counts against. They are apart, so that nobody who looks
/// at badges, or breaks into accounts, keeps others behind the same address from signing in or events from arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stranger {
    /// Shows a credential that is not valid, or none where one is needed.
    Unknown,
    /// Wants a credential.
    SigningIn,
    /// Looks at what is there for everybody.
    Looking,
    /// Brings events that bear a signature.
    Signed,
}

impl Stranger {
    fn per_minute(self) -> u64 {
        match self {
            Self::Unknown | Self::SigningIn => 600,
            // An image proxy asks for all who read a page.
            Self::Looking | Self::Signed => 6_000,
        }
    }
}

/// Limits of all accounts in place of their plans', as an operator may set them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests a minute; 0 switches the limit off, together with that of unknown addresses.
    pub general: Option<u64>,
    /// Manual runs a minute; 0 switches the limit off.
    pub run: Option<u64>,
    /// How long the leader may take to answer. A request waits no longer than this for its limit to be known.
    pub patience: Duration,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { general: None, run: None, patience: PATIENCE }
    }
}

/// Where a request stands in its window. `None` instead of it means that there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    limit: u64,
    remaining: u64,
    /// Seconds since the Unix epoch.
    reset: u64,
    /// Seconds until then; at least one.
    retry_after: u64,
    pub(crate) admitted: bool,
}

impl Standing {
    /// Shows the client where it stands.
    pub(crate) fn show(&self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(self.reset));
    }

    /// Refuses a request that is one too many.
    pub(crate) fn admit(&self) -> Result<(), ApiError> {
        if self.admitted { Ok(()) } else { Err(ApiError::RateLimited { retry_after: self.retry_after }) }
    }
}

/// What this node has of each limit.
type Entries = HashMap<(AccountId, Bucket), Arc<Entry>>;

/// Counts requests. Clones are the same.
#[derive(Clone)]
pub(crate) struct RateLimiter {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    limits: RateLimits,
    accounts: Arc<Mutex<Entries>>,
    addresses: Arc<Mutex<Counts<(Stranger, IpAddr)>>>,
}

/// What this node has of one limit of one account.
#[derive(Default)]
struct Entry {
    purse: Mutex<Purse>,
    /// Held by the one request that asks the leader for more; the others wait for what it brings.
    filling: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Default)]
struct Purse {
    window: u64,
    tokens: u64,
    /// What the leader had left when it was asked last.
    left: u64,
    /// Whether the leader had nothing left: it is not asked again in this window.
    empty: bool,
    /// What was spent without the leader, and is still to be paid back.
    alone: u64,
}

impl Purse {
    /// A token of `window`, if there is one.
    fn spend(&mut self, window: u64) -> Option<u64> {
        if self.window != window {
            *self = Self { window, ..Self::default() };
        }
        self.tokens = self.tokens.checked_sub(1)?;
        Some(self.tokens + self.left)
    }

    /// Takes what the leader has granted. What was spent without it is paid back first: a leader that was only slow
    /// must not be one more to take from.
    fn receive(&mut self, Granted { tokens, left }: Granted) {
        let owed = self.alone.min(tokens);
        self.alone -= owed;
        self.tokens += tokens - owed;
        self.left = left;
        self.empty = left == 0;
    }
}

/// Requests counted in one window.
struct Counts<K> {
    window: u64,
    counts: HashMap<K, u64>,
}

impl<K: Eq + Hash> Counts<K> {
    /// Counts one more; returns how many there were before it.
    fn count(&mut self, window: u64, key: K) -> u64 {
        if self.window != window {
            *self = Self { window, counts: HashMap::new() };
        }
        let count = self.counts.entry(key).or_default();
        *count += 1;
        *count - 1
    }
}

impl RateLimiter {
    pub(crate) fn new(cluster: Cluster, clock: Arc<dyn Clock>, limits: RateLimits) -> Self {
        let addresses = Counts { window: 0, counts: HashMap::new() };
        Self { cluster, clock, limits, accounts: Arc::default(), addresses: Arc::new(Mutex::new(addresses)) }
    }

    /// Counts a request of an account.
    pub(crate) async fn account(
        &self,
        account: AccountId,
        bucket: Bucket,
        plan: PlanLimits,
    ) -> Option<Standing> {
        let limit = match bucket {
            Bucket::General => self.limits.general.or(plan.general_per_minute),
            Bucket::Run => self.limits.run.or(plan.run_per_minute),
        }
        .filter(|limit| *limit > 0)?;
        let now = self.clock.now();
        let window = now.as_secs() / WINDOW_SEC;
        let entry = self.entry(account, bucket, window);
        let take = Take {
            account,
            bucket: match bucket {
                Bucket::General => 0,
                Bucket::Run => 1,
            },
            window,
            limit,
            wanted: (limit / BATCHES).max(1),
        };
        let spent = entry.purse.lock().spend(window);
        let remaining = match spent {
            Some(remaining) => Some(remaining),
            None => self.fill(&entry, take).await,
        };
        Some(standing(limit, remaining, now))
    }

    /// Gets tokens from the leader and spends one; what remains after it.
    async fn fill(&self, entry: &Entry, mut take: Take) -> Option<u64> {
        let _filling = entry.filling.lock().await;
        {
            // Whoever filled the purse meanwhile may have left something.
            let mut purse = entry.purse.lock();
            match purse.spend(take.window) {
                Some(remaining) => return Some(remaining),
                None if purse.empty => return None,
                None => take.wanted += purse.alone,
            }
        }
        let granted = self.cluster.take(take, self.limits.patience).await;
        let mut purse = entry.purse.lock();
        match granted {
            Some(granted) => {
                purse.receive(granted);
                purse.spend(take.window)
            }
            None => {
                let nodes = u64::try_from(self.cluster.status().members.len()).unwrap_or(1).max(1);
                let share = (take.limit / nodes).max(1);
                purse.alone += 1;
                share.checked_sub(purse.alone)
            }
        }
    }

    fn entry(&self, account: AccountId, bucket: Bucket, window: u64) -> Arc<Entry> {
        /// Entries at which those of past windows are dropped.
        const CROWD: usize = 10_000;
        let mut accounts = self.accounts.lock();
        if accounts.len() >= CROWD && !accounts.contains_key(&(account, bucket)) {
            accounts.retain(|_, entry| entry.purse.lock().window == window);
        }
        Arc::clone(accounts.entry((account, bucket)).or_default())
    }

    /// Counts a request that showed no valid credential, or needs none.
    pub(crate) fn address(&self, stranger: Stranger, address: IpAddr) -> Option<Standing> {
        if self.limits.general == Some(0) {
            return None;
        }
        let now = self.clock.now();
        let before = self.addresses.lock().count(now.as_secs() / WINDOW_SEC, (stranger, network(address)));
        let limit = stranger.per_minute();
        Some(standing(limit, limit.checked_sub(before + 1), now))
    }
}

/// What is counted as one: whoever has an IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    /// The part of an address that is given out.
    const PREFIX: u128 = u128::MAX << 64;
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & PREFIX).into()),
        address @ IpAddr::V4(_) => address,
    }
}

/// `remaining` is what is left after the request, or `None` when there was nothing for it.
fn standing(limit: u64, remaining: Option<u64>, now: Timestamp) -> Standing {
    let reset = (now.as_secs() / WINDOW_SEC + 1) * WINDOW_SEC;
    Standing {
        limit,
        remaining: remaining.unwrap_or(0),
        reset,
        retry_after: (reset - now.as_secs()).max(1),
        admitted: remaining.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_with_the_minute() {
        let standing = standing(60, Some(41), Timestamp::from_secs(1_775_830_968));
        assert_eq!((standing.reset, standing.retry_after), (1_775_830_980, 12));
        let mut headers = HeaderMap::new();
        standing.show(&mut headers);
        let text = |name| headers[name].to_str().unwrap().to_owned();
        assert_eq!([text(LIMIT), text(REMAINING), text(RESET)], ["60", "41", "1775830980"]);
        assert!(standing.admit().is_ok());
    }

    #[test]
    fn tokens_are_good_for_one_window() {
        let mut purse = Purse { window: 7, tokens: 2, left: 5, ..Purse::default() };
        assert_eq!(purse.spend(7), Some(6));
        assert_eq!(purse.spend(7), Some(5));
        assert_eq!(purse.spend(7), None);
        purse.tokens = 9;
        assert_eq!(purse.spend(8), None);
    }

    #[test]
    fn the_addresses_of_one_network_are_one() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    #[test]
    fn what_was_spent_without_the_leader_is_paid_back() {
        let mut purse = Purse { window: 7, alone: 2, ..Purse::default() };
        purse.receive(Granted { tokens: 1, left: 4 });
        assert_eq!((purse.alone, purse.tokens, purse.empty), (1, 0, false));
        purse.receive(Granted { tokens: 3, left: 1 });
        assert_eq!((purse.alone, purse.tokens, purse.empty), (0, 2, false));
        purse.receive(Granted { tokens: 1, left: 0 });
        assert_eq!((purse.alone, purse.tokens, purse.empty), (0, 3, true));
    }

    #[test]
    fn addresses_are_counted_by_the_minute() {
        let mut counts = Counts { window: 0, counts: HashMap::new() };
        assert_eq!([counts.count(1, 'a'), counts.count(1, 'a'), counts.count(1, 'b')], [0, 1, 0]);
        assert_eq!(counts.count(2, 'a'), 0);
        assert_eq!(counts.counts.len(), 1, "what is over takes no memory");
    }
}
