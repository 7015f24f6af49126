//! What processes spend on what they do.

use cluster_tests::{Error, cluster::Cluster, usage};
use std::time::Instant;

/// The processor time of some processes, together, from some moment on.
#[derive(Debug)]
pub(crate) struct Cost {
    since: Instant,
    pids: Vec<u32>,
    before_s: f64,
}

impl Cost {
    /// Of the nodes that run, from now on.
    pub(crate) fn begin(cluster: &Cluster) -> Result<Self, Error> {
        Self::of(pids(cluster)?)
    }

    /// Of these processes, from now on.
    pub(crate) fn of(pids: impl IntoIterator<Item = u32>) -> Result<Self, Error> {
        let pids: Vec<_> = pids.into_iter().collect();
        Ok(Self { since: Instant::now(), before_s: spent(&pids)?, pids })
    }

    /// Seconds of processor time since then, for each thousand of `count`.
    pub(crate) fn per_thousand(&self, count: usize) -> Result<f64, Error> {
        Ok(per_thousand(self.seconds()?, count))
    }

    /// Since then, in percent of one core.
    pub(crate) fn percent(&self) -> Result<f64, Error> {
        Ok(self.seconds()? / self.since.elapsed().as_secs_f64() * 100.0)
    }

    fn seconds(&self) -> Result<f64, Error> {
        Ok(spent(&self.pids)? - self.before_s)
    }
}

fn per_thousand(seconds: f64, count: usize) -> f64 {
    seconds / f64::from(u32::try_from(count.max(1)).unwrap_or(u32::MAX)) * 1_000.0
}

fn spent(pids: &[u32]) -> Result<f64, Error> {
    pids.iter().map(|pid| Ok(usage::of(*pid)?.cpu_s)).sum()
}

/// The processes of the nodes that run.
pub(crate) fn pids(cluster: &Cluster) -> Result<Vec<u32>, Error> {
    cluster.running().into_iter().map(|id| pid(cluster, id)).collect()
}

/// The process of a node that must run.
pub(crate) fn pid(cluster: &Cluster, id: u64) -> Result<u32, Error> {
    cluster.pid(id).ok_or_else(|| Error::Input(format!("node {id} does not run")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::thousandths;

    #[test]
    fn a_thousand_has_its_share() {
        let per_thousand = |seconds, count| thousandths(per_thousand(seconds, count));
        assert_eq!(per_thousand(2.0, 4_000), 0.5);
        assert_eq!(per_thousand(1.0, 64_000), 0.016);
        assert_eq!(per_thousand(8.1, 76_000), 0.107);
        assert_eq!(per_thousand(1.0, 0), 1_000.0);
    }
}
