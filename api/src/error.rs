//! What a refusal looks like: the documented JSON shape, with code and status decided in one match.

use crate::fields::{Issue, Issues};
use crate::openapi::words::ErrorCodeWord;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use domain::rejection::Rejection;
use raft::{ProposeError, ReadError};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;
use utoipa::ToSchema;

/// Seconds after which asking again makes sense while there is no leader: an election is over by then.
const RETRY_AFTER_SEC: HeaderValue = HeaderValue::from_static("1");

/// Every code that a refusal may have.
pub(crate) const CODES: [&str; 19] = [
    "validation_error",
    "unauthorized",
    "registration_closed",
    "plan_limit_exceeded",
    "not_found",
    "method_not_allowed",
    "conflict",
    "rate_limit_exceeded",
    "request_timeout",
    "payload_too_large",
    "unsupported_media_type",
    "bad_request",
    "request_header_fields_too_large",
    "billing_not_configured",
    "diagnosis_not_configured",
    "upstream_error",
    "no_leader",
    "not_ready",
    "internal",
];

/// Why a request was refused. The text of every variant but [`ApiError::Internal`] is for the client.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Something is wrong with the request's body or query; says all of it.
    #[error("{0}")]
    Invalid(Issues),
    /// No credential, or none that is known.
    #[error("invalid or missing API key or session token")]
    Unauthorized,
    /// Somebody would sign in, but not with these words.
    #[error("the email or the password is wrong")]
    BadLogin,
    /// The operator takes no new accounts this way.
    #[error("registration is closed; ask whoever runs this service for an account")]
    RegistrationClosed,
    /// The account's plan allows no more of something.
    #[error("your plan allows at most {max} {what}")]
    PlanLimit {
        /// How many it allows.
        max: u64,
        /// Of what.
        what: &'static str,
    },
    /// The account has as many of something as anybody may have.
    #[error("an account has at most {max} {what}")]
    TooMany {
        /// How many it may have.
        max: u64,
        /// Of what.
        what: &'static str,
    },
    /// It stands already as it was asked to.
    #[error("the {what} is already {state}")]
    Already {
        /// What does.
        what: &'static str,
        /// How it stands.
        state: &'static str,
    },
    /// What a change was computed from has moved on. Handlers compute it again; a client sees it only after
    /// many tries.
    #[error("it is being changed by others, try again")]
    Stale,
    /// A random id is taken. Handlers draw another one.
    #[error("an id is taken")]
    Taken,
    /// A request with this idempotency key was answered before; the gate gives that answer again.
    #[error("the request was answered before")]
    Answered,
    /// There is no such thing, or it is another account's, which must look the same.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The path exists, but not with this method.
    #[error("this method is not allowed here")]
    MethodNotAllowed,
    /// The request does not fit the present state of the thing.
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    /// The account, or the address, has asked too often.
    #[error("Too many requests. Please retry after {retry_after} seconds.")]
    RateLimited {
        /// Seconds until it may ask again.
        retry_after: u64,
    },
    /// The client took too long to send its body.
    #[error("the request body took too long to arrive")]
    Timeout,
    /// The body is larger than allowed.
    #[error("the request is larger than {bytes_max} bytes")]
    TooLarge {
        /// How large it may be.
        bytes_max: usize,
    },
    /// The body is not said to be JSON.
    #[error("the request body must be application/json")]
    MediaType,
    /// What arrived cannot be read as HTTP.
    #[error("this is not a well-formed HTTP/1.1 request")]
    NotHttp,
    /// The request line and the headers are larger, or more, than allowed.
    #[error("the request's path and headers are too large, or too many")]
    HeadersTooLarge,
    /// The operator has not said how to take payments.
    #[error("billing is not configured on this server")]
    BillingNotConfigured,
    /// The operator has not said who makes diagnoses.
    #[error("AI diagnoses are not configured on this server")]
    DiagnosisNotConfigured,
    /// A service outside failed that the request needs.
    #[error("{service} {fault}")]
    Upstream {
        /// Which.
        service: &'static str,
        /// What it did; reads well behind its name.
        fault: Cow<'static, str>,
    },
    /// Nobody leads as far as this node knows, or what was committed is not applied here in time. Nothing was changed.
    #[error("this node found no leader in time, or is too far behind it; nothing was changed, try again")]
    NoLeader,
    /// The answer to a change was not learnt.
    #[error("the cluster did not answer in time; the change may still take effect, look before trying again")]
    OutcomeUnknown,
    /// This node takes no requests now.
    #[error("this node cannot serve requests at the moment, try again")]
    NotReady,
    /// The cluster takes no requests until a backup has been restored.
    #[error("a backup is being restored; requests are answered again once that is done")]
    Restoring,
    /// Our fault. The cause goes to the log under the request's id, never to the client.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ApiError {
    pub(crate) fn conflict(message: &'static str) -> Self {
        Self::Conflict(message.into())
    }

    /// Says of what it is, one and many of them, where the replicated state answers the same for all.
    pub(crate) fn about(self, one: &'static str, many: &'static str) -> Self {
        match self {
            Self::Already { state, .. } => Self::Already { what: one, state },
            Self::TooMany { max, .. } => Self::TooMany { max, what: many },
            other => other,
        }
    }

    /// What programs know it by.
    pub(crate) fn code(&self) -> &'static str {
        self.parts().1
    }

    /// The status it is answered with.
    pub(crate) fn status(&self) -> StatusCode {
        self.parts().0
    }

    /// The JSON text of the answer.
    pub(crate) fn body(&self) -> Vec<u8> {
        serde_json::to_vec(&self.output()).expect("texts and numbers are valid JSON")
    }

    /// What the answer holds.
    pub(crate) fn output(&self) -> ErrorOutput<'_> {
        let details = match self {
            Self::Invalid(issues) => Some(issues.list()),
            _ => None,
        };
        let retry_after = match self {
            Self::RateLimited { retry_after } => Some(*retry_after),
            _ => None,
        };
        ErrorOutput {
            error: ErrorDetail { code: self.code(), message: self.to_string(), details, retry_after },
        }
    }

    fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Invalid(issues) if issues.misshapen() => (StatusCode::BAD_REQUEST, "validation_error"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "validation_error"),
            Self::Unauthorized | Self::BadLogin => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::RegistrationClosed => (StatusCode::FORBIDDEN, "registration_closed"),
            Self::PlanLimit { .. } => (StatusCode::FORBIDDEN, "plan_limit_exceeded"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Conflict(_)
            | Self::TooMany { .. }
            | Self::Already { .. }
            | Self::Stale
            | Self::Taken
            | Self::Answered => (StatusCode::CONFLICT, "conflict"),
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded"),
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::NotHttp => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::HeadersTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "request_header_fields_too_large")
            }
            Self::BillingNotConfigured => (StatusCode::UNPROCESSABLE_ENTITY, "billing_not_configured"),
            Self::DiagnosisNotConfigured => (StatusCode::UNPROCESSABLE_ENTITY, "diagnosis_not_configured"),
            Self::Upstream { .. } => (StatusCode::BAD_GATEWAY, "upstream_error"),
            Self::NoLeader | Self::OutcomeUnknown => (StatusCode::SERVICE_UNAVAILABLE, "no_leader"),
            Self::NotReady | Self::Restoring => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

/// The cause of an answer with status 500, on its way to whoever logs it.
#[derive(Clone, Debug)]
pub(crate) struct Cause(pub(crate) Arc<dyn std::error::Error + Send + Sync>);

/// Marks a refusal that the gate replaces by the answer that was given before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnsweredBefore;

/// Every refusal.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorOutput<'a> {
    error: ErrorDetail<'a>,
}

#[derive(Serialize, ToSchema)]
struct ErrorDetail<'a> {
    /// What programs know it by.
    #[schema(value_type = ErrorCodeWord)]
    code: &'static str,
    /// What went wrong, for people.
    message: String,
    /// Every mistake in the request, with `validation_error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Vec<Issue>, required = false)]
    details: Option<&'a [Issue]>,
    /// Seconds until requests are answered again, with `rate_limit_exceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after: Option<u64>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let json = [(CONTENT_TYPE, "application/json")];
        let mut response = (self.status(), json, self.body()).into_response();
        match self {
            Self::Unauthorized | Self::BadLogin => {
                let scheme = HeaderValue::from_static("Bearer realm=\"justrun\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            }
            Self::NoLeader | Self::OutcomeUnknown | Self::NotReady | Self::Restoring => {
                response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SEC);
            }
            Self::RateLimited { retry_after } => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
                // Proxies of images keep for a year what does not forbid it.
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            Self::Answered => {
                response.extensions_mut().insert(AnsweredBefore);
            }
            Self::Internal(cause) => {
                response.extensions_mut().insert(Cause(Arc::from(cause)));
            }
            _ => {}
        }
        response
    }
}

impl From<storage::Error> for ApiError {
    fn from(error: storage::Error) -> Self {
        Self::Internal(Box::new(error))
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoLeader => Self::NoLeader,
            ReadError::Stopping => Self::NotReady,
        }
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Rejected(rejection) => rejection.into(),
            ProposeError::NoLeader => Self::NoLeader,
            ProposeError::Unknown => Self::OutcomeUnknown,
            ProposeError::TooLarge { .. } => Self::TooLarge { bytes_max: domain::limits::API_BODY_BYTES_MAX },
            ProposeError::Stopping | ProposeError::ClockAstray => Self::NotReady,
        }
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::NoSuchAccount => Self::Unauthorized,
            Rejection::NoSuchJob => Self::NotFound("job"),
            Rejection::NoSuchSpace => Self::NotFound("space"),
            Rejection::NoSuchExecution => Self::NotFound("execution"),
            Rejection::NoSuchKey => Self::NotFound("API key"),
            Rejection::NoSuchChannel => Self::NotFound("channel"),
            Rejection::AlreadyPaused => Self::Already { what: "job", state: "paused" },
            Rejection::AlreadyActive => Self::Already { what: "job", state: "active" },
            Rejection::TooManyJobs { jobs_max } => Self::PlanLimit { max: jobs_max, what: "jobs" },
            Rejection::TooManyDiagnoses { diagnoses_max } => {
                Self::PlanLimit { max: diagnoses_max, what: "diagnoses a day" }
            }
            Rejection::TooMany { max } => Self::TooMany { max, what: "of them" },
            Rejection::EmailTaken => Self::conflict("an account with this email exists already"),
            Rejection::SpaceNotEmpty => Self::conflict("the space still has jobs; move or delete them first"),
            Rejection::TooManyOpen => Self::conflict("the job has too many unfinished executions"),
            Rejection::LevelTooLow { .. } => {
                Self::conflict("the cluster is being upgraded and cannot do this yet")
            }
            Rejection::Stale => Self::Stale,
            Rejection::Exists => Self::Taken,
            Rejection::Answered => Self::Answered,
            Rejection::Restoring => Self::Restoring,
            // Answers to commands that no request of a client proposes, or that its handler acts on.
            Rejection::NoSuchNode
            | Rejection::NodeRemoved
            | Rejection::LevelUnsupported { .. }
            | Rejection::NoSuchDelivery
            | Rejection::NotClaimable
            | Rejection::NotRecorded(_)
            | Rejection::NotLive
            | Rejection::UnknownSession
            | Rejection::AlreadyBootstrapped
            | Rejection::NotEmpty
            | Rejection::UnreadablePart => Self::Internal(Box::new(rejection)),
        }
    }
}
