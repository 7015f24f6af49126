//! Nodes talking to each other over gRPC.

mod admin; // what operators ask
mod auth; // who may call
mod backup; // the state to a file, and back
mod backup_client; // asking for that from outside
mod change; // changes of members <-> proto
mod client; // openraft's network, and channels to peers
mod convert; // raft messages <-> proto
mod operator; // calling a node as its operator
mod server; // the services

pub(crate) use auth::removed_by;
pub use backup_client::BackupStream;
pub(crate) use client::{Network, Peers};
pub use operator::{AccountSummary, Operator, OperatorError};
pub(crate) use server::serve;

use std::time::Duration;

/// A peer that vanished without a word is noticed after both, by either end of a connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
