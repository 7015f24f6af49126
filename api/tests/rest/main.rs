//! The REST API through its router, on a real cluster of three nodes that are asked in turn.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api_keys;
mod badges;
mod billing;
mod bulk;
mod channels;
mod cluster;
mod conform;
mod diagnoses;
mod errors;
mod executions;
mod fuzz;
mod hostile;
mod https;
mod idempotency;
mod isolation;
mod jobs;
mod migrate;
mod nodes;
mod observed;
mod openapi;
mod outside;
mod overview;
mod rate_limits;
mod service;
mod serving;
mod sessions;
mod spaces;
mod webhook;
