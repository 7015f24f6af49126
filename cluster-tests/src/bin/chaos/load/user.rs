//! Somebody who makes a job, changes it, runs it, pauses it, resumes it, leaves or deletes it, and begins again.

use super::{
    Diary, Person,
    request::{Acknowledged, Once, Patience},
};
use cluster_tests::{
    Error,
    api::{Api, NewJob},
    due::ZONES,
    history::{Configuration, Edited, Event, JobId, Stop, Stopped},
    target::Target,
    time::{Civil, SECOND_US, now_us},
};
use http::Method;
use rand::RngExt;
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use tokio::sync::watch;

/// How long a job is left alone between two changes.
const STRETCH_MS: RangeInclusive<u64> = 2_500..=9_000;
/// Changes between two pauses.
const CHANGES: RangeInclusive<usize> = 1..=3;

/// Goes on until it is stopped. Every request is repeated until it is acknowledged, but for some changes of which the user
/// looks instead what came of them.
pub(super) struct User {
    person: Person,
    number: usize,
    /// The address of the target, to which a path is added.
    base: String,
}

/// The user's job.
struct Job {
    id: JobId,
    configuration: Configuration,
    /// Whether a change may still take effect. Others would not be told from it.
    is_unsettled: bool,
}

impl User {
    pub(super) fn new(
        number: usize,
        seed: u64,
        nodes: &[Api],
        target: &Target,
        stop: watch::Receiver<bool>,
        diary: Diary,
    ) -> Self {
        Self { person: Person::new(seed, nodes, stop, diary), number, base: target.url("") }
    }

    /// # Errors
    /// An answer that a repetition must not meet with, or none for too long.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        for round in 0.. {
            if self.live(round).await? {
                break;
            }
        }
        Ok(())
    }

    /// A job's life; says whether it was cut short by the end of the run, and then the job stays as it is.
    async fn live(&mut self, round: usize) -> Result<bool, Error> {
        let name = format!("user {} round {round}", self.number);
        let created = self.person.create(&NewJob::new(name.clone(), "@every 1s", self.url("/ok"))).await?;
        let mut job = Job {
            id: created.job.clone(),
            configuration: created.configuration.clone(),
            is_unsettled: false,
        };
        self.person.diary.note(Event::JobCreated(created));
        if self.change_some(&mut job).await? {
            return Ok(true);
        }

        let mut stopped = stopped_now(&job.id, Stop::Paused);
        let place = self.person.diary.note(Event::Stopped(stopped.clone()));
        let paused = self.turn(&job.id, "pause", &name).await?;
        (stopped.asked_us, stopped.acknowledged_us) = (paused.asked_us, paused.answered_us);
        self.person.diary.correct(place, Event::Stopped(stopped.clone()));
        if self.person.pass(STRETCH_MS).await {
            return Ok(true);
        }
        // A paused job can be changed, and be run.
        match self.person.random.random_range(0..3) {
            0 => drop(self.person.run_named(&job.id, format!("{name} run")).await?),
            1 => self.edit(&mut job).await?,
            _ => {}
        }
        stopped.resume_asked_us = Some(now_us());
        self.person.diary.correct(place, Event::Stopped(stopped.clone()));
        let resumed = self.turn(&job.id, "resume", &name).await?;
        (stopped.resume_asked_us, stopped.resumed_us) = (Some(resumed.asked_us), Some(resumed.answered_us));
        self.person.diary.correct(place, Event::Stopped(stopped));
        if self.change_some(&mut job).await? {
            return Ok(true);
        }

        // What is left behind can be looked at in the end; it is paused, so that there is not more to do from round to round.
        let leaves = self.person.random.random_range(0..2) == 0;
        let mut last = stopped_now(&job.id, if leaves { Stop::Paused } else { Stop::Deleted });
        let place = self.person.diary.note(Event::Stopped(last.clone()));
        let ended = match last.how {
            Stop::Paused => self.turn(&job.id, "pause", &format!("{name} end")).await?,
            Stop::Deleted => {
                let path = format!("/v1/jobs/{}", job.id);
                self.person.change(Method::DELETE, &path, None, None).await?
            }
        };
        (last.asked_us, last.acknowledged_us) = (ended.asked_us, ended.answered_us);
        self.person.diary.correct(place, Event::Stopped(last));
        Ok(false)
    }

    /// Changes the job a few times. Says whether all is to stop.
    async fn change_some(&mut self, job: &mut Job) -> Result<bool, Error> {
        for _ in 0..self.person.random.random_range(CHANGES) {
            if self.person.pass(STRETCH_MS).await {
                return Ok(true);
            }
            self.edit(job).await?;
        }
        Ok(self.person.pass(STRETCH_MS).await)
    }

    /// Pauses or resumes; the request names itself.
    async fn turn(&mut self, job: &JobId, verb: &str, name: &str) -> Result<Acknowledged, Error> {
        let key = format!("{name} {verb}");
        self.person.change(Method::POST, &format!("/v1/jobs/{job}/{verb}"), None, Some(&key)).await
    }

    /// Changes what the job does, unless nobody knows what it does. Every other time that there is no answer, the user asks again;
    /// else it looks.
    async fn edit(&mut self, job: &mut Job) -> Result<(), Error> {
        if job.is_unsettled {
            return Ok(());
        }
        let (to, body) = self.changed(&job.configuration);
        let path = format!("/v1/jobs/{}", job.id);
        let mut edited =
            Edited { job: job.id.clone(), to: to.clone(), asked_us: now_us(), acknowledged_us: None };
        let place = self.person.diary.note(Event::Edited(edited.clone()));
        let repeats = self.person.random.random_range(0..2) == 0;
        (edited.asked_us, edited.acknowledged_us) = if repeats {
            let done = self.person.change(Method::PATCH, &path, Some(&body), None).await?;
            (done.asked_us, Some(done.answered_us))
        } else {
            match self.person.change_once(Method::PATCH, &path, Some(&body)).await? {
                Once::Acknowledged(done) => (done.asked_us, Some(done.answered_us)),
                Once::Unknown(asked_us) => {
                    let shown = self.look(&job.id).await?;
                    (asked_us, (shown == to).then(now_us))
                }
            }
        };
        job.is_unsettled = edited.acknowledged_us.is_none();
        job.configuration = to;
        self.person.diary.correct(place, Event::Edited(edited));
        Ok(())
    }

    /// How the job is configured, by whichever node answers.
    async fn look(&mut self, job: &JobId) -> Result<Configuration, Error> {
        let patience = Patience::new();
        loop {
            match self.person.any().configuration(job).await {
                Ok(Some(configuration)) => return Ok(configuration),
                Ok(None) => {
                    let request = format!("GET /v1/jobs/{job}");
                    return Err(Error::Answered {
                        request,
                        status: 404,
                        body: "nobody deleted it".to_owned(),
                    });
                }
                Err(Error::Call(_) | Error::Answered { status: 500.., .. }) => {
                    patience.again(|| format!("GET /v1/jobs/{job}")).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Another configuration, and what a request for it says.
    fn changed(&mut self, from: &Configuration) -> (Configuration, Value) {
        let mut to = from.clone();
        while to == *from {
            match self.person.random.random_range(0..6) {
                0..3 => {
                    let hours = hours_around(now_us().div_euclid(SECOND_US));
                    let some = ["@every 1s", "@every 2s", "@every 3s", "@every 7s", "* * * * *", &hours];
                    to.expression = self.person.one_of(&some).to_owned();
                }
                3 => to.timezone = self.person.one_of(ZONES).0.to_owned(),
                4 => to.path = format!("/ok/{}", self.person.random.random_range(0..1_000)),
                _ => to.timeout_sec = self.person.random.random_range(3..=9),
            }
        }
        let mut body = json!({});
        if to.expression != from.expression {
            body["cron_expression"] = json!(to.expression);
        }
        if to.timezone != from.timezone {
            body["timezone"] = json!(to.timezone);
        }
        if to.path != from.path {
            body["url"] = json!(self.url(&to.path));
        }
        if to.timeout_sec != from.timeout_sec {
            body["timeout_sec"] = json!(to.timeout_sec);
        }
        (to, body)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// A job that is asked to stop now, and has not been yet.
fn stopped_now(job: &JobId, how: Stop) -> Stopped {
    Stopped {
        job: job.clone(),
        how,
        asked_us: now_us(),
        acknowledged_us: i64::MAX,
        resume_asked_us: None,
        resumed_us: None,
    }
}

/// Every minute of this hour and the next, as UTC counts them: due now, and not where clocks are hours apart.
fn hours_around(now_s: i64) -> String {
    let hour = Civil::from_unix(now_s).hour;
    format!("* {hour},{} * * *", (hour + 1) % 24)
}
