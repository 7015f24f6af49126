//! THE TABLE: everything that can be called.
//!

use crate::Shared;
use crate::error::ApiError;
use crate::gate::{self, Gate};
use crate::health;
use crate::openapi;
use crate::resources::{
    api_keys, badges, billing, channels, cluster, diagnoses, executions, jobs, migrate, sessions, spaces,
};
use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

/// Every path, its methods and their handlers. GET routes answer HEAD as well.
///
/// What stands above a gate passes it.
pub(crate) fn table(deps: &Shared) -> Router<Shared> {
    let gate = Gate::new(deps.clone());
    let needs_credential = Router::new()
        .route("/v1/jobs", get(jobs::list).post(jobs::create))
        .route("/v1/jobs/bulk", post(jobs::bulk))
        .route("/v1/jobs/export", get(jobs::export))
        .route("/v1/jobs/sparklines", get(jobs::sparklines))
        .route("/v1/jobs/{id}", get(jobs::get).patch(jobs::update).delete(jobs::delete))
        .route("/v1/jobs/{id}/run", post(jobs::run))
        .route("/v1/jobs/{id}/pause", post(jobs::pause))
        .route("/v1/jobs/{id}/resume", post(jobs::resume))
        .route("/v1/jobs/{id}/executions", get(executions::list))
        .route("/v1/executions/{id}", get(executions::get))
        .route("/v1/executions/{id}/diagnosis", post(diagnoses::create))
        .route("/v1/billing/usage", get(billing::usage))
        .route("/v1/billing/checkout", post(billing::checkout))
        .route("/v1/billing/portal", post(billing::portal))
        .route("/v1/migrate/easycron", post(migrate::easycron))
        .route("/v1/migrate/cronjob-org", post(migrate::cronjob_org))
        .route("/v1/migrate/json", post(migrate::json))
        .route("/v1/alerts/channels", get(channels::list).post(channels::create))
        .route(
            "/v1/alerts/channels/{id}",
            get(channels::get).patch(channels::update).delete(channels::delete),
        )
        .route("/v1/alerts/channels/{id}/test", post(channels::test))
        .route("/v1/api-keys", get(api_keys::list).post(api_keys::create))
        .route("/v1/api-keys/{id}", delete(api_keys::delete))
        .route("/v1/auth/logout", post(sessions::logout))
        .route("/v1/spaces", get(spaces::list).post(spaces::create))
        .route("/v1/spaces/{id}", get(spaces::get).patch(spaces::update).delete(spaces::delete))
        .route("/v1/spaces/{id}/pause", post(spaces::pause))
        .route("/v1/spaces/{id}/resume", post(spaces::resume))
        .route_layer(from_fn_with_state(gate.clone(), gate::pass));
    let gives_credential = Router::new()
        .route("/v1/auth/register", post(sessions::register))
        .route("/v1/auth/login", post(sessions::login))
        .route_layer(from_fn_with_state(gate.clone(), gate::pass_stranger));
    let answers_here = Router::new()
        .route("/v1/cluster", get(cluster::get))
        .route_layer(from_fn_with_state(gate.clone(), gate::pass_here));
    let signed = Router::new()
        .route("/v1/billing/stripe/webhook", post(billing::webhook))
        .route_layer(from_fn_with_state(gate.clone(), gate::pass_signed));
    let open = Router::new()
        .route("/badges/{id}/status.svg", get(badges::status))
        .route("/badges/{id}/uptime.svg", get(badges::uptime))
        .route("/openapi.json", get(openapi::document))
        .merge(openapi::page())
        .route_layer(from_fn_with_state(gate.clone(), gate::pass_open));
    let counted = from_fn_with_state(gate, gate::pass_open);
    needs_credential
        .merge(signed)
        .merge(open)
        .merge(gives_credential)
        .merge(answers_here)
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(not_found.layer(counted.clone()))
        .method_not_allowed_fallback(method_not_allowed.layer(counted))
}

/// What no path leads to.
async fn not_found() -> ApiError {
    ApiError::NotFound("resource")
}

/// A path that exists, with a method that does not. `Allow` is added by the router.
async fn method_not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        ApiError::MethodNotAllowed.into_response()
    }
}
