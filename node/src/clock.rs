//! The one place that reads the wall clock, and the one place that sleeps by it.

use domain::time::{Clock, Timestamp};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A clock that loops can wait by.
pub trait Sleeper: Clock {
    /// Ends once [`Clock::elapsed`] has gone on by `duration`, to about a millisecond.
    ///
    /// The wall clock may step meanwhile: who waits for an instant looks at the clock again.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::elapsed`] starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH.plus(since_epoch)
    }

    fn elapsed(&self) -> Duration {
        // Monotonic, and it goes on while the process is stopped.
        self.start.elapsed()
    }
}

impl Sleeper for SystemClock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock for tests: it starts at a chosen instant and runs faster than the real one.
#[derive(Clone, Copy, Debug)]
pub struct ScaledClock {
    factor: u32,
    start: Timestamp,
    real_start: Instant,
}

impl ScaledClock {
    /// A clock that shows `start` now and runs `factor` times as fast as real time (0 counts as 1).
    #[must_use]
    pub fn new(factor: u32, start: Timestamp) -> Self {
        Self { factor: factor.max(1), start, real_start: Instant::now() }
    }
}

impl Clock for ScaledClock {
    fn now(&self) -> Timestamp {
        self.start.plus(self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.real_start.elapsed().saturating_mul(self.factor)
    }
}

impl Sleeper for ScaledClock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration / self.factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_shows_a_time_after_this_was_written() {
        let clock = SystemClock::new();
        assert!(clock.now() > Timestamp::from_secs(1_760_000_000));
        let earlier = clock.elapsed();
        assert!(clock.elapsed() >= earlier);
    }

    #[tokio::test]
    async fn sleeping_takes_as_long_by_the_clock_as_asked() {
        let start = Timestamp::from_secs(1_000);
        let clock = ScaledClock::new(1_000, start);
        let before = clock.elapsed();
        clock.sleep(Duration::from_secs(20)).await;
        assert!(clock.elapsed() - before >= Duration::from_secs(20));
        assert!(clock.now().since(start) >= Duration::from_secs(20));
        let clock = SystemClock::new();
        clock.sleep(Duration::from_millis(3)).await;
        assert!(clock.elapsed() >= Duration::from_millis(3));
    }
}
