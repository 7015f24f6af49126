//! How fast the API answers, beside a server of the same library that does nothing.

use crate::{
    bare::Bare,
    raw::{self, Outcome, Request},
    scene::{LOADERS, READY_DEADLINE, Scene, follower},
    table::{Table, hundredths},
};
use clap::Args;
use cluster_tests::{
    Error,
    api::{Api, NewJob},
    binary::Binary,
    workload,
};
use http::Method;
use serde_json::json;
use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

/// Jobs of the small account that a large one is compared with.
const FEW: usize = 100;
/// Connections of a list's readers: enough to keep the machine busy, few enough to see the latency.
const READERS: usize = 4;
/// How often each comparison is made, in turns, so that what else the machine does hits both sides.
const ROUNDS: usize = 3;
/// Bytes of a log entry with a small job.
const ENTRY: [u8; 1_024] = [7; 1_024];

#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Connections that read a job or write jobs, one number after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    connections: Vec<usize>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Jobs of the large account
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { connections: vec![1, 16, 64, 256], seconds: 2, jobs: 100_000 }
    }
}

pub(crate) async fn run(binary: Binary, arguments: &Arguments) -> Result<(), Error> {
    let scene = Scene::open(binary).await?;
    let bench = Bench::of(&scene, arguments).await?;
    let job = |number| NewJob::new(format!("api {number}"), "0 0 1 1 *", scene.target.url("/ok"));
    let few = workload::create(&scene.cluster.apis(), (0..FEW).map(job), LOADERS).await?;

    bench.read_one(&format!("/v1/jobs/{}", few[0].job)).await?;
    let small = bench.read_list().await?;
    bench.write().await?;
    let missing = arguments.jobs.saturating_sub(bench.leader.job_count().await?);
    workload::create(&scene.cluster.apis(), (0..missing).map(job), LOADERS).await?;
    let large = bench.read_list().await?;

    let mut table = Table::new("api_list", &["jobs", "p50_ms", "p99_ms", "times_small"]);
    for (jobs, outcome) in [(FEW, &small), (arguments.jobs, &large)] {
        let times = hundredths(outcome.quantile_ms(0.5) / small.quantile_ms(0.5));
        table.row(vec![
            json!(jobs),
            json!(outcome.quantile_ms(0.5)),
            json!(outcome.quantile_ms(0.99)),
            json!(times),
        ]);
    }
    table.print();
    scene.close(&[]).await
}

/// Whom load is put on, and how much.
struct Bench<'a> {
    scene: &'a Scene,
    leader: Api,
    follower: Api,
    /// All of them, the leader among them.
    nodes: Vec<SocketAddr>,
    connections: &'a [usize],
    /// How long each measurement takes.
    span: Duration,
}

impl<'a> Bench<'a> {
    async fn of(scene: &'a Scene, arguments: &'a Arguments) -> Result<Self, Error> {
        let leader = scene.cluster.leader(READY_DEADLINE).await?;
        let follower = follower(&scene.cluster, leader)?;
        let nodes = scene.cluster.apis().iter().map(Api::address).collect::<Result<_, Error>>()?;
        Ok(Self {
            scene,
            leader: scene.cluster.api(leader),
            follower: scene.cluster.api(follower),
            nodes,
            connections: &arguments.connections,
            span: Duration::from_secs(arguments.seconds),
        })
    }

    /// GET of a job on a follower and on the leader, in turns with the bare server.
    async fn read_one(&self, path: &str) -> Result<(), Error> {
        let sample = self.leader.send(Method::GET, path, None).await;
        let bytes = sample.map_err(|error| Error::Input(error.to_string()))?.body.len();
        let bare = Bare::start(self.scene.cluster.dir(), bytes).await?;
        let (nothing, read) = (Request::get("/", self.leader.key()), Request::get(path, self.leader.key()));
        let sides =
            [(bare.address, &nothing), (self.follower.address()?, &read), (self.leader.address()?, &read)];
        let mut table = Table::new(
            "api_get",
            &["role", "connections", "per_second", "p50_ms", "p99_ms", "bare_per_second", "share_of_bare"],
        );
        for &connections in self.connections {
            let mut outcomes = sides.map(|_| Vec::with_capacity(ROUNDS));
            for _ in 0..ROUNDS {
                for ((address, request), outcomes) in sides.iter().zip(&mut outcomes) {
                    outcomes.push(raw::run(&[*address], request, connections, self.span).await?);
                }
            }
            let [ceiling, follower, leader] = outcomes.map(Outcome::median);
            for (role, ours) in [("follower", follower), ("leader", leader)] {
                let [rate, p50, p99] = ours.cells();
                let share = json!(hundredths(ours.rate / ceiling.rate));
                table.row(vec![json!(role), json!(connections), rate, p50, p99, json!(ceiling.rate), share]);
            }
        }
        table.print();
        Ok(())
    }

    /// Page 1 of all jobs.
    async fn read_list(&self) -> Result<Outcome, Error> {
        let read = Request::get("/v1/jobs", self.leader.key());
        let mut outcomes = Vec::new();
        for _ in 0..ROUNDS {
            outcomes.push(raw::run(&self.nodes, &read, READERS, self.span).await?);
        }
        Ok(Outcome::median(outcomes))
    }

    /// POST of jobs over all nodes.
    async fn write(&self) -> Result<(), Error> {
        let request = new_job(self.scene, self.leader.key());
        let mut table = Table::new(
            "api_post",
            &["connections", "committed_per_second", "p50_ms", "p99_ms", "fsyncs_per_second"],
        );
        for &connections in self.connections {
            let mut outcomes = Vec::new();
            let fsyncs = fsyncs(&self.scene.cluster.dir().join("fsyncs"))?;
            for _ in 0..ROUNDS {
                outcomes.push(raw::run(&self.nodes, &request, connections, self.span).await?);
            }
            let [rate, p50, p99] = Outcome::median(outcomes).cells();
            table.row(vec![json!(connections), rate, p50, p99, json!(fsyncs)]);
        }
        table.print();
        Ok(())
    }
}

/// A POST of a job that is due next New Year.
pub(crate) fn new_job(scene: &Scene, key: &str) -> Request {
    let body = json!({"name": "written", "cron_expression": "0 0 1 1 *", "url": scene.target.url("/ok")});
    Request::post("/v1/jobs", key, &body.to_string())
}

/// How often a second this disk makes one entry durable, one after the other.
pub(crate) fn fsyncs(path: &Path) -> Result<f64, Error> {
    let input = |error: std::io::Error| Error::Input(format!("{}: {error}", path.display()));
    let mut file = File::create(path).map_err(input)?;
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < Duration::from_secs(1) {
        file.write_all(&ENTRY).and_then(|()| file.sync_data()).map_err(input)?;
        count += 1;
    }
    Ok((f64::from(count) / start.elapsed().as_secs_f64()).round())
}
