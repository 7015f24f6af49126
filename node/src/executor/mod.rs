//! Requests to targets: what may be called, how one call is made, and what came of it.

mod answer; // what is read and kept of its answer
pub mod egress; // what may be called
pub mod guarded; // a client that keeps to it
pub mod http; // one call
mod own; // where the cluster's own endpoints are
mod places; // how many calls at a time, and whose turn it is
pub(crate) mod retry_after; // how long a target wants to be left alone
mod service; // the loop
pub mod template; // placeholders

pub use places::Bounds;
pub(crate) use service::{Client, Executor, ExecutorHandle, Look, MayStart, Order, Withheld};
