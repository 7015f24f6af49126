//! Jobs as the scheduler needs them: read once, parsed once.

use domain::id::JobId;
use domain::job::Job;
use domain::schedule::Schedule;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use url::Url;

/// Plans of one age. Jobs that fire often stay; the rest are read again when they are due.
const PLANS_MAX: usize = 16_384;
/// Bytes of what jobs of one age send, beside what each takes anyway.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A job at one generation of its configuration, with what follows from it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) job: Arc<Job>,
    /// `None` when this build cannot read it: then the job does not fire, and what was claimed runs.
    pub(crate) schedule: Option<Schedule>,
    /// Scheme, name and port of its target; empty when there are none.
    pub(crate) host: Arc<str>,
}

impl Plan {
    /// Parses a job.
    pub(crate) fn of(job: Job) -> Self {
        let schedule = match Schedule::parse(&job.cron_expression, &job.timezone) {
            Ok(schedule) => Some(schedule),
            Err(error) => {
                tracing::error!(job = %job.id, %error, "a stored schedule cannot be read; the job does not fire");
                None
            }
        };
        let url = job.request.url.parse::<Url>();
        let host = url.map_or_else(|_| Arc::default(), |url| url.origin().ascii_serialization().into());
        Self { job: Arc::new(job), schedule, host }
    }

    /// Bytes of what is sent, about.
    fn bytes(&self) -> usize {
        let request = &self.job.request;
        let headers = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        request.url.len() + headers + request.body.as_ref().map_or(0, String::len)
    }
}

/// Plans by job. Clones are the same plans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plans {
    known: Arc<Mutex<Known>>,
}

/// Two ages: what is not asked for while a whole age goes by is forgotten.
#[derive(Debug, Default)]
struct Known {
    young: HashMap<JobId, Entry>,
    old: HashMap<JobId, Entry>,
    young_bytes: usize,
}

/// A plan and the generation it is good for.
#[derive(Clone, Debug)]
struct Entry {
    generation: u64,
    plan: Arc<Plan>,
}

impl Known {
    fn get(&mut self, job: JobId, generation: u64) -> Option<Arc<Plan>> {
        let is_good = |entry: &&Entry| entry.generation == generation;
        if let Some(entry) = self.young.get(&job).filter(is_good) {
            return Some(Arc::clone(&entry.plan));
        }
        let entry = self.old.remove(&job).filter(|entry| is_good(&entry))?;
        let plan = Arc::clone(&entry.plan);
        self.put(job, entry);
        Some(plan)
    }

    fn put(&mut self, job: JobId, entry: Entry) {
        self.young_bytes += entry.plan.bytes();
        if let Some(before) = self.young.insert(job, entry) {
            self.young_bytes -= before.plan.bytes();
        }
        if self.young.len() >= PLANS_MAX || self.young_bytes >= BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

impl Plans {
    /// The plan of `job` at whatever generation is in memory.
    pub(crate) fn peek(&self, job: JobId) -> Option<Arc<Plan>> {
        let known = self.known.lock();
        known.young.get(&job).or_else(|| known.old.get(&job)).map(|entry| Arc::clone(&entry.plan))
    }

    /// The plan of `job` at `generation`, from memory or from what `load` reads. `None` when the job is gone.
    pub(crate) fn get(
        &self,
        job: JobId,
        generation: u64,
        load: impl FnOnce() -> Result<Option<Job>, storage::Error>,
    ) -> Result<Option<Arc<Plan>>, storage::Error> {
        if let Some(plan) = self.known.lock().get(job, generation) {
            return Ok(Some(plan));
        }
        let Some(config) = load()? else { return Ok(None) };
        let plan = Arc::new(Plan::of(config));
        self.known.lock().put(job, Entry { generation, plan: Arc::clone(&plan) });
        Ok(Some(plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use domain::job::Request;

    /// Asks for a job and says whether it had to be read.
    fn is_read(plans: &Plans, job: u64, generation: u64, body: usize) -> bool {
        let mut is_read = false;
        let load = || {
            is_read = true;
            let job = samples::job(JobId(job));
            let request = Request { body: Some("x".repeat(body)), ..job.request };
            Ok(Some(Job { request, ..job }))
        };
        let plan = plans.get(JobId(job), generation, load).unwrap().expect("it is there");
        assert_eq!(plan.job.id, JobId(job));
        is_read
    }

    #[test]
    fn a_job_is_read_once_for_each_generation() {
        let plans = Plans::default();
        assert!(is_read(&plans, 1, 1, 0));
        assert!(!is_read(&plans, 1, 1, 0));
        assert!(is_read(&plans, 1, 2, 0), "it was changed");
        assert!(!is_read(&plans, 1, 2, 0));
        assert_eq!(plans.peek(JobId(1)).map(|plan| plan.job.id), Some(JobId(1)));
        assert!(plans.peek(JobId(2)).is_none());
        assert_eq!(plans.get(JobId(2), 1, || Ok(None)).unwrap().map(|plan| plan.job.id), None);
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_forgotten() {
        let plans = Plans::default();
        let body = 64 * 1024;
        let often = 1_000_000;
        assert!(is_read(&plans, often, 1, body));
        for job in 0..2_000 {
            assert!(is_read(&plans, job, 1, body));
            assert!(!is_read(&plans, often, 1, body));
        }
        assert!(is_read(&plans, 0, 1, body));
        let known = plans.known.lock();
        let held: usize =
            known.young.values().chain(known.old.values()).map(|entry| entry.plan.bytes()).sum();
        assert!(held <= 2 * BYTES_MAX + body, "{held}");
    }

    #[test]
    fn a_plan_knows_its_host() {
        let plan = |url: &str| {
            let job = samples::job(JobId(1));
            Plan::of(Job { request: Request { url: url.to_owned(), ..job.request }, ..job })
        };
        assert_eq!(&*plan("http://A:80/y?at={{scheduled_at}}").host, "http://a");
        assert_ne!(plan("https://a/").host, plan("http://a/").host);
        assert_eq!(&*plan("nonsense").host, "");
    }
}
