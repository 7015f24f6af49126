//! Requests that are answered once: the `Idempotency-Key` header.
//!
//! What such a request changes and the record of its answer are one command, so that a repetition finds
//! either both or neither, through any failover. The record holds the answer sealed with a key made of the
//! idempotency key and the request, neither of which is stored: some answers hold secrets.

use crate::Deps;
use crate::error::ApiError;
use crate::extract::collect;
use crate::fields;
use crate::json::{self, Value};
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use domain::account::normal_email;
use domain::id::AccountId;
use domain::limits;
use domain::rejection::Rejection;
use raft::ProposeError;
use raft::command::{Applied, Command, Once, Reply};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::time::Duration;
use storage::Read;
use storage::codec::{decode_body, encode_body};
use storage::schema::Answers;

const HEADER: &str = "idempotency-key";
/// Characters of an idempotency key; what Stripe takes.
pub(crate) const KEY_CHARS_MAX: usize = 255;
const NONCE_BYTES: usize = 24;
/// How long commands that are proposed together may take; what a single one may take by default.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A request that named itself.
#[derive(Clone)]
pub(crate) struct Named {
    account: AccountId,
    /// SHA-256 of the idempotency key.
    name: [u8; 32],
    /// SHA-256 of method, path and body.
    request: [u8; 32],
    /// Seals the answer.
    seal: XChaCha20Poly1305,
}

/// The name of the request that a handler answers, if it has one.
pub(crate) struct OnceKey(Option<Named>);

impl<S: Send + Sync> FromRequestParts<S> for OnceKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned()))
    }
}

/// An answer as it is recorded, before it is sealed.
#[derive(Serialize, Deserialize)]
struct Memo {
    status: u16,
    body: String,
}

impl Named {
    /// The name of a POST that has one, and the request, for whose body this waits.
    pub(crate) async fn take(
        account: AccountId,
        request: Request,
    ) -> Result<(Option<Self>, Request), ApiError> {
        if request.method() != Method::POST {
            return Ok((None, request));
        }
        let mut keys = request.headers().get_all(HEADER).iter();
        let Some(key) = keys.next() else { return Ok((None, request)) };
        if keys.next().is_some() {
            return Err(fields::senseless("Idempotency-Key", "is given more than once"));
        }
        let key = key.to_str().unwrap_or_default().trim().to_owned();
        let is_printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if key.is_empty() || key.len() > KEY_CHARS_MAX || !is_printable {
            return Err(fields::senseless(
                "Idempotency-Key",
                format!("must have 1 to {KEY_CHARS_MAX} printable ASCII characters"),
            ));
        }
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let whole = Request::from_parts(parts.clone(), body);
        let bytes = collect(whole, limits::IMPORT_BYTES_MAX).await?;
        let hash = |parts: &[&[u8]]| -> [u8; 32] {
            let mut hash = Sha256::new();
            for part in parts {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            hash.finalize().into()
        };
        let method = parts.method.as_str().as_bytes();
        let named = Self {
            account,
            name: hash(&[b"idempotency key", key.as_bytes()]),
            request: hash(&[b"request", method, target.as_bytes(), &bytes]),
            seal: XChaCha20Poly1305::new(&hash(&[b"seal", key.as_bytes(), target.as_bytes(), &bytes]).into()),
        };
        let mut request = Request::from_parts(parts, Body::from(bytes));
        request.extensions_mut().insert(named.clone());
        Ok((Some(named), request))
    }

    fn wrap(&self, deps: &Deps, commands: Vec<Command>, memo: &Memo) -> Result<Command, ApiError> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let sealed = self
            .seal
            .encrypt(&XNonce::from(nonce), encode_body(memo).as_slice())
            .map_err(|_| ApiError::Internal("an answer cannot be sealed".into()))?;
        Ok(Command::Once(Box::new(Once {
            account: self.account,
            name: self.name,
            request: self.request,
            expires_at: deps.clock.now().plus(limits::ANSWER_KEPT_FOR),
            memo: [&nonce[..], &sealed].concat(),
            commands,
        })))
    }

    fn open(&self, memo: &[u8]) -> Option<Memo> {
        let (nonce, sealed) = memo.split_first_chunk::<NONCE_BYTES>()?;
        let plain = self.seal.decrypt(&XNonce::from(*nonce), sealed).ok()?;
        decode_body(&plain).ok()
    }
}

/// The answer that a request of this name got before.
///
/// # Errors
/// [`ApiError::Conflict`] when that was another request.
pub(crate) fn known(deps: &Deps, named: &Named) -> Result<Option<Response>, ApiError> {
    let now = deps.clock.now();
    let found = deps.read(|view| view.get::<Answers>(&(named.account, named.name)))?;
    let Some(answer) = found.filter(|answer| answer.expires_at > now) else { return Ok(None) };
    if answer.request != named.request {
        return Err(ApiError::conflict("this Idempotency-Key was used for another request"));
    }
    let memo =
        named.open(&answer.memo).ok_or_else(|| ApiError::Internal("an answer cannot be opened".into()))?;
    let status = StatusCode::from_u16(memo.status).unwrap_or(StatusCode::OK);
    if memo.body.is_empty() {
        return Ok(Some(status.into_response()));
    }
    let json = [(CONTENT_TYPE, "application/json")];
    Ok(Some((status, json, Bytes::from(memo.body)).into_response()))
}

impl Deps {
    /// Proposes the one command of a POST; when the request named itself, together with the `answer` it
    /// will get.
    ///
    /// # Errors
    /// As [`raft::Cluster::propose`]; `Rejected(Answered)` when the same request was answered meanwhile.
    pub(crate) async fn propose_once<T: Serialize>(
        &self,
        OnceKey(named): &OnceKey,
        command: Command,
        status: StatusCode,
        answer: &T,
    ) -> Result<Applied, ApiError> {
        let Some(named) = named else { return Ok(self.cluster.propose(command).await?) };
        let command = named.wrap(self, vec![command], &memo(status, answer)?)?;
        match self.cluster.propose(command).await? {
            Applied::All(replies) => only(replies),
            applied => Ok(applied),
        }
    }

    /// Proposes the commands of a POST that take effect together; when the request named itself, with the `answer`
    /// it will get. One reply each.
    ///
    /// The answer is recorded whatever the replies are, so it must be right however they turn out.
    ///
    /// # Errors
    /// As [`Deps::propose_once`], but refusals are in the replies.
    pub(crate) async fn propose_all_once<T: Serialize>(
        &self,
        OnceKey(named): &OnceKey,
        commands: Vec<Command>,
        status: StatusCode,
        answer: &T,
    ) -> Result<Vec<Reply>, ApiError> {
        let Some(named) = named else { return Ok(self.cluster.propose_all(commands, PATIENCE).await?) };
        let command = named.wrap(self, commands, &memo(status, answer)?)?;
        match self.cluster.propose(command).await {
            Ok(Applied::All(replies)) => Ok(replies),
            Ok(_) => Err(ApiError::Internal("a reply of another kind".into())),
            Err(ProposeError::Rejected(Rejection::Answered)) => Err(ApiError::Answered),
            // A single command that was refused has left no record behind.
            Err(ProposeError::Rejected(rejection)) => {
                self.remember(&OnceKey(Some(named.clone())), status, answer).await?;
                Ok(vec![Err(rejection)])
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Records the answer of a POST that has taken effect already, in ways that do no harm when they are
    /// repeated.
    ///
    /// # Errors
    /// As [`Deps::propose_once`].
    pub(crate) async fn remember<T: Serialize>(
        &self,
        OnceKey(named): &OnceKey,
        status: StatusCode,
        answer: &T,
    ) -> Result<(), ApiError> {
        let Some(named) = named else { return Ok(()) };
        let command = named.wrap(self, Vec::new(), &memo(status, answer)?)?;
        self.cluster.propose(command).await?;
        Ok(())
    }
}

/// Whose names those of a request without a credential are: they are told apart by the email in the body, so
/// that strangers who choose the same name do not get into each other's way.
pub(crate) async fn stranger(request: Request) -> Result<(AccountId, Request), ApiError> {
    if !request.headers().contains_key(HEADER) {
        return Ok((AccountId(0), request));
    }
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let bytes = collect(whole, limits::API_BODY_BYTES_MAX).await?;
    let mut hash = Sha256::new_with_prefix(b"stranger");
    if let Ok(Value::Object(object)) = json::parse(&bytes)
        && let Some((_, Value::String(email))) = object.0.iter().find(|(name, _)| name == "email")
    {
        hash.update(normal_email(email).as_ref().unwrap_or(email));
    }
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
    let account = AccountId(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    Ok((account, Request::from_parts(parts, Body::from(bytes))))
}

impl OnceKey {
    /// Whether a repetition of the request could be recognised.
    pub(crate) fn is_named(&self) -> bool {
        self.0.is_some()
    }

    /// A number that is the same for each repetition of the request and unlike all others: ids made of it
    /// make creating a thing twice impossible. Random when the request has no name.
    pub(crate) fn number(&self, salt: u64) -> u64 {
        let Some(named) = &self.0 else { return rand::random() };
        let mut hash = Sha256::new();
        hash.update(named.account.0.to_be_bytes());
        hash.update(named.name);
        hash.update(named.request);
        hash.update(salt.to_be_bytes());
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

fn memo<T: Serialize>(status: StatusCode, answer: &T) -> Result<Memo, ApiError> {
    let body = serde_json::to_string(answer).map_err(|error| ApiError::Internal(Box::new(error)))?;
    Ok(Memo { status: status.as_u16(), body })
}

fn only(replies: Vec<Reply>) -> Result<Applied, ApiError> {
    match replies.into_iter().next() {
        Some(reply) => Ok(reply.map_err(ProposeError::from)?),
        None => Err(ApiError::Internal("a command without a reply".into())),
    }
}
