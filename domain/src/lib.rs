//! What the words mean: jobs, executions, schedules, shards, and the rules that bind them.
//!
//! **Never**: does IO, reads a clock, mints a random id, knows a framework.
//! **Uses**: nothing of ours. **Used by**: everything else.
//!
//! The glossary, in reading order:
//!
//! - [`account`]: who owns things, on which plan; API keys.
//! - [`space`]: a named group of an account's jobs that can be paused as one.
//! - [`job`]: what to call and when ([`job::Job`], changed by people) and how far it has got
//!   ([`job::JobState`], changed by firings).
//! - [`schedule`]: cron text and a time zone made into due instants.
//! - [`execution`]: one firing and all its attempts; what becomes due ([`execution::DueItem`]).
//! - [`ledger`]: whether a history holds everything that was due.
//! - [`pulse`]: how a job has been doing lately.
//! - [`channel`]: where messages about outcomes go, and which events there are.
//! - [`delivery`]: one message to one channel, and its attempts.
//! - [`retry`]: how long to wait before the next attempt.
//! - [`shard`]: which node looks after which jobs.
//! - [`node`]: members, and the incarnations of their processes.
//! - [`rejection`]: every "no" the replicated state can say.
//! - [`id`], [`time`], [`limits`]: names, instants and bounds.

pub mod account;
pub mod channel;
pub mod delivery;
pub mod execution;
pub mod id;
pub mod job;
pub mod ledger;
pub mod limits;
pub mod node;
pub mod pulse;
pub mod rejection;
pub mod retry;
pub mod schedule;
pub mod shard;
pub mod space;
pub mod time;
