//! Whether this node lives, whether it can serve, and its metrics. Without authentication, for load
//! balancers and scrapers.

use crate::Deps;
use crate::error::ApiError;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;

/// A node that needs longer to reach the leader is not one to send traffic to.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// The Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Serialize)]
pub(crate) struct Health {
    status: &'static str,
}

/// `GET /healthz`: the process lives.
pub(crate) async fn live() -> axum::Json<Health> {
    axum::Json(Health { status: "ok" })
}

/// `GET /readyz`: this node reaches a leader that has its quorum, so that reads and writes go through.
pub(crate) async fn ready(State(deps): State<Deps>) -> Result<axum::Json<Health>, ApiError> {
    match timeout(READY_WITHIN, deps.cluster.read_barrier()).await {
        Ok(Ok(())) => Ok(axum::Json(Health { status: "ready" })),
        Ok(Err(_)) | Err(_) => Err(ApiError::NotReady),
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(State(deps): State<Deps>) -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS_TYPE)], (deps.metrics)())
}
