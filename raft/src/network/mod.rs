//! Nodes talking to each other over gRPC.

mod auth; // who may call
mod client; // openraft's network, and channels to peers
mod convert; // raft messages <-> proto
mod server; // the services

pub(crate) use client::{Network, Peers};
pub(crate) use server::serve;
