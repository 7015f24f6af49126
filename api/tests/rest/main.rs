//! The REST API through its router, on a real cluster of one node.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api_keys;
mod badges;
mod bulk;
mod channels;
mod cluster;
mod errors;
mod executions;
mod isolation;
mod jobs;
mod observed;
mod overview;
mod service;
mod serving;
mod sessions;
mod spaces;
