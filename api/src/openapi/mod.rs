//! The OpenAPI document: what can be called, made of the handlers themselves, and a page to browse it.
//!
//! Each handler says what it does in the words of the product's documentation; what all have in common is added by
//! [`common`]. Bodies that are read field by field say beside their reader what they take.

mod common; // what follows from the operations
mod events; // what webhooks are sent
pub(crate) mod shape; // short ways to describe a body
pub(crate) mod words; // what fields that take a few words take

use crate::error::ErrorOutput;
use crate::page::Meta;
use crate::resources::{
    api_keys, badges, billing, channels, cluster, diagnoses, executions, jobs, migrate, sessions, spaces,
};
use crate::{Shared, health};
use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use common::Common;
use events::Events;
use std::sync::LazyLock;
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Where the document is.
pub(crate) const DOCUMENT: &str = "/openapi.json";
/// Where people browse it.
pub(crate) const PAGE: &str = "/docs";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "JustRun API",
        version = "v1",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        description = "The JustRun REST API gives you full programmatic control over your cron jobs, spaces, alerts, \
            billing, and more. JustRun executes HTTP requests on a schedule: you define a cron expression, a target \
            URL, and we handle the execution, retries, monitoring, and alerting.\n\n\
            Any node of a cluster answers every request alike. Successful responses return a `data` key with the \
            result; paginated ones also a `meta` object. All errors have one shape: a machine-readable `code`, a \
            human-readable `message` and, for validation errors, `details` with every field at fault. A path that \
            does not exist is a 404, a method that it does not have a 405.\n\n\
            **Authentication.** `Authorization: Bearer …` with an API key or a session token. They are worth the same.\n\n\
            **Rate limits.** Requests are counted by account, over all nodes, in windows of one minute; manual runs \
            in a bucket of their own. Requests without a valid credential are counted by address. Every response \
            shows where you stand; a 429 says when to try again.\n\n\
            **Idempotency.** Every POST takes an `Idempotency-Key`.\n\n\
            **Times** are RFC 3339 in UTC with `Z` and whole seconds. **Ids** have a prefix and base62 digits."
    ),
    servers((url = "/", description = "The node that serves this document")),
    tags(
        (name = "Jobs", description = "Jobs are the core resource in JustRun. A job defines a cron schedule, a target URL, the HTTP method, headers, body, retry policy, and timeout. When the schedule fires, JustRun sends the configured HTTP request and records the result."),
        (name = "Executions", description = "What came of each firing: the HTTP status code, the duration, every attempt."),
        (name = "Spaces", description = "Spaces let you organize jobs into logical groups like \"Production\", \"Staging\", or \"Marketing\". You can pause or resume all jobs in a space with a single API call, making it easy to freeze an entire environment during maintenance windows."),
        (name = "Alert Channels", description = "Alert channels define where notifications are sent when jobs fail, recover, or meet custom conditions. JustRun supports Slack, Discord, email, and generic webhooks. Each channel can be tested before going live."),
        (name = "API Keys", description = "API keys provide programmatic access to your JustRun account. You can create multiple keys for different services and revoke them individually. Keys are prefixed with `jrun_sk_` for easy identification."),
        (name = "Sessions", description = "Signing in to the dashboard."),
        (name = "Billing", description = "Check your current plan usage, create checkout sessions for upgrades, and manage your subscription through the Stripe customer portal."),
        (name = "Migration", description = "Import your existing cron jobs from other services into JustRun with a single API call. We support direct imports from EasyCron and cron-job.org, as well as a generic JSON import for custom migrations."),
        (name = "Status Badges", description = "Embed live status and uptime badges in your README, status page, or wiki. Badges are served as SVG images and update in real time. No authentication required -- badges use the job ID as a public token."),
        (name = "Cluster", description = "For whoever runs the service."),
    ),
    paths(
        jobs::list::list,
        jobs::write::create,
        jobs::get,
        jobs::write::update,
        jobs::write::delete,
        jobs::action::run,
        jobs::action::pause,
        jobs::action::resume,
        jobs::sparklines::sparklines,
        jobs::bulk::bulk,
        jobs::export::export,
        executions::list,
        executions::get,
        diagnoses::create,
        spaces::list,
        spaces::create,
        spaces::get,
        spaces::update,
        spaces::delete,
        spaces::pause,
        spaces::resume,
        channels::list,
        channels::create,
        channels::get,
        channels::update,
        channels::delete,
        channels::test,
        api_keys::list,
        api_keys::create,
        api_keys::delete,
        sessions::register,
        sessions::login,
        sessions::logout,
        billing::usage,
        billing::checkout,
        billing::portal,
        billing::webhook::webhook,
        migrate::easycron,
        migrate::cronjob_org,
        migrate::json,
        badges::status,
        badges::uptime,
        cluster::get,
        health::live,
        health::ready,
        health::metrics,
        document,
    ),
    components(schemas(ErrorOutput, Meta, jobs::ImportedJob)),
    modifiers(&Common, &Events),
)]
struct Document;

/// The document as it is served.
static TEXT: LazyLock<String> = LazyLock::new(|| {
    Document::openapi().to_pretty_json().expect("the document has nothing that JSON has not")
});

/// The OpenAPI document.
///
/// This document, in OpenAPI 3.1. People may prefer to browse it at `/docs`.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "getDocument", tag = "Cluster", security(()),
    responses((status = 200, description = "The document.", content_type = "application/json", body = Object)),
)]
pub(crate) async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], TEXT.as_str())
}

/// The page on which people browse the document. All that it needs comes from this process.
pub(crate) fn page() -> Router<Shared> {
    /// Nothing comes from elsewhere, and nothing goes there.
    const ONLY_OURS: HeaderValue = HeaderValue::from_static(
        "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
    );
    let config = Config::new([DOCUMENT])
        .validator_url("none")
        .doc_expansion("none")
        .filter(true)
        .display_request_duration(true)
        .default_models_expand_depth(0)
        .try_it_out_enabled(true);
    let page: Router<Shared> = SwaggerUi::new(PAGE).config(config).into();
    page.layer(axum::middleware::map_response(|mut response: axum::response::Response| async move {
        response.headers_mut().insert("content-security-policy", ONLY_OURS);
        response
    }))
}
