//! The REST API through its router, on a real cluster of one node.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod auth;
mod channels;
mod cluster;
mod errors;
mod executions;
mod jobs;
mod observed;
mod service;
mod serving;
