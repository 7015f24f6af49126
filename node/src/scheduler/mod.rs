//! Which things are due here, and when.

mod claims; // from "this is due" to the claim that takes it
mod holding; // what this process has started
mod horizon; // which part of the due index is in the wheel
mod lookout; // what the state says of an execution that is to start
mod plans; // parsed schedules
mod service; // the loop
mod start; // the last look before a request leaves
pub mod wheel; // what is due when, to the millisecond

pub(crate) use holding::Holding;
pub(crate) use lookout::{Lookout, Sight};
#[cfg(test)]
pub(crate) use plans::Plan;
pub(crate) use service::{CLAIM_RESULTS, Parts, Scheduler};
pub(crate) use start::Start;
#[cfg(test)]
pub(crate) use start::is_node_lost;
