//! `GET /v1/jobs/export`: all jobs of an account, as `POST /v1/migrate/json` takes them.
//!
//! The body is `{"jobs":[…]}` without `data` around it, so that it can be sent there as it is. It is written while
//! it is read: an account may have more jobs than should be in memory at once. An import takes 1,000 jobs at a time,
//! and with `page` and `per_page` an export gives as many.

use super::load;
use super::output::{ExportedJob, JobOutput};
use crate::Shared;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::Query;
use crate::fields::Issues;
use crate::page::{self, PageRequest};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::IntoResponse;
use domain::id::AccountId;
use domain::limits;
use futures::stream::{self, Stream};
use storage::Read;
use storage::schema::{AccountJob, AccountJobs};
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

/// Jobs read in one view and sent as one piece: a body may have half a megabyte.
const JOBS_AT_ONCE: usize = 16;

/// What an export is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "is written piece by piece")]
struct Exported {
    jobs: Vec<ExportedJob>,
}

/// Which part of the jobs is asked for.
enum ExportPage {}

impl utoipa::IntoParams for ExportPage {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        PageRequest::parameters(limits::IMPORT_JOBS_MAX, limits::IMPORT_JOBS_MAX)
    }
}

/// Where an export stands.
struct Export {
    deps: Shared,
    account: AccountId,
    after: Option<AccountJob>,
    /// How many more jobs are wanted.
    left: u64,
    part: Part,
}

enum Part {
    Head,
    Jobs { comma: bool },
    End,
}

/// Export all jobs.
///
/// All jobs of the account, in the form that `POST /v1/migrate/json` takes. Without `page` and `per_page` everything
/// is given; an import takes 1,000 jobs at a time.
#[utoipa::path(
    get, path = "/v1/jobs/export", operation_id = "exportJobs", tag = "Jobs", params(ExportPage),
    responses((status = 200, description = "A file with all jobs.", body = Exported)),
)]
pub(crate) async fn export(
    State(deps): State<Shared>,
    principal: Principal,
    query: Query,
) -> Result<impl IntoResponse, ApiError> {
    let mut issues = Issues::default();
    let request = PageRequest::read_if_given(&query, limits::IMPORT_JOBS_MAX, &mut issues);
    issues.refuse()?;

    let mut export =
        Export { deps, account: principal.account, after: None, left: u64::MAX, part: Part::Head };
    if let Some(request) = request {
        export.left = request.len() as u64;
        export.after = export.job_before(request).await?;
        if request.offset() > 0 && export.after.is_none() {
            export.left = 0;
        }
    }
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CONTENT_DISPOSITION, "attachment; filename=\"justrun-jobs.json\""),
    ];
    Ok((headers, Body::from_stream(export.pieces())))
}

impl Export {
    /// The last job before the page, if there is one.
    async fn job_before(&self, request: PageRequest) -> Result<Option<AccountJob>, ApiError> {
        let Some(before) = request.offset().checked_sub(1) else { return Ok(None) };
        let prefix = self.account.0.to_be_bytes();
        Ok(page::keys_behind::<AccountJobs>(&self.deps, &prefix, None, before, 1, |_| true).await?.pop())
    }

    /// The body, piece by piece. What goes wrong on the way breaks it off, which no client takes for its end.
    fn pieces(self) -> impl Stream<Item = Result<Bytes, ApiError>> {
        stream::try_unfold(self, |mut export| async move {
            match export.part {
                Part::Head => {
                    export.part = Part::Jobs { comma: false };
                    Ok(Some((Bytes::from_static(b"{\"jobs\":["), export)))
                }
                Part::Jobs { comma } => {
                    tokio::task::yield_now().await;
                    let piece = export.jobs(comma)?;
                    Ok(Some((Bytes::from(piece), export)))
                }
                Part::End => Ok(None),
            }
        })
    }

    /// The next jobs, and the end of the body when there are no more.
    fn jobs(&mut self, mut comma: bool) -> Result<Vec<u8>, ApiError> {
        let limit = usize::try_from(self.left).map_or(JOBS_AT_ONCE, |left| left.min(JOBS_AT_ONCE));
        let (keys, jobs) = self.deps.read(|view| {
            let prefix = self.account.0.to_be_bytes();
            let keys = view.keys_prefix::<AccountJobs>(&prefix, self.after.as_ref(), limit)?;
            let jobs = keys
                .iter()
                .filter_map(|key| load(view, self.account, key.job).transpose())
                .collect::<Result<Vec<_>, _>>()?;
            Ok((keys, jobs))
        })?;
        let now = self.deps.clock.now();
        let mut piece = Vec::new();
        for (job, state) in jobs {
            if comma {
                piece.push(b',');
            }
            comma = true;
            serde_json::to_writer(&mut piece, &JobOutput::new(job, &state, now).exported())
                .map_err(|error| ApiError::Internal(Box::new(error)))?;
        }
        self.left -= keys.len() as u64;
        self.after = keys.last().copied().or(self.after);
        if keys.len() < JOBS_AT_ONCE {
            piece.extend_from_slice(b"]}");
            self.part = Part::End;
        } else {
            self.part = Part::Jobs { comma };
        }
        Ok(piece)
    }
}
