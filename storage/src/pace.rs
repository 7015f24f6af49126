//! Work in the background that leaves the machine and its disk to others for half of the time: what is applied and fired
//! meanwhile counts in milliseconds, and nobody waits for this.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Work between two rests: long enough that rests cost little, short enough that nobody notices it.
const WORK: Duration = Duration::from_millis(5);
/// The longest rest, for work that was itself held up.
const REST_MAX: Duration = Duration::from_millis(50);
/// Bytes of a file that wait to be written. A sync of the log may have to wait for all of them.
const UNSYNCED_MAX: usize = 4 * 1024 * 1024;

/// When to rest.
#[derive(Debug)]
pub(crate) struct Pace {
    since: Instant,
}

impl Pace {
    pub(crate) fn begin() -> Self {
        Self { since: Instant::now() }
    }

    /// Rests, once it is time for it, for as long as was worked; not while `is_urgent`. Blocks.
    #[expect(clippy::disallowed_methods, reason = "the point is to do nothing")]
    pub(crate) fn rest(&mut self, is_urgent: impl FnOnce() -> bool) {
        let worked = self.since.elapsed();
        if worked >= WORK {
            if is_urgent() {
                return;
            }
            std::thread::sleep(worked.min(REST_MAX));
            self.since = Instant::now();
        }
    }
}

/// A file that goes to the disk as it is written, instead of all at once at its end.
#[derive(Debug)]
pub(crate) struct Trickle {
    file: File,
    unsynced: usize,
}

impl Trickle {
    pub(crate) fn new(file: File) -> Self {
        Self { file, unsynced: 0 }
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Write for Trickle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= UNSYNCED_MAX {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_after_work_and_only_then() {
        let mut pace = Pace { since: Instant::now() + Duration::from_secs(3_600) };
        pace.rest(|| false);
        assert!(pace.since > Instant::now(), "there was nothing to rest from");
        let began = Instant::now();
        let mut pace = Pace { since: began.checked_sub(WORK).unwrap() };
        pace.rest(|| true);
        assert!(pace.since < began, "somebody waits");
        pace.rest(|| false);
        assert!(began.elapsed() >= WORK && pace.since >= began + WORK);
    }
}
