//! Whether this node lives, whether it can serve, and its metrics. Without authentication, for load
//! balancers and scrapers.

use crate::Shared;
use crate::error::ApiError;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use std::time::Duration;
use storage::Read;
use storage::schema::SecretsOf;
use tokio::time::timeout;
use utoipa::ToSchema;

/// A node that needs longer to reach the leader is not one to send traffic to.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// The Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(value_type = String)]
    status: &'static str,
}

/// Does the process live?
///
/// For whoever restarts it.
#[utoipa::path(
    get, path = "/healthz", operation_id = "getHealth", tag = "Cluster", security(()),
    responses((status = 200, description = "It lives.", body = Health)),
)]
pub(crate) async fn live() -> axum::Json<Health> {
    axum::Json(Health { status: "ok" })
}

/// Can this node serve?
///
/// For load balancers: whether this node reaches a leader that has its quorum, so that reads and writes go through, whether
/// its clock agrees with those of the other nodes, and whether a new cluster has been set up, so that the first API key works.
#[utoipa::path(
    get, path = "/readyz", operation_id = "getReadiness", tag = "Cluster", security(()),
    responses(
        (status = 200, description = "Reads and writes go through.", body = Health),
        (status = 503, description = "`not_ready`"),
    ),
)]
pub(crate) async fn ready(State(deps): State<Shared>) -> Result<axum::Json<Health>, ApiError> {
    if deps.cluster.contact().is_astray() {
        return Err(ApiError::NotReady);
    }
    match timeout(READY_WITHIN, deps.cluster.read_barrier()).await {
        Ok(Ok(()))
            if deps.must_be_whole().is_ok() && deps.read(|view| view.contains::<SecretsOf>(&()))? =>
        {
            Ok(axum::Json(Health { status: "ready" }))
        }
        Ok(Ok(()) | Err(_)) | Err(_) => Err(ApiError::NotReady),
    }
}

/// Get metrics.
///
/// The metrics of this node in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", operation_id = "getMetrics", tag = "Cluster", security(()),
    responses((status = 200, description = "All metrics.", content_type = "text/plain", body = String)),
)]
pub(crate) async fn metrics(State(deps): State<Shared>) -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS_TYPE)], (deps.metrics)())
}
