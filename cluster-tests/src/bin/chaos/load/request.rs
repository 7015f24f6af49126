//! A change is asked for until it is acknowledged. What names itself takes effect once however often it is repeated; so does
//! a deletion, and so does a change of a job's fields as long as nobody changes them to something else meanwhile.

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
use tokio::time::sleep;

/// Before an attempt that had no answer is repeated.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

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
        let asked_us = now_us();
        loop {
            if let Asked::Answered(posted) = self.any().create_once(job).await? {
                // An earlier attempt may have made it.
                return Ok(job.created(posted.job, asked_us, posted.answered_us));
            }
            sleep(AGAIN_AFTER).await;
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
        let asked_us = now_us();
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
                Fate::NotDone | Fate::Unknown => sleep(AGAIN_AFTER).await,
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
                Fate::NotDone => sleep(AGAIN_AFTER).await,
            }
        }
    }
}

/// A job that nobody has deleted.
fn gone(method: &Method, path: &str) -> Error {
    Error::Answered { request: format!("{method} {path}"), status: 404, body: "nobody deleted it".to_owned() }
}
