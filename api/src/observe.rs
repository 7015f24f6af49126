//! What is seen of every request: its id, its metrics, and the log of what went wrong.

use crate::Shared;
use crate::error::{ApiError, Cause};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use tracing::Instrument;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The route of what matches none, so that a client cannot make up metrics.
pub(crate) const UNMATCHED: &str = "unmatched";

/// Wraps every request.
///
/// A panic in a handler is answered with 500 and leaves the node running: handlers hold no state that
/// could be left half changed, and one request that panics must not take down every node it is tried on.
pub(crate) async fn observe(State(deps): State<Shared>, request: Request, next: Next) -> Response {
    let id = format!("req_{:016x}", rand::random::<u64>());
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or_else(|| UNMATCHED.to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", id, method = %request.method(), route);
    let started = deps.clock.elapsed();

    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let mut response =
        answered.unwrap_or_else(|_| ApiError::Internal("a handler panicked".into()).into_response());

    let status = response.status().as_u16();
    let took = deps.clock.elapsed().saturating_sub(started);
    span.in_scope(|| {
        if let Some(Cause(cause)) = response.extensions().get::<Cause>() {
            tracing::error!(error = chain(cause.as_ref()), "request failed");
        }
        tracing::debug!(
            status,
            took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "request answered"
        );
    });
    metrics::counter!("justrun_http_requests_total", "route" => route.clone(), "code" => status.to_string())
        .increment(1);
    metrics::histogram!("justrun_http_request_seconds", "route" => route).record(took.as_secs_f64());

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
