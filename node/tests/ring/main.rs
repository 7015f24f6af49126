//! Three nodes in one process, with real sockets and disks, on a clock that runs faster than the real one.
//!
//! Each node has a runtime of its own, so that it can be killed: its tasks are dropped where they stand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cluster; // the nodes, and a client
mod receiver; // what messages are sent to
mod target; // what jobs call

mod access; // credentials, and operators
mod backup; // the state to a file and back
mod failover; // what happens when nodes die
mod firing; // what happens when nothing goes wrong
mod membership; // nodes that join and leave
mod messages; // to channels
mod policies; // overlap, misfire, pause, manual runs
mod shutdown; // what happens when the whole cluster stops
mod spaces; // spaces that turn, and what is tidied
mod verify; // whether histories are complete
