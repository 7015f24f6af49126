//! `/v1/auth`: signing in to the dashboard with an email address and a password.

use super::{Data, data};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Json, NoBody};
use crate::fields::{EMPTY, Fault, Fields, Issues};
use crate::json::Value;
use crate::once::OnceKey;
use crate::openapi::shape;
use crate::time::Rfc3339;
use crate::tokens::Session;
use crate::{Deps, Shared};
use axum::extract::State;
use axum::http::StatusCode;
use domain::account::{Account, Plan, User, normal_email};
use domain::id::AccountId;
use domain::limits;
use domain::rejection::Rejection;
use raft::command::{Command, CreateAccount, EndSession};
use serde::Serialize;
use storage::Read;
use storage::schema::{Accounts, SecretsOf, Users};
use utoipa::ToSchema;
use utoipa::openapi::ObjectBuilder;

/// Ids drawn before a collision of random numbers is taken for something else.
const TRIES_MAX: u64 = 3;

/// The answer to both ways in.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct SignedIn {
    /// The session token, a JWT. Works like an API key.
    token: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Rfc3339,
    account_id: String,
    email: String,
}

shape::schema! {
    /// The body of `POST /v1/auth/register`.
    NewUser, "NewUser" => {
        let email = shape::label("Where you can be reached", limits::EMAIL_CHARS_MAX).examples(["ops@example.com"]);
        let password = shape::text("To sign in with")
            .min_length(Some(limits::PASSWORD_CHARS_MIN))
            .max_length(Some(limits::PASSWORD_CHARS_MAX));
        typed(email, password)
    }
}

shape::schema! {
    /// The body of `POST /v1/auth/login`.
    Credentials, "Credentials" =>
        typed(shape::text("As registered").min_length(Some(1)), shape::text("As registered").min_length(Some(1)))
}

fn typed(email: ObjectBuilder, password: ObjectBuilder) -> ObjectBuilder {
    let body = shape::body("An email and a password.").property("email", email);
    body.property("password", password).required("email").required("password")
}

/// What is typed to get in.
struct Typed {
    email: String,
    password: String,
}

impl Typed {
    /// Reads a body whose fields `email` and `password` make sense of.
    fn read(
        body: &Value,
        email: impl FnOnce(&str) -> Result<String, Fault>,
        password: impl FnOnce(&str) -> Result<String, Fault>,
    ) -> Result<Self, ApiError> {
        let mut issues = Issues::default();
        let mut typed = Self { email: String::new(), password: String::new() };
        if let Some(mut fields) = Fields::of(body, "", &mut issues) {
            fields.require(&["email", "password"]);
            typed.email = fields.parsed("email", email).unwrap_or_default();
            typed.password = fields.parsed("password", password).unwrap_or_default();
            fields.finish();
        }
        issues.refuse()?;
        Ok(typed)
    }
}

/// Register.
///
/// Make an account on plan `free`, and sign in to it.
#[utoipa::path(
    post, path = "/v1/auth/register", operation_id = "register", tag = "Sessions", security(()), request_body = NewUser,
    responses(
        (status = 201, description = "Registered and signed in.", body = SignedIn),
        (status = 403, description = "`registration_closed`: the operator takes no new accounts this way."),
        (status = 409, description = "There is an account with this email, or the idempotency key was used with another request."),
    ),
)]
pub(crate) async fn register(
    State(deps): State<Shared>,
    once: OnceKey,
    Json(body): Json,
) -> Result<(StatusCode, axum::Json<Data<SignedIn>>), ApiError> {
    if !deps.registration_open {
        return Err(ApiError::RegistrationClosed);
    }
    let typed = Typed::read(&body, new_email, new_password)?;
    // Before the costly part, though only applying the command decides.
    if deps.read(|view| view.contains::<Users>(&typed.email))? {
        return Err(Rejection::EmailTaken.into());
    }
    let signing_key = signing_key(&deps)?;
    let password = deps.passwords.hash(typed.password).await?;

    let created_at = deps.clock.now();
    for salt in 0..TRIES_MAX {
        let id = AccountId(once.number(salt));
        let email = typed.email.clone();
        let account = Account { id, plan: Plan::Free, email: Some(email.clone()), billing: None, created_at };
        let user = User { email: email.clone(), account: id, password: password.clone(), created_at };
        let session = Session::begin(id, created_at);
        let answer = data(SignedIn {
            token: session.sign(created_at, &signing_key)?,
            expires_at: Rfc3339(session.expires_at),
            account_id: id.to_string(),
            email,
        });
        let command = Command::CreateAccount(Box::new(CreateAccount { account, user: Some(user) }));
        match deps.propose_once(&once, command, StatusCode::CREATED, &answer.0).await {
            // Two random ids met; the next ones will not.
            Err(ApiError::Taken) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok((StatusCode::CREATED, answer)),
        }
    }
    Err(ApiError::Taken)
}

/// Sign in.
///
/// Get a session token for an email and its password.
#[utoipa::path(
    post, path = "/v1/auth/login", operation_id = "login", tag = "Sessions", security(()), request_body = Credentials,
    responses(
        (status = 200, description = "Signed in.", body = SignedIn),
        (status = 401, description = "The email or the password is wrong."),
    ),
)]
pub(crate) async fn login(
    State(deps): State<Shared>,
    once: OnceKey,
    Json(body): Json,
) -> Result<axum::Json<Data<SignedIn>>, ApiError> {
    // Whatever was typed is compared: what could not be registered is wrong like anything else.
    let typed = Typed::read(&body, given, given)?;
    let email = normal_email(&typed.email);
    let user = match &email {
        Some(email) => deps.read(|view| view.get::<Users>(email))?,
        None => None,
    };
    let hash = user.as_ref().map(|user| user.password.clone());
    // Also when there is no such user, so that the time it takes does not tell.
    let is_right = deps.passwords.is_right(typed.password, hash).await?;
    let user = user.filter(|_| is_right).ok_or(ApiError::BadLogin)?;
    if !deps.read(|view| view.contains::<Accounts>(&user.account))? {
        return Err(ApiError::BadLogin);
    }
    let now = deps.clock.now();
    let session = Session::begin(user.account, now);
    let answer = data(SignedIn {
        token: session.sign(now, &signing_key(&deps)?)?,
        expires_at: Rfc3339(session.expires_at),
        account_id: user.account.to_string(),
        email: user.email,
    });
    deps.remember(&once, StatusCode::OK, &answer.0).await?;
    Ok(answer)
}

/// Sign out.
///
/// End the session whose token is sent. From the answer on, no node takes the token.
#[utoipa::path(
    post, path = "/v1/auth/logout", operation_id = "logout", tag = "Sessions",
    responses(
        (status = 204, description = "Signed out."),
        (status = 409, description = "An API key was sent, which has no session."),
    ),
)]
pub(crate) async fn logout(
    State(deps): State<Shared>,
    principal: Principal,
    NoBody: NoBody,
) -> Result<StatusCode, ApiError> {
    // Ending a session twice is the same as once, and the token is refused from then on, so there is no answer
    // to remember.
    let Some(session) = principal.session else {
        return Err(ApiError::conflict("an API key has no session to end; revoke the key instead"));
    };
    let command = EndSession { session: session.id, expires_at: session.expires_at };
    deps.cluster.propose(Command::EndSession(command)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What tokens are signed with. The first leader of a cluster makes it; until then nobody can sign in.
fn signing_key(deps: &Deps) -> Result<Vec<u8>, ApiError> {
    let secrets = deps.read(|view| view.get::<SecretsOf>(&()))?;
    secrets.map(|secrets| secrets.session_key).ok_or(ApiError::NotReady)
}

fn given(text: &str) -> Result<String, Fault> {
    if text.is_empty() { Err(EMPTY.into()) } else { Ok(text.to_owned()) }
}

fn new_email(text: &str) -> Result<String, Fault> {
    if text.trim().is_empty() {
        return Err(EMPTY.into());
    }
    let chars_max = limits::EMAIL_CHARS_MAX;
    normal_email(text)
        .ok_or_else(|| format!("must be an email address of at most {chars_max} characters").into())
}

fn new_password(text: &str) -> Result<String, Fault> {
    let (min, max) = (limits::PASSWORD_CHARS_MIN, limits::PASSWORD_CHARS_MAX);
    if (min..=max).contains(&text.chars().count()) {
        Ok(text.to_owned())
    } else {
        Err(format!("must have {min} to {max} characters").into())
    }
}
