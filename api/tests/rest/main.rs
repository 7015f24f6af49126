//! The REST API through its router, on a real cluster of one node.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod auth;
mod badges;
mod bulk;
mod cluster;
mod errors;
mod executions;
mod jobs;
mod observed;
mod overview;
mod service;
mod serving;
mod spaces;
