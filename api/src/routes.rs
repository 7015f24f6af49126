//! THE TABLE: everything that can be called.
//!

use crate::Deps;
use crate::error::ApiError;
use crate::resources::{billing, cluster, diagnoses, executions, jobs, migrate};
use crate::{gate, health};
use axum::Router;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

/// Every path, its methods and their handlers. GET routes answer HEAD as well.
///
/// What stands above the gate needs a credential.
pub(crate) fn table(deps: &Deps) -> Router<Deps> {
    Router::new()
        .route("/v1/jobs", get(jobs::list).post(jobs::create))
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
        .route_layer(from_fn_with_state(deps.clone(), gate::pass))
        .route("/v1/cluster", get(cluster::get))
        .route("/v1/billing/stripe/webhook", post(billing::webhook))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
}

/// What no path leads to.
pub(crate) async fn not_found() -> ApiError {
    ApiError::NotFound("resource")
}

/// A path that exists, with a method that does not. `Allow` is added by the router.
pub(crate) async fn method_not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        ApiError::MethodNotAllowed.into_response()
    }
}
