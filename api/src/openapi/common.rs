//! What the operations have in common: who may call them, how they refuse, which headers they answer with. It
//! follows from what each operation says of itself, so that no handler has to repeat it.

use crate::error::{ApiError, ErrorOutput};
use crate::fields::Issues;
use crate::page::Meta;
use crate::{once, rate_limit};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::IntoResponse;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, ContentBuilder, Header, HttpMethod, ObjectBuilder, OpenApi, PathItem, Ref, RefOr, Required, Type,
};
use utoipa::{Modify, ToSchema};

const JSON: &str = "application/json";
/// The name of the one way to say who calls.
const BEARER: &str = "bearer";
/// The one path whose answer is not in `data`: what it gives can be imported as it is.
const BARE: &str = "/v1/jobs/export";
/// Paths that nobody counts the requests to.
const UNLIMITED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Completes every operation.
pub(super) struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            BEARER,
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .description(Some("An API key (`jrun_sk_…`) or a session token."))
                    .build(),
            ),
        );
        for (name, header) in headers() {
            components.headers.insert(name.to_owned(), header.into());
        }
        for refusal in Refusal::all() {
            components.responses.insert(refusal.name.to_owned(), refusal.response().into());
        }
        document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, [])]);
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations(item) {
                complete(path, &method, operation);
            }
        }
    }
}

/// The operations of one path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let PathItem { get, post, patch, delete, .. } = item;
    let all = [
        (HttpMethod::Get, get),
        (HttpMethod::Post, post),
        (HttpMethod::Patch, patch),
        (HttpMethod::Delete, delete),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

fn complete(path: &str, method: &HttpMethod, operation: &mut Operation) {
    operation.summary = operation.summary.take().map(|summary| summary.trim_end_matches('.').to_owned());
    operation.description = operation.description.take().map(|text| flowing(&text));
    let is_open = operation.security.is_some();
    let has_body = operation.request_body.is_some();
    let parameters = operation.parameters.iter().flatten();
    let has = |place| {
        parameters.clone().any(|parameter| match parameter {
            RefOr::T(parameter) => parameter.parameter_in == place,
            RefOr::Ref(_) => false,
        })
    };
    let in_pages =
        parameters.clone().any(|parameter| matches!(parameter, RefOr::T(it) if it.name == "per_page"));
    let (has_query, has_id) = (has(ParameterIn::Query), has(ParameterIn::Path));
    // What bears a signature is read as it is.
    let has_signature = path.ends_with("/stripe/webhook");
    let may_be_named = *method == HttpMethod::Post && !has_signature;
    if may_be_named {
        operation.parameters.get_or_insert_default().push(idempotency_key().into());
    }

    // A POST that needs no body must not have one that means something.
    let is_read = has_body || *method == HttpMethod::Post;
    let is_limited = !UNLIMITED.contains(&path);
    let refused = [
        (400, is_read),
        (401, !is_open),
        (404, has_id),
        (408, is_read),
        (409, may_be_named),
        (413, is_read),
        (415, is_read && !has_signature),
        (422, is_read || has_query),
        (429, is_limited),
        (500, is_limited),
        (503, is_limited),
    ];
    let answers = &mut operation.responses.responses;
    for (status, _) in refused.iter().filter(|(_, applies)| *applies) {
        let refusal = Refusal::of(*status);
        answers.entry(status.to_string()).or_insert_with(|| Ref::from_response_name(refusal.name).into());
    }
    for (status, answer) in answers.iter_mut() {
        let RefOr::T(answer) = answer else { continue };
        let status = StatusCode::try_from(status.as_str()).unwrap_or(StatusCode::OK);
        if status.is_success() && path.starts_with("/v1/") && path != BARE {
            wrap(answer, in_pages);
        }
        if (status.is_client_error() || status.is_server_error()) && answer.content.is_empty() {
            answer.content.insert(JSON.to_owned(), refusal_content().into());
        }
        if is_limited {
            show_headers(answer);
        }
    }
}

/// Puts what an operation answers with into `data`, as handlers do; that of a list in pages stands beside its `meta`.
fn wrap(answer: &mut Response, in_pages: bool) {
    let Some(RefOr::T(content)) = answer.content.get_mut(JSON) else { return };
    let Some(data) = content.schema.take() else { return };
    let mut whole = ObjectBuilder::new().schema_type(Type::Object).property("data", data).required("data");
    if in_pages {
        whole = whole.property("meta", Ref::from_schema_name(Meta::name())).required("meta");
    }
    content.schema = Some(whole.into());
}

fn idempotency_key() -> utoipa::openapi::path::Parameter {
    let about = "Names this request. The same key with the same body gives the first answer again for 24 hours, \
        whichever node is asked and whichever has died since; the same key with another body is a 409. Send one \
        with every POST that you might repeat.";
    let key = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(once::KEY_CHARS_MAX))
        .pattern(Some("^[!-~]([ -~]*[!-~])?$"));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(key))
        .build()
}

/// A way to say no that many operations have.
struct Refusal {
    name: &'static str,
    about: &'static str,
    example: ApiError,
}

impl Refusal {
    fn all() -> [Self; 11] {
        let mut misshapen = Issues::default();
        misshapen.missing("cron_expression");
        let mut senseless = Issues::default();
        senseless.meaning("timeout_sec", "must be between 1 and 300");
        [
            Self {
                name: "Misshapen",
                about: "The body is no JSON, or a field is missing, unknown or of the wrong type. Every one of \
                    them is listed.",
                example: ApiError::Invalid(misshapen),
            },
            Self {
                name: "Unauthorized",
                about: "Invalid or missing API key or session token.",
                example: ApiError::Unauthorized,
            },
            Self {
                name: "NotFound",
                about: "There is no such thing in this account.",
                example: ApiError::NotFound("job"),
            },
            Self {
                name: "BodyTimeout",
                about: "The request's body took longer than 30 seconds to arrive.",
                example: ApiError::Timeout,
            },
            Self {
                name: "Conflict",
                about: "It does not fit the present state, or the idempotency key was used with another request.",
                example: ApiError::conflict("this idempotency key was used for another request"),
            },
            Self {
                name: "TooLarge",
                about: "The body is larger than allowed: 1 MiB, 5 MiB for imports.",
                example: ApiError::TooLarge { bytes_max: domain::limits::API_BODY_BYTES_MAX },
            },
            Self {
                name: "MediaType",
                about: "The body is not declared as `application/json`.",
                example: ApiError::MediaType,
            },
            Self {
                name: "Senseless",
                about: "Well-formed, but a value makes no sense. Every one of them is listed.",
                example: ApiError::Invalid(senseless),
            },
            Self {
                name: "RateLimited",
                about: "Too many requests in this minute.",
                example: ApiError::RateLimited { retry_after: 12 },
            },
            Self {
                name: "Internal",
                about: "Our fault. The `X-Request-Id` names the entry in the node's log.",
                example: ApiError::Internal("an example".into()),
            },
            Self {
                name: "NoLeader",
                about: "No leader can be reached. Nothing was changed, or whether it was is unknown; a repetition \
                    with the same `Idempotency-Key` is safe.",
                example: ApiError::NoLeader,
            },
        ]
    }

    fn of(status: u16) -> Self {
        let found = Self::all().into_iter().find(|refusal| refusal.example.status().as_u16() == status);
        found.expect("every status that is asked for is listed")
    }

    fn response(self) -> Response {
        let mut content = refusal_content();
        content.example = Some(serde_json::json!(self.example.output()));
        let mut response = ResponseBuilder::new().description(self.about).content(JSON, content).build();
        show_headers(&mut response);
        if self.example.into_response().headers().contains_key(RETRY_AFTER) {
            let seconds = header(Type::Integer, "Seconds after which to try again.", 12.into());
            response.headers.insert("Retry-After".to_owned(), seconds.into());
        }
        response
    }
}

fn refusal_content() -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(ErrorOutput::name()))).build()
}

/// The headers of every answer that is counted.
fn headers() -> impl Iterator<Item = (&'static str, Header)> {
    let standing = rate_limit::HEADERS.into_iter();
    let standing =
        standing.map(|(name, about, example)| (name, header(Type::Integer, about, example.into())));
    let id = header(Type::String, "Names the request in the node's log.", "req_5a1f0c9be3d24876".into());
    standing.chain([("X-Request-Id", id)])
}

fn show_headers(answer: &mut Response) {
    for (name, _) in headers() {
        let shared = Ref::new(format!("#/components/headers/{name}"));
        answer.headers.insert(name.to_owned(), RefOr::Ref(shared));
    }
}

/// The lines of a doc comment as one paragraph each.
fn flowing(text: &str) -> String {
    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

fn header(kind: Type, about: &str, example: serde_json::Value) -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(kind)))
        .description(Some(about))
        .example(Some(example))
        .build()
}
