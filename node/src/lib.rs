//! What runs in a node: settings, tasks and their order, scheduling, and the requests to targets.
//!
//! **Never**: decides what state may become (that is `domain` and the replicated log), holds a
//! route of the REST API.
//! **Uses**: every other crate of ours. **Used by**: the `justrun` binary.
//!
//! Start at [`mod@bootstrap`] for what runs, then [`scheduler`] for how a firing comes about.

pub mod bootstrap; // THE TABLE: every task, in start order
mod cli; // the command line
pub mod clock; // the wall clock, and waiting
pub mod config; // settings of everything, checked once
mod coordinator; // the leader deals shards and buries the dead
pub mod dev; // a whole cluster to try
pub mod executor; // requests to targets
#[cfg(feature = "faults")]
pub mod faults; // what tests break a node with
pub mod files; // how many files may be open
mod founder; // the first account
mod gauges; // metrics that show a level
mod housekeeper; // the leader finishes and tidies
mod notifier; // messages to channels
pub mod operator; // what is asked of a cluster that runs
pub mod outbound; // services outside, for the REST API
mod outcomes; // whatever came of something, into the replicated state
mod quorum; // leaving the cluster
mod recorder; // what came of executions
mod registration; // this process's place in the cluster
#[cfg(test)]
mod samples; // what tests are about
pub mod scheduler; // what is due here, and when
#[cfg(test)]
mod simulation; // many nodes in one thread, in virtual time, under faults
pub mod supervisor; // names, owners and ends of tasks
pub mod telemetry; // log lines and metrics
