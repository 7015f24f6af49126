//! Figures of a real cluster on this machine: `cargo run --release -p cluster-tests --bin bench -- all`.

mod api;
mod bad_input;
mod bare;
mod ceilings;
mod cost;
mod etcd;
mod failover;
mod herd;
mod hostile;
mod idle;
mod lateness;
mod million;
mod raw;
mod scene;
mod sustained;
mod table;
mod writer;

use clap::{Parser, Subcommand};
use cluster_tests::{
    Error,
    binary::{Binary, Profile},
};
use mimalloc::MiMalloc;
use scene::say;
use std::{error::Error as _, process::ExitCode};

/// As in the nodes, so that what is measured without them is comparable.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Starts three nodes of the release build (or of the binary that JUSTRUN_BIN names), measures, and prints a
/// table and the same rows as JSON lines.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// How late calls arrive while nothing goes wrong
    Lateness(lateness::Arguments),
    /// What is late, lost or refused when the leader, and then a follower, is killed
    Failover(failover::Arguments),
    /// What many jobs cost while none is due, and how long a node takes to come back with them
    Idle(idle::Arguments),
    /// How long a wall of jobs that are due in the same second takes
    Herd(herd::Arguments),
    /// How many jobs of every second are called in time
    Sustained(sustained::Arguments),
    /// How fast the API answers, beside a server that does nothing
    Api(api::Arguments),
    /// What the API says to requests it should refuse, and to any after two nodes have died
    BadInput,
    /// What ordinary clients notice of thousands that say nothing, are slow, or talk nonsense
    Hostile(hostile::Arguments),
    /// How fast jobs are committed beside writes to three nodes of etcd, which must be installed
    Etcd(etcd::Arguments),
    /// What this machine could do at best: requests, answers, syncs and consensus alone
    Ceilings(ceilings::Arguments),
    /// What a cluster with a million jobs needs, and what it is like to work with
    Million(million::Arguments),
    /// Every scenario with its defaults, but `million`
    All,
    /// The server that does nothing; `api` and `ceilings` start it
    #[command(hide = true)]
    Bare(bare::Arguments),
    /// The client that sends in a loop; `ceilings` starts it
    #[command(hide = true)]
    Client(ceilings::ClientArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().scenario).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            say(format!("error: {error}{source}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(scenario: Scenario) -> Result<(), Error> {
    match scenario {
        Scenario::Lateness(arguments) => lateness::run(locate()?, &arguments).await,
        Scenario::Failover(arguments) => failover::run(locate()?, &arguments).await,
        Scenario::Idle(arguments) => idle::run(locate()?, &arguments).await,
        Scenario::Herd(arguments) => herd::run(locate()?, &arguments).await,
        Scenario::Sustained(arguments) => sustained::run(locate()?, &arguments).await,
        Scenario::Api(arguments) => api::run(locate()?, &arguments).await,
        Scenario::BadInput => bad_input::run(locate()?).await,
        Scenario::Etcd(arguments) => {
            // Before anything is built in vain.
            let version = etcd::version(&arguments).await?;
            etcd::run(locate()?, &version, &arguments).await
        }
        Scenario::Ceilings(arguments) => ceilings::run(&arguments).await,
        Scenario::Bare(arguments) => bare::serve(&arguments).await,
        Scenario::Client(arguments) => ceilings::run_client(&arguments).await,
        Scenario::Hostile(arguments) => hostile::run(locate()?, &arguments).await,
        Scenario::Million(arguments) => million::run(locate()?, &arguments).await,
        Scenario::All => {
            let binary = locate()?;
            ceilings::run(&ceilings::Arguments::default()).await?;
            lateness::run(binary.clone(), &lateness::Arguments::default()).await?;
            failover::run(binary.clone(), &failover::Arguments::default()).await?;
            idle::run(binary.clone(), &idle::Arguments::default()).await?;
            api::run(binary.clone(), &api::Arguments::default()).await?;
            etcd::run_if_there(binary.clone(), &etcd::Arguments::default()).await?;
            herd::run(binary.clone(), &herd::Arguments::default()).await?;
            sustained::run(binary.clone(), &sustained::Arguments::default()).await?;
            bad_input::run(binary.clone()).await?;
            hostile::run(binary, &hostile::Arguments::default()).await
        }
    }
}

/// The nodes' binary, which is said.
fn locate() -> Result<Binary, Error> {
    let binary = Binary::locate(Some(Profile::Release))?;
    say(format!("running {binary}"));
    Ok(binary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn all_runs_with_what_the_command_line_would_give() {
        let parsed = |name| Arguments::try_parse_from(["bench", name]).unwrap().scenario;
        assert!(matches!(parsed("lateness"), Scenario::Lateness(found) if found == Default::default()));
        assert!(matches!(parsed("failover"), Scenario::Failover(found) if found == Default::default()));
        assert!(matches!(parsed("herd"), Scenario::Herd(found) if found == Default::default()));
        assert!(matches!(parsed("sustained"), Scenario::Sustained(found) if found == Default::default()));
        assert!(matches!(parsed("ceilings"), Scenario::Ceilings(found) if found == Default::default()));
        assert!(matches!(parsed("etcd"), Scenario::Etcd(found) if found == Default::default()));
        assert!(matches!(parsed("api"), Scenario::Api(found) if found == Default::default()));
        assert!(matches!(parsed("idle"), Scenario::Idle(found) if found == Default::default()));
        assert!(matches!(parsed("hostile"), Scenario::Hostile(found) if found == Default::default()));
    }
}
