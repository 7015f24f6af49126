//! `/badges/{job}/…`: images for readmes and status pages, for everybody who knows the job's id.
//!
//! They show what this node knows and ask nobody: a badge must not fail while there is no leader, and strangers
//! must not be able to keep the leader busy. A node that has fallen behind shows a slightly older badge.

mod svg; // how it is drawn

use crate::Shared;
use crate::error::ApiError;
use crate::openapi::shape::IdInPath;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::execution::ExecutionStatus;
use domain::id::JobId;
use domain::job::JobState;
use domain::pulse::Uptime;
use sha2::{Digest, Sha256};
use storage::Read;
use storage::schema::{JobStates, Jobs, Pulses, Spaces};
use svg::{BRIGHT_GREEN, Badge, GREEN, LIGHT_GREY, ORANGE, RED, YELLOW};
use utoipa::IntoResponses;

/// Image proxies keep for a year what does not forbid it.
const NOT_KEPT: &str = "no-cache, max-age=0, must-revalidate";
const SVG: &str = "image/svg+xml";

/// What a client may say that it has.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "is read elsewhere, and described here")]
struct IfNoneMatch {
    /// The `ETag` of the badge you have.
    #[param(rename = "If-None-Match", required = false, nullable = true)]
    if_none_match: Option<String>,
}

/// How a badge is answered.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "is made elsewhere, and described here")]
enum Answers {
    /// The badge.
    #[response(
        status = 200, content_type = "image/svg+xml",
        headers(("ETag" = String, description = "Changes with the badge."), ("Cache-Control" = String))
    )]
    Shown(String),
    /// It is still the badge you have.
    #[response(status = 304)]
    Known,
    /// There is no such job. Also an image.
    #[response(status = 404, content_type = "image/svg+xml")]
    NotFound(String),
}

/// The job in the path. What cannot be an id, or is no text at all, names none.
fn job(path: Result<Path<String>, PathRejection>) -> Option<JobId> {
    path.ok()?.0.parse().ok()
}

/// Get the status badge.
///
/// Shows the current status of a job: passing, failing, or paused; pending when it never ran.
#[utoipa::path(
    get, path = "/badges/{id}/status.svg", operation_id = "getStatusBadge", tag = "Status Badges", security(()),
    params(IdInPath<JobId>, IfNoneMatch), responses(Answers),
)]
pub(crate) async fn status(
    State(deps): State<Shared>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some(id) = job(path) else { return Ok(not_found("justrun")) };
    deps.must_be_whole()?;
    let found = deps.read(|view| {
        let (Some(job), Some(state)) = (view.get::<Jobs>(&id)?, view.get::<JobStates>(&id)?) else {
            return Ok(None);
        };
        let space = match job.space {
            Some(space) => view.get::<Spaces>(&space)?,
            None => None,
        };
        Ok(Some(status_badge(&state, space.is_some_and(|space| space.is_paused()))))
    })?;
    Ok(found.map_or_else(|| not_found("justrun"), |badge| show(&badge, &headers)))
}

/// Get the uptime badge.
///
/// Shows the uptime percentage for the last 30 days.
#[utoipa::path(
    get, path = "/badges/{id}/uptime.svg", operation_id = "getUptimeBadge", tag = "Status Badges", security(()),
    params(IdInPath<JobId>, IfNoneMatch), responses(Answers),
)]
pub(crate) async fn uptime(
    State(deps): State<Shared>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some(id) = job(path) else { return Ok(not_found("uptime")) };
    deps.must_be_whole()?;
    let now = deps.clock.now();
    let found = deps.read(|view| {
        if !view.contains::<JobStates>(&id)? {
            return Ok(None);
        }
        Ok(Some(view.get::<Pulses>(&id)?.and_then(|pulse| pulse.uptime(now))))
    })?;
    Ok(found.map_or_else(|| not_found("uptime"), |uptime| show(&uptime_badge(uptime), &headers)))
}

fn status_badge(state: &JobState, space_paused: bool) -> Badge<'static> {
    let (message, colour) = if state.paused_at.is_some() || space_paused {
        ("paused", LIGHT_GREY)
    } else {
        match state.last_run.as_ref().map(|last| last.status) {
            Some(ExecutionStatus::Success) => ("passing", BRIGHT_GREEN),
            Some(ExecutionStatus::Failed) => ("failing", RED),
            // What is skipped did not run.
            Some(ExecutionStatus::Skipped) | None => ("pending", LIGHT_GREY),
        }
    };
    Badge { label: "justrun", message: message.into(), colour }
}

fn uptime_badge(uptime: Option<Uptime>) -> Badge<'static> {
    let Some(Uptime { succeeded, ran }) = uptime else {
        return Badge { label: "uptime", message: "n/a".into(), colour: LIGHT_GREY };
    };
    // Rounded down: a job that has failed is never shown at 100%.
    let hundredths = succeeded.saturating_mul(10_000) / ran.max(1);
    let colour = match hundredths {
        9_990.. => BRIGHT_GREEN,
        9_900.. => GREEN,
        9_500.. => YELLOW,
        9_000.. => ORANGE,
        _ => RED,
    };
    Badge { label: "uptime", message: percent(hundredths).into(), colour }
}

/// Hundredths of a percent, without trailing zeros.
fn percent(hundredths: u64) -> String {
    let (whole, part) = (hundredths / 100, hundredths % 100);
    match part {
        0 => format!("{whole}%"),
        part if part % 10 == 0 => format!("{whole}.{}%", part / 10),
        part => format!("{whole}.{part:02}%"),
    }
}

/// A proxy shows an image whatever its status.
fn not_found(label: &'static str) -> Response {
    let badge = Badge { label, message: "not found".into(), colour: LIGHT_GREY };
    let headers = [(CONTENT_TYPE, SVG), (CACHE_CONTROL, NOT_KEPT)];
    (StatusCode::NOT_FOUND, headers, badge.to_string()).into_response()
}

fn show(badge: &Badge<'_>, request: &HeaderMap) -> Response {
    let svg = badge.to_string();
    let tag = etag(&svg);
    let headers = [(CACHE_CONTROL, NOT_KEPT), (ETAG, tag.as_str())];
    if knows(request, &tag) {
        return (StatusCode::NOT_MODIFIED, headers, Body::empty()).into_response();
    }
    (headers, [(CONTENT_TYPE, SVG)], svg).into_response()
}

fn etag(svg: &str) -> String {
    let hash = Sha256::digest(svg);
    let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

/// Whether the client has this version (RFC 9110, section 13.1.2: weak comparison).
fn knows(request: &HeaderMap, tag: &str) -> bool {
    let known = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|list| list.split(',')).map(str::trim).any(|known| {
        let known = known.strip_prefix("W/").unwrap_or(known);
        known == "*" || known == tag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(succeeded: u64, ran: u64, message: &str, colour: &str) {
        let badge = uptime_badge(Some(Uptime { succeeded, ran }));
        assert_eq!((badge.message.as_ref(), badge.colour), (message, colour));
    }

    #[test]
    fn percentages_are_short_and_never_flatter() {
        check(1, 1, "100%", BRIGHT_GREEN);
        check(999_999, 1_000_000, "99.99%", BRIGHT_GREEN);
        check(1_999, 2_000, "99.95%", BRIGHT_GREEN);
        check(999, 1_000, "99.9%", BRIGHT_GREEN);
        check(9_989, 10_000, "99.89%", GREEN);
        check(99, 100, "99%", GREEN);
        check(9_805, 10_000, "98.05%", YELLOW);
        check(9, 10, "90%", ORANGE);
        check(1, 3, "33.33%", RED);
        check(0, 5, "0%", RED);
    }

    #[test]
    fn entity_tags_are_compared_as_lists() {
        let request = |value: &str| HeaderMap::from_iter([(IF_NONE_MATCH, value.parse().unwrap())]);
        assert!(knows(&request("\"b\", W/\"a\""), "\"a\""));
        assert!(knows(&request("*"), "\"a\""));
        assert!(!knows(&request("\"b\""), "\"a\""));
        assert!(!knows(&HeaderMap::new(), "\"a\""));
    }
}
