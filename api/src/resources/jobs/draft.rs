//! New jobs that come in numbers, each of which may fail by itself.

use super::input::JobInput;
use super::next_run;
use super::write::new_job;
use crate::error::ApiError;
use crate::fields::Issues;
use crate::json::Value;
use crate::{Deps, TargetPolicy};
use domain::id::AccountId;
use domain::job::{Job, JobState};
use domain::time::Timestamp;

/// A new job as somebody asked for it, with all that is wrong with it.
pub(crate) struct Draft {
    input: JobInput,
    issues: Issues,
}

impl Draft {
    /// Reads what would be the body of `POST /v1/jobs`, found at `path`.
    pub(crate) fn read(value: &Value, path: &str, targets: &dyn TargetPolicy) -> Self {
        let mut issues = Issues::default();
        let input = JobInput::for_create(value, path, targets, &mut issues);
        Self { input, issues }
    }

    /// Adds what is wrong with it beside what is wrong with a job.
    pub(crate) fn absorb(&mut self, issues: Issues) {
        self.issues.absorb(issues);
    }

    /// What is wrong with it as it stands.
    pub(crate) fn issues(&self) -> &Issues {
        &self.issues
    }

    /// The job, without an id, and its first instant; or all that is wrong with it.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) fn finish(
        self,
        deps: &Deps,
        account: AccountId,
        now: Timestamp,
    ) -> Result<Result<(Job, Option<Timestamp>), Issues>, ApiError> {
        let Self { input, mut issues } = self;
        let space = deps.read(|view| input.resolve(view, account, &mut issues))?;
        if !issues.list().is_empty() {
            return Ok(Err(issues));
        }
        let job = new_job(&input, space.as_ref(), account, now);
        match next_run(&job, &JobState::default(), now) {
            Ok(next_run_at) => Ok(Ok((job, next_run_at))),
            Err(ApiError::Invalid(issues)) => Ok(Err(issues)),
            Err(error) => Err(error),
        }
    }
}
