//! One file a resource: what its bodies look like, its handlers, and how it is made of domain types,
//! which are never sent to clients themselves.

pub(crate) mod api_keys;
pub(crate) mod badges;
pub(crate) mod billing;
pub(crate) mod channels;
pub(crate) mod cluster;
pub(crate) mod diagnoses;
pub(crate) mod executions;
pub(crate) mod jobs;
pub(crate) mod migrate;
pub(crate) mod sessions;
pub(crate) mod spaces;

use serde::Serialize;

/// The documented shape of an answer.
#[derive(Serialize)]
pub(crate) struct Data<T> {
    data: T,
}

/// Answers with `data`.
pub(crate) fn data<T>(data: T) -> axum::Json<Data<T>> {
    axum::Json(Data { data })
}
