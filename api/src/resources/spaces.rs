//! `/v1/spaces`

use super::jobs::{self, DEFAULT_TIMEZONE};
use super::{Data, data};
use crate::Deps;
use crate::align::align_space;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Id, Json, Named};
use crate::fields::{Fields, Issues, label};
use crate::json::Value;
use crate::once::OnceKey;
use crate::time::Rfc3339;
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

/// How often a space is given another id when one is taken.
const TRIES_MAX: u64 = 10;
/// Jobs counted in one view: about a millisecond, so that applies are not held back.
const JOBS_AT_ONCE: usize = 500;
/// Shown but not set, so that a space that was read can be sent again.
const READ_ONLY: [&str; 6] = ["id", "status", "job_count", "created_at", "updated_at", "paused_at"];

/// A space, in documented order; our extensions follow.
#[derive(Serialize)]
pub(crate) struct SpaceOutput {
    id: String,
    name: String,
    timezone: String,
    status: &'static str,
    job_count: u64,
    created_at: Rfc3339,
    updated_at: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
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

#[derive(Serialize)]
pub(crate) struct Paused {
    id: String,
    status: &'static str,
    jobs_paused: u64,
    paused_at: Rfc3339,
}

#[derive(Serialize)]
pub(crate) struct Resumed {
    id: String,
    status: &'static str,
    jobs_resumed: u64,
    resumed_at: Rfc3339,
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

/// `GET /v1/spaces`: all of them, oldest first.
pub(crate) async fn list(
    State(deps): State<Deps>,
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

/// `POST /v1/spaces`
pub(crate) async fn create(
    State(deps): State<Deps>,
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
            Err(error) => return Err(error),
            Ok(_) => return Ok((StatusCode::CREATED, answer)),
        }
    }
    Err(ApiError::Taken)
}

/// `GET /v1/spaces/{id}`
pub(crate) async fn get(
    State(deps): State<Deps>,
    principal: Principal,
    Id(id): Id<SpaceId>,
) -> Result<axum::Json<Data<SpaceOutput>>, ApiError> {
    Ok(data(SpaceOutput::new(find(&deps, principal.account, id)?)))
}

/// `PATCH /v1/spaces/{id}`
pub(crate) async fn update(
    State(deps): State<Deps>,
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

/// `DELETE /v1/spaces/{id}`
pub(crate) async fn delete(
    State(deps): State<Deps>,
    principal: Principal,
    Id(id): Id<SpaceId>,
) -> Result<StatusCode, ApiError> {
    let command = DeleteSpace { account: principal.account, space: id };
    deps.cluster.propose(Command::DeleteSpace(command)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/spaces/{id}/pause`
pub(crate) async fn pause(
    State(deps): State<Deps>,
    principal: Principal,
    once: OnceKey,
    Id(id): Id<SpaceId>,
) -> Result<axum::Json<Data<Paused>>, ApiError> {
    let jobs_paused = active_jobs(&deps, principal.account, id).await?;
    let at = deps.clock.now();
    let answer = data(Paused { id: id.to_string(), status: "paused", jobs_paused, paused_at: Rfc3339(at) });
    let command = Command::PauseSpace(PauseSpace { account: principal.account, space: id, at });
    deps.propose_once(&once, command, StatusCode::OK, &answer.0).await?;
    follow(&deps, id).await;
    Ok(answer)
}

/// `POST /v1/spaces/{id}/resume`
pub(crate) async fn resume(
    State(deps): State<Deps>,
    principal: Principal,
    once: OnceKey,
    Id(id): Id<SpaceId>,
) -> Result<axum::Json<Data<Resumed>>, ApiError> {
    let jobs_resumed = active_jobs(&deps, principal.account, id).await?;
    let at = deps.clock.now();
    let answer =
        data(Resumed { id: id.to_string(), status: "active", jobs_resumed, resumed_at: Rfc3339(at) });
    let command = Command::ResumeSpace(ResumeSpace { account: principal.account, space: id, at });
    deps.propose_once(&once, command, StatusCode::OK, &answer.0).await?;
    follow(&deps, id).await;
    Ok(answer)
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
