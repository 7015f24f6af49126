//! What a process costs, read from `/proc`.

use crate::Error;
use std::fs;

/// Clock ticks a second in `/proc/<pid>/stat`: `USER_HZ`, which Linux fixes at 100 for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// One look at a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Resident memory in KiB.
    pub rss_kib: u64,
    /// The most resident memory it has had since its start, in KiB.
    pub rss_peak_kib: u64,
    /// Processor time used since its start, user and system, in seconds.
    pub cpu_s: f64,
}

/// Looks at a process.
///
/// # Errors
/// [`Error::Io`] if it is gone, [`Error::Input`] if `/proc` is not as documented in proc(5).
pub fn of(pid: u32) -> Result<Usage, Error> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))
    };
    let refused = |name| Error::Input(format!("/proc/{pid}/{name} is not as expected"));
    let status = read("status")?;
    let kib_of = |field| kib(&status, field).ok_or_else(|| refused("status"));
    Ok(Usage {
        rss_kib: kib_of("VmRSS:")?,
        rss_peak_kib: kib_of("VmHWM:")?,
        cpu_s: cpu_s(&read("stat")?).ok_or_else(|| refused("stat"))?,
    })
}

fn kib(status: &str, field: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

fn cpu_s(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses and may hold spaces and parentheses itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc() {
        let status = "VmPeak:\t  9000 kB\nVmHWM:\t  2345 kB\nVmRSS:\t  1234 kB\nThreads:\t3\n";
        assert_eq!(kib(status, "VmRSS:"), Some(1_234));
        assert_eq!(kib(status, "VmHWM:"), Some(2_345));
        assert_eq!(kib("Name:\tx\n", "VmRSS:"), None);
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 9";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(cpu_s("42 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let usage = of(std::process::id()).unwrap();
        assert!(usage.rss_kib > 0 && usage.rss_peak_kib >= usage.rss_kib, "{usage:?}");
    }
}
