//! The clock of a simulated process: virtual time, as wrong as the plan wants it.

use super::gate::Gate;
use crate::clock::Sleeper;
use domain::time::{Clock, Timestamp};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What it is when a run begins: 2026-06-01T00:00:00Z.
pub(super) const START: Timestamp = Timestamp::from_secs(1_780_272_000);

/// How wrong the wall clock of a machine is. Clones are the same clock.
#[derive(Clone, Default)]
pub(super) struct Skew(Arc<AtomicI64>);

impl Skew {
    pub(super) fn set(&self, millis: i64) {
        self.0.store(millis, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Adds a number of milliseconds that may be negative.
pub(super) fn shifted(at: Timestamp, millis: i64) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_add_signed(millis))
}

#[derive(Clone)]
pub(super) struct NodeClock {
    pub(super) run_start: Instant,
    pub(super) process_start: Instant,
    pub(super) skew: Skew,
    pub(super) gate: Gate,
    /// For planted bugs: every sleep is that much longer.
    pub(super) oversleep: Duration,
}

impl Clock for NodeClock {
    fn now(&self) -> Timestamp {
        shifted(START.plus(self.run_start.elapsed()), self.skew.get())
    }

    fn elapsed(&self) -> Duration {
        self.process_start.elapsed()
    }
}

impl Sleeper for NodeClock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let gate = self.gate.clone();
        let sleep = tokio::time::sleep(duration + self.oversleep);
        Box::pin(async move {
            sleep.await;
            gate.pass().await;
        })
    }
}
