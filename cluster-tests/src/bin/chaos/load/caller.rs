//! Somebody who asks for runs of the jobs that last.

use super::{Person, request::Once};
use cluster_tests::{
    Error,
    api::Api,
    client::Answer,
    history::{Event, JobId, RunAsked},
};
use http::Method;
use rand::RngExt;
use std::ops::RangeInclusive;
use tokio::sync::watch;

/// Between two runs.
const PAUSE_MS: RangeInclusive<u64> = 300..=1_500;

/// Asks for runs until it is stopped.
pub(crate) struct Caller {
    person: Person,
    /// Tells its keys from others'.
    number: usize,
}

impl Caller {
    pub(crate) fn new(number: usize, seed: u64, nodes: &[Api], stop: watch::Receiver<bool>) -> Self {
        Self { person: Person::new(seed, nodes, stop), number }
    }

    /// Returns what it did.
    ///
    /// # Errors
    /// An answer that makes no sense.
    pub(crate) async fn run(mut self, jobs: Vec<JobId>) -> Result<Vec<Event>, Error> {
        for count in 0.. {
            if self.person.pass(PAUSE_MS).await || jobs.is_empty() {
                break;
            }
            let job = jobs[self.person.random.random_range(0..jobs.len())].clone();
            match self.person.random.random_range(0..3) {
                0 => self.person.run_once(&job).await?,
                1 => drop(self.person.run_named(&job, format!("run {} {count}", self.number)).await?),
                _ => {
                    // Whoever asks again by the same name is told of the same run.
                    let key = self.person.run_named(&job, format!("run {} {count}", self.number)).await?;
                    self.person.run_named(&job, key).await?;
                }
            }
        }
        Ok(self.person.events)
    }
}

impl Person {
    /// Asks for a run until there is an answer. Gives the key back.
    pub(super) async fn run_named(&mut self, job: &JobId, key: String) -> Result<String, Error> {
        let path = format!("/v1/jobs/{job}/run");
        let done = self.change(Method::POST, &path, None, Some(&key)).await?;
        let execution = Some(execution(&path, done.answer.as_ref())?);
        let (job, key_of_run) = (job.clone(), Some(key.clone()));
        self.events.push(Event::RunAsked(RunAsked {
            job,
            key: key_of_run,
            asked_us: done.asked_us,
            execution,
        }));
        Ok(key)
    }

    /// Asks for a run; nobody may ever know whether it was made.
    async fn run_once(&mut self, job: &JobId) -> Result<(), Error> {
        let path = format!("/v1/jobs/{job}/run");
        let (asked_us, execution) = match self.change_once(Method::POST, &path, None).await? {
            Once::Acknowledged(done) => (done.asked_us, Some(execution(&path, done.answer.as_ref())?)),
            Once::Unknown(asked_us) => (asked_us, None),
        };
        self.events.push(Event::RunAsked(RunAsked { job: job.clone(), key: None, asked_us, execution }));
        Ok(())
    }
}

/// The execution that an answer names.
fn execution(path: &str, answer: Option<&Answer>) -> Result<String, Error> {
    let named = answer.and_then(|answer| answer.json()["data"]["execution_id"].as_str().map(str::to_owned));
    named.ok_or_else(|| Error::Contract {
        request: format!("POST {path}"),
        missing: "data.execution_id",
        body: answer.map(Answer::excerpt).unwrap_or_default(),
    })
}
