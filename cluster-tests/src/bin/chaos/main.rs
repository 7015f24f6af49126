//! Breaks a cluster on purpose and says whether it kept its promises:
//! `cargo run --release -p cluster-tests --bin chaos -- --seed 1 --minutes 5 --faults all`.

mod bad_disk; // one without room, or that fails
mod faults; // what is done to the nodes
mod ground; // what that needs of the machine
mod load; // what users do meanwhile
mod plan; // THE TABLE of faults, and their order
mod verdict; // the page at the end
mod versions; // two releases in one cluster

use clap::{Parser, Subcommand};
use cluster_tests::{
    Error,
    binary::{Binary, Profile},
    check::{
        CLAIM_AHEAD, Observation, alerts_delivered,
        on_time::{Bound, Scope},
    },
    cluster::{Cluster, Settings},
    history::{Event, History, Stop},
    registers::{self, Node, Registers},
    relay::{self, Impairment},
    target::Target,
    time::{SECOND_US, now_us},
    wait::eventually,
    workload,
};
use ground::Ground;
use load::{Caller, User};
use std::{
    collections::HashSet, error::Error as _, io::Write, path::PathBuf, process::ExitCode, time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

const CONNECTIONS: usize = 8;
/// Short, so that many operations are under way, and many without an answer, when something breaks.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(700);
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// What may be under way at the edges of the observation: as late as the latest call may be.
const GRACE: Duration = Duration::from_secs(12);
/// An instant is troubled from before a fault, since nodes claim ahead, until this long after its node came back: an
/// election, the death noticed (2.5 s), executions given to others; and a node that comes back reads its state on the same
/// two cores.
const TAKEOVER: Duration = Duration::from_secs(8);
/// Far from any fault, on a machine that three nodes, the target and this program share.
const CALM_P99_US_MAX: i64 = SECOND_US / 4;
const CALM_MAX_US_MAX: i64 = 2 * SECOND_US;
/// What is called at all is called this soon after the cluster is one again.
const AFTER_OUTAGE_US_MAX: i64 = 40 * SECOND_US;

/// Runs real nodes, users and faults, all of them chosen by a seed, checks everything that was seen, and prints a page.
/// Ends with 1 if a promise was broken.
#[derive(Debug, Parser)]
#[command(name = "chaos", version)]
struct Arguments {
    /// Chooses faults, nodes and times; any number if there is none
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults go on
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    #[arg(long, default_value = "all", help = plan::help())]
    faults: String,
    /// An older release, for the fault mixed-version
    #[arg(long, value_name = "FILE", env = "JUSTRUN_OLD_BIN")]
    old_binary: Option<PathBuf>,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=7))]
    nodes: u8,
    /// Jobs that fire all the time
    #[arg(long, default_value_t = 40)]
    jobs: usize,
    /// Users who make, change, pause, resume and delete jobs, and as many who ask for runs
    #[arg(long, default_value_t = 4)]
    users: usize,
    /// Reads and writes a second whose order is checked
    #[arg(long, default_value_t = 60)]
    operations: u32,
    /// A mistake that all nodes make on purpose, to see it found, as POINT=ACTION: bug::missed=5%return. The points are
    /// bug::missed, bug::doubled, bug::late, bug::lost-record and bug::stale-read
    #[arg(long, value_name = "POINT=ACTION")]
    plant: Option<String>,
    /// Checks the history of an earlier run instead of making one
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

impl Arguments {
    /// The command that makes this run once more.
    fn again(&self, seed: u64) -> String {
        let Self { minutes, faults, nodes, jobs, users, operations, .. } = self;
        let mut again = format!(
            "again: cargo run --release -p cluster-tests --bin chaos -- --seed {seed} --minutes {minutes} --faults {faults} --nodes {nodes} --jobs {jobs} --users {users} --operations {operations}"
        );
        // Without it there is one fault less to choose from, and the same seed chooses others.
        if let Some(old) = &self.old_binary {
            again.push_str(&format!(" --old-binary {}", old.display()));
        }
        if let Some(plant) = &self.plant {
            again.push_str(&format!(" --plant '{plant}'"));
        }
        again
    }
}

/// What a run starts this program as beside itself.
#[derive(Debug, Subcommand)]
enum Part {
    /// Holds up, drops and doubles what enters a TUN device, until standard input ends
    #[command(hide = true)]
    Relay {
        /// Which
        #[arg(long)]
        device: String,
        /// Chooses which packets
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        impairment: Impairment,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            say(format!("error: {error}{source}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line.
fn say(text: impl AsRef<str>) {
    // A closed standard output is no reason to end a run.
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

async fn run(arguments: &Arguments) -> Result<bool, Error> {
    if let Some(Part::Relay { device, seed, impairment }) = &arguments.part {
        return relay::run(device, *impairment, *seed).map(|()| true);
    }
    let faults = plan::parse(&arguments.faults).map_err(Error::Input)?;
    if let Some(path) = &arguments.check {
        return Ok(judge(&History::read(path)?, usize::from(arguments.nodes), &[]));
    }
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let again = arguments.again(seed);
    say(&again);
    let ids: Vec<u64> = (1..=u64::from(arguments.nodes)).collect();
    let ground = ground::prepare(faults, &ids, arguments.plant.is_some(), arguments.old_binary.clone())?;
    let profile = Some(Profile::Release);
    let binary = if ground.has_faults { Binary::with_faults(profile) } else { Binary::locate(profile) }?;
    say(format!("running {binary}"));
    let target = match &ground.net {
        Some(net) => Target::start_at(net.harness())?,
        None => Target::start()?,
    };
    let settings = Settings {
        nodes: ids.len(),
        net: ground.net.clone(),
        disks: ground.disks,
        has_faults: ground.has_faults,
        ..Settings::new(binary)
    };
    let mut cluster = Cluster::start(settings)?;
    let path = cluster.dir().join("history.jsonl");
    let mut history = History::default();
    let outcome = live(arguments, seed, &ground, &target, &mut cluster, &mut history).await;
    // Whatever went wrong, what was seen until then must be there to look at.
    history.events.extend(target.events());
    history.write(&path)?;
    let healed = match outcome {
        Ok(healed) => healed,
        Err(error) => {
            say(format!("history: {}", path.display()));
            return Err(error);
        }
    };

    let is_valid = judge(&history, usize::from(arguments.nodes), &healed);
    say(&again);
    if is_valid {
        cluster.finish().await?;
    } else {
        say(format!("history: {}", path.display()));
    }
    Ok(is_valid)
}

/// The run itself.
async fn live(
    arguments: &Arguments,
    seed: u64,
    ground: &Ground,
    target: &Target,
    cluster: &mut Cluster,
    history: &mut History,
) -> Result<Vec<verdict::Healed>, Error> {
    cluster.ready(READY_DEADLINE).await?;
    cluster.whole(READY_DEADLINE).await?;
    if let Some(plant) = &arguments.plant {
        let (point, action) =
            plant.split_once('=').ok_or_else(|| Error::Input(format!("{plant} is not POINT=ACTION")))?;
        for node in cluster.ids() {
            cluster.put_faults(node, &format!("[points]\n\"{point}\" = \"{action}\"\n"))?;
        }
    }
    let channels = load::channels(&cluster.apis()[0], target).await?;
    history.events.extend(channels.iter().cloned().map(Event::Channel));
    let jobs = (0..arguments.jobs).map(|number| load::lasting_job(number, target, &channels));
    let lasting = workload::create(&cluster.apis(), jobs, CONNECTIONS).await?;
    history.events.extend(lasting.iter().cloned().map(Event::JobCreated));

    let (stop, stopped) = watch::channel(false);
    let mut people = JoinSet::new();
    for number in 0..arguments.users {
        let seed = seed.wrapping_mul(1_000).wrapping_add(2 * number as u64);
        people.spawn(User::new(number, seed, &cluster.apis(), target, stopped.clone()).run());
        let jobs = lasting.iter().map(|created| created.job.clone()).collect();
        people.spawn(Caller::new(number, seed + 1, &cluster.apis(), stopped.clone()).run(jobs));
    }

    let nodes: Vec<Node> = cluster.ids().into_iter().map(|id| (id, cluster.api(id))).collect();
    let registers = Registers::start(
        &nodes,
        registers::Settings {
            registers: 3,
            processes: 10,
            per_second: arguments.operations.max(1),
            deletes_per_thousand: 5,
            timeout: OPERATION_TIMEOUT,
            seed,
        },
    )?;

    let start = Instant::now();
    let end = start + Duration::from_secs_f64(arguments.minutes * 60.0);
    let mut healed = Vec::new();
    for step in plan::steps(seed, ground.faults.clone()) {
        sleep(step.calm).await;
        if Instant::now() >= end {
            break;
        }
        let at = start.elapsed().as_secs_f64();
        let over = faults::carry_out(&step, ground.old.as_ref(), cluster, target, history).await?;
        say(format!(
            "{at:>6.1} s: {} for {:.1} s (leader {}); whole {:.1} s later",
            over.fault.name(),
            over.lasting.as_secs_f64(),
            over.leader,
            over.whole.as_secs_f64()
        ));
        healed.push(over);
    }
    // With no faults to be had, time passes without.
    sleep(end.saturating_duration_since(Instant::now())).await;

    stop.send_replace(true);
    while let Some(person) = people.join_next().await {
        let events = person.map_err(|error| Error::Input(format!("a user failed: {error}")))??;
        history.events.extend(events);
    }
    history.events.extend(registers.stop(&nodes).await?.into_iter().map(Event::Operation));
    // Healed means more than running: every job goes on.
    let before = target.count();
    eventually("calls after the last fault", READY_DEADLINE, async || {
        let more = target.count() - before;
        if more >= 2 * arguments.jobs { Ok(()) } else { Err(format!("{more} calls")) }
    })
    .await?;
    // So that what was due until now is over, one way or the other.
    sleep(GRACE).await;
    let index = cluster.same_state(READY_DEADLINE).await?;
    say(format!("all nodes have written the same up to log entry {index}"));
    look(&nodes, history).await?;
    // What they tell of is over; the last messages may be on their way.
    let observation = Observation::of(history, nodes.len(), now_us(), GRACE);
    let owed = alerts_delivered::Owed::of(history, &observation);
    let waited = eventually("messages to channels", alerts_delivered::SOON, async || {
        match owed.left(&target.alerts()) {
            0 => Ok(()),
            left => Err(format!("{left} to come")),
        }
    });
    if let Err(error) = waited.await {
        say(error.to_string());
    }
    cluster.check_running()?;
    Ok(healed)
}

/// Reads what there is in the end: the jobs on every node, and what became of their executions.
async fn look(nodes: &[Node], history: &mut History) -> Result<(), Error> {
    for (node, api) in nodes {
        history.events.extend(api.shown(*node).await?.into_iter().map(Event::Shown));
    }
    let deleted: HashSet<_> =
        history.stops().filter(|stopped| stopped.how == Stop::Deleted).map(|stopped| &stopped.job).collect();
    let left: Vec<_> = history.jobs().filter(|created| !deleted.contains(&created.job)).cloned().collect();
    let apis: Vec<_> = nodes.iter().map(|(_, api)| api.clone()).collect();
    history.events.extend(workload::read_executions(&apis, &left, CONNECTIONS).await?);
    Ok(())
}

/// Prints the page about a run.
fn judge(history: &History, nodes: usize, healed: &[verdict::Healed]) -> bool {
    let reads = history.reads().map(|read| read.asked_us).min();
    let until_us = reads.unwrap_or_else(now_us);
    let troubled = verdict::troubled(history, CLAIM_AHEAD, TAKEOVER);
    let bound = |name: &str, scope, p99_us_max, max_us_max| Bound {
        name: name.to_owned(),
        scope,
        p99_us_max,
        max_us_max,
    };
    let mut lateness =
        vec![bound("calm", Scope::Outside(troubled.clone()), CALM_P99_US_MAX, CALM_MAX_US_MAX)];
    if !troubled.is_empty() {
        let within = Scope::Within(troubled.clone());
        lateness.push(bound("around a fault", within, AFTER_OUTAGE_US_MAX, AFTER_OUTAGE_US_MAX));
    }
    let observation = Observation { lateness, ..Observation::of(history, nodes, until_us, GRACE) };
    let (page, is_valid) = verdict::verdict(history, &observation, healed, &troubled);
    say(page);
    is_valid
}
