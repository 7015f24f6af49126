//! What every request with a credential passes, in this order: who speaks, and whether the request was
//! answered before. And what those pass that ask for a credential.

use crate::Deps;
use crate::auth;
use crate::error::{AnsweredBefore, ApiError};
use crate::once::{self, Named};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Wraps every route that needs a credential.
pub(crate) async fn pass(State(deps): State<Deps>, mut request: Request, next: Next) -> Response {
    let principal = match auth::authenticate(&deps, request.headers()).await {
        Ok(principal) => principal,
        Err(error) => return error.into_response(),
    };
    request.extensions_mut().insert(principal);
    answer_once(&deps, principal.account, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

/// Wraps the routes by which one gets a credential: nobody speaks yet, but whoever asks sees every change that
/// was acknowledged before, and may name the request as others do.
pub(crate) async fn pass_stranger(State(deps): State<Deps>, request: Request, next: Next) -> Response {
    admit_stranger(&deps, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn admit_stranger(deps: &Deps, request: Request, next: Next) -> Result<Response, ApiError> {
    deps.cluster.read_barrier().await?;
    let (stranger, request) = once::stranger(request).await?;
    answer_once(deps, stranger, request, next).await
}

/// Gives the answer that a request with the same idempotency key got before, if there is one.
pub(crate) async fn answer_once(
    deps: &Deps,
    account: domain::id::AccountId,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (named, request) = Named::take(account, request).await?;
    let Some(named) = named else { return Ok(next.run(request).await) };
    if let Some(answer) = once::known(deps, &named)? {
        return Ok(answer);
    }
    let answer = next.run(request).await;
    if answer.status().is_success() || answer.extensions().get::<AnsweredBefore>().is_some() {
        // What was recorded is what every repetition gets, so the first one gets it as well.
        return Ok(once::known(deps, &named)?.unwrap_or(answer));
    }
    Ok(answer)
}
