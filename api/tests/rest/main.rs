//! The REST API through its router, on a real cluster of one node.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod auth;
mod billing;
mod cluster;
mod diagnoses;
mod errors;
mod executions;
mod jobs;
mod migrate;
mod observed;
mod outside;
mod service;
mod serving;
mod webhook;
