//! Bodies, queries and ids that fail in our error shape.

use crate::error::ApiError;
use crate::fields::{self, Fields, Issues};
use crate::json::{self, Value};
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use domain::limits;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;
use tokio::time::timeout;
use url::form_urlencoded;

/// A client that needs longer for a body of at most 1 MiB holds on to memory for nothing.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON body of at most [`limits::API_BODY_BYTES_MAX`] bytes.
pub(crate) struct Json(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        Ok(Self(json_of(request, limits::API_BODY_BYTES_MAX).await?))
    }
}

/// As [`Json`], of at most [`limits::IMPORT_BYTES_MAX`] bytes.
pub(crate) struct ImportJson(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for ImportJson {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        Ok(Self(json_of(request, limits::IMPORT_BYTES_MAX).await?))
    }
}

async fn json_of(request: Request, bytes_max: usize) -> Result<Value, ApiError> {
    if !is_json(request.headers()) {
        return Err(ApiError::MediaType);
    }
    let bytes = collect(request, bytes_max).await?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    json::parse(bytes).map_err(|error| fields::misshapen(fields::ROOT, format!("is not valid JSON: {error}")))
}

/// The whole body of a request, of `bytes_max` bytes at most.
pub(crate) async fn collect(request: Request, bytes_max: usize) -> Result<Bytes, ApiError> {
    // Refused before it is read, so that a client that waits for "100 Continue" need not send it.
    if announced_bytes(request.headers()).is_some_and(|bytes| bytes > bytes_max) {
        return Err(ApiError::TooLarge { bytes_max });
    }
    match timeout(BODY_TIMEOUT, Limited::new(request.into_body(), bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge { bytes_max }),
        Ok(Err(_)) => Err(fields::misshapen(fields::ROOT, "broke off")),
        Err(_) => Err(ApiError::Timeout),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    })
}

fn announced_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH).and_then(|value: &HeaderValue| value.to_str().ok()?.parse().ok())
}

/// Nothing, for requests that need no body: an empty one, or an object without fields. Whoever sends more believes
/// that it does something.
pub(crate) struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let bytes = collect(request, limits::API_BODY_BYTES_MAX).await?;
        if bytes.is_empty() {
            return Ok(Self);
        }
        if !is_json {
            return Err(ApiError::MediaType);
        }
        let mut issues = Issues::default();
        if let Some(fields) = Fields::of(&parse(&bytes)?, "", &mut issues) {
            fields.finish();
        }
        issues.refuse()?;
        Ok(Self)
    }
}

/// The parameters of the query, decoded. Parameters that nobody asks for are ignored, since proxies and
/// trackers add their own.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// The value of a parameter; `None` when it is absent, or given more than once, which is noted.
    pub(crate) fn text(&self, name: &str, issues: &mut Issues) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = found.next();
        if found.next().is_some() {
            issues.meaning(name, "is given more than once");
            return None;
        }
        value
    }

    #[cfg(test)]
    pub(crate) fn of(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

/// Something with an id that stands in a path.
pub(crate) trait Named: FromStr + Send {
    /// What a client would call it.
    const NOUN: &'static str;
}

/// The id in the path. One that cannot be an id names nothing, and is answered like one that is unknown.
pub(crate) struct Id<T>(pub(crate) T);

impl<T: Named, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.ok().and_then(|Path(text)| text.parse().ok()).map(Self).ok_or(ApiError::NotFound(T::NOUN))
    }
}
