//! `/v1/migrate`: jobs of other services, and backups of our own.
//!
//! What comes from another service is turned into what a client would send to `POST /v1/jobs` ([`foreign`]),
//! so that there is one reading of a job and one set of reasons to refuse it. A job that fails is listed,
//! the others are imported.

mod cronjob_org; // schedules and jobs of cron-job.org
mod easycron; // expressions and jobs of EasyCron
mod fetch; // polite reading of another service
mod foreign; // what jobs of other services have in common
mod import; // candidates into the replicated state
mod output; // what a client sees
mod sources; // which requests it takes

use self::import::{Candidate, Report};
use self::output::ImportOutput;
use super::jobs::ImportedJob;
use super::{Data, data};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{ImportJson, Json};
use crate::fields::{self, EMPTY, Fault, Fields, Issues};
use crate::json::Value;
use crate::once::OnceKey;
use crate::openapi::shape::{self, Example};
use crate::outbound::credential;
use crate::{Deps, Shared};
use axum::extract::State;
use axum::http::StatusCode;
use domain::id::{AccountId, SpaceId};
use domain::limits;
use storage::Read;
use storage::schema::Spaces;
use utoipa::ToSchema;
use utoipa::openapi::{ObjectBuilder, Ref};

shape::schema! {
    /// The body of `POST /v1/migrate/json`.
    JsonImport, "JsonImport" => {
        let jobs = Ref::from_schema_name(ImportedJob::name());
        shape::body("Jobs, as `GET /v1/jobs/export` gives them.")
            .property("jobs", shape::list("Array of job objects", jobs, limits::IMPORT_JOBS_MAX))
            .property("space_id", place())
            .required("jobs")
    }
}

shape::schema! {
    /// The body of an import from another service.
    ServiceImport, "ServiceImport" => {
        let key = shape::text("Your API key of that service").min_length(Some(1));
        shape::body("Whose jobs.").property("api_key", key).property("space_id", place()).required("api_key")
    }
}

fn place() -> ObjectBuilder {
    shape::text_or_null("Place all imported jobs in this space").examples([<SpaceId as Example>::ID])
}

const NO_SUCH_SPACE: Fault = Fault::Borrowed("is not a space of this account");

/// Import jobs from JSON.
///
/// Import jobs from a raw JSON array. Use this for custom migrations from services we do not directly integrate with, or
/// to restore a backup. Each object in the array follows the same schema as the Create Job endpoint. A job that makes no
/// sense, or that the plan does not allow, is listed; the others are imported.
#[utoipa::path(
    post, path = "/v1/migrate/json", operation_id = "importJson", tag = "Migration", request_body = JsonImport,
    responses((status = 200, description = "What was imported, and what was not and why.", body = ImportOutput)),
)]
pub(crate) async fn json(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    ImportJson(body): ImportJson,
) -> Result<axum::Json<Data<ImportOutput>>, ApiError> {
    let mut issues = Issues::default();
    let mut candidates = Vec::new();
    if let Some(mut fields) = Fields::of(&body, "", &mut issues) {
        fields.require(&["jobs"]);
        let space = space(&mut fields);
        match fields.value("jobs") {
            Some(Value::Array(jobs)) if jobs.len() > limits::IMPORT_JOBS_MAX => {
                fields.meaning("jobs", too_many());
            }
            Some(Value::Array(jobs)) => {
                let jobs = jobs.iter().enumerate();
                candidates.extend(jobs.map(|(index, job)| Candidate::of_json(index, job, space)));
            }
            Some(_) => fields.shape("jobs", "must be an array"),
            None => {}
        }
        fields.finish();
        check_space(&deps, principal.account, space, &mut issues)?;
    }
    // A job that nobody can make sense of is a mistake of whoever wrote the request: all of it is refused.
    // A job that makes no sense fails by itself.
    let drafts = import::read(&deps, candidates);
    if drafts.iter().any(import::Draft::is_misshapen) {
        drafts.iter().for_each(|draft| issues.absorb(draft.issues()));
    }
    issues.refuse()?;

    let report = import::import(&deps, principal, &once, drafts).await?;
    answer(&deps, &once, ImportOutput::with_ids(report)).await
}

/// Import jobs from EasyCron.
///
/// Import all jobs from your EasyCron account. Provide your EasyCron API key and JustRun fetches your jobs, converts
/// them, and creates them in your account.
#[utoipa::path(
    post, path = "/v1/migrate/easycron", operation_id = "importEasyCron", tag = "Migration", request_body = ServiceImport,
    responses(
        (status = 200, description = "What was imported, and what was not and why.", body = ImportOutput),
        (status = 422, description = "EasyCron refuses the key, or a value makes no sense."),
        (status = 502, description = "`upstream_error`: EasyCron failed. Nothing was imported."),
    ),
)]
pub(crate) async fn easycron(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Json(body): Json,
) -> Result<axum::Json<Data<ImportOutput>>, ApiError> {
    let (key, space) = key_and_space(&deps, principal.account, &body)?;
    let found = sources::of_easycron(&deps, &key).await?;
    import_found(&deps, principal, &once, found, space).await
}

/// Import jobs from cron-job.org.
///
/// Import all jobs from your cron-job.org account using their API key. JustRun maps cron-job.org fields to JustRun
/// equivalents automatically.
#[utoipa::path(
    post, path = "/v1/migrate/cronjob-org", operation_id = "importCronJobOrg", tag = "Migration", request_body = ServiceImport,
    responses(
        (status = 200, description = "What was imported, and what was not and why.", body = ImportOutput),
        (status = 422, description = "cron-job.org refuses the key, or a value makes no sense."),
        (status = 502, description = "`upstream_error`: cron-job.org failed. Nothing was imported."),
    ),
)]
pub(crate) async fn cronjob_org(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Json(body): Json,
) -> Result<axum::Json<Data<ImportOutput>>, ApiError> {
    let (key, space) = key_and_space(&deps, principal.account, &body)?;
    let found = sources::of_cronjob_org(&deps, &key).await?;
    import_found(&deps, principal, &once, found, space).await
}

async fn import_found(
    deps: &Deps,
    principal: Principal,
    once: &OnceKey,
    found: sources::Found,
    space: Option<SpaceId>,
) -> Result<axum::Json<Data<ImportOutput>>, ApiError> {
    let candidates = found.jobs.into_iter().map(|job| Candidate::of_foreign(job, space)).collect();
    let mut report: Report = import::import(deps, principal, once, import::read(deps, candidates)).await?;
    report.remarks = found.remarks;
    answer(deps, once, ImportOutput::without_ids(report)).await
}

/// Records the answer. What has been imported stays so: an answer that is too large to be recorded is given
/// all the same, and a repetition of the request finds its jobs by their ids.
async fn answer(
    deps: &Deps,
    once: &OnceKey,
    output: ImportOutput,
) -> Result<axum::Json<Data<ImportOutput>>, ApiError> {
    let answer = data(output);
    match deps.remember(once, StatusCode::OK, &answer.0).await {
        Ok(()) | Err(ApiError::TooLarge { .. }) => Ok(answer),
        Err(error) => Err(error),
    }
}

/// The fields of an import from another service.
fn key_and_space(
    deps: &Deps,
    account: AccountId,
    body: &Value,
) -> Result<(String, Option<SpaceId>), ApiError> {
    let mut issues = Issues::default();
    let (mut key, mut place) = (None, None);
    if let Some(mut fields) = Fields::of(body, "", &mut issues) {
        fields.require(&["api_key"]);
        key = fields.parsed("api_key", api_key);
        place = space(&mut fields);
        fields.finish();
        check_space(deps, account, place, &mut issues)?;
    }
    issues.refuse()?;
    // Without one there was an issue.
    let key = key.ok_or_else(|| fields::misshapen("api_key", EMPTY))?;
    Ok((key, place))
}

/// What is wrong with an import that is too long, and how to make it shorter.
fn too_many() -> String {
    let max = limits::IMPORT_JOBS_MAX;
    format!(
        "must have at most {max} items; import the rest in further requests: an export comes in such parts from \
         GET /v1/jobs/export?page=1&per_page={max}, then page=2"
    )
}

fn api_key(text: &str) -> Result<String, Fault> {
    let text = text.trim();
    if text.is_empty() {
        return Err(EMPTY.into());
    }
    match credential(text) {
        Some(_) if text.is_ascii() => Ok(text.to_owned()),
        Some(_) | None => Err("is not an API key".into()),
    }
}

/// The space that all jobs go to.
fn space(fields: &mut Fields<'_, '_>) -> Option<SpaceId> {
    fields.parsed_or_null("space_id", |text| text.parse().map_err(|_| NO_SUCH_SPACE)).flatten()
}

fn check_space(
    deps: &Deps,
    account: AccountId,
    space: Option<SpaceId>,
    issues: &mut Issues,
) -> Result<(), ApiError> {
    let Some(id) = space else { return Ok(()) };
    let found = deps.read(|view| view.get::<Spaces>(&id))?;
    if found.is_none_or(|space| space.account != account) {
        issues.meaning("space_id", NO_SUCH_SPACE);
    }
    Ok(())
}
