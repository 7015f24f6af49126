//! What the nodes spend on what they do.

use cluster_tests::{Error, cluster::Cluster, usage};

/// The nodes' processor time from some moment on.
#[derive(Debug)]
pub(crate) struct Cost {
    before: Vec<(u64, f64)>,
}

impl Cost {
    /// From now on.
    pub(crate) fn begin(cluster: &Cluster) -> Result<Self, Error> {
        Ok(Self { before: spent(cluster)? })
    }

    /// Seconds of processor time of all nodes together since then, for each thousand of `count`.
    pub(crate) fn per_thousand(&self, cluster: &Cluster, count: usize) -> Result<f64, Error> {
        let now = spent(cluster)?;
        let before =
            |id: u64| self.before.iter().find(|(node, _)| *node == id).map_or(0.0, |(_, cpu_s)| *cpu_s);
        let used: f64 = now.iter().map(|(id, cpu_s)| cpu_s - before(*id)).sum();
        Ok(used / f64::from(u32::try_from(count.max(1)).unwrap_or(u32::MAX)) * 1_000.0)
    }
}

fn spent(cluster: &Cluster) -> Result<Vec<(u64, f64)>, Error> {
    cluster.running().into_iter().map(|id| Ok((id, usage::of(pid(cluster, id)?)?.cpu_s))).collect()
}

/// The process of a node that must run.
pub(crate) fn pid(cluster: &Cluster, id: u64) -> Result<u32, Error> {
    cluster.pid(id).ok_or_else(|| Error::Input(format!("node {id} does not run")))
}
