//! Nodes talking to each other over gRPC.

mod auth; // who may call
mod client; // openraft's network, and channels to peers
mod convert; // raft messages <-> proto
mod server; // the services

pub(crate) use client::{Network, Peers};
pub(crate) use server::serve;

use std::time::Duration;

/// A peer that vanished without a word is noticed after both, by either end of a connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
