//! What we promise, under fire: a cluster of real processes, a target that records every call, and
//! checkers that read what happened.
//!
//! **Never**: reaches inside a node. It starts the `justrun` binary, sends it signals and speaks HTTP.
//! **Uses**: nothing of ours. **Used by**: nobody; its tests and its `bench` binary are the product.
//!
//! Start at [`check`] for what is promised, then [`cluster`] for how a node is started and killed and
//! [`target`] for what the jobs call.

mod agreement; // whether the replicas are equal
pub mod api; // the REST contract, seen from outside
pub mod binary; // which binary is run
pub mod check; // what is promised
pub mod client; // HTTP
pub mod cluster; // the nodes
pub mod disk; // a small file system for each node
pub mod due; // what should have happened
mod error;
pub mod history; // what happened
pub mod net; // a network that can be cut
pub mod process; // one node's process
pub mod registers; // clients that write and read
pub mod relay; // a line that holds up, drops and doubles
pub mod target; // what the jobs call
pub mod time; // the one clock
mod torn; // a last write that was cut off
pub mod usage; // what a process costs
pub mod wait; // a level, with a deadline
pub mod workload; // jobs by the hundred

pub use error::Error;
