//! What the leader does at leisure: finishes what a dead node left half done, and removes history that an account's
//! plan no longer keeps.
//!
//! Apart from the coordinator, because nodes are counted as dead within seconds and nothing here is in a hurry. A
//! reconciler too: what to do is read from the state, and two leaders at once do no harm.

use crate::clock::Sleeper;
use api::align_space;
use domain::account::Plans;
use domain::id::{AccountId, JobId, SpaceId};
use domain::limits;
use domain::time::Timestamp;
use raft::command::{Applied, Command, Prune};
use raft::{Cluster, ProposeError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use storage::Read;
use storage::schema::{Accounts, Executions, JobStates, UnalignedSpaces};
use tokio_util::sync::CancellationToken;

/// Pause between steps.
const INTERVAL: Duration = Duration::from_millis(250);
/// Whoever turned a space takes its jobs along within moments, and is given that long.
const LEFT_AFTER: Duration = Duration::from_secs(2);
/// Spaces finished in one step.
const SPACES_AT_ONCE: usize = 64;
/// Jobs of which one step looks for old history: about a millisecond when there is none. A million jobs take under
/// an hour, for something that is counted in days.
const JOBS_AT_ONCE: usize = 100;
/// Records that one step removes, so that firings need not wait behind it. Per second it is more than a
/// cluster can add.
const RECORDS_AT_ONCE: usize = 2_000;
/// What one command removes when there is as much.
const SWEEP_FULL: u64 = limits::SWEEP_MAX as u64;
/// Pause after all jobs have been looked at.
const REST: Duration = Duration::from_secs(60);
/// How long a proposal may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tidies while this node leads.
pub(crate) struct Housekeeper {
    cluster: Cluster,
    sleeper: Arc<dyn Sleeper>,
    plans: Arc<Plans>,
    /// Since when spaces have been seen whose jobs have yet to follow.
    unaligned: BTreeMap<SpaceId, Duration>,
    walk: Walk,
}

/// A walk over all jobs.
#[derive(Debug, Default)]
struct Walk {
    /// The last job that needs no further look.
    after: Option<JobId>,
    /// When the next step is due.
    next: Duration,
}

/// What one look of the walk found.
#[derive(Debug, Default)]
struct Look {
    prunes: Vec<Prune>,
    /// The job that was looked at last.
    last: Option<JobId>,
    /// The one before it.
    before_last: Option<JobId>,
    /// Whether the last job may have more than one command removes.
    has_more: bool,
    /// Whether no job follows.
    ends: bool,
}

#[derive(Debug, thiserror::Error)]
enum PruneError {
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl Housekeeper {
    pub(crate) fn new(cluster: Cluster, sleeper: Arc<dyn Sleeper>, plans: Arc<Plans>) -> Self {
        Self { cluster, sleeper, plans, unaligned: BTreeMap::new(), walk: Walk::default() }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.sleeper.sleep(INTERVAL) => {}
            }
            if !self.cluster.status().is_leader() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.step() => {}
            }
        }
    }

    async fn step(&mut self) {
        if let Err(error) = self.finish_alignments().await {
            tracing::debug!(%error, "spaces that were left to be looked at later");
        }
        if let Err(error) = self.prune().await {
            tracing::debug!(%error, "history to be pruned later");
        }
    }

    /// Lets cursors follow the pause or resumption of their space where nobody seems to do it.
    async fn finish_alignments(&mut self) -> Result<(), storage::Error> {
        let spaces = self.cluster.state().view().keys_prefix::<UnalignedSpaces>(&[], None, SPACES_AT_ONCE)?;
        let now = self.sleeper.elapsed();
        self.unaligned.retain(|space, _| spaces.contains(space));
        for space in spaces {
            let since = *self.unaligned.entry(space).or_insert(now);
            if now.saturating_sub(since) >= LEFT_AFTER {
                match align_space(&self.cluster, space).await {
                    Ok(()) => tracing::info!(%space, "cursors have followed their space"),
                    Err(error) => tracing::debug!(%space, %error, "cursors have yet to follow their space"),
                }
            }
        }
        Ok(())
    }

    /// One step of the walk.
    async fn prune(&mut self) -> Result<(), PruneError> {
        let elapsed = self.sleeper.elapsed();
        if elapsed < self.walk.next {
            return Ok(());
        }
        let look = self.look(self.sleeper.now())?;
        let mut removed_of_last = 0;
        if !look.prunes.is_empty() {
            let commands = look.prunes.iter().map(|prune| Command::Prune(*prune)).collect();
            let mut removed = 0;
            for reply in self.cluster.propose_all(commands, PATIENCE).await? {
                removed_of_last = match reply {
                    Ok(Applied::Swept(records)) => records,
                    // Gone meanwhile, with its history.
                    Ok(_) | Err(_) => 0,
                };
                removed += removed_of_last;
            }
            tracing::debug!(removed, jobs = look.prunes.len(), "pruned history");
        }
        // A short step says that nothing is left of the last job.
        self.walk = if look.has_more && removed_of_last >= SWEEP_FULL {
            Walk { after: look.before_last, next: elapsed }
        } else if look.ends {
            Walk { after: None, next: elapsed + REST }
        } else {
            Walk { after: look.last, next: elapsed }
        };
        Ok(())
    }

    /// Looks at some jobs for history that is too old.
    fn look(&self, now: Timestamp) -> Result<Look, storage::Error> {
        let view = self.cluster.state().view();
        let jobs = view.prefix::<JobStates>(&[], self.walk.after.as_ref(), JOBS_AT_ONCE)?;
        let mut look = Look { last: self.walk.after, ends: jobs.len() < JOBS_AT_ONCE, ..Look::default() };
        let mut known: BTreeMap<AccountId, Option<Timestamp>> = BTreeMap::new();
        let mut left = RECORDS_AT_ONCE;
        for (job, state) in &jobs {
            look.before_last = look.last.replace(*job);
            if state.executions_total == 0 {
                continue;
            }
            let kept_from = match known.get(&state.account) {
                Some(kept_from) => *kept_from,
                None => *known.entry(state.account).or_insert(self.kept_from(&view, state.account, now)?),
            };
            let Some(before) = kept_from else { continue };
            let limit = left.min(limits::SWEEP_MAX);
            let (lower, upper) = Executions::before(*job, before);
            let old = view.keys::<Executions>(&lower, upper.as_deref(), limit)?.len();
            if old > 0 {
                look.prunes.push(Prune { job: *job, before });
                left -= old;
            }
            if old == limit {
                look.has_more = true;
                look.ends &= jobs.last().is_some_and(|(last, _)| last == job);
                break;
            }
        }
        Ok(look)
    }

    /// From when on the account's plan keeps history.
    fn kept_from(
        &self,
        view: &impl Read,
        account: AccountId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, storage::Error> {
        Ok(view.get::<Accounts>(&account)?.map(|account| {
            let days = self.plans.of(account.plan).history_days;
            now.minus(Duration::from_secs(days.saturating_mul(24 * 3_600)))
        }))
    }
}

#[cfg(test)]
mod tests;
