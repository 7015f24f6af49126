//! Polite reading of another service: so many requests a second, one more try of what failed, and an end in any
//! case.

use crate::Deps;
use crate::error::ApiError;
use crate::outbound::{OutboundAnswer, OutboundRequest, endpoint};
use axum::body::Bytes;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use url::Url;

/// Between an answer and the next request: cron-job.org takes five a second.
const INTERVAL: Duration = Duration::from_millis(250);
/// For one request.
const TIMEOUT: Duration = Duration::from_secs(15);
/// For everything. Whoever imports waits for it.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long before the end nothing new is begun, so that what has been read can still be imported.
const RESERVE: Duration = Duration::from_secs(10);
/// How long a service may ask us to wait.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Before what failed is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// Of one answer: a hundred jobs of EasyCron with the largest bodies it allows, or a thousand in a list of
/// cron-job.org.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Another service, under the key of a client.
pub(super) struct Source<'a> {
    pub(super) service: &'static str,
    deps: &'a Deps,
    base: &'a Url,
    headers: HeaderMap,
    deadline: Instant,
    next: Instant,
}

/// Why there is nothing to read.
#[derive(Debug)]
pub(super) enum Unread {
    /// The key is not accepted, for this reason.
    Key(&'static str),
    /// The key has been used as often as it may be for now.
    Quota,
    /// There is no such thing any more.
    Gone,
    /// The service failed.
    Failed(ApiError),
}

impl<'a> Source<'a> {
    pub(super) fn new(service: &'static str, deps: &'a Deps, base: &'a Url, headers: HeaderMap) -> Self {
        let now = Instant::now();
        Self { service, deps, base, headers, deadline: now + WHOLE_TIMEOUT, next: now }
    }

    /// Whether nothing more should be begun.
    pub(super) fn is_out_of_time(&self) -> bool {
        Instant::now() + RESERVE >= self.deadline
    }

    /// A failure of the service.
    pub(super) fn failed(&self, fault: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
        ApiError::Upstream { service: self.service, fault: fault.into() }
    }

    /// Reads a JSON document.
    pub(super) async fn get(&mut self, path: &str, query: &str) -> Result<Value, Unread> {
        match timeout_at(self.deadline, self.try_twice(path, query)).await {
            Ok(read) => read,
            Err(_) => Err(Unread::Failed(self.failed("takes too long"))),
        }
    }

    async fn try_twice(&mut self, path: &str, query: &str) -> Result<Value, Unread> {
        let first = self.send(path, query).await;
        let wait = match &first {
            Ok(answer) if answer.status.is_server_error() => RETRY_WAIT,
            Err(_) => RETRY_WAIT,
            Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => match asked_to_wait(answer) {
                Some(wait) if wait <= WAIT_MAX => wait,
                Some(_) | None => return Err(Unread::Quota),
            },
            Ok(_) => return self.judge(first),
        };
        sleep(wait).await;
        let second = self.send(path, query).await;
        self.judge(second)
    }

    async fn send(&mut self, path: &str, query: &str) -> Result<OutboundAnswer, ApiError> {
        sleep_until(self.next).await;
        let mut url = endpoint(self.base, path);
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let request = OutboundRequest {
            method: Method::GET,
            url,
            headers: self.headers.clone(),
            body: Bytes::new(),
            timeout: TIMEOUT,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let answered = self.deps.outbound.send(request).await;
        // From the answer on, so that no delay on the way can bring two requests closer together.
        self.next = Instant::now() + INTERVAL;
        answered.map_err(|error| error.of(self.service))
    }

    fn judge(&self, answered: Result<OutboundAnswer, ApiError>) -> Result<Value, Unread> {
        let answer = answered.map_err(Unread::Failed)?;
        match answer.status {
            StatusCode::UNAUTHORIZED => Err(Unread::Key("is not accepted there")),
            StatusCode::FORBIDDEN => Err(Unread::Key("may not be used from here")),
            StatusCode::NOT_FOUND => Err(Unread::Gone),
            StatusCode::TOO_MANY_REQUESTS => Err(Unread::Quota),
            status if status.is_success() => serde_json::from_slice(&answer.body)
                .map_err(|_| Unread::Failed(self.failed("gave an answer that makes no sense"))),
            status => Err(Unread::Failed(self.failed(format!("answered with status {}", status.as_u16())))),
        }
    }
}

/// How long to wait, in seconds; the other form, a date, is not waited for.
fn asked_to_wait(answer: &OutboundAnswer) -> Option<Duration> {
    let seconds = answer.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
