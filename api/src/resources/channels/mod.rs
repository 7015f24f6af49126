//! `/v1/alerts/channels`

mod input; // what a client may set
mod output; // what a client sees
mod schema; // what a client may send, as the document says it

pub(crate) use input::Kind;

use super::{Data, data};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Id, Json, Named, NoBody};
use crate::fields::Issues;
use crate::once::OnceKey;
use crate::openapi::shape::IdInPath;
use crate::{Deps, Shared};
use axum::extract::State;
use axum::http::StatusCode;
use domain::channel::{Channel, EventKind};
use domain::id::{AccountId, ChannelId, DeliveryId, ExecutionId, JobId};
use domain::limits;
use input::ChannelInput;
use output::{ChannelOutput, Secrets, Tested};
use raft::command::{Command, CreateChannel, DeleteChannel, UpdateChannel};
use schema::{ChannelChanges, NewChannel};
use std::time::Duration;
use storage::Read;
use storage::schema::Channels;

/// How often a new id is drawn, or a change computed again that somebody else was faster with.
const TRIES_MAX: u64 = 10;
/// How long a test may take: the answer is due within 10 s (documented).
const TEST_TIMEOUT: Duration = Duration::from_secs(9);

impl Named for ChannelId {
    const NOUN: &'static str = "channel";
}

/// List alert channels.
///
/// List all configured alert channels for your account, oldest first.
#[utoipa::path(
    get, path = "/v1/alerts/channels", operation_id = "listChannels", tag = "Alert Channels",
    responses((status = 200, description = "All channels.", body = Vec<ChannelOutput>)),
)]
pub(crate) async fn list(
    State(deps): State<Shared>,
    principal: Principal,
) -> Result<axum::Json<Data<Vec<ChannelOutput>>>, ApiError> {
    let prefix = principal.account.0.to_be_bytes();
    let found = deps.read(|view| view.prefix::<Channels>(&prefix, None, limits::CHANNELS_MAX))?;
    let mut channels: Vec<Channel> = found.into_iter().map(|(_, channel)| channel).collect();
    channels.sort_by_key(|channel| (channel.created_at, channel.id));
    Ok(data(channels.into_iter().map(|channel| ChannelOutput::new(channel, Secrets::Masked)).collect()))
}

/// Get an alert channel.
///
/// Retrieve one channel. Secrets show their last four characters.
#[utoipa::path(
    get, path = "/v1/alerts/channels/{id}", operation_id = "getChannel", tag = "Alert Channels",
    params(IdInPath<ChannelId>),
    responses((status = 200, description = "The channel.", body = ChannelOutput)),
)]
pub(crate) async fn get(
    State(deps): State<Shared>,
    principal: Principal,
    Id(id): Id<ChannelId>,
) -> Result<axum::Json<Data<ChannelOutput>>, ApiError> {
    Ok(data(ChannelOutput::new(find(&deps, principal.account, id)?, Secrets::Masked)))
}

/// Create an alert channel.
///
/// Create a new alert channel. The config object varies by channel type. A webhook channel without a `secret` gets one,
/// which only this response shows. One whose host is that of PagerDuty is sent the Events v2 body with its `routing_key`.
#[utoipa::path(
    post, path = "/v1/alerts/channels", operation_id = "createChannel", tag = "Alert Channels", request_body = NewChannel,
    responses(
        (status = 201, description = "Created.", body = ChannelOutput),
        (status = 409, description = "The account has as many channels as it may, or the idempotency key was used with another request."),
    ),
)]
pub(crate) async fn create(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Json(body): Json,
) -> Result<(StatusCode, axum::Json<Data<ChannelOutput>>), ApiError> {
    let mut issues = Issues::default();
    let input = ChannelInput::for_create(&body, deps.targets.as_ref(), &mut issues);
    issues.refuse()?;
    let now = deps.clock.now();
    let (mut channel, secrets) = input.channel(principal.account, now)?;
    for salt in 0..TRIES_MAX {
        channel.id = ChannelId(once.number(salt));
        let answer = data(ChannelOutput::new(channel.clone(), secrets));
        let command = Command::CreateChannel(Box::new(CreateChannel { channel: channel.clone() }));
        match deps.propose_once(&once, command, StatusCode::CREATED, &answer.0).await {
            // Two random ids met; the next ones will not.
            Err(ApiError::Taken) => {}
            Err(error) => return Err(error.about(ChannelId::NOUN, "alert channels")),
            Ok(_) => return Ok((StatusCode::CREATED, answer)),
        }
    }
    Err(ApiError::Taken)
}

/// Update an alert channel.
///
/// Update one or more fields of a channel, also of its config. The type cannot be changed. A secret that is sent as it
/// was shown stays.
#[utoipa::path(
    patch, path = "/v1/alerts/channels/{id}", operation_id = "updateChannel", tag = "Alert Channels",
    params(IdInPath<ChannelId>), request_body = ChannelChanges,
    responses(
        (status = 200, description = "The whole channel as it is now.", body = ChannelOutput),
        (status = 409, description = "Others kept changing the channel at the same time; try again."),
    ),
)]
pub(crate) async fn update(
    State(deps): State<Shared>,
    principal: Principal,
    Id(id): Id<ChannelId>,
    Json(body): Json,
) -> Result<axum::Json<Data<ChannelOutput>>, ApiError> {
    for _ in 0..TRIES_MAX {
        let old = find(&deps, principal.account, id)?;
        let mut issues = Issues::default();
        let input = ChannelInput::for_update(&body, &old, deps.targets.as_ref(), &mut issues);
        issues.refuse()?;
        let (mut channel, secrets) = input.changed(&old);
        if channel == old {
            return Ok(data(ChannelOutput::new(old, secrets)));
        }
        // Always later, so that it tells one configuration from the next.
        channel.updated_at = deps.clock.now().max(old.updated_at.plus(Duration::from_millis(1)));
        let command = UpdateChannel { channel: channel.clone(), expected: old.updated_at };
        match deps.cluster.propose(Command::UpdateChannel(Box::new(command))).await.map_err(ApiError::from) {
            // It was changed meanwhile: compute again from what it is now.
            Err(ApiError::Stale) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(data(ChannelOutput::new(channel, secrets))),
        }
    }
    Err(ApiError::Stale)
}

/// Delete an alert channel.
///
/// Delete an alert channel. Jobs using this channel will no longer send notifications to it.
#[utoipa::path(
    delete, path = "/v1/alerts/channels/{id}", operation_id = "deleteChannel", tag = "Alert Channels",
    params(IdInPath<ChannelId>),
    responses((status = 204, description = "Deleted.")),
)]
pub(crate) async fn delete(
    State(deps): State<Shared>,
    principal: Principal,
    Id(id): Id<ChannelId>,
) -> Result<StatusCode, ApiError> {
    let command = DeleteChannel { account: principal.account, channel: id };
    deps.cluster.propose(Command::DeleteChannel(command)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Test an alert channel.
///
/// Send a test notification through the channel to verify your configuration works correctly. Returns within ten seconds
/// with the delivery status. That the message does not arrive is an answer, not an error.
#[utoipa::path(
    post, path = "/v1/alerts/channels/{id}/test", operation_id = "testChannel", tag = "Alert Channels",
    params(IdInPath<ChannelId>),
    responses((status = 200, description = "What came of it.", body = Tested)),
)]
pub(crate) async fn test(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Id(id): Id<ChannelId>,
    NoBody: NoBody,
) -> Result<axum::Json<Data<Tested>>, ApiError> {
    let channel = find(&deps, principal.account, id)?;
    let now = deps.clock.now();
    // Has the form of a message about an execution, though there is none. Its lowest bits are random, or the
    // request's own.
    let execution = ExecutionId::manual(JobId(once.number(0)), now, once.number(1) as u16);
    let message = DeliveryId { execution, event: EventKind::Executed, channel: id };
    let sent = tokio::time::timeout(TEST_TIMEOUT, deps.tester.test(&channel, message, now)).await;
    let sent = sent.unwrap_or_else(|_| Err(format!("No answer within {}s", TEST_TIMEOUT.as_secs())));
    let answer = data(Tested::new(id, sent));
    deps.remember(&once, StatusCode::OK, &answer.0).await?;
    Ok(answer)
}

/// A channel of `account`.
fn find(deps: &Deps, account: AccountId, id: ChannelId) -> Result<Channel, ApiError> {
    deps.read(|view| view.get::<Channels>(&(account, id)))?.ok_or(ApiError::NotFound(ChannelId::NOUN))
}
