//! Three nodes in one process, with real sockets and disks, and links between them that can be cut.
//!
//! Each node has a runtime of its own, so that it can be killed: its tasks are dropped where they stand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod link; // the network
mod nodes; // the nodes, and what they are asked
mod peer; // calls that no node would make

mod catching_up; // snapshots to a node that was away
mod clocks; // whose is believed
mod cut_off; // what a node does alone
mod levels; // what all of them support
mod lost_disk; // a node without its past
mod membership; // who joins and who leaves
mod proposals; // once and for all
mod secret; // who may call
mod support; // who makes a leader sure
mod tls; // certificates
