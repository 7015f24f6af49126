//! `/v1/spaces`

use super::jobs::{self, DEFAULT_TIMEZONE};
use super::{Data, data};
use crate::align::align_space;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Id, Json, Named, NoBody};
use crate::fields::{Fields, Issues, label};
use crate::json::Value;
use crate::once::OnceKey;
use crate::openapi::shape::{self, IdInPath};
use crate::openapi::words::StatusWord;
use crate::time::Rfc3339;
use crate::{Deps, Shared};
use axum::extract::State;
use axum::http::StatusCode;
use domain::id::{AccountId, SpaceId};
use domain::limits;
use domain::space::Space;
use domain::time::Timestamp;
use raft::command::{Command, CreateSpace, DeleteSpace, PauseSpace, ResumeSpace, UpdateSpace};
use serde::Serialize;
use storage::Read;
use storage::schema::{AccountSpaces, JobStates, SpaceJobs, Spaces};
use utoipa::ToSchema;
use utoipa::openapi::ObjectBuilder;

/// How often a space is given another id when one is taken.
const TRIES_MAX: u64 = 10;
/// Jobs counted in one view: about a millisecond, so that applies are not held back.
const JOBS_AT_ONCE: usize = 500;
/// Shown but not set, so that a space that was read can be sent again.
const READ_ONLY: [&str; 6] = ["id", "status", "job_count", "created_at", "updated_at", "paused_at"];

/// A space: a group of jobs.
#[derive(Serialize, ToSchema)]
#[schema(as = Space)]
pub(crate) struct SpaceOutput {
    #[schema(example = "sp_nR4kLm8wQ21")]
    id: String,
    name: String,
    /// Default IANA timezone for jobs in this space.
    timezone: String,
    /// Jobs in a paused space do not fire, whatever their own status is.
    #[schema(value_type = StatusWord)]
    status: &'static str,
    job_count: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Rfc3339,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Rfc3339,
    /// Since when it is paused, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    paused_at: Option<Rfc3339>,
}

impl SpaceOutput {
    fn new(space: Space) -> Self {
        Self {
            id: space.id.to_string(),
            status: if space.is_paused() { "paused" } else { "active" },
            name: space.name,
            timezone: space.timezone,
            job_count: space.jobs,
            created_at: Rfc3339(space.created_at),
            updated_at: Rfc3339(space.updated_at),
            paused_at: space.paused_at.map(Rfc3339),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = PausedSpace)]
pub(crate) struct Paused {
    id: String,
    #[schema(value_type = StatusWord)]
    status: &'static str,
    /// The jobs in it that were active themselves.
    jobs_paused: u64,
    #[schema(value_type = String, format = DateTime)]
    paused_at: Rfc3339,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ResumedSpace)]
pub(crate) struct Resumed {
    id: String,
    #[schema(value_type = StatusWord)]
    status: &'static str,
    /// The jobs in it that are active themselves.
    jobs_resumed: u64,
    #[schema(value_type = String, format = DateTime)]
    resumed_at: Rfc3339,
}

shape::schema! {
    /// The body of `POST /v1/spaces`.
    NewSpace, "NewSpace" =>
        shape::with_read_only(fields("Spaces have a name and a default timezone.").required("name"), &READ_ONLY)
}

shape::schema! {
    /// The body of `PATCH /v1/spaces/{id}`.
    SpaceChanges, "SpaceChanges" => shape::with_read_only(fields("Only the fields to change."), &READ_ONLY)
}

fn fields(about: &str) -> ObjectBuilder {
    shape::body(about).property("name", shape::label("Space name", limits::SPACE_NAME_CHARS_MAX)).property(
        "timezone",
        shape::text("Default IANA timezone for jobs in this space")
            .default(Some(DEFAULT_TIMEZONE.into()))
            .examples(["Europe/Stockholm"]),
    )
}

/// What a client may set of a space.
#[derive(Default)]
struct SpaceInput {
    name: Option<String>,
    timezone: Option<String>,
}

impl SpaceInput {
    fn read(body: &Value, required: &[&str], issues: &mut Issues) -> Self {
        let Some(mut fields) = Fields::of(body, "", issues) else { return Self::default() };
        fields.require(required);
        let input = Self {
            name: fields.parsed("name", |text| label(text, limits::SPACE_NAME_CHARS_MAX)),
            timezone: fields.parsed("timezone", jobs::timezone),
        };
        fields.ignore(&READ_ONLY);
        fields.finish();
        input
    }
}

/// List spaces.
///
/// Retrieve all spaces in your account with job counts, oldest first.
#[utoipa::path(
    get, path = "/v1/spaces", operation_id = "listSpaces", tag = "Spaces",
    responses((status = 200, description = "All spaces.", body = Vec<SpaceOutput>)),
)]
pub(crate) async fn list(
    State(deps): State<Shared>,
    principal: Principal,
) -> Result<axum::Json<Data<Vec<SpaceOutput>>>, ApiError> {
    let mut spaces = deps.read(|view| {
        let prefix = principal.account.0.to_be_bytes();
        let keys = view.keys_prefix::<AccountSpaces>(&prefix, None, limits::SPACES_MAX)?;
        keys.iter().filter_map(|(_, id)| view.get::<Spaces>(id).transpose()).collect::<Result<Vec<_>, _>>()
    })?;
    spaces.sort_by_key(|space| (space.created_at, space.id));
    Ok(data(spaces.into_iter().map(SpaceOutput::new).collect()))
}

/// Create a space.
///
/// Create a new space. Spaces have a name and a default timezone that new jobs in the space inherit.
#[utoipa::path(
    post, path = "/v1/spaces", operation_id = "createSpace", tag = "Spaces", request_body = NewSpace,
    responses(
        (status = 201, description = "Created.", body = SpaceOutput),
        (status = 409, description = "The account has as many spaces as it may, or the idempotency key was used with another request."),
    ),
)]
pub(crate) async fn create(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Json(body): Json,
) -> Result<(StatusCode, axum::Json<Data<SpaceOutput>>), ApiError> {
    let mut issues = Issues::default();
    let input = SpaceInput::read(&body, &["name"], &mut issues);
    issues.refuse()?;

    let now = deps.clock.now();
    let mut space = Space {
        id: SpaceId(0),
        account: principal.account,
        name: input.name.unwrap_or_default(),
        timezone: input.timezone.unwrap_or_else(|| DEFAULT_TIMEZONE.to_owned()),
        paused_at: None,
        generation: 0,
        turned_at: Timestamp::EPOCH,
        jobs: 0,
        created_at: now,
        updated_at: now,
    };
    for salt in 0..TRIES_MAX {
        space.id = SpaceId(once.number(salt));
        let answer = data(SpaceOutput::new(space.clone()));
        let command = Command::CreateSpace(CreateSpace { space: space.clone() });
        match deps.propose_once(&once, command, StatusCode::CREATED, &answer.0).await {
            // Two random ids met; the next ones will not.
            Err(ApiError::Taken) => {}
            Err(error) => return Err(named(error)),
            Ok(_) => return Ok((StatusCode::CREATED, answer)),
        }
    }
    Err(ApiError::Taken)
}

/// Get a space.
///
/// Retrieve one space with its job count.
#[utoipa::path(
    get, path = "/v1/spaces/{id}", operation_id = "getSpace", tag = "Spaces", params(IdInPath<SpaceId>),
    responses((status = 200, description = "The space.", body = SpaceOutput)),
)]
pub(crate) async fn get(
    State(deps): State<Shared>,
    principal: Principal,
    Id(id): Id<SpaceId>,
) -> Result<axum::Json<Data<SpaceOutput>>, ApiError> {
    Ok(data(SpaceOutput::new(find(&deps, principal.account, id)?)))
}

/// Update a space.
///
/// Update a space name or default timezone. Existing jobs in the space are not affected by timezone changes.
#[utoipa::path(
    patch, path = "/v1/spaces/{id}", operation_id = "updateSpace", tag = "Spaces", params(IdInPath<SpaceId>),
    request_body = SpaceChanges,
    responses((status = 200, description = "The whole space as it is now.", body = SpaceOutput)),
)]
pub(crate) async fn update(
    State(deps): State<Shared>,
    principal: Principal,
    Id(id): Id<SpaceId>,
    Json(body): Json,
) -> Result<axum::Json<Data<SpaceOutput>>, ApiError> {
    let mut issues = Issues::default();
    let SpaceInput { name, timezone } = SpaceInput::read(&body, &[], &mut issues);
    let space = find(&deps, principal.account, id)?;
    issues.refuse()?;

    let name = name.filter(|name| *name != space.name);
    let timezone = timezone.filter(|timezone| *timezone != space.timezone);
    if name.is_none() && timezone.is_none() {
        return Ok(data(SpaceOutput::new(space)));
    }
    let at = deps.clock.now();
    let command = UpdateSpace { account: principal.account, space: id, name, timezone, at };
    deps.cluster.propose(Command::UpdateSpace(command)).await?;
    Ok(data(SpaceOutput::new(find(&deps, principal.account, id)?)))
}

/// Delete a space.
///
/// Delete a space. The space must be empty (no jobs). Move or delete all jobs in the space first, or use the bulk move
/// action.
#[utoipa::path(
    delete, path = "/v1/spaces/{id}", operation_id = "deleteSpace", tag = "Spaces", params(IdInPath<SpaceId>),
    responses(
        (status = 204, description = "Deleted."),
        (status = 409, description = "The space still has jobs."),
    ),
)]
pub(crate) async fn delete(
    State(deps): State<Shared>,
    principal: Principal,
    Id(id): Id<SpaceId>,
) -> Result<StatusCode, ApiError> {
    let command = DeleteSpace { account: principal.account, space: id };
    deps.cluster.propose(Command::DeleteSpace(command)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a space.
///
/// Pause all jobs in a space with a single call. Useful for maintenance windows or deploys. Individual jobs retain their
/// own status so resuming the space only resumes jobs that were previously active.
#[utoipa::path(
    post, path = "/v1/spaces/{id}/pause", operation_id = "pauseSpace", tag = "Spaces", params(IdInPath<SpaceId>),
    responses(
        (status = 200, description = "Paused.", body = Paused),
        (status = 409, description = "It is paused already, or the idempotency key was used with another request."),
    ),
)]
pub(crate) async fn pause(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Id(id): Id<SpaceId>,
    NoBody: NoBody,
) -> Result<axum::Json<Data<Paused>>, ApiError> {
    let jobs_paused = active_jobs(&deps, principal.account, id).await?;
    let at = deps.clock.now();
    let answer = data(Paused { id: id.to_string(), status: "paused", jobs_paused, paused_at: Rfc3339(at) });
    let command = Command::PauseSpace(PauseSpace { account: principal.account, space: id, at });
    deps.propose_once(&once, command, StatusCode::OK, &answer.0).await.map_err(named)?;
    follow(&deps, id).await;
    Ok(answer)
}

/// Resume a space.
///
/// Resume all previously active jobs in a paused space. Jobs that were individually paused before the space pause remain
/// paused.
#[utoipa::path(
    post, path = "/v1/spaces/{id}/resume", operation_id = "resumeSpace", tag = "Spaces", params(IdInPath<SpaceId>),
    responses(
        (status = 200, description = "Active.", body = Resumed),
        (status = 409, description = "It is active already, or the idempotency key was used with another request."),
    ),
)]
pub(crate) async fn resume(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Id(id): Id<SpaceId>,
    NoBody: NoBody,
) -> Result<axum::Json<Data<Resumed>>, ApiError> {
    let jobs_resumed = active_jobs(&deps, principal.account, id).await?;
    let at = deps.clock.now();
    let answer =
        data(Resumed { id: id.to_string(), status: "active", jobs_resumed, resumed_at: Rfc3339(at) });
    let command = Command::ResumeSpace(ResumeSpace { account: principal.account, space: id, at });
    deps.propose_once(&once, command, StatusCode::OK, &answer.0).await.map_err(named)?;
    follow(&deps, id).await;
    Ok(answer)
}

fn named(error: ApiError) -> ApiError {
    error.about(SpaceId::NOUN, "spaces")
}

fn find(deps: &Deps, account: AccountId, id: SpaceId) -> Result<Space, ApiError> {
    let found = deps.read(|view| view.get::<Spaces>(&id))?;
    found.filter(|space| space.account == account).ok_or(ApiError::NotFound(SpaceId::NOUN))
}

/// How many jobs of the space are not paused themselves.
async fn active_jobs(deps: &Deps, account: AccountId, id: SpaceId) -> Result<u64, ApiError> {
    find(deps, account, id)?;
    let mut active = 0;
    let mut after = None;
    loop {
        let read = deps.read(|view| {
            let keys = view.keys_prefix::<SpaceJobs>(&id.0.to_be_bytes(), after.as_ref(), JOBS_AT_ONCE)?;
            for (_, job) in &keys {
                let state = view.get::<JobStates>(job)?;
                active += u64::from(state.is_some_and(|state| state.paused_at.is_none()));
            }
            Ok(keys)
        })?;
        if read.len() < JOBS_AT_ONCE {
            return Ok(active);
        }
        after = read.last().copied();
        tokio::task::yield_now().await;
    }
}

/// Lets the cursors of the jobs follow. The space has turned already, so what goes wrong here is no refusal: the
/// leader finishes it.
async fn follow(deps: &Deps, id: SpaceId) {
    if let Err(error) = align_space(&deps.cluster, id).await {
        tracing::warn!(space = %id, %error, "cursors have not all followed their space yet");
    }
}
