//! What the scheduler needs to know of a job to claim for it, parsed once.

use domain::id::{JobId, SpaceId};
use domain::job::{Job, MisfirePolicy};
use domain::schedule::Schedule;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Plans kept in memory. Jobs that fire often stay; the rest are read again when they are due.
const PLANS_MAX: usize = 20_000;

/// The part of a job's configuration that decides when it fires.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) schedule: Schedule,
    pub(crate) misfire: MisfirePolicy,
    /// The space that may hold it up.
    pub(crate) space: Option<SpaceId>,
}

/// Plans by job, each good for one generation of its configuration. Clones are the same plans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plans {
    plans: Arc<Mutex<HashMap<JobId, Known>>>,
}

/// A plan and the generation it is good for.
type Known = (u64, Arc<Plan>);

impl Plans {
    /// The plan of `job` at `generation`, from memory or from what `load` reads.
    ///
    /// `None` when the job is gone, or when this build cannot read its schedule; the latter is
    /// reported, since the job cannot fire then.
    pub(crate) fn get(
        &self,
        job: JobId,
        generation: u64,
        load: impl FnOnce() -> Result<Option<Job>, storage::Error>,
    ) -> Result<Option<Arc<Plan>>, storage::Error> {
        if let Some((known, plan)) = self.plans.lock().get(&job)
            && *known == generation
        {
            return Ok(Some(Arc::clone(plan)));
        }
        let Some(config) = load()? else { return Ok(None) };
        let schedule = match Schedule::parse(&config.cron_expression, &config.timezone) {
            Ok(schedule) => schedule,
            Err(error) => {
                tracing::error!(%job, %error, "a stored schedule cannot be read; the job does not fire");
                return Ok(None);
            }
        };
        let plan = Arc::new(Plan { schedule, misfire: config.misfire, space: config.space });
        let mut plans = self.plans.lock();
        if plans.len() >= PLANS_MAX {
            plans.clear();
        }
        plans.insert(job, (generation, Arc::clone(&plan)));
        Ok(Some(plan))
    }
}
