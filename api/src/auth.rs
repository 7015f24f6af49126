//! Credentials: from the `Authorization` header to the account it speaks for.
//!
//! A presented key is hashed and the hash looked up, so that how long the answer takes says nothing
//! about the keys there are. Keys are never logged.

use crate::Deps;
use crate::error::ApiError;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use domain::account::{KEY_PREFIX, KeyHash, Plan};
use domain::id::AccountId;
use sha2::{Digest, Sha256};
use storage::Read;
use storage::schema::{Accounts, ApiKeys};

/// For whom a request speaks. Whoever has one also sees every change that was acknowledged anywhere
/// before the request came, because the read barrier has been passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Principal {
    pub(crate) account: AccountId,
    pub(crate) plan: Plan,
}

impl FromRequestParts<Deps> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Deps) -> Result<Self, ApiError> {
        // The gate has looked; without it there is no credential.
        parts.extensions.get().copied().ok_or(ApiError::Unauthorized)
    }
}

/// For whom a request with these headers speaks.
pub(crate) async fn authenticate(deps: &Deps, headers: &HeaderMap) -> Result<Principal, ApiError> {
    let key = presented_key(headers).ok_or(ApiError::Unauthorized)?;
    // Before the look-up, so that a new key works at once on every node, and a revoked one on none.
    deps.cluster.read_barrier().await?;
    look_up(deps, &key)
}

/// As [`authenticate`], but by what this node knows, without asking the others: for diagnosis while there
/// is no leader.
pub(crate) fn authenticate_here(deps: &Deps, headers: &HeaderMap) -> Result<Principal, ApiError> {
    look_up(deps, &presented_key(headers).ok_or(ApiError::Unauthorized)?)
}

/// The hash of the key that the request presents, if it presents one.
fn presented_key(headers: &HeaderMap) -> Option<KeyHash> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && key.starts_with(KEY_PREFIX)).then(|| hash_key(key))
}

/// How an API key is stored and found.
#[must_use]
pub fn hash_key(key: &str) -> KeyHash {
    Sha256::digest(key).into()
}

fn look_up(deps: &Deps, key: &KeyHash) -> Result<Principal, ApiError> {
    let account = deps.read(|view| {
        let Some(key) = view.get::<ApiKeys>(key)? else { return Ok(None) };
        view.get::<Accounts>(&key.account)
    })?;
    let account = account.ok_or(ApiError::Unauthorized)?;
    Ok(Principal { account: account.id, plan: account.plan })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn check(header: &'static [u8], presented: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(header).unwrap());
        assert_eq!(presented_key(&headers).is_some(), presented, "{header:?}");
    }

    #[test]
    fn only_bearer_keys_are_credentials() {
        check(b"Bearer jrun_sk_a", true);
        check(b"bearer  jrun_sk_a", true);
        check(b"Basic jrun_sk_a", false);
        check(b"Bearer", false);
        check(b"Bearer ", false);
        check(b"Bearer other", false);
        check(b"jrun_sk_a", false);
        check(b"Bearer jrun_sk_\xff", false);
        assert_eq!(presented_key(&HeaderMap::new()), None);
    }

    #[test]
    fn the_whole_key_counts() {
        let hash = |key: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}")).unwrap());
            presented_key(&headers).unwrap()
        };
        assert_eq!(hash("jrun_sk_a"), <[u8; 32]>::from(Sha256::digest("jrun_sk_a")));
        assert_ne!(hash("jrun_sk_a"), hash("jrun_sk_A"));
    }
}
