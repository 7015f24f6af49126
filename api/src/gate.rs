//! What every request passes, in this order: who speaks, how often they may, and whether the request was
//! answered before.

use crate::auth::{self, Principal};
use crate::error::{AnsweredBefore, ApiError};
use crate::once::{self, Named};
use crate::rate_limit::{Bucket, RateLimiter, Standing, Stranger};
use crate::{Deps, Shared};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::id::AccountId;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

/// What the gate works with. Clones are the same.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Parts>);

pub(crate) struct Parts {
    deps: Shared,
    limiter: RateLimiter,
}

impl Deref for Gate {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Gate {
    pub(crate) fn new(deps: Shared) -> Self {
        let limiter = RateLimiter::new(deps.cluster.clone(), Arc::clone(&deps.clock), deps.rate_limits);
        Self(Arc::new(Parts { deps, limiter }))
    }

    /// Where the request comes from.
    fn address(&self, request: &Request) -> IpAddr {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer =
            peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip().to_canonical());
        self.deps.proxies.client(peer, request.headers())
    }

    /// Counts a request of an account.
    async fn account(&self, principal: &Principal, bucket: Bucket) -> Option<Standing> {
        let plan = self.deps.plans.of(principal.plan);
        self.limiter.account(principal.account, bucket, plan).await
    }
}

/// Wraps every route that needs a credential.
pub(crate) async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let principal = auth::authenticate(&gate.deps, request.headers()).await;
    admit(gate, principal, request, next).await
}

/// Wraps what answers by what this node knows, also without a leader.
pub(crate) async fn pass_here(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let principal = auth::authenticate_here(&gate.deps, request.headers());
    admit(gate, principal, request, next).await
}

/// Wraps the routes by which one gets a credential: nobody speaks yet, but whoever asks sees every change that
/// was acknowledged before, and may name the request as others do.
pub(crate) async fn pass_stranger(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let standing = gate.limiter.address(Stranger::SigningIn, gate.address(&request));
    answered(standing, async { admit_stranger(&gate.deps, request, next).await }).await
}

/// Wraps what needs no credential at all: only how often an address may ask.
pub(crate) async fn pass_open(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let standing = gate.limiter.address(Stranger::Looking, gate.address(&request));
    answered(standing, async { Ok(next.run(request).await) }).await
}

/// Wraps what shows by a signature that it may call.
pub(crate) async fn pass_signed(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let standing = gate.limiter.address(Stranger::Signed, gate.address(&request));
    answered(standing, async {
        gate.deps.must_be_whole()?;
        Ok(next.run(request).await)
    })
    .await
}

async fn admit_stranger(deps: &Deps, request: Request, next: Next) -> Result<Response, ApiError> {
    deps.cluster.read_barrier().await?;
    deps.must_be_whole()?;
    let (stranger, request) = once::stranger(request).await?;
    answer_once(deps, stranger, request, next).await
}

async fn admit(
    gate: Gate,
    principal: Result<Principal, ApiError>,
    mut request: Request,
    next: Next,
) -> Response {
    let bucket = bucket(&request);
    let principal = match principal {
        Ok(principal) => principal,
        Err(error) => {
            // When the others cannot be asked, this node may still know who it is, and so where they stand.
            let known = match error {
                ApiError::Unauthorized => None,
                _ => auth::authenticate_here(&gate.deps, request.headers()).ok(),
            };
            let standing = match known {
                Some(principal) => gate.account(&principal, bucket).await,
                None => gate.limiter.address(Stranger::Unknown, gate.address(&request)),
            };
            return answered(standing, async { Err(error) }).await;
        }
    };
    let standing = gate.account(&principal, bucket).await;
    request.extensions_mut().insert(principal);
    answered(standing, answer_once(&gate.deps, principal.account, request, next)).await
}

/// Manual runs have a limit of their own (documented).
fn bucket(request: &Request) -> Bucket {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    if path == Some("/v1/jobs/{id}/run") { Bucket::Run } else { Bucket::General }
}

/// Answers unless it is one request too many, and shows where the caller stands.
async fn answered(
    standing: Option<Standing>,
    answer: impl Future<Output = Result<Response, ApiError>>,
) -> Response {
    let answer = match standing.map_or(Ok(()), |standing| standing.admit()) {
        Ok(()) => answer.await,
        Err(error) => Err(error),
    };
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    if let Some(standing) = standing {
        standing.show(response.headers_mut());
    }
    response
}

/// Gives the answer that a request with the same idempotency key got before, if there is one.
async fn answer_once(
    deps: &Deps,
    account: AccountId,
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
