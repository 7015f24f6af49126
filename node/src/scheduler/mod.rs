//! Which things are due here, and when.

mod claims; // from "this is due" to the claim that takes it
mod holding; // what this process has started
mod horizon; // which part of the due index is in the wheel
mod plans; // parsed schedules
mod service; // the loop
mod start; // the last look before a request leaves
pub mod wheel; // what is due when, to the millisecond

pub(crate) use holding::Holding;
pub(crate) use service::{Parts, Scheduler};
