//! What is seen of every request: its id, its metrics, and the log of what went wrong.

use crate::error::{ApiError, Cause};
use crate::{Shared, drain};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use metrics::{Counter, Histogram};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The route of what matches none, so that a client cannot make up metrics.
pub(crate) const UNMATCHED: &str = "unmatched";

/// What observing works with.
#[derive(Clone)]
pub(crate) struct Observer {
    deps: Shared,
    metrics: Arc<Metrics>,
}

impl Observer {
    pub(crate) fn new(deps: Shared) -> Self {
        Self { deps, metrics: Arc::default() }
    }
}

/// The metrics of all routes. Handles are kept, since finding one by its labels costs more than all else that is done
/// with it. There are as many as there are routes and statuses.
#[derive(Default)]
struct Metrics(RwLock<HashMap<String, RouteMetrics>>);

struct RouteMetrics {
    seconds: Histogram,
    answers: Vec<(StatusCode, Counter)>,
}

impl Metrics {
    /// Counts a request that was answered.
    fn count(&self, route: &str, status: StatusCode, took: Duration) {
        if self.0.read().get(route).is_some_and(|metrics| metrics.count(status, took)) {
            return;
        }
        let mut routes = self.0.write();
        let metrics = routes.entry(route.to_owned()).or_insert_with(|| RouteMetrics {
            seconds: metrics::histogram!("justrun_http_request_seconds", "route" => route.to_owned()),
            answers: Vec::new(),
        });
        if !metrics.count(status, took) {
            metrics.answers.push((status, answers(route, status)));
            metrics.count(status, took);
        }
    }
}

impl RouteMetrics {
    /// Whether this status was counted.
    fn count(&self, status: StatusCode, took: Duration) -> bool {
        let Some((_, answers)) = self.answers.iter().find(|(known, _)| *known == status) else {
            return false;
        };
        answers.increment(1);
        self.seconds.record(took.as_secs_f64());
        true
    }
}

/// Counts the answers of a route.
pub(crate) fn answers(route: &str, status: StatusCode) -> Counter {
    metrics::counter!(
        "justrun_http_requests_total", "route" => route.to_owned(), "code" => status.as_str().to_owned()
    )
}

/// Wraps every request.
///
/// A panic in a handler is answered with 500 and leaves the node running: handlers hold no state that
/// could be left half changed, and one request that panics must not take down every node it is tried on.
pub(crate) async fn observe(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    let Observer { deps, metrics } = observer;
    let id = format!("req_{:016x}", rand::random::<u64>());
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let span = tracing::info_span!("request", id, method = %request.method(), route);
    let started = deps.clock.elapsed();

    let (request, leftover) = drain::lend(request);
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let mut response =
        answered.unwrap_or_else(|_| ApiError::Internal("a handler panicked".into()).into_response());

    let status = response.status();
    let took = deps.clock.elapsed().saturating_sub(started);
    span.in_scope(|| {
        if let Some(Cause(cause)) = response.extensions().get::<Cause>() {
            tracing::error!(error = chain(cause.as_ref()), "request failed");
        }
        tracing::debug!(
            status = status.as_u16(),
            took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "request answered"
        );
    });
    metrics.count(route, status, took);
    leftover.discard().await;

    let id = HeaderValue::try_from(id).expect("hexadecimal digits make a header value");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_error_names_its_causes() {
        let cause = std::io::Error::other("disk full");
        let error = ApiError::Internal(Box::new(cause));
        assert_eq!(chain(&error), "internal error: disk full");
    }
}
