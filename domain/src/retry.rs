//! How long to wait before the next attempt.

use crate::job::{Retry, RetryPolicy};
use crate::limits;
use std::time::Duration;

/// The wait before the `n`-th retry (1, 2, …), or `None` when there is none.
///
/// Fixed waits the base delay, linear `n` times, exponential `2^(n-1)` times it; at most 24 h.
#[must_use]
pub fn delay(retry: Retry, n: u32) -> Option<Duration> {
    if n == 0 || n > retry.max {
        return None;
    }
    let factor = match retry.policy {
        RetryPolicy::None => return None,
        RetryPolicy::Fixed => 1,
        RetryPolicy::Linear => u64::from(n),
        RetryPolicy::Exponential => 1u64.checked_shl(n - 1).unwrap_or(u64::MAX),
    };
    let secs = u64::from(retry.delay_sec).saturating_mul(factor);
    Some(Duration::from_secs(secs).min(limits::RETRY_WAIT_MAX))
}

/// As [`delay`], for a target that has `asked` to be left alone for so long: not before that, and at most 24 h later.
#[must_use]
pub fn delay_asked(retry: Retry, n: u32, asked: Option<Duration>) -> Option<Duration> {
    let own = delay(retry, n)?;
    Some(asked.map_or(own, |asked| own.max(asked)).min(limits::RETRY_WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: RetryPolicy, max: u32, delay_sec: u32, expected_secs: &[Option<u64>]) {
        let retry = Retry { policy, max, delay_sec };
        let waits: Vec<_> = (1..=expected_secs.len())
            .map(|n| delay(retry, u32::try_from(n).unwrap()).map(|wait| wait.as_secs()))
            .collect();
        assert_eq!(waits, expected_secs);
    }

    #[test]
    fn waits_grow_as_documented() {
        check(RetryPolicy::None, 3, 60, &[None, None]);
        check(RetryPolicy::Fixed, 3, 60, &[Some(60), Some(60), Some(60), None]);
        check(RetryPolicy::Linear, 3, 60, &[Some(60), Some(120), Some(180), None]);
        check(RetryPolicy::Exponential, 4, 30, &[Some(30), Some(60), Some(120), Some(240), None]);
    }

    #[test]
    fn no_wait_is_longer_than_a_day() {
        check(RetryPolicy::Exponential, 2, 86_400, &[Some(86_400), Some(86_400)]);
        check(RetryPolicy::Linear, 2, 80_000, &[Some(80_000), Some(86_400)]);
        assert_eq!(
            delay(Retry { policy: RetryPolicy::Exponential, max: u32::MAX, delay_sec: 1 }, 200),
            Some(limits::RETRY_WAIT_MAX)
        );
    }

    #[test]
    fn a_target_may_ask_for_a_longer_wait_and_for_no_other() {
        let retry = Retry { policy: RetryPolicy::Fixed, max: 1, delay_sec: 60 };
        let secs = |n, asked: Option<u64>| {
            delay_asked(retry, n, asked.map(Duration::from_secs)).map(|wait| wait.as_secs())
        };
        assert_eq!(secs(1, None), Some(60));
        assert_eq!(secs(1, Some(5)), Some(60));
        assert_eq!(secs(1, Some(300)), Some(300));
        assert_eq!(secs(1, Some(10_000_000)), Some(86_400));
        assert_eq!(secs(2, Some(300)), None, "it makes no retry where there is none");
    }

    #[test]
    fn a_base_delay_of_zero_retries_at_once() {
        check(RetryPolicy::Exponential, 2, 0, &[Some(0), Some(0), None]);
    }
}
