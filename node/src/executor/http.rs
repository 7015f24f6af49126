//! One attempt: a request to a target and what came of it.
//!
//! Redirects are not followed, proxies of the environment are not used, and answers are not
//! decompressed. Every address is judged by the [`EgressPolicy`] before anything is sent to it.

use super::answer::{Answer, End};
use super::egress::{EgressError, EgressPolicy, GuardedResolver, Lookup, system_lookup};
use super::hosts::Places;
use super::own::OwnAddresses;
use super::template::Placeholders;
use domain::execution::{Attempt, ErrorKind, Failure, ResponseBody};
use domain::id::{ExecutionId, JobId, NodeId};
use domain::job::{Method, Request};
use domain::limits;
use domain::time::{Clock, Timestamp};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::{Client, redirect};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// What every request says it comes from.
pub const USER_AGENT_VALUE: &str = concat!("JustRun/", env!("CARGO_PKG_VERSION"));
/// Requests in flight from one node, by default.
pub const IN_FLIGHT_MAX_DEFAULT: usize = 1_024;
/// Requests in flight from one node to one host, by default. All jobs of a host share them: a quarter of all
/// places, so that a slow endpoint holds up the other jobs of its host late, and those of other hosts not at all.
pub const IN_FLIGHT_PER_HOST_MAX_DEFAULT: usize = 256;
/// How long a connection may take to be made, by default; TLS included.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How long a connection is kept for the next request. A job of every minute finds it still open.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Bytes of an answer that may count as a success: nobody answers a cron job with more, and one without end must
/// not keep a place and the line busy until its timeout.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of any other answer that are read so that its connection can be used again. Beyond this a new
/// connection is cheaper.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;
/// What the history shows for an attempt that timed out (documented).
const TIMEOUT_STATUS: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

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
    /// Requests in flight at most.
    pub in_flight_max: usize,
    /// Requests in flight to one host at most.
    pub in_flight_per_host_max: usize,
    /// What may be called.
    pub egress: EgressPolicy,
}

impl HttpSettings {
    /// The usual bounds, under `egress`.
    #[must_use]
    pub fn new(egress: EgressPolicy) -> Self {
        Self {
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            in_flight_max: IN_FLIGHT_MAX_DEFAULT,
            in_flight_per_host_max: IN_FLIGHT_PER_HOST_MAX_DEFAULT,
            egress,
        }
    }
}

/// The client cannot be built, for instance because this machine has no root certificates.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the http client")]
pub struct BuildError(#[from] reqwest::Error);

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
    /// The answer, when one was read to its end or bound and the job keeps it.
    pub body: Option<ResponseBody>,
}

/// Sends requests over pooled connections, so many at a time.
pub struct HttpClient {
    egress: Arc<EgressPolicy>,
    own: Arc<OwnAddresses>,
    client: Client,
    /// For ports on which the cluster itself listens; see [`GuardedResolver`].
    own_ports_client: Client,
    places: Places,
    connect_timeout: Duration,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient")
            .field("egress", &self.egress)
            .field("places", &self.places)
            .finish_non_exhaustive()
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
        let egress = Arc::new(settings.egress);
        let own = Arc::new(OwnAddresses::new(lookup));
        let build = |own| {
            let policy = Arc::clone(&egress);
            Client::builder()
                .dns_resolver(Arc::new(GuardedResolver { policy, own, lookup }))
                .no_proxy()
                .redirect(redirect::Policy::none())
                .referer(false)
                .connect_timeout(settings.connect_timeout)
                .pool_idle_timeout(POOL_IDLE_TIMEOUT)
                .pool_max_idle_per_host(settings.in_flight_per_host_max)
                .tcp_nodelay(true)
                .build()
        };
        let client = build(None)?;
        let own_ports_client = build(Some(Arc::clone(&own)))?;
        let places = Places::new(settings.in_flight_max, settings.in_flight_per_host_max);
        Ok(Self { egress, own, client, own_ports_client, places, connect_timeout: settings.connect_timeout })
    }

    /// Waits for a place, sends the request and reads the answer.
    ///
    /// Places are granted in the order in which this is called. `may_start` is asked at the instant
    /// the request would leave, when it has its place; when it says no, nothing is sent, the place is free again and
    /// that is the result. The timeout of the job runs from that instant to the end of the answer, in
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
        let prepared = self.prepare(&attempt);
        let _place = match &prepared {
            Ok(prepared) => Some(self.places.take(&prepared.url).await),
            // What is not sent needs no place.
            Err(_) => None,
        };
        let started = Started { at: clock.now(), elapsed: clock.elapsed() };
        may_start(started.at)?;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return Ok(report(&attempt, started, clock, Exchange::failed(None, failure))),
        };
        let timeout_sec = attempt.request.timeout_sec;
        let exchange = self.exchange(attempt.request.method, prepared, attempt.store_response_body);
        let exchange = tokio::time::timeout(Duration::from_secs(timeout_sec.into()), exchange)
            .await
            .unwrap_or_else(|_| {
                let message = format!("Request timed out after {timeout_sec}s");
                Exchange::failed(Some(TIMEOUT_STATUS), failure(ErrorKind::Timeout, message))
            });
        Ok(report(&attempt, started, clock, exchange))
    }

    /// How many more requests could be in flight.
    #[must_use]
    pub fn free_places(&self) -> usize {
        self.places.overall_free()
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
        self.egress.check_url(&url).map_err(blocked)?;
        let body = attempt.request.body.clone().filter(|_| attempt.request.method.has_body());
        let headers = headers(attempt.request, &placeholders, body.as_deref())?;
        Ok(Prepared { url, headers, body })
    }

    async fn exchange(&self, method: Method, prepared: Prepared, keep_body: bool) -> Exchange {
        let Prepared { url, headers, body } = prepared;
        let client = match self.client_for(&url).await {
            Ok(client) => client,
            Err(error) => return Exchange::failed(None, blocked(error)),
        };
        let mut request = client.request(http_method(method), url.clone()).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Exchange::failed(None, self.sending_failed(&error, &url)),
        };
        let status = response.status();
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
        Exchange { status: Some(status), failure, body }
    }

    /// The client for a target, by whether it could be one of the cluster's own endpoints.
    async fn client_for(&self, url: &Url) -> Result<&Client, EgressError> {
        if !url.port_or_known_default().is_some_and(|port| self.egress.refuses_port(port)) {
            return Ok(&self.client);
        }
        // An address that is written as a host never gets to the resolver of that client.
        self.own.check_address(&self.egress, url).await?;
        Ok(&self.own_ports_client)
    }

    /// Tells why there is no answer. The text names the host at most, never an address.
    fn sending_failed(&self, error: &reqwest::Error, url: &Url) -> Failure {
        if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<EgressError>()) {
            return blocked(*error);
        }
        if error.is_dns() {
            let host = url.host_str().unwrap_or_default();
            return failure(ErrorKind::Dns, format!("Host name {host} cannot be resolved"));
        }
        let io_kind =
            causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last().map(io::Error::kind);
        let innermost = causes(error).last().map(ToString::to_string).unwrap_or_default();
        let connect = |message: &str| failure(ErrorKind::Connect, message);
        match io_kind {
            Some(io::ErrorKind::ConnectionRefused) => connect("Connection refused"),
            Some(
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe,
            ) => connect("Connection reset by the target"),
            Some(io::ErrorKind::HostUnreachable) => connect("Host unreachable"),
            Some(io::ErrorKind::NetworkUnreachable) => connect("Network unreachable"),
            // TLS reports whatever it finds wrong with the other side as invalid data, also after
            // the handshake, when the target refuses a client without a certificate.
            Some(io::ErrorKind::InvalidData) if url.scheme() == "https" => {
                failure(ErrorKind::Tls, format!("TLS failed: {innermost}"))
            }
            Some(io::ErrorKind::UnexpectedEof) if url.scheme() == "https" && error.is_connect() => {
                failure(ErrorKind::Tls, "TLS failed: the target closed the connection during the handshake")
            }
            _ if error.is_timeout() => failure(
                ErrorKind::Connect,
                format!("No connection after {}s", self.connect_timeout.as_secs_f64()),
            ),
            _ if error.is_connect() => connect("Connection failed"),
            _ => failure(ErrorKind::Connect, format!("No valid answer: {innermost}")),
        }
    }
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
    body: Option<ResponseBody>,
}

impl Exchange {
    fn failed(status: Option<StatusCode>, failure: Failure) -> Self {
        Self { status, failure: Some(failure), body: None }
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
            finished_at: clock.now(),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            status_code: exchange.status.map(|status| status.as_u16()),
            failure: exchange.failure,
        },
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
fn rfc3339(at: Timestamp) -> String {
    let secs = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(secs)
        .unwrap_or(jiff::Timestamp::MAX)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

fn status_message(status: StatusCode, location: Option<&HeaderValue>, url: &Url) -> String {
    let target = location
        .filter(|_| status.is_redirection())
        .and_then(|location| location.to_str().ok())
        .and_then(|location| url.join(location).ok());
    match target {
        Some(target) => format!("HTTP {} redirect to {target}", status.as_u16()),
        None => format!("HTTP {}", status.as_u16()),
    }
}

fn blocked(error: EgressError) -> Failure {
    failure(ErrorKind::BlockedTarget, error.message())
}

fn failure(kind: ErrorKind, message: impl Into<String>) -> Failure {
    let mut message = message.into();
    message.truncate(message.floor_char_boundary(limits::ERROR_BYTES_MAX));
    Failure { kind, message }
}

/// The error and what lies under it. An [`io::Error`] hides what it wraps from `source`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests;
