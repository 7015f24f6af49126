//! Requests to targets: what may be called, how one call is made, and what came of it.

pub mod egress; // what may be called
pub mod guarded; // a client that keeps to it
pub mod hosts; // how many calls at a time
pub mod http; // one call
mod service; // the loop
pub mod template; // placeholders

pub(crate) use service::{Executor, ExecutorHandle, MayStart, Order};
