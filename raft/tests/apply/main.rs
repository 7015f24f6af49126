//! What each command makes of the state, through the one door to it. After every commit of these tests, all that holds
//! of every state is checked; see `../invariants`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../invariants/mod.rs"]
mod invariants; // what always holds
mod machine; // a state, and what is asked of it
mod samples; // accounts, jobs, spaces, channels

mod accounts; // accounts, users, sessions, billing
mod alignment; // the jobs of a paused space
mod channels; // how many hear
mod deliveries; // what hears, once
mod diagnoses; // so many a day
mod history; // by the hour, and the pulse
mod jobs; // paused and resumed
mod keys; // made, used, revoked
mod nodes; // removed from the cluster
mod once; // answered once
mod orphans; // what the dead had claimed
mod prune; // old history goes
mod restore; // a backup comes in
mod spaces; // paused, resumed, deleted
mod timetables; // when each job was due
mod usage; // executions by month
