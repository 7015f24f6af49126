//! How many files and sockets the process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More than a node ever needs; beyond it some kernels do worse.
const FILES_MAX: u64 = 65_536;
/// What is assumed where the system does not say: what it commonly gives a process without being asked.
const FILES_ASSUMED: u64 = 1_024;

/// Asks for as many as the system grants without privileges: by default that is far more than it gives a process
/// that does not ask.
pub fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(FILES_MAX);
        if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// How many it may have.
#[must_use]
pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(FILES_ASSUMED, |(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_may_be_had() {
        raise_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(soft >= hard.min(FILES_MAX) && soft == limit(), "{soft} of {hard}");
    }
}
