//! Somebody who asks for runs of the jobs that last.

use super::{Diary, Person, request::Once};
use cluster_tests::{
    Error,
    api::Api,
    client::Answer,
    history::{Event, JobId, RunAsked},
    time::now_us,
};
use http::Method;
use rand::RngExt;
use std::ops::RangeInclusive;
use tokio::sync::watch;

/// Between two runs.
const PAUSE_MS: RangeInclusive<u64> = 300..=1_500;

/// Asks for runs until it is stopped.
pub(super) struct Caller {
    person: Person,
    /// Tells its keys from others'.
    number: usize,
}

impl Caller {
    pub(super) fn new(
        number: usize,
        seed: u64,
        nodes: &[Api],
        stop: watch::Receiver<bool>,
        diary: Diary,
    ) -> Self {
        Self { person: Person::new(seed, nodes, stop, diary), number }
    }

    /// # Errors
    /// An answer that makes no sense, or none for too long.
    pub(super) async fn run(mut self, jobs: Vec<JobId>) -> Result<(), Error> {
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
        Ok(())
    }
}

impl Person {
    /// Asks for a run until there is an answer. Gives the key back.
    pub(super) async fn run_named(&mut self, job: &JobId, key: String) -> Result<String, Error> {
        let path = format!("/v1/jobs/{job}/run");
        let (job, key_of_run) = (job.clone(), Some(key.clone()));
        let mut asked = RunAsked { job, key: key_of_run, asked_us: now_us(), execution: None };
        let place = self.diary.note(Event::RunAsked(asked.clone()));
        let done = self.change(Method::POST, &path, None, Some(&key)).await?;
        asked.execution = Some(execution(&path, done.answer.as_ref())?);
        self.diary.correct(place, Event::RunAsked(asked));
        Ok(key)
    }

    /// Asks for a run; nobody may ever know whether it was made.
    async fn run_once(&mut self, job: &JobId) -> Result<(), Error> {
        let path = format!("/v1/jobs/{job}/run");
        let mut asked = RunAsked { job: job.clone(), key: None, asked_us: now_us(), execution: None };
        let place = self.diary.note(Event::RunAsked(asked.clone()));
        (asked.asked_us, asked.execution) = match self.change_once(Method::POST, &path, None).await? {
            Once::Acknowledged(done) => (done.asked_us, Some(execution(&path, done.answer.as_ref())?)),
            Once::Unknown(asked_us) => (asked_us, None),
        };
        self.diary.correct(place, Event::RunAsked(asked));
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
