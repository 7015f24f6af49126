//! Nodes talking to each other over gRPC.

mod admin; // what operators ask
mod auth; // who may call
mod client; // openraft's network, and channels to peers
mod convert; // raft messages <-> proto
mod operator; // calling a node as its operator
mod server; // the services

pub(crate) use client::{Network, Peers};
pub use operator::{AccountSummary, Operator, OperatorError};
pub(crate) use server::serve;
