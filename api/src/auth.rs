//! Credentials: from the `Authorization` header to the account it speaks for.
//!
//! An API key is hashed and the hash looked up, so that how long the answer takes says nothing about the keys
//! there are. A session token is believed by its signature, and only while its session lasts. Neither is ever
//! logged.

use crate::error::ApiError;
use crate::keys::hash_key;
use crate::tokens::{Session, looks_like_token};
use crate::{Deps, Shared};
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use domain::account::{Account, KEY_PREFIX, KeyHash, Plan};
use domain::id::AccountId;
use storage::Read;
use storage::schema::{Accounts, ApiKeys, EndedSessions, Metas, SecretsOf};

/// For whom a request speaks. Whoever has one also sees every change that was acknowledged anywhere
/// before the request came, because the read barrier has been passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Principal {
    pub(crate) account: AccountId,
    pub(crate) plan: Plan,
    /// Whose token was presented; `None` when it was an API key.
    pub(crate) session: Option<Session>,
}

impl FromRequestParts<Shared> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        // The gate has looked; without it there is no credential.
        parts.extensions.get().copied().ok_or(ApiError::Unauthorized)
    }
}

/// For whom a request with these headers speaks.
pub(crate) async fn authenticate(deps: &Deps, headers: &HeaderMap) -> Result<Principal, ApiError> {
    let presented = Presented::by(headers).ok_or(ApiError::Unauthorized)?;
    // Before the look-up, so that a new credential works at once on every node, and a revoked one on none.
    deps.cluster.read_barrier().await?;
    look_up(deps, &presented)
}

/// As [`authenticate`], but by what this node knows, without asking the others: for diagnosis while there
/// is no leader.
pub(crate) fn authenticate_here(deps: &Deps, headers: &HeaderMap) -> Result<Principal, ApiError> {
    look_up(deps, &Presented::by(headers).ok_or(ApiError::Unauthorized)?)
}

/// What a request has to show for itself.
enum Presented {
    /// The hash of an API key.
    Key(KeyHash),
    /// A session token.
    Token(String),
}

impl Presented {
    fn by(headers: &HeaderMap) -> Option<Self> {
        let (scheme, credential) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        let credential = credential.trim();
        if !scheme.eq_ignore_ascii_case("bearer") {
            None
        } else if credential.starts_with(KEY_PREFIX) {
            Some(Self::Key(hash_key(credential)))
        } else {
            looks_like_token(credential).then(|| Self::Token(credential.to_owned()))
        }
    }
}

fn look_up(deps: &Deps, presented: &Presented) -> Result<Principal, ApiError> {
    deps.must_be_whole()?;
    let found = match presented {
        Presented::Key(key) => by_key(deps, key)?.map(|account| (account, None)),
        Presented::Token(token) => by_token(deps, token)?.map(|(account, session)| (account, Some(session))),
    };
    let (account, session) = found.ok_or(ApiError::Unauthorized)?;
    Ok(Principal { account: account.id, plan: account.plan, session })
}

fn by_key(deps: &Deps, hash: &KeyHash) -> Result<Option<Account>, ApiError> {
    let found = deps.read(|view| {
        let Some(key) = view.get::<ApiKeys>(hash)? else { return Ok(None) };
        Ok(view.get::<Accounts>(&key.account)?.map(|account| (account, key.last_used_at)))
    })?;
    let Some((account, last_used_at)) = found else { return Ok(None) };
    deps.key_use.note(*hash, last_used_at, deps.clock.now());
    Ok(Some(account))
}

fn by_token(deps: &Deps, token: &str) -> Result<Option<(Account, Session)>, ApiError> {
    let Some(secrets) = deps.read(|view| view.get::<SecretsOf>(&()))? else { return Ok(None) };
    let Some(session) = Session::verify(token, &secrets.session_key) else { return Ok(None) };
    let now = deps.clock.now();
    let account = deps.read(|view| {
        // An ended session is forgotten once it has expired by the state's clock. This node's may be
        // behind, and must not wake it up again.
        let now = view.get::<Metas>(&())?.map_or(now, |meta| meta.now.max(now));
        if session.expires_at <= now || view.contains::<EndedSessions>(&(session.expires_at, session.id))? {
            return Ok(None);
        }
        view.get::<Accounts>(&session.account)
    })?;
    Ok(account.map(|account| (account, session)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn presented(header: &[u8]) -> Option<Presented> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(header).unwrap());
        Presented::by(&headers)
    }

    fn check(header: &[u8], expected: bool) {
        assert_eq!(presented(header).is_some(), expected, "{header:?}");
    }

    #[test]
    fn only_bearer_keys_and_tokens_are_credentials() {
        check(b"Bearer jrun_sk_a", true);
        check(b"bearer  jrun_sk_a", true);
        check(b"Bearer eyJ.eyJ.sig", true);
        check(b"Basic jrun_sk_a", false);
        check(b"Bearer", false);
        check(b"Bearer ", false);
        check(b"Bearer other", false);
        check(b"Bearer eyJ.eyJ", false);
        check(b"Bearer eyJ.eyJ.", false);
        check(b"jrun_sk_a", false);
        check(b"Bearer jrun_sk_\xff", false);
        assert!(Presented::by(&HeaderMap::new()).is_none());
    }

    #[test]
    fn the_whole_key_counts() {
        let hash = |key: &str| match presented(format!("Bearer {key}").as_bytes()) {
            Some(Presented::Key(hash)) => hash,
            Some(Presented::Token(_)) | None => panic!("{key} is a key"),
        };
        assert_eq!(hash("jrun_sk_a"), hash_key("jrun_sk_a"));
        assert_ne!(hash("jrun_sk_a"), hash("jrun_sk_A"));
    }
}
