//! Metrics that show a level rather than count events: read from the state now and then.

use crate::clock::Sleeper;
use crate::supervisor::TaskError;
use raft::Cluster;
use std::sync::Arc;
use std::time::Duration;
use storage::Read;
use storage::schema::Metas;
use tokio_util::sync::CancellationToken;

/// How often the levels are read; scrapes are rarer.
const INTERVAL: Duration = Duration::from_secs(1);

/// Sets the gauges until `stop`.
pub(crate) async fn run(
    cluster: Cluster,
    sleeper: Arc<dyn Sleeper>,
    upkeep: Arc<dyn Fn() + Send + Sync>,
    stop: CancellationToken,
) -> Result<(), TaskError> {
    loop {
        let status = cluster.status();
        metrics::gauge!("justrun_raft_term").set(level(status.term));
        metrics::gauge!("justrun_raft_is_leader").set(f64::from(u8::from(status.is_leader())));
        metrics::gauge!("justrun_raft_applied_index").set(level(status.applied));
        metrics::gauge!("justrun_clock_astray").set(f64::from(u8::from(cluster.contact().is_astray())));
        let meta = cluster.state().view().get::<Metas>(&())?.unwrap_or_default();
        metrics::gauge!("justrun_jobs", "status" => "active").set(level(meta.jobs_active));
        metrics::gauge!("justrun_jobs", "status" => "paused").set(level(meta.jobs_paused));
        upkeep();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleeper.sleep(INTERVAL) => {}
        }
    }
}

/// Exact up to 2^53, far beyond any of these.
#[expect(clippy::cast_precision_loss, reason = "no level comes near 2^53")]
fn level(number: u64) -> f64 {
    number as f64
}
