//! `POST /v1/jobs/bulk`: one action on many jobs, each of which may fail by itself.

use super::input::{NO_SUCH_SPACE, tag, without_repeats};
use super::schema::BulkRequest;
use super::write::change;
use super::{TRIES_MAX, load, next_run};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Json, Named};
use crate::fields::{self, EMPTY, Fault, Fields, Issues};
use crate::json::Value;
use crate::once::{OnceKey, PATIENCE};
use crate::openapi::words::ErrorCodeWord;
use crate::resources::{Data, data};
use crate::{Deps, Shared};
use axum::extract::State;
use axum::http::StatusCode;
use domain::id::{AccountId, JobId, SpaceId};
use domain::job::{Job, JobState};
use domain::limits;
use domain::rejection::Rejection;
use raft::command::{Command, DeleteJob, Overdue, PauseJob, ResumeJob};
use serde::Serialize;
use std::collections::BTreeMap;
use storage::Read;
use storage::schema::Spaces;
use utoipa::ToSchema;

/// Bytes of the configurations in one proposal: below what a proposal may have, with room for what is around them.
const BYTES_TOGETHER: usize = 1024 * 1024;

const _: () = assert!(BYTES_TOGETHER + limits::API_BODY_BYTES_MAX <= raft::PROPOSAL_BYTES_MAX);

#[derive(Serialize, ToSchema)]
pub(crate) struct BulkOutput {
    succeeded: usize,
    failed: usize,
    errors: Vec<BulkError>,
}

/// Why one job was left as it was.
#[derive(Clone, Serialize, ToSchema)]
struct BulkError {
    job_id: String,
    #[schema(value_type = ErrorCodeWord)]
    code: &'static str,
    message: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Pause,
    Resume,
    Delete,
    /// Into a space, or out of any.
    Move(Option<SpaceId>),
    AddTags(Vec<String>),
    RemoveTags(Vec<String>),
}

/// Act on many jobs.
///
/// Perform an action on multiple jobs at once. Useful for pausing all jobs before a deploy, resuming them after, or
/// bulk-organizing with tags and spaces. A job that cannot be acted on is listed; the others are done. Pausing a paused
/// job counts as succeeded here.
#[utoipa::path(
    post, path = "/v1/jobs/bulk", operation_id = "bulkJobs", tag = "Jobs", request_body = BulkRequest,
    responses((status = 200, description = "How many were done, and why others were not.", body = BulkOutput)),
)]
pub(crate) async fn bulk(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Json(body): Json,
) -> Result<axum::Json<Data<BulkOutput>>, ApiError> {
    let mut issues = Issues::default();
    let (ids, action) = read(&body, &mut issues);
    if let Some(Action::Move(Some(space))) = action
        && !deps.read(|view| is_space_of(view, principal.account, space))?
    {
        issues.meaning("space_id", NO_SUCH_SPACE);
    }
    issues.refuse()?;
    let (Some(ids), Some(action)) = (ids, action) else {
        return Err(fields::misshapen(fields::ROOT, "is not a bulk action"));
    };

    let mut bulk = Bulk { deps: &deps, account: principal.account, action, failed: BTreeMap::new() };
    let mut waiting = bulk.known(&ids);
    if bulk.action == Action::Delete {
        // Not safe to do again, since what is gone cannot be told from what never was: the answer must be recorded with it.
        return bulk.delete(&once, &ids, waiting).await.map(data);
    }
    for _ in 0..TRIES_MAX {
        waiting = bulk.round(waiting).await?;
        if waiting.is_empty() {
            break;
        }
    }
    for id in waiting {
        bulk.fail(id, &ApiError::Stale);
    }
    let answer = data(bulk.output(&ids));
    deps.remember(&once, StatusCode::OK, &answer.0).await?;
    Ok(answer)
}

/// The ids as they were given, and the action.
fn read(body: &Value, issues: &mut Issues) -> (Option<Vec<String>>, Option<Action>) {
    let Some(mut fields) = Fields::of(body, "", issues) else { return (None, None) };
    fields.require(&["job_ids", "action"]);
    let ids = fields.list("job_ids", limits::BULK_JOBS_MAX, |text| Ok(text.to_owned()));
    if ids.as_ref().is_some_and(Vec::is_empty) {
        fields.meaning("job_ids", EMPTY);
    }
    // Read whatever the action is, so that each mistake is named.
    let word = fields.choice("action", &WORDS, |word| word);
    let space = fields.parsed_or_null("space_id", |text| text.parse().map_err(|_| NO_SUCH_SPACE));
    let tags = fields.list("tags", limits::TAGS_MAX, tag).map(without_repeats);
    if tags.as_ref().is_some_and(Vec::is_empty) {
        fields.meaning("tags", EMPTY);
    }
    match word {
        Some("move_to_space") => fields.require(&["space_id"]),
        Some("add_tags" | "remove_tags") => fields.require(&["tags"]),
        Some(_) | None => {}
    }
    fields.finish();
    let action = match word {
        Some("pause") => Some(Action::Pause),
        Some("resume") => Some(Action::Resume),
        Some("delete") => Some(Action::Delete),
        Some("move_to_space") => space.map(Action::Move),
        Some("add_tags") => tags.map(Action::AddTags),
        Some("remove_tags") => tags.map(Action::RemoveTags),
        Some(_) | None => None,
    };
    (ids.map(distinct), action)
}

/// The actions (documented).
pub(crate) const WORDS: [&str; 6] = ["pause", "resume", "delete", "move_to_space", "add_tags", "remove_tags"];

fn distinct(ids: Vec<String>) -> Vec<String> {
    let mut distinct = Vec::with_capacity(ids.len());
    for id in ids {
        if !distinct.contains(&id) {
            distinct.push(id);
        }
    }
    distinct
}

fn is_space_of(view: &impl Read, account: AccountId, space: SpaceId) -> Result<bool, storage::Error> {
    Ok(view.get::<Spaces>(&space)?.is_some_and(|space| space.account == account))
}

/// The command that one job needs, and about how many bytes of configuration it holds; `None` when the job is as it
/// should be.
type Step = Option<(Command, usize)>;

struct Bulk<'a> {
    deps: &'a Deps,
    account: AccountId,
    action: Action,
    /// By the id as it was given.
    failed: BTreeMap<String, BulkError>,
}

impl Bulk<'_> {
    /// Those that can be ids of jobs at all.
    fn known(&mut self, ids: &[String]) -> Vec<JobId> {
        let mut known = Vec::with_capacity(ids.len());
        for text in ids {
            match text.parse() {
                Ok(id) => known.push(id),
                Err(_) => self.fail(text, &ApiError::NotFound(JobId::NOUN)),
            }
        }
        known
    }

    fn fail(&mut self, id: impl ToString, error: &ApiError) {
        let job_id = id.to_string();
        let error = BulkError { job_id: job_id.clone(), code: error.code(), message: error.to_string() };
        self.failed.insert(job_id, error);
    }

    /// Does it to all that wait, together as far as one proposal holds them. Those that moved on meanwhile are left.
    async fn round(&mut self, waiting: Vec<JobId>) -> Result<Vec<JobId>, ApiError> {
        let mut stale = Vec::new();
        let mut batch = Vec::new();
        let mut bytes = 0;
        for id in waiting {
            match self.step(id) {
                Ok(None) => {}
                Ok(Some((command, size))) => {
                    batch.push((id, command));
                    bytes += size;
                }
                Err(ApiError::Internal(cause)) => return Err(ApiError::Internal(cause)),
                Err(error) => self.fail(id, &error),
            }
            if bytes >= BYTES_TOGETHER {
                self.propose(std::mem::take(&mut batch), &mut stale).await?;
                bytes = 0;
            }
        }
        self.propose(batch, &mut stale).await?;
        Ok(stale)
    }

    async fn propose(
        &mut self,
        batch: Vec<(JobId, Command)>,
        stale: &mut Vec<JobId>,
    ) -> Result<(), ApiError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (ids, commands): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let replies = self.deps.cluster.propose_all(commands, PATIENCE).await?;
        for (id, reply) in ids.into_iter().zip(replies) {
            match reply {
                // Somebody else has just done it.
                Ok(_) | Err(Rejection::AlreadyPaused | Rejection::AlreadyActive) => {}
                Err(Rejection::Stale) => stale.push(id),
                Err(rejection) => self.fail(id, &rejection.into()),
            }
        }
        Ok(())
    }

    /// What a job needs, by the state as it is now.
    fn step(&self, id: JobId) -> Result<Step, ApiError> {
        let found = self.deps.read(|view| load(view, self.account, id))?;
        let (job, state) = found.ok_or(ApiError::NotFound(JobId::NOUN))?;
        let account = self.account;
        let now = self.deps.clock.now();
        let command = match &self.action {
            Action::Pause if state.paused_at.is_some() => return Ok(None),
            Action::Pause => {
                let overdue = Overdue::of(&job, &state, now);
                Command::PauseJob(PauseJob { account, job: id, at: now, overdue })
            }
            Action::Resume if state.paused_at.is_none() => return Ok(None),
            Action::Resume => {
                let next_run_at = next_run(&job, &state, now)?;
                let expected = state.version();
                Command::ResumeJob(ResumeJob { account, job: id, expected, next_run_at, at: now })
            }
            Action::Delete => Command::DeleteJob(DeleteJob { account, job: id }),
            Action::Move(space) => {
                let new = Job { space: *space, ..job.clone() };
                return self.update(&job, &state, new);
            }
            Action::AddTags(tags) => {
                let tags = without_repeats([&job.tags[..], tags].concat());
                if tags.len() > limits::TAGS_MAX {
                    let fault = Fault::from(format!("must have at most {} items", limits::TAGS_MAX));
                    return Err(fields::senseless("tags", fault));
                }
                return self.update(&job, &state, Job { tags, ..job.clone() });
            }
            Action::RemoveTags(tags) => {
                let left = job.tags.iter().filter(|tag| !tags.contains(tag)).cloned().collect();
                return self.update(&job, &state, Job { tags: left, ..job.clone() });
            }
        };
        Ok(Some((command, 0)))
    }

    fn update(&self, old: &Job, state: &JobState, new: Job) -> Result<Step, ApiError> {
        let command = change(old, state, new, self.deps.clock.now())?;
        Ok(command.map(|command| (Command::UpdateJob(Box::new(command)), size(old))))
    }

    async fn delete(
        mut self,
        once: &OnceKey,
        ids: &[String],
        waiting: Vec<JobId>,
    ) -> Result<BulkOutput, ApiError> {
        let mut commands = Vec::with_capacity(waiting.len());
        for id in waiting {
            match self.step(id) {
                Ok(step) => commands.extend(step.map(|(command, _)| command)),
                Err(ApiError::Internal(cause)) => return Err(ApiError::Internal(cause)),
                Err(error) => self.fail(id, &error),
            }
        }
        let output = self.output(ids);
        let answer = data(&output);
        if commands.is_empty() {
            self.deps.remember(once, StatusCode::OK, &answer.0).await?;
        } else {
            // A job that somebody else has deleted since is as gone as was asked.
            self.deps.propose_all_once(once, commands, StatusCode::OK, &answer.0).await?;
        }
        Ok(output)
    }

    /// The answer, in the order of the ids.
    fn output(&self, ids: &[String]) -> BulkOutput {
        let errors: Vec<_> = ids.iter().filter_map(|id| self.failed.get(id)).cloned().collect();
        BulkOutput { succeeded: ids.len() - errors.len(), failed: errors.len(), errors }
    }
}

/// About how large a configuration is.
fn size(job: &Job) -> usize {
    let headers: usize = job.request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let tags: usize = job.tags.iter().map(String::len).sum();
    1_024 + job.request.url.len() + headers + tags + job.request.body.as_ref().map_or(0, String::len)
}
