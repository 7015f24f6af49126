//! Candidates into the replicated state: each is read, made a job, and proposed together with others.

use super::foreign::Foreign;
use crate::Deps;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::fields::{Issue, Issues};
use crate::json::{Object, Value};
use crate::once::OnceKey;
use crate::resources::jobs;
use domain::id::{JobId, SpaceId};
use domain::job::Job;
use domain::limits;
use domain::rejection::Rejection;
use raft::PROPOSAL_BYTES_MAX;
use raft::command::{Command, CreateJob};
use std::time::Duration;

/// Half of what a proposal may have: the sizes of jobs are estimated.
const BATCH_BYTES_MAX: usize = PROPOSAL_BYTES_MAX / 2;
/// What a job takes beside its texts: the names of its fields, numbers, lengths.
const JOB_BYTES: usize = 1_024;
/// What each text of a list takes beside itself.
const ITEM_BYTES: usize = 16;
/// How long a batch may take to be agreed on.
const PATIENCE: Duration = Duration::from_secs(10);
/// Jobs for which an answer says where exactly in the request they are wrong: nobody reads more, and an answer
/// must not outgrow its request.
const DETAILED_MAX: usize = 100;
/// Mistakes of one job that are listed.
const DETAILS_MAX: usize = 5;
/// Characters of a name or a reason in an answer.
const NAME_CHARS_MAX: usize = 100;
const REASON_CHARS_MAX: usize = 300;

/// A job that may be imported.
pub(super) struct Candidate {
    /// What its owner calls it.
    name: String,
    /// The same for each repetition of the request: its id is made of it.
    salt: u64,
    /// Where in the request it is; empty when it comes from elsewhere.
    path: String,
    /// The body of `POST /v1/jobs` that makes it, or why there is none.
    job: Result<Value, String>,
    paused: bool,
    /// What is wrong with it beside what is wrong with a job.
    issues: Issues,
    warnings: Vec<String>,
}

/// A candidate that was read.
pub(super) struct Draft {
    candidate: Candidate,
    draft: Option<jobs::Draft>,
}

/// What came of an import.
pub(super) struct Report {
    pub(super) imported: Vec<JobId>,
    pub(super) failures: Vec<Failure>,
    /// What is different about jobs that were imported, by name.
    pub(super) warnings: Vec<(String, String)>,
    /// What is to be said about the whole.
    pub(super) remarks: Vec<String>,
}

/// A job that was not imported.
pub(super) struct Failure {
    pub(super) name: String,
    pub(super) reason: String,
    pub(super) details: Vec<Issue>,
}

impl Candidate {
    /// A job of a request. A paused one stays paused: a backup must not set off what was stopped.
    pub(super) fn of_json(index: usize, job: &Value, space: Option<SpaceId>) -> Self {
        let path = format!("jobs[{index}]");
        let name = member(job, "name").filter(|name| !name.trim().is_empty()).unwrap_or(&path);
        let mut issues = Issues::default();
        let paused = is_paused(job, &path, &mut issues);
        Self {
            name: cut(name, NAME_CHARS_MAX),
            salt: index as u64,
            paused,
            issues,
            job: Ok(in_space(job.clone(), space)),
            path,
            warnings: Vec::new(),
        }
    }

    /// A job of another service, or one that it has and we cannot hold.
    pub(super) fn of_foreign(job: Result<Foreign, super::sources::Skipped>, space: Option<SpaceId>) -> Self {
        let (id, name, paused, job, warnings) = match job {
            Ok(job) => {
                let (id, name, paused) = (job.id, job.display_name(), job.paused);
                let (value, warnings) = job.into_request();
                (id, name, paused, Ok(in_space(value, space)), warnings)
            }
            Err(skipped) => (0, skipped.name, false, Err(skipped.reason), Vec::new()),
        };
        Self {
            name: cut(&name, NAME_CHARS_MAX),
            salt: id,
            path: String::new(),
            job,
            paused,
            issues: Issues::default(),
            warnings,
        }
    }
}

impl Draft {
    /// Whether nobody could make sense of it.
    pub(super) fn is_misshapen(&self) -> bool {
        self.draft.as_ref().is_some_and(|draft| draft.issues().misshapen())
    }

    pub(super) fn issues(&self) -> Issues {
        self.draft.as_ref().map(|draft| draft.issues().clone()).unwrap_or_default()
    }
}

/// Reads candidates.
pub(super) fn read(deps: &Deps, candidates: Vec<Candidate>) -> Vec<Draft> {
    let read = |mut candidate: Candidate| {
        let value = candidate.job.as_ref().ok();
        let mut draft = value.map(|value| jobs::Draft::read(value, &candidate.path, deps.targets.as_ref()));
        if let Some(draft) = &mut draft {
            draft.absorb(std::mem::take(&mut candidate.issues));
        }
        Draft { candidate, draft }
    };
    candidates.into_iter().map(read).collect()
}

/// Imports what can be imported, in the order given.
///
/// # Errors
/// When the cluster does not answer. What was imported by then stays; the same request made again, under its
/// idempotency key, imports the rest.
pub(super) async fn import(
    deps: &Deps,
    principal: Principal,
    once: &OnceKey,
    drafts: Vec<Draft>,
) -> Result<Report, ApiError> {
    let jobs_max = deps.plans.of(principal.plan).jobs_max;
    let now = deps.clock.now();
    let mut import = Import::default();
    for (index, Draft { candidate, draft }) in drafts.into_iter().enumerate() {
        let Candidate { name, salt, path, job: value, paused, warnings, issues: _ } = candidate;
        let (draft, value) = match (draft, value) {
            (Some(draft), Ok(value)) => (draft, value),
            (_, Err(reason)) => {
                import.fail(index, name, reason, Vec::new());
                continue;
            }
            (None, Ok(_)) => continue,
        };
        match draft.finish(deps, principal.account, now)? {
            Err(issues) => {
                let details = if path.is_empty() { Vec::new() } else { located(&issues, &path) };
                import.fail(index, name, explain(&issues, &path, &value), details);
            }
            Ok((job, next_run_at)) => {
                let job = Job { id: JobId(once.number(salt)), ..job };
                let bytes = size(&job);
                if !import.has_room_for(bytes) {
                    import.flush(deps, once).await?;
                }
                import.entries.push(Entry { index, name, id: job.id, warnings });
                let create = CreateJob { job, next_run_at, paused, jobs_max };
                import.commands.push(Command::CreateJob(Box::new(create)));
                import.bytes += bytes;
            }
        }
    }
    import.flush(deps, once).await?;
    Ok(import.report())
}

/// An import under way.
#[derive(Default)]
struct Import {
    /// The jobs that are proposed next, and the commands that make them.
    entries: Vec<Entry>,
    commands: Vec<Command>,
    bytes: usize,
    imported: Vec<JobId>,
    /// By place in the request.
    failures: Vec<(usize, Failure)>,
    warnings: Vec<(String, String)>,
}

struct Entry {
    index: usize,
    name: String,
    id: JobId,
    warnings: Vec<String>,
}

impl Import {
    fn has_room_for(&self, bytes: usize) -> bool {
        self.commands.is_empty()
            || (self.commands.len() < limits::IMPORTED_TOGETHER_MAX && self.bytes + bytes <= BATCH_BYTES_MAX)
    }

    fn fail(&mut self, index: usize, name: String, reason: String, details: Vec<Issue>) {
        self.failures.push((index, Failure { name, reason: cut(&reason, REASON_CHARS_MAX), details }));
    }

    /// Proposes what has been gathered, and notes what came of it.
    async fn flush(&mut self, deps: &Deps, once: &OnceKey) -> Result<(), ApiError> {
        self.bytes = 0;
        let entries = std::mem::take(&mut self.entries);
        let commands = std::mem::take(&mut self.commands);
        if commands.is_empty() {
            return Ok(());
        }
        let replies = deps.cluster.propose_all(commands, PATIENCE).await?;
        for (entry, reply) in entries.into_iter().zip(replies) {
            match reply {
                Ok(_) => self.note(entry),
                // Made by the same request before, whose answer was lost.
                Err(Rejection::Exists) if once.is_named() => self.note(entry),
                Err(Rejection::NoSuchSpace) => {
                    let reason = "space_id is not a space of this account".to_owned();
                    self.fail(entry.index, entry.name, reason, Vec::new());
                }
                Err(rejection) => {
                    let reason = ApiError::from(rejection).to_string();
                    self.fail(entry.index, entry.name, reason, Vec::new());
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, entry: Entry) {
        self.imported.push(entry.id);
        let Entry { name, warnings, .. } = entry;
        self.warnings.extend(warnings.into_iter().map(|warning| (name.clone(), warning)));
    }

    fn report(mut self) -> Report {
        self.failures.sort_by_key(|(index, _)| *index);
        let mut failures: Vec<_> = self.failures.into_iter().map(|(_, failure)| failure).collect();
        failures.iter_mut().skip(DETAILED_MAX).for_each(|failure| failure.details.clear());
        Report { imported: self.imported, failures, warnings: self.warnings, remarks: Vec::new() }
    }
}

/// Why a job is refused, in one sentence. An expression has the documented words.
fn explain(issues: &Issues, path: &str, value: &Value) -> String {
    let reasons = issues.list().iter().map(|Issue { field, issue }| {
        let field = field.strip_prefix(path).unwrap_or(field).trim_start_matches('.');
        match member(value, field) {
            Some(text) if field == "cron_expression" => format!("Unsupported cron expression: {text}"),
            Some(_) | None => format!("{field} {issue}"),
        }
    });
    reasons.collect::<Vec<_>>().join("; ")
}

/// Where in the request the mistakes are.
fn located(issues: &Issues, path: &str) -> Vec<Issue> {
    let locate = |issue: &Issue| {
        let mut issue = issue.clone();
        if !issue.field.starts_with(path) {
            issue.field = format!("{path}.{}", issue.field);
        }
        issue
    };
    issues.list().iter().take(DETAILS_MAX).map(locate).collect()
}

/// Bytes that a job takes in a proposal, at most.
fn size(job: &Job) -> usize {
    let request = &job.request;
    let texts = [&job.name, &job.cron_expression, &job.timezone, &request.url].map(String::len);
    let headers = request.headers.iter().map(|(name, value)| name.len() + value.len() + 2 * ITEM_BYTES);
    let tags = job.tags.iter().map(|tag| tag.len() + ITEM_BYTES);
    let channels = job.alert_channels.as_ref().map_or(0, |channels| channels.len() * ITEM_BYTES);
    let body = request.body.as_ref().map_or(0, String::len);
    JOB_BYTES + texts.iter().sum::<usize>() + headers.sum::<usize>() + tags.sum::<usize>() + channels + body
}

/// Whether a job of a request is to start paused: `status`, which only an import reads.
fn is_paused(job: &Value, path: &str, issues: &mut Issues) -> bool {
    const ACTIVE_AND_PAUSED: [bool; 2] = [false, true];
    let Value::Object(object) = job else { return false };
    let Some((_, status)) = object.0.iter().find(|(name, _)| name == "status") else { return false };
    let field = format!("{path}.status");
    let Value::String(status) = status else {
        issues.shape(field, "must be a string");
        return false;
    };
    let word = |paused: bool| jobs::status(paused);
    let known = ACTIVE_AND_PAUSED.into_iter().find(|paused| word(*paused) == status);
    if known.is_none() {
        issues.meaning(field, format!("must be one of {}", ACTIVE_AND_PAUSED.map(word).join(", ")));
    }
    known.unwrap_or_default()
}

/// The text of a member.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    let Value::Object(object) = value else { return None };
    object.0.iter().find_map(|(known, value)| match value {
        Value::String(text) if known == name => Some(text.as_str()),
        _ => None,
    })
}

/// The job, placed in a space, whatever space it was in before.
fn in_space(value: Value, space: Option<SpaceId>) -> Value {
    match (value, space) {
        (Value::Object(Object(mut members)), Some(space)) => {
            members.retain(|(name, _)| name != "space_id");
            members.push(("space_id".to_owned(), Value::String(space.to_string())));
            Value::Object(Object(members))
        }
        (value, _) => value,
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
