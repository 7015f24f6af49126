//! How fast jobs are committed beside another store of three nodes that agree on each write: etcd, as the distribution
//! ships it, with its usual settings. Each is asked in its own language over connections that are kept (HTTP/1.1 here, one for
//! each client; gRPC there, whose clients share a few), and each answers once a majority has the write on its disk.

mod kv; // the one call that is needed
mod members; // three of them

use crate::{
    api::new_job,
    cost::{self, Cost},
    raw::{self, Outcome},
    scene::{READY_DEADLINE, Scene, say},
    table::{Table, hundredths, thousandths},
};
use bytes::Bytes;
use clap::Args;
use cluster_tests::{Error, api::Api, binary::Binary};
use members::Members;
use serde_json::{Value, json};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// How often each is measured, in turns, so that what else the machine does hits both.
const ROUNDS: usize = 3;

#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Clients at once, spread over the nodes, one number after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    clients: Vec<usize>,
    /// Connections to etcd that its clients share; one to a node is what they have as a rule, and what it is fastest with
    #[arg(long, default_value_t = 3)]
    connections: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Bytes of a value: those of a stored job
    #[arg(long, default_value_t = 300)]
    value_bytes: usize,
    /// The server; a name without a folder is looked for as a shell would
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            clients: vec![1, 16, 64],
            connections: 3,
            seconds: 5,
            value_bytes: 300,
            etcd: PathBuf::from("etcd"),
        }
    }
}

/// What the store calls itself.
///
/// # Errors
/// [`Error::Input`] if it is not there, with how to get it.
pub(crate) async fn version(arguments: &Arguments) -> Result<String, Error> {
    members::version(&arguments.etcd).await
}

/// As [`run`], if there is an etcd; says so if there is none.
pub(crate) async fn run_if_there(binary: Binary, arguments: &Arguments) -> Result<(), Error> {
    match version(arguments).await {
        Ok(version) => run(binary, &version, arguments).await,
        Err(error) => {
            say(format!("etcd: skipped, {error}"));
            Ok(())
        }
    }
}

pub(crate) async fn run(binary: Binary, version: &str, arguments: &Arguments) -> Result<(), Error> {
    say(format!("beside {version}"));
    let scene = Scene::open(binary).await?;
    // On the disk of the nodes, and removed with them.
    let members = Members::start(&arguments.etcd, &scene.cluster.dir().join("etcd")).await?;
    let pair = Pair::of(&scene, &members, arguments).await?;
    let mut table = Table::new(
        "etcd",
        &[
            "clients",
            "store",
            "per_second",
            "p50_ms",
            "p99_ms",
            "servers_cpu_s_per_1000",
            "client_cpu_s_per_1000",
            "times_etcd",
        ],
    );
    let median = |turns| raw::median(turns, |turn: &Turn| turn.outcome.rate);
    for &clients in &arguments.clients {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            ours.push(pair.ours(clients).await?);
            theirs.push(pair.theirs(clients, round).await?);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let times = hundredths(ours.outcome.rate / theirs.outcome.rate);
        table.row(ours.row(clients, "justrun", json!(times)));
        table.row(theirs.row(clients, "etcd", Value::Null));
    }
    table.print();
    members.stop().await?;
    scene.close(&[]).await
}

/// Both stores, and what is written to them.
struct Pair<'a> {
    members: &'a Members,
    nodes: Vec<SocketAddr>,
    pids: Vec<u32>,
    leader: Api,
    request: raw::Request,
    value: Bytes,
    connections: usize,
    span: Duration,
}

impl<'a> Pair<'a> {
    async fn of(scene: &Scene, members: &'a Members, arguments: &Arguments) -> Result<Self, Error> {
        let leader = scene.cluster.api(scene.cluster.leader(READY_DEADLINE).await?);
        Ok(Self {
            members,
            nodes: scene.cluster.apis().iter().map(Api::address).collect::<Result<_, Error>>()?,
            pids: cost::pids(&scene.cluster)?,
            request: new_job(scene, leader.key()),
            leader,
            value: Bytes::from(vec![b'v'; arguments.value_bytes]),
            connections: arguments.connections,
            span: Duration::from_secs(arguments.seconds),
        })
    }

    /// Jobs are created. Fails unless as many are there afterwards as were acknowledged.
    async fn ours(&self, clients: usize) -> Result<Turn, Error> {
        let before = self.leader.job_count().await?;
        let costs = Costs::begin(&self.pids)?;
        let outcome = raw::run(&self.nodes, &self.request, clients, self.span).await?;
        let turn = costs.end(outcome)?;
        must_have("JustRun", self.leader.job_count().await?.saturating_sub(before), &turn.outcome)?;
        Ok(turn)
    }

    /// Keys are put. Fails unless the store's revision has risen by as much as was acknowledged.
    async fn theirs(&self, clients: usize, round: usize) -> Result<Turn, Error> {
        let prefix = format!("jobs/{clients}/{round}");
        let before = kv::revision(self.members.addresses(), &prefix).await?;
        let costs = Costs::begin(&self.members.pids()?)?;
        let outcome =
            kv::run(self.members.addresses(), &prefix, &self.value, clients, self.connections, self.span)
                .await?;
        let turn = costs.end(outcome)?;
        let revisions = kv::revision(self.members.addresses(), &prefix).await?.saturating_sub(before);
        // The look itself is a put.
        must_have("etcd", usize::try_from(revisions).unwrap_or_default().saturating_sub(1), &turn.outcome)?;
        Ok(turn)
    }
}

fn must_have(store: &str, found: usize, outcome: &Outcome) -> Result<(), Error> {
    if found >= outcome.count() {
        Ok(())
    } else {
        Err(Error::Input(format!("{store} acknowledged {} writes and has {found}", outcome.count())))
    }
}

/// The time of a store's processes and of this one, which is the client, from some moment on.
struct Costs {
    servers: Cost,
    client: Cost,
}

impl Costs {
    fn begin(servers: &[u32]) -> Result<Self, Error> {
        Ok(Self { servers: Cost::of(servers.iter().copied())?, client: Cost::of([std::process::id()])? })
    }

    fn end(&self, outcome: Outcome) -> Result<Turn, Error> {
        let per_thousand = |cost: &Cost| cost.per_thousand(outcome.count()).map(thousandths);
        let (servers, client) = (per_thousand(&self.servers)?, per_thousand(&self.client)?);
        Ok(Turn { outcome, servers, client })
    }
}

/// One measurement of one store.
struct Turn {
    outcome: Outcome,
    /// Seconds of processor time for each thousand writes.
    servers: f64,
    client: f64,
}

impl Turn {
    fn row(&self, clients: usize, store: &str, times: Value) -> Vec<Value> {
        let [rate, p50, p99] = self.outcome.cells();
        vec![json!(clients), json!(store), rate, p50, p99, json!(self.servers), json!(self.client), times]
    }
}
