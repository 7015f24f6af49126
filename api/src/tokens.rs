//! Session tokens: JSON Web Tokens, signed with a key that all nodes share and nobody else knows.
//!
//! A token says for which account it speaks, which session it is and until when. Whether the session was
//! ended before that stands in the replicated state.

use crate::error::ApiError;
use domain::id::AccountId;
use domain::limits;
use domain::time::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// The only algorithm there is. A token that names another one, or none, is no token.
const ALGORITHM: Algorithm = Algorithm::HS256;
/// Who makes the tokens.
const ISSUER: &str = "justrun";
/// Bytes of a token; ours have about 250.
const TOKEN_BYTES_MAX: usize = 1_024;

/// Somebody who has signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// For whom it speaks.
    pub(crate) account: AccountId,
    /// Which of its sessions.
    pub(crate) id: u64,
    /// When it ends by itself; a whole second.
    pub(crate) expires_at: Timestamp,
}

/// RFC 7519, section 4.1.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    jti: String,
    iat: u64,
    exp: u64,
}

impl Session {
    /// A session that begins now.
    pub(crate) fn begin(account: AccountId, now: Timestamp) -> Self {
        let expires_at = Timestamp::from_secs(now.plus(limits::SESSION_LASTS).as_secs());
        Self { account, id: rand::random(), expires_at }
    }

    /// The token of the session.
    pub(crate) fn sign(&self, now: Timestamp, key: &[u8]) -> Result<String, ApiError> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: self.account.to_string(),
            jti: format!("{:016x}", self.id),
            iat: now.as_secs(),
            exp: self.expires_at.as_secs(),
        };
        jsonwebtoken::encode(&Header::new(ALGORITHM), &claims, &EncodingKey::from_secret(key))
            .map_err(|error| ApiError::Internal(Box::new(error)))
    }

    /// The session of a token that was signed with `key`. It may have expired or been ended.
    pub(crate) fn verify(token: &str, key: &[u8]) -> Option<Self> {
        let mut validation = Validation::new(ALGORITHM);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.set_issuer(&[ISSUER]);
        // Not by the clock of this library: see `auth`.
        validation.validate_exp = false;
        let key = DecodingKey::from_secret(key);
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).ok()?.claims;
        Some(Self {
            account: claims.sub.parse().ok()?,
            id: u64::from_str_radix(&claims.jti, 16).ok()?,
            expires_at: Timestamp::from_secs(claims.exp),
        })
    }
}

/// Whether a text has the form of a token: three parts of base64url.
pub(crate) fn looks_like_token(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= TOKEN_BYTES_MAX && text.split('.').count() == 3 && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_775_830_920_500);

    #[test]
    fn a_token_carries_its_session() {
        let session = Session::begin(AccountId(7), NOW);
        assert_eq!(session.expires_at, Timestamp::from_secs(1_775_830_920 + 7 * 86_400));
        let token = session.sign(NOW, b"key").unwrap();
        assert!(looks_like_token(&token), "{token}");
        assert_eq!(Session::verify(&token, b"key"), Some(session));
        assert_eq!(Session::verify(&token, b"other"), None);
        let (rest, _) = token.rsplit_once('.').unwrap();
        assert_eq!(Session::verify(&format!("{rest}."), b"key"), None);
    }

    #[test]
    fn other_algorithms_and_issuers_are_refused() {
        let claims = |iss: &str| Claims {
            iss: iss.to_owned(),
            sub: AccountId(7).to_string(),
            jti: "1".to_owned(),
            iat: 0,
            exp: 9_999_999_999,
        };
        let sign = |algorithm, iss| {
            let key = EncodingKey::from_secret(b"key");
            jsonwebtoken::encode(&Header::new(algorithm), &claims(iss), &key).unwrap()
        };
        assert!(Session::verify(&sign(Algorithm::HS256, "justrun"), b"key").is_some());
        assert_eq!(Session::verify(&sign(Algorithm::HS512, "justrun"), b"key"), None);
        assert_eq!(Session::verify(&sign(Algorithm::HS256, "other"), b"key"), None);
    }

    #[test]
    fn what_is_no_token_is_told_by_its_form() {
        for text in ["", "a.b", "a.b.", "a.b.c.d", "a.b.c=", "a.b. c", &format!("a.b.{}", "c".repeat(1_024))]
        {
            assert!(!looks_like_token(text), "{text}");
        }
        assert!(looks_like_token("a.b-_9.c"));
    }
}
