//! `GET /v1/jobs`: pages of an account's jobs, newest first.

use super::output::JobOutput;
use super::{load, shown};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::Query;
use crate::fields::Issues;
use crate::openapi::shape;
use crate::page::{self, Page, PageRequest};
use crate::{Deps, Shared};
use axum::extract::State;
use domain::id::{AccountId, SpaceId};
use domain::job::{Job, JobState};
use storage::Read;
use storage::schema::{AccountJob, AccountJobs, AccountUsage};
use utoipa::openapi::path::{Parameter, ParameterIn};

/// Jobs read in one view while filtering: about a millisecond, so that applies are not held back.
const JOBS_AT_ONCE: usize = 200;

/// List jobs.
///
/// Retrieve a paginated list of all jobs in your account. Filter by status, space, tag, or search by name. Results are
/// ordered by creation date (newest first).
#[utoipa::path(
    get, path = "/v1/jobs", operation_id = "listJobs", tag = "Jobs", params(PageRequest, Filter),
    responses((status = 200, description = "A page of jobs.", body = Vec<JobOutput>)),
)]
pub(crate) async fn list(
    State(deps): State<Shared>,
    principal: Principal,
    query: Query,
) -> Result<axum::Json<Page<JobOutput>>, ApiError> {
    let mut issues = Issues::default();
    let request = PageRequest::read(&query, &mut issues);
    let filter = Filter::read(&query, &mut issues);
    issues.refuse()?;

    let (total, jobs) = if filter.admits_all() {
        whole(&deps, principal.account, request).await?
    } else {
        filtered(&deps, principal.account, request, &filter).await?
    };
    let now = deps.clock.now();
    let jobs = deps.read(|view| {
        jobs.into_iter().map(|(job, state)| shown(view, job, state, now)).collect::<Result<_, _>>()
    })?;
    Ok(axum::Json(Page::new(request, total, jobs)))
}

/// Which space jobs are to be in.
#[derive(Debug, Default, PartialEq, Eq)]
enum Wanted {
    /// In any, or in none.
    #[default]
    Any,
    /// In this one; there is no job in `None`.
    Only(Option<SpaceId>),
}

impl Wanted {
    fn admits(&self, space: Option<SpaceId>) -> bool {
        match self {
            Self::Any => true,
            Self::Only(wanted) => wanted.is_some() && space == *wanted,
        }
    }
}

/// Which jobs are wanted.
#[derive(Debug, Default)]
struct Filter {
    paused: Option<bool>,
    space: Wanted,
    /// In lower case.
    search: Option<String>,
    tag: Option<String>,
}

impl utoipa::IntoParams for Filter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let words = shape::one_of(["active", "paused", "all"]).default(Some("all".into()));
        vec![
            shape::query("status", words.description(Some("Filter by status"))),
            shape::query("space_id", shape::id::<SpaceId>("Filter by space ID")),
            shape::query("search", shape::text("Filter by a part of the name, in upper or lower case")),
            shape::query("tag", shape::text("Filter by a tag")),
        ]
    }
}

impl Filter {
    fn read(query: &Query, issues: &mut Issues) -> Self {
        let paused = match query.text("status", issues) {
            None | Some("all") => None,
            Some("active") => Some(false),
            Some("paused") => Some(true),
            Some(_) => {
                issues.meaning("status", "must be one of active, paused, all");
                None
            }
        };
        // What cannot be a space's id is the id of no space, as one that is unknown.
        let space =
            query.text("space_id", issues).map_or(Wanted::Any, |text| Wanted::Only(text.parse().ok()));
        let wanted = |text: &str| !text.is_empty();
        Self {
            paused,
            space,
            search: query.text("search", issues).filter(|text| wanted(text)).map(str::to_lowercase),
            tag: query.text("tag", issues).filter(|text| wanted(text)).map(str::to_owned),
        }
    }

    fn admits_all(&self) -> bool {
        let Self { paused, space, search, tag } = self;
        paused.is_none() && *space == Wanted::Any && search.is_none() && tag.is_none()
    }

    fn admits(&self, job: &Job, state: &JobState) -> bool {
        self.paused.is_none_or(|paused| state.paused_at.is_some() == paused)
            && self.space.admits(job.space)
            && self.search.as_ref().is_none_or(|part| job.name.to_lowercase().contains(part))
            && self.tag.as_ref().is_none_or(|tag| job.tags.contains(tag))
    }
}

/// A page of all jobs: their number is kept, and those before the page are skipped by their keys.
async fn whole(
    deps: &Deps,
    account: AccountId,
    request: PageRequest,
) -> Result<(u64, Vec<(Job, JobState)>), ApiError> {
    let total = deps.read(|view| view.get::<AccountUsage>(&account))?.unwrap_or_default().jobs;
    if request.offset() >= total {
        return Ok((total, Vec::new()));
    }
    let keys = page::keys::<AccountJobs>(deps, &account.0.to_be_bytes(), request, |_| true).await?;
    // A job that was deleted since the keys were read is left out.
    let jobs = deps.read(|view| {
        keys.iter().filter_map(|key| load(view, account, key.job).transpose()).collect::<Result<_, _>>()
    })?;
    Ok((total, jobs))
}

/// A page of the jobs that the filter admits: all are read, some at a time.
async fn filtered(
    deps: &Deps,
    account: AccountId,
    request: PageRequest,
    filter: &Filter,
) -> Result<(u64, Vec<(Job, JobState)>), ApiError> {
    let mut total = 0;
    let mut page = Vec::new();
    let mut after: Option<AccountJob> = None;
    loop {
        let read = deps.read(|view| {
            let prefix = account.0.to_be_bytes();
            let keys = view.keys_prefix::<AccountJobs>(&prefix, after.as_ref(), JOBS_AT_ONCE)?;
            for key in &keys {
                let Some((job, state)) = load(view, account, key.job)? else { continue };
                if filter.admits(&job, &state) {
                    total += 1;
                    if total > request.offset() && page.len() < request.len() {
                        page.push((job, state));
                    }
                }
            }
            Ok(keys)
        })?;
        if read.len() < JOBS_AT_ONCE {
            return Ok((total, page));
        }
        after = read.last().copied();
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, faults: &[&str]) -> Filter {
        let mut issues = Issues::default();
        let filter = Filter::read(&Query::of(query), &mut issues);
        let found: Vec<_> = issues.list().iter().map(|issue| issue.field.as_str()).collect();
        assert_eq!(found, faults, "{query}");
        filter
    }

    #[test]
    fn filters_are_checked() {
        assert!(check("status=all&search=&tag=&page=2", &[]).admits_all());
        assert_eq!(check("status=paused", &[]).paused, Some(true));
        assert_eq!(check("search=DB", &[]).search.as_deref(), Some("db"));
        check("status=Active", &["status"]);
        let nowhere = check("space_id=sp_xyz789", &[]);
        assert!(
            !nowhere.admits_all() && !nowhere.space.admits(None) && !nowhere.space.admits(Some(SpaceId(1)))
        );
    }
}
