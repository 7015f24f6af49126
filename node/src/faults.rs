//! Faults that a test puts into this process while it runs: a wall clock that is wrong, a disk that fails or is slow, and
//! mistakes made on purpose. Only builds with the feature `faults` have any of it; see `cluster-tests`.
//!
//! They stand in a file that is read again and again:
//!
//! ```toml
//! clock_offset_ms = -3600000
//! [points]
//! "log_fd::sync::err" = "sleep(200)"
//! ```
//!
//! The points are those of raft-engine, `state::flush`, and what is called `bug::…`; what they may be told is said by the
//! crate `fail`.

use crate::clock::{Sleeper, SystemClock};
use domain::schedule::Schedule;
use domain::time::{Clock, Timestamp};
use raft::command::ClaimTarget;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How often the file is read.
const INTERVAL: Duration = Duration::from_millis(10);

/// Whether a test wants this mistake made.
pub(crate) fn is_planted(bug: &str) -> bool {
    fail::eval(bug, |_| ()).is_some()
}

/// `bug::missed`: the claim of an instant that leaves out the one after it.
pub(crate) fn skipping(claim: ClaimTarget, schedule: &Schedule) -> ClaimTarget {
    match claim {
        ClaimTarget::Firing { job, generation, scheduled_at, next_run_at } => {
            let next_run_at = next_run_at.and_then(|next| schedule.next_after(next));
            ClaimTarget::Firing { job, generation, scheduled_at, next_run_at }
        }
        claim => claim,
    }
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Faults {
    #[serde(default)]
    clock_offset_ms: i64,
    #[serde(default)]
    points: BTreeMap<String, String>,
}

/// The clock of this machine, and what a test adds to its wall time. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct FaultyClock {
    inner: SystemClock,
    offset_ms: Arc<AtomicI64>,
}

impl FaultyClock {
    /// Follows the faults in a file, which need not be there, for as long as the process lives.
    #[must_use]
    pub fn following(path: PathBuf) -> Self {
        let clock = Self { inner: SystemClock::new(), offset_ms: Arc::default() };
        let offset_ms = Arc::clone(&clock.offset_ms);
        let mut known = Faults::default();
        // The first reading counts from the first instant on.
        apply(&path, &mut known, &offset_ms);
        std::thread::spawn(move || {
            loop {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a file that may change at any time is looked at again and again"
                )]
                std::thread::sleep(INTERVAL);
                apply(&path, &mut known, &offset_ms);
            }
        });
        clock
    }
}

fn apply(path: &Path, known: &mut Faults, offset_ms: &AtomicI64) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let faults: Faults = match toml::from_str(&text) {
        Ok(faults) => faults,
        Err(error) => {
            tracing::error!(%error, "the file of faults cannot be read");
            return;
        }
    };
    if faults == *known {
        return;
    }
    tracing::warn!(?faults, "faults changed");
    offset_ms.store(faults.clock_offset_ms, Ordering::SeqCst);
    for gone in known.points.keys().filter(|point| !faults.points.contains_key(*point)) {
        fail::remove(gone);
    }
    for (point, actions) in &faults.points {
        if let Err(error) = fail::cfg(point.as_str(), actions) {
            tracing::error!(point, error, "no such action");
        }
    }
    *known = faults;
}

impl Clock for FaultyClock {
    fn now(&self) -> Timestamp {
        let offset_ms = self.offset_ms.load(Ordering::SeqCst);
        Timestamp::from_millis(self.inner.now().as_millis().saturating_add_signed(offset_ms))
    }

    fn elapsed(&self) -> Duration {
        self.inner.elapsed()
    }
}

impl Sleeper for FaultyClock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.inner.sleep(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("faults.toml");
        let (mut known, offset_ms) = (Faults::default(), AtomicI64::new(0));
        apply(&path, &mut known, &offset_ms);
        assert_eq!(known, Faults::default());

        let is_set = || fail::eval("bug::of-this-test", |_| ()).is_some();
        std::fs::write(&path, "clock_offset_ms = -5000\n[points]\n\"bug::of-this-test\" = \"return\"\n")
            .unwrap();
        apply(&path, &mut known, &offset_ms);
        assert_eq!(offset_ms.load(Ordering::SeqCst), -5_000);
        assert!(is_set());

        std::fs::write(&path, "clock_offset_ms = nonsense").unwrap();
        apply(&path, &mut known, &offset_ms);
        assert!(is_set(), "half a file changes nothing");

        std::fs::remove_file(&path).unwrap();
        apply(&path, &mut known, &offset_ms);
        assert_eq!(offset_ms.load(Ordering::SeqCst), 0);
        assert!(!is_set());
    }
}
