//! What this machine could do at best: each part of a firing alone, done by the same libraries as the product's and by
//! nothing else. All in one run, so that the figures belong together.

mod client; // requests in a loop
mod consensus; // entries that do nothing

pub(crate) use client::{Arguments as ClientArguments, run as run_client};

use crate::{
    api::fsyncs,
    bare::Bare,
    cost::Cost,
    raw::{self, Request},
    scene::say,
    table::{Table, tenths, thousandths},
};
use clap::Args;
use cluster_tests::{Error, target::Target};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use tempfile::TempDir;

/// Bytes of the bare server's answers: those of a job.
const BARE_BYTES: usize = 600;
/// Of one core: whoever is on the other side and has used more of it was itself what was measured.
const BUSY_PERCENT: f64 = 85.0;

#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Loops, connections or writers at once
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { connections: 64, seconds: 5 }
    }
}

/// Measures one after the other; none is to share the machine with another.
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let dir = TempDir::with_prefix("justrun-").map_err(|error| Error::Input(format!("temp dir: {error}")))?;
    let mut table = Table::new(
        "ceilings",
        &["name", "per_second", "p50_ms", "p99_ms", "cpu_s_per_1000", "peer_cpu_percent"],
    );
    table.row(client_loop(arguments, dir.path()).await?);
    table.row(bare_axum(arguments, dir.path()).await?);
    let syncs = fsyncs(&dir.path().join("fsyncs"))?;
    table.row(vec![json!("fsyncs"), json!(syncs), Value::Null, Value::Null, Value::Null, Value::Null]);
    table.row(openraft_empty(arguments, dir.path()).await?);
    table.print();
    Ok(())
}

/// What a request to the harness's target costs whoever sends it.
async fn client_loop(arguments: &Arguments, dir: &Path) -> Result<Vec<Value>, Error> {
    let target = Target::start()?;
    // All that this process does meanwhile is to be the target.
    let spent = Cost::of([std::process::id()])?;
    let found = client::measure(&target.url("/ok"), arguments.connections, arguments.seconds, dir).await?;
    let target_percent = tenths(spent.percent()?);
    if target_percent > BUSY_PERCENT {
        say(format!(
            "client_loop: the target took {target_percent} % of a core, so it may be what was measured"
        ));
    }
    let missing = found.requests.saturating_sub(target.count());
    if missing > 0 {
        return Err(Error::Input(format!("{missing} answered requests are not on the target's record")));
    }
    Ok(vec![
        json!("client_loop"),
        json!(found.per_second),
        json!(found.p50_ms),
        json!(found.p99_ms),
        json!(found.cpu_s_per_1000),
        json!(target_percent),
    ])
}

/// What a request costs a server that does nothing.
async fn bare_axum(arguments: &Arguments, dir: &Path) -> Result<Vec<Value>, Error> {
    let bare = Bare::start(dir, BARE_BYTES).await?;
    let (server, load) = (Cost::of([bare.pid()?])?, Cost::of([std::process::id()])?);
    let span = Duration::from_secs(arguments.seconds);
    let outcome = raw::run(&[bare.address], &Request::get("/", "none"), arguments.connections, span).await?;
    let [rate, p50, p99] = outcome.cells();
    let cpu = thousandths(server.per_thousand(outcome.count())?);
    Ok(vec![json!("bare_axum"), rate, p50, p99, json!(cpu), json!(tenths(load.percent()?))])
}

/// What agreeing on a command costs three nodes together.
async fn openraft_empty(arguments: &Arguments, dir: &Path) -> Result<Vec<Value>, Error> {
    let span = Duration::from_secs(arguments.seconds);
    let cluster = consensus::Trio::start(dir).await?;
    let spent = Cost::of([std::process::id()])?;
    let outcome = cluster.write(arguments.connections, span).await?;
    let cpu = thousandths(spent.per_thousand(outcome.count())?);
    cluster.stop(outcome.count()).await?;
    let [rate, p50, p99] = outcome.cells();
    Ok(vec![json!("openraft_empty"), rate, p50, p99, json!(cpu), Value::Null])
}
