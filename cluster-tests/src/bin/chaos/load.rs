//! What users do meanwhile: they make jobs, pause them, resume them and delete them, on any node.

use cluster_tests::{
    Error,
    api::{Api, Asked, NewJob},
    client::{CallError, Client},
    history::{Delivery, Event, JobCreated, Stopped},
    time::now_us,
};
use http::Method;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// A request that takes longer is given up, and asked again of another node.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Before an attempt that had no answer is repeated.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long a job runs, and how long it then stands still.
const STRETCH_MS: std::ops::RangeInclusive<u64> = 4_000..=15_000;

/// The jobs that run from the start: what a job may be told, in turn.
pub(crate) fn lasting_job(number: usize, target: impl Fn(&str) -> String) -> NewJob {
    let name = format!("lasting {number}");
    let job = |path: &str| NewJob::new(name.clone(), "@every 1s", target(path));
    match number % 5 {
        0 => NewJob { retry_max: 2, ..job("/fail-first/1") },
        1 => NewJob { delivery: Delivery::AtMostOnce, ..job("/ok") },
        2 => job("/slow/300"),
        3 => NewJob { expression: "@every 3s".to_owned(), ..job("/ok") },
        _ => job("/ok"),
    }
}

/// One user, who makes a job, pauses it, resumes it, deletes it, and begins again, until `stop`. Every change is
/// repeated until it is acknowledged. Returns what it did.
///
/// # Errors
/// An answer that a repetition must not meet with.
pub(crate) async fn user(
    number: usize,
    seed: u64,
    nodes: Vec<Api>,
    url: String,
    mut stop: watch::Receiver<bool>,
) -> Result<Vec<Event>, Error> {
    let nodes: Vec<_> = nodes.iter().map(|api| api.with_client(Client::new(REQUEST_TIMEOUT))).collect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut events = Vec::new();
    let mut stretch = async |random: &mut StdRng| {
        let stretch = Duration::from_millis(random.random_range(STRETCH_MS));
        let _ = timeout(stretch, stop.wait_for(|stop| *stop)).await;
        *stop.borrow()
    };
    for round in 0.. {
        let job = NewJob::new(format!("user {number} round {round}"), "@every 1s", url.clone());
        let created = create(&job, &nodes, &mut random).await?;
        let id = created.job.clone();
        events.push(Event::JobCreated(created));
        let stop_now = stretch(&mut random).await;

        let (asked_us, acknowledged_us) =
            change(Method::POST, &format!("/v1/jobs/{id}/pause"), &nodes, &mut random).await?;
        let mut stopped =
            Stopped { job: id.clone(), asked_us, acknowledged_us, resume_asked_us: None, resumed_us: None };
        if stop_now || stretch(&mut random).await {
            events.push(Event::Stopped(stopped));
            return Ok(events);
        }
        let (asked_us, acknowledged_us) =
            change(Method::POST, &format!("/v1/jobs/{id}/resume"), &nodes, &mut random).await?;
        (stopped.resume_asked_us, stopped.resumed_us) = (Some(asked_us), Some(acknowledged_us));
        events.push(Event::Stopped(stopped));
        stretch(&mut random).await;

        let (asked_us, acknowledged_us) =
            change(Method::DELETE, &format!("/v1/jobs/{id}"), &nodes, &mut random).await?;
        events.push(Event::Stopped(Stopped {
            job: id,
            asked_us,
            acknowledged_us,
            resume_asked_us: None,
            resumed_us: None,
        }));
    }
    Ok(events)
}

fn any<'a>(nodes: &'a [Api], random: &mut StdRng) -> &'a Api {
    &nodes[random.random_range(0..nodes.len())]
}

async fn create(job: &NewJob, nodes: &[Api], random: &mut StdRng) -> Result<JobCreated, Error> {
    let asked_us = now_us();
    loop {
        if let Asked::Answered(posted) = any(nodes, random).create_once(job).await? {
            return Ok(JobCreated {
                job: posted.job,
                expression: job.expression.clone(),
                delivery: job.delivery,
                timeout_sec: job.timeout_sec,
                retry_max: job.retry_max,
                // An earlier attempt may have made it.
                asked_us,
                acknowledged_us: posted.answered_us,
            });
        }
        sleep(AGAIN_AFTER).await;
    }
}

/// Asks for a change until it is acknowledged; when it was asked for first, and when the answer was here. That it was made
/// before, by an attempt that had no answer, is one.
async fn change(method: Method, path: &str, nodes: &[Api], random: &mut StdRng) -> Result<(i64, i64), Error> {
    let asked_us = now_us();
    for attempt in 0.. {
        let answer = match any(nodes, random).send(method.clone(), path, None).await {
            Ok(answer) if answer.status < 500 => answer,
            Ok(_) | Err(CallError::NotSent { .. } | CallError::Unknown { .. }) => {
                sleep(AGAIN_AFTER).await;
                continue;
            }
        };
        let was_made_before = attempt > 0 && matches!(answer.status, 404 | 409);
        if answer.is_success() || was_made_before {
            break;
        }
        let request = format!("{method} {path}");
        return Err(Error::Answered { request, status: answer.status, body: answer.excerpt() });
    }
    Ok((asked_us, now_us()))
}
