//! A change is asked for until it is acknowledged, or has been asked for too long. What names itself takes effect once however often it is
//! repeated; so does a deletion, and so does a change of a job's fields as long as nobody changes them to something else meanwhile.

use super::Person;
use cluster_tests::{
    Error,
    api::{Asked, Fate, NewJob},
    client::Answer,
    history::JobCreated,
    time::now_us,
};
use http::Method;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Before an attempt that had no answer is repeated.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How long a change is asked for: longer than any fault lasts, and the cluster takes to be one again.
const DEADLINE: Duration = Duration::from_secs(120);

/// How long somebody goes on asking for one thing.
pub(super) struct Patience {
    since: Instant,
    deadline: Duration,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), deadline: DEADLINE }
    }

    /// Waits a moment before it is asked again.
    ///
    /// # Errors
    /// [`Error::Deadline`] if it has been asked for too long, with `what` that is.
    pub(super) async fn again(&self, what: impl FnOnce() -> String) -> Result<(), Error> {
        if self.since.elapsed() >= self.deadline {
            let (what, seen) = (format!("answer to {}", what()), "refusals, errors or nothing".to_owned());
            return Err(Error::Deadline { what, deadline: self.deadline, seen });
        }
        sleep(AGAIN_AFTER).await;
        Ok(())
    }
}

/// A change that was acknowledged.
pub(super) struct Acknowledged {
    /// When it was asked for first.
    pub(super) asked_us: i64,
    /// When the answer was here.
    pub(super) answered_us: i64,
    /// None where the thing was gone, as was asked for.
    pub(super) answer: Option<Answer>,
}

/// What came of a change that is asked for once unless it was refused.
pub(super) enum Once {
    Acknowledged(Acknowledged),
    /// When it was asked for.
    Unknown(i64),
}

impl Person {
    /// Makes a job.
    pub(super) async fn create(&mut self, job: &NewJob) -> Result<JobCreated, Error> {
        let (asked_us, patience) = (now_us(), Patience::new());
        loop {
            if let Asked::Answered(posted) = self.any().create_once(job).await? {
                // An earlier attempt may have made it.
                return Ok(job.created(posted.job, asked_us, posted.answered_us));
            }
            patience.again(|| format!("POST /v1/jobs as {}", job.name)).await?;
        }
    }

    /// Asks on one node after the other until the change is acknowledged.
    pub(super) async fn change(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Acknowledged, Error> {
        let (asked_us, patience) = (now_us(), Patience::new());
        for attempt in 0.. {
            let fate = self.any().change(method.clone(), path, body, key).await?;
            let answered_us = now_us();
            match fate {
                Fate::Done(answer) => {
                    return Ok(Acknowledged { asked_us, answered_us, answer: Some(answer) });
                }
                Fate::Absent if attempt > 0 && method == Method::DELETE => {
                    return Ok(Acknowledged { asked_us, answered_us, answer: None });
                }
                Fate::Absent => return Err(gone(&method, path)),
                Fate::NotDone | Fate::Unknown => patience.again(|| format!("{method} {path}")).await?,
            }
        }
        Err(gone(&method, path))
    }

    /// Asks until the change is acknowledged or nobody knows whether it was made.
    pub(super) async fn change_once(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Once, Error> {
        let patience = Patience::new();
        loop {
            let asked_us = now_us();
            let fate = self.any().change(method.clone(), path, body, None).await?;
            let answered_us = now_us();
            match fate {
                Fate::Done(answer) => {
                    return Ok(Once::Acknowledged(Acknowledged {
                        asked_us,
                        answered_us,
                        answer: Some(answer),
                    }));
                }
                Fate::Absent => return Err(gone(&method, path)),
                Fate::Unknown => return Ok(Once::Unknown(asked_us)),
                Fate::NotDone => patience.again(|| format!("{method} {path}")).await?,
            }
        }
    }
}

/// A job that nobody has deleted.
fn gone(method: &Method, path: &str) -> Error {
    Error::Answered { request: format!("{method} {path}"), status: 404, body: "nobody deleted it".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_asks_for_ever() {
        let what = || "POST /".to_owned();
        assert!(Patience::new().again(what).await.is_ok());
        let deadline = AGAIN_AFTER * 2;
        let patience = Patience { since: Instant::now(), deadline };
        let mut asked = 0;
        let error = loop {
            match patience.again(what).await {
                Ok(()) => asked += 1,
                Err(error) => break error.to_string(),
            }
        };
        assert!((1..=2).contains(&asked) && patience.since.elapsed() >= deadline, "{asked}");
        assert!(error.starts_with("no answer to POST / within 400ms"), "{error}");
    }
}
