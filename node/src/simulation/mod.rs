//! Many nodes in one thread, in virtual time, under faults: everything about claims, shards, orphans, retries and misfires.
//!
//! **Real**: what a node runs for its jobs ([`crate::bootstrap::Work`]: registration, coordinator, scheduler, executor,
//! recorder, the drain), and of `raft` everything above its `Way`: proposals, read barriers, signs of life, the codec, the
//! application of commands, the digest. **Simulated**: consensus as an ordered log ([`world`]), the network, the targets, the
//! clocks, disks, and processes that are killed, frozen or drained.
//!
//! A seed gives a [`plan`]: a cluster, jobs, faults and wishes. It is carried out ([`run`]), heals, and is judged ([`judge`]).
//! The same seed gives the same run to the last step. A plan that fails is made smaller ([`shrink`]) and printed with all
//! that happened.
//!
//! ```sh
//! cargo test --workspace --lib simulation                                                # a few seconds
//! SEEDS=10000 cargo test --release -p node --lib simulation::tests::seeds -- --nocapture # minutes
//! SEED=4711 cargo test --workspace --lib simulation::tests::one_seed -- --nocapture      # what happens in one
//! ```
//!
//! `FIRST_SEED` chooses where `SEEDS` begin.
//!
//! Libraries for this (turmoil, madsim) simulate the network below real servers and clients, consensus included. Here consensus is
//! what is simulated, so that a run takes milliseconds; what is left, virtual time, tokio has itself. Consensus is tried by
//! `raft/tests` and, on real processes, by `cluster-tests`.

mod clock; // virtual time, and how wrong a node's clock is
mod dice; // randomness
mod facts; // what happened
mod gate; // frozen and killed processes
mod judge; // THE LIST of promises
mod mutation; // planted bugs
mod plan; // what a seed has in store
mod process; // the real tasks of a node
mod run; // a plan, carried out
mod shrink; // the smallest plan that fails
mod target; // what jobs call
mod users; // what people ask for
mod way; // messages to the leader
mod world; // consensus, the network

/// What holds of every state.
#[path = "../../../raft/tests/invariants/mod.rs"]
mod invariants;
mod tally; // how often what happened
mod tests;

pub(crate) use gate::Gate;
