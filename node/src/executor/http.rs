//! One attempt: a request to a target and what came of it.
//!
//! Redirects are not followed. Every address is judged by the [`EgressPolicy`] before anything is sent to it.

use super::answer::{Answer, End};
use super::egress::{EgressPolicy, Lookup, system_lookup};
use super::guarded::{BuildError, GuardedClient, failure};
use super::places::Bounds;
use super::retry_after;
use super::template::Placeholders;
use domain::execution::{Attempt, ErrorKind, Failure, ResponseBody};
use domain::id::{ExecutionId, JobId, NodeId};
use domain::job::{Method, Request};
use domain::limits;
use domain::time::{Clock, Timestamp};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use url::Url;

/// What every request says it comes from.
pub const USER_AGENT_VALUE: &str = concat!("JustRun/", env!("CARGO_PKG_VERSION"));
/// How long a connection may take to be made, by default; TLS included.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Bytes of an answer that may count as a success: nobody answers a cron job with more, and one without end must
/// not keep a place and the line busy until its timeout.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of any other answer that are read so that its connection can be used again. Beyond this a new
/// connection is cheaper.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;
/// A timer that is later than this shows that the process was stopped.
const STOPPED_MIN: Duration = Duration::from_millis(500);
/// How long it may then take to read what had arrived.
const UNREAD_TIMEOUT: Duration = Duration::from_millis(250);
/// What the history shows for an attempt that timed out (documented).
const TIMEOUT_STATUS: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
/// Answers of a target that is too busy, and may say for how long.
const BUSY_STATUSES: [StatusCode; 2] = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];

/// Headers that belong to the connection or follow from the body, never to a job.
const CONNECTION_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// How requests are sent.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// How long a connection may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// Idle connections to one host that are kept at most.
    pub idle_per_host_max: usize,
    /// What may be called.
    pub egress: EgressPolicy,
}

impl HttpSettings {
    /// As usual, under `egress`.
    #[must_use]
    pub fn new(egress: EgressPolicy) -> Self {
        Self {
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            idle_per_host_max: Bounds::default().per_host,
            egress,
        }
    }
}

/// What to send, and on whose behalf.
#[derive(Clone, Copy, Debug)]
pub struct AttemptRequest<'a> {
    /// As the job has it.
    pub request: &'a Request,
    /// The job.
    pub job: JobId,
    /// Its name.
    pub job_name: &'a str,
    /// The execution.
    pub execution: ExecutionId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The instant the execution stands for.
    pub scheduled_at: Timestamp,
    /// Who sends it.
    pub node: NodeId,
    /// Whether the answer is kept.
    pub store_response_body: bool,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptReport {
    /// For the history.
    pub attempt: Attempt,
    /// How long the target asked to be left alone, in an answer that says that it is too busy.
    pub retry_after: Option<Duration>,
    /// The answer, when one was read to its end or bound and the job keeps it.
    pub body: Option<ResponseBody>,
}

/// Sends requests over pooled connections.
pub struct HttpClient {
    client: GuardedClient,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("client", &self.client).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// Sets up a client. Opens no connection.
    ///
    /// # Errors
    /// [`BuildError`] when TLS cannot be set up.
    pub fn new(settings: HttpSettings) -> Result<Self, BuildError> {
        Self::with_lookup(settings, system_lookup)
    }

    fn with_lookup(settings: HttpSettings, lookup: Lookup) -> Result<Self, BuildError> {
        let HttpSettings { connect_timeout, idle_per_host_max, egress } = settings;
        let client = GuardedClient::with_lookup(egress, connect_timeout, idle_per_host_max, lookup)?;
        Ok(Self { client })
    }

    /// Sends the request and reads the answer.
    ///
    /// `may_start` is asked at the instant the request would leave; when it says no, nothing is sent and that is the
    /// result. The timeout of the job runs from that instant to the end of the answer, in
    /// real time.
    ///
    /// What can be refused without sending anything (a target that is not allowed, a URL or a header
    /// that is not valid) fails as `blocked_target`: the documented kinds know no other for a
    /// request that this node declines to make.
    ///
    /// # Errors
    /// What `may_start` says.
    pub async fn send<E: Send>(
        &self,
        attempt: AttemptRequest<'_>,
        clock: &dyn Clock,
        may_start: impl FnOnce(Timestamp) -> Result<(), E> + Send,
    ) -> Result<AttemptReport, E> {
        let started = Started { at: clock.now(), elapsed: clock.elapsed() };
        may_start(started.at)?;
        let prepared = match self.prepare(&attempt) {
            Ok(prepared) => prepared,
            Err(failure) => return Ok(report(&attempt, started, clock, Exchange::failed(None, failure))),
        };
        let timeout_sec = attempt.request.timeout_sec;
        let exchange = self.exchange(attempt.request.method, prepared, attempt.store_response_body, clock);
        let exchange = within(Duration::from_secs(timeout_sec.into()), exchange).await.unwrap_or_else(|| {
            let message = format!("Request timed out after {timeout_sec}s");
            Exchange::failed(Some(TIMEOUT_STATUS), failure(ErrorKind::Timeout, message))
        });
        Ok(report(&attempt, started, clock, exchange))
    }

    fn prepare(&self, attempt: &AttemptRequest<'_>) -> Result<Prepared, Failure> {
        let scheduled_at = rfc3339(attempt.scheduled_at);
        let placeholders = Placeholders {
            execution_id: attempt.execution.to_string(),
            job_id: attempt.job.to_string(),
            job_name: attempt.job_name.to_owned(),
            scheduled_at,
            attempt: attempt.attempt.to_string(),
        };
        let url: Url = placeholders
            .fill_query(&attempt.request.url)
            .parse()
            .map_err(|_| failure(ErrorKind::BlockedTarget, "Target URL is not valid"))?;
        self.client.check(&url)?;
        let body = attempt.request.body.clone().filter(|_| attempt.request.method.has_body());
        let headers = headers(attempt.request, &placeholders, body.as_deref())?;
        Ok(Prepared { url, headers, body })
    }

    async fn exchange(
        &self,
        method: Method,
        prepared: Prepared,
        keep_body: bool,
        clock: &dyn Clock,
    ) -> Exchange {
        let Prepared { url, headers, body } = prepared;
        let mut request = match self.client.request(http_method(method), &url).await {
            Ok(request) => request.headers(headers),
            Err(refused) => return Exchange::failed(None, refused),
        };
        if let Some(body) = body {
            request = request.body(body);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Exchange::failed(None, self.client.explain(&error, &url)),
        };
        let status = response.status();
        let retry_after = BUSY_STATUSES
            .contains(&status)
            .then(|| retry_after::asked(response.headers(), clock.now()))
            .flatten();
        let location = response.headers().get(LOCATION).cloned();
        let kept_max = if keep_body { limits::RESPONSE_BODY_BYTES_MAX } else { 0 };
        // Only a success depends on how the answer ends.
        let read_max = if status.is_success() { ANSWER_BYTES_MAX } else { DRAIN_BYTES_MAX };
        let answer = Answer::read(&mut response, kept_max, read_max).await;
        let failure = if !status.is_success() {
            Some(failure(ErrorKind::HttpStatus, status_message(status, location.as_ref(), &url)))
        } else {
            match answer.end {
                End::Whole => None,
                End::Broken => {
                    Some(failure(ErrorKind::Connect, "Connection broke before the answer was complete"))
                }
                End::TooLong => {
                    let mebibytes = ANSWER_BYTES_MAX / (1024 * 1024);
                    Some(failure(ErrorKind::Connect, format!("Answer is longer than {mebibytes} MiB")))
                }
            }
        };
        let body = keep_body.then(|| answer.text());
        Exchange { status: Some(status), failure, retry_after, body }
    }
}

/// What comes of `work` within `bound`; `None` if nothing does.
///
/// A process that was stopped for a while, with its machine or alone, finds its timers over and what arrived meanwhile unread. What
/// the target said in time is not given up for that.
async fn within<T>(bound: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let began = Instant::now();
    if let Ok(done) = timeout(bound, &mut work).await {
        return Some(done);
    }
    if began.elapsed() < bound + STOPPED_MIN {
        return None;
    }
    timeout(UNREAD_TIMEOUT, work).await.ok()
}

struct Prepared {
    url: Url,
    headers: HeaderMap,
    body: Option<String>,
}

#[derive(Clone, Copy)]
struct Started {
    at: Timestamp,
    elapsed: Duration,
}

struct Exchange {
    status: Option<StatusCode>,
    failure: Option<Failure>,
    retry_after: Option<Duration>,
    body: Option<ResponseBody>,
}

impl Exchange {
    fn failed(status: Option<StatusCode>, failure: Failure) -> Self {
        Self { status, failure: Some(failure), retry_after: None, body: None }
    }
}

fn report(
    attempt: &AttemptRequest<'_>,
    started: Started,
    clock: &dyn Clock,
    exchange: Exchange,
) -> AttemptReport {
    let duration = clock.elapsed().saturating_sub(started.elapsed);
    AttemptReport {
        attempt: Attempt {
            number: attempt.attempt,
            node: attempt.node,
            started_at: started.at,
            // Not by the wall clock, which may have jumped meanwhile: a retry is counted from here.
            finished_at: started.at.plus(duration),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            status_code: exchange.status.map(|status| status.as_u16()),
            failure: exchange.failure,
        },
        retry_after: exchange.retry_after,
        body: exchange.body,
    }
}

/// The job's headers, then ours, which win.
fn headers(request: &Request, placeholders: &Placeholders, body: Option<&str>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        if CONNECTION_HEADERS.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            continue;
        }
        let invalid = || failure(ErrorKind::BlockedTarget, format!("Header {name} is not valid"));
        let value = placeholders.fill_header(value);
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| invalid())?;
        headers.append(HeaderName::try_from(name.as_str()).map_err(|_| invalid())?, value);
    }
    if let Some(body) = body
        && !headers.contains_key(CONTENT_TYPE)
    {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
        let content_type = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if request.method.has_body() && body.is_none_or(str::is_empty) {
        // The client leaves it out then, and many servers answer such a request with 411.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
    for (name, value) in [
        ("x-justrun-job-id", &placeholders.job_id),
        ("x-justrun-execution-id", &placeholders.execution_id),
        ("x-justrun-attempt", &placeholders.attempt),
        ("x-justrun-scheduled-at", &placeholders.scheduled_at),
    ] {
        let value = HeaderValue::from_str(value).expect("ids, numbers and instants are ASCII");
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

fn http_method(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Delete => http::Method::DELETE,
    }
}

/// RFC 3339 in UTC, whole seconds.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let secs = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(secs)
        .unwrap_or(jiff::Timestamp::MAX)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// Where an answer of `url` leads, if it is a redirect.
pub(crate) fn redirected_to(status: StatusCode, location: Option<&HeaderValue>, url: &Url) -> Option<Url> {
    let location = location.filter(|_| status.is_redirection())?;
    url.join(location.to_str().ok()?).ok()
}

fn status_message(status: StatusCode, location: Option<&HeaderValue>, url: &Url) -> String {
    match redirected_to(status, location, url) {
        Some(target) => format!("HTTP {} redirect to {target}", status.as_u16()),
        None => format!("HTTP {}", status.as_u16()),
    }
}

#[cfg(test)]
mod tests;
