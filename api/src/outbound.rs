//! Calls to services outside: payments, diagnoses, importers.
//!
//! Handlers say what to send; `node` sends it. The addresses are the operator's, so that the policy for the
//! targets of jobs does not apply, but every call has its bounds in time and size.

use crate::error::ApiError;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use futures::future::BoxFuture;
use std::fmt;
use std::time::Duration;
use url::Url;

/// Sends requests to services outside. Redirects are answers, not followed.
pub trait Outbound: Send + Sync {
    /// Sends one request and reads the whole answer.
    fn send(&self, request: OutboundRequest) -> BoxFuture<'_, Result<OutboundAnswer, OutboundError>>;
}

/// What to send.
pub struct OutboundRequest {
    /// How.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; empty for none.
    pub body: Bytes,
    /// For the whole exchange.
    pub timeout: Duration,
    /// Bytes of the answer's body at most.
    pub answer_bytes_max: usize,
}

// Headers hold credentials, and bodies what nobody should find in a log.
impl fmt::Debug for OutboundRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundRequest")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct OutboundAnswer {
    /// Whatever the status is.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

/// Why there is no answer. Reads well behind the name of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// It took too long.
    #[error("did not answer in time")]
    Timeout,
    /// There was no connection, or it broke.
    #[error("cannot be reached")]
    Unreachable,
    /// The answer was larger than asked for.
    #[error("answered with more than can be taken")]
    TooLarge,
}

impl OutboundError {
    /// As the answer to a request that needed `service`.
    pub(crate) fn of(self, service: &'static str) -> ApiError {
        ApiError::Upstream { service, fault: self.to_string().into() }
    }
}

/// A header's value that holds a credential; `None` when it cannot be one.
pub(crate) fn credential(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The address of `path` (with a slash in front) at a service.
pub(crate) fn endpoint(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_have_a_path() {
        for (base, expected) in [
            ("https://api.example.com", "https://api.example.com/v1/jobs"),
            ("https://api.example.com/", "https://api.example.com/v1/jobs"),
            ("http://127.0.0.1:9/fake/", "http://127.0.0.1:9/fake/v1/jobs"),
        ] {
            assert_eq!(endpoint(&base.parse().unwrap(), "/v1/jobs").as_str(), expected);
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", credential("Bearer hush").unwrap());
        let request = OutboundRequest {
            method: Method::POST,
            url: "https://api.example.com/hush".parse().unwrap(),
            headers,
            body: Bytes::from_static(b"hush"),
            timeout: Duration::ZERO,
            answer_bytes_max: 0,
        };
        let shown = format!("{request:?} {:?}", request.headers);
        assert!(!shown.contains("hush"), "{shown}");
        assert_eq!(credential("line\nbreak"), None);
    }
}
