//! What every scenario starts from.

use cluster_tests::{
    Error,
    api::NewJob,
    binary::Binary,
    check::{Observation, Violation, every_firing_once},
    cluster::{Cluster, Settings},
    history::{Event, History, JobCreated},
    target::Target,
    workload,
};
use std::{io::Write, time::Duration};

/// Connections that create or read jobs at once.
pub(crate) const CONNECTIONS: usize = 16;
/// Requests under way while jobs are loaded by the thousand: enough for full batches in the log.
pub(crate) const LOADERS: usize = 64;
/// A first start, or a restart with whatever the scenario has put in.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(120);
/// After the start of the jobs, before anything is measured: connections are open, shards are dealt.
pub(crate) const WARM_UP: Duration = Duration::from_secs(5);
/// What may be under way when a measurement ends.
pub(crate) const GRACE: Duration = Duration::from_secs(8);

/// Prints a line.
pub(crate) fn say(text: impl AsRef<str>) {
    // A closed standard output is no reason to leave a measurement half done.
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

/// A node that runs and does not lead.
pub(crate) fn follower(cluster: &Cluster, leader: u64) -> Result<u64, Error> {
    let found = cluster.running().into_iter().find(|id| *id != leader);
    found.ok_or_else(|| Error::Input("no follower runs".to_owned()))
}

/// Three ready nodes, a target, and what has happened so far.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) target: Target,
    pub(crate) history: History,
}

impl Scene {
    pub(crate) async fn open(binary: Binary) -> Result<Self, Error> {
        let target = Target::start()?;
        let mut cluster = Cluster::start(Settings::new(binary))?;
        cluster.ready(READY_DEADLINE).await?;
        cluster.whole(READY_DEADLINE).await?;
        Ok(Self { cluster, target, history: History::default() })
    }

    /// Creates jobs that call `/ok` every second.
    pub(crate) async fn start_jobs(&mut self, count: usize) -> Result<Vec<JobCreated>, Error> {
        let url = self.target.url("/ok");
        let jobs = (0..count).map(|number| NewJob::new(format!("bench {number}"), "@every 1s", url.clone()));
        let created = workload::create(&self.cluster.apis(), jobs, CONNECTIONS).await?;
        created.iter().cloned().for_each(|job| self.history.record(Event::JobCreated(job)));
        Ok(created)
    }

    /// Takes over the target's calls and says what of `every_firing_once` was broken until then.
    pub(crate) fn judge(&mut self, until_us: i64) -> Result<Vec<Violation>, Error> {
        self.cluster.check_running()?;
        self.history.events.extend(self.target.calls().into_iter().map(Event::Call));
        let nodes = self.cluster.ids().len();
        let observation = Observation::of(&self.history, nodes, until_us, GRACE);
        Ok(every_firing_once::check(&self.history, &observation))
    }

    /// Ends the run; what is left of a bad one is kept.
    pub(crate) async fn close(self, violations: &[Violation]) -> Result<(), Error> {
        let Some(text) = cluster_tests::check::report(violations, 10) else {
            return self.cluster.finish().await;
        };
        self.history.write(&self.cluster.dir().join("history.jsonl"))?;
        Err(Error::Input(text))
    }
}
