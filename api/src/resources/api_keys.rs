//! `/v1/api-keys`

use super::{Data, data};
use crate::Shared;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Id, Json, Named};
use crate::fields::{Fields, Issues, label};
use crate::keys::{mint_key, stored_key};
use crate::once::OnceKey;
use crate::openapi::shape::{self, IdInPath};
use crate::time::Rfc3339;
use axum::extract::State;
use axum::http::StatusCode;
use domain::account::{ApiKey, KEY_PREFIX};
use domain::id::KeyId;
use domain::limits;
use raft::command::{Command, CreateKey, RevokeKey};
use serde::Serialize;
use storage::Read;
use storage::schema::{AccountKeys, ApiKeys};
use utoipa::ToSchema;

/// Shown but not set.
const READ_ONLY: [&str; 6] = ["id", "key", "prefix", "last_four", "last_used_at", "created_at"];
/// Ids drawn before a collision of random numbers is taken for something else.
const TRIES_MAX: u64 = 3;

impl Named for KeyId {
    const NOUN: &'static str = "API key";
}

/// A key as lists show it: never the key.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct KeyOutput {
    #[schema(example = "key_mN4kPw9xR21")]
    id: String,
    name: String,
    #[schema(value_type = String)]
    prefix: &'static str,
    last_four: String,
    /// To about a minute; null when it was never used.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_used_at: Option<Rfc3339>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Rfc3339,
}

/// A key at the one moment in which it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedApiKey)]
pub(crate) struct NewKeyOutput {
    id: String,
    name: String,
    /// The key. It is shown only here.
    #[schema(example = "jrun_sk_a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6")]
    key: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Rfc3339,
}

shape::schema! {
    /// The body of `POST /v1/api-keys`.
    NewKey, "NewApiKey" => {
        let name = shape::label("A descriptive name for the key", limits::LABEL_CHARS_MAX).examples(["CI/CD Pipeline"]);
        shape::with_read_only(shape::body("What the key is for.").property("name", name).required("name"), &READ_ONLY)
    }
}

impl From<ApiKey> for KeyOutput {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            prefix: KEY_PREFIX,
            last_four: key.last_four,
            last_used_at: key.last_used_at.map(Rfc3339),
            created_at: Rfc3339(key.created_at),
        }
    }
}

/// List API keys.
///
/// List all API keys for your account, newest first. The full key value is not returned for security. Only the prefix and
/// last 4 characters are shown.
#[utoipa::path(
    get, path = "/v1/api-keys", operation_id = "listApiKeys", tag = "API Keys",
    responses((status = 200, description = "All keys.", body = Vec<KeyOutput>)),
)]
pub(crate) async fn list(
    State(deps): State<Shared>,
    principal: Principal,
) -> Result<axum::Json<Data<Vec<KeyOutput>>>, ApiError> {
    let prefix = principal.account.0.to_be_bytes();
    let mut keys = deps.read(|view| {
        let hashes = view.prefix::<AccountKeys>(&prefix, None, limits::KEYS_MAX)?;
        let mut keys = Vec::with_capacity(hashes.len());
        for (_, hash) in hashes {
            keys.extend(view.get::<ApiKeys>(&hash)?);
        }
        Ok(keys)
    })?;
    keys.sort_unstable_by_key(|key| std::cmp::Reverse((key.created_at, key.id)));
    Ok(data(keys.into_iter().map(KeyOutput::from).collect()))
}

/// Create an API key.
///
/// Create a new API key. The full key is returned only in this response. Store it securely -- you cannot retrieve it
/// again.
#[utoipa::path(
    post, path = "/v1/api-keys", operation_id = "createApiKey", tag = "API Keys", request_body = NewKey,
    responses(
        (status = 201, description = "Created.", body = NewKeyOutput),
        (status = 409, description = "The account has as many keys as it may, or the idempotency key was used with another request."),
    ),
)]
pub(crate) async fn create(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Json(body): Json,
) -> Result<(StatusCode, axum::Json<Data<NewKeyOutput>>), ApiError> {
    let mut issues = Issues::default();
    let mut name = None;
    if let Some(mut fields) = Fields::of(&body, "", &mut issues) {
        fields.require(&["name"]);
        name = fields.parsed("name", |text| label(text, limits::LABEL_CHARS_MAX));
        fields.ignore(&READ_ONLY);
        fields.finish();
    }
    issues.refuse()?;
    let name = name.unwrap_or_default();

    let text = mint_key();
    let created_at = deps.clock.now();
    for salt in 0..TRIES_MAX {
        let id = KeyId(once.number(salt));
        let key = stored_key(&text, id, principal.account, name.clone(), created_at);
        let answer = data(NewKeyOutput {
            id: id.to_string(),
            name: name.clone(),
            key: text.clone(),
            created_at: Rfc3339(created_at),
        });
        let command = Command::CreateKey(CreateKey { key });
        match deps.propose_once(&once, command, StatusCode::CREATED, &answer.0).await {
            // Two random ids met; the next ones will not.
            Err(ApiError::Taken) => {}
            Err(error) => return Err(error.about(KeyId::NOUN, "API keys")),
            Ok(_) => return Ok((StatusCode::CREATED, answer)),
        }
    }
    Err(ApiError::Taken)
}

/// Revoke an API key.
///
/// Permanently revoke an API key. Any requests using this key will immediately return 401 Unauthorized, on every node.
/// This action cannot be undone.
#[utoipa::path(
    delete, path = "/v1/api-keys/{id}", operation_id = "deleteApiKey", tag = "API Keys", params(IdInPath<KeyId>),
    responses((status = 204, description = "Revoked.")),
)]
pub(crate) async fn delete(
    State(deps): State<Shared>,
    principal: Principal,
    Id(key): Id<KeyId>,
) -> Result<StatusCode, ApiError> {
    let command = Command::RevokeKey(RevokeKey { account: principal.account, key });
    deps.cluster.propose(command).await?;
    Ok(StatusCode::NO_CONTENT)
}
