//! Passwords: hashed and compared with Argon2id, away from the threads that serve requests, and only a few at
//! a time, because each takes 19 MiB and some tens of milliseconds of a processor.

use crate::error::ApiError;
use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Passwords looked at at once, which bounds both memory and what sign-ins may take from firings.
const TOGETHER_MAX: usize = 2;
/// How long a sign-in waits for its turn. Beyond it more come than can be served.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
const SALT_BYTES: usize = 16;

/// Compared when there is no such user, so that the answer takes as long as for one who exists. No password
/// with this hash is known.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a password could not be hashed: for want of memory.
#[derive(Debug, thiserror::Error)]
#[error("the password cannot be hashed: {0}")]
pub struct HashError(argon2::password_hash::Error);

/// Hashes a password: Argon2id with the parameters that OWASP recommends, in the PHC string format. Takes its
/// time; not to be called where others wait.
///
/// # Errors
/// [`HashError`].
pub fn hash_password(password: &str) -> Result<String, HashError> {
    let salt: [u8; SALT_BYTES] = rand::random();
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(HashError)
}

/// Whether `password` is the one that was hashed; takes as long when `hash` is none.
fn is_right(password: &str, hash: Option<&str>) -> bool {
    let known = hash.filter(|hash| !hash.is_empty());
    let equal = Argon2::default().verify_password(password.as_bytes(), known.unwrap_or(NOBODY)).is_ok();
    equal && known.is_some()
}

/// Where passwords wait for their turn. Clones share it.
#[derive(Clone, Debug)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(TOGETHER_MAX)), patience: TURN_TIMEOUT }
    }
}

impl Passwords {
    /// As [`hash_password`], when it is its turn.
    pub(crate) async fn hash(&self, password: String) -> Result<String, ApiError> {
        let hash = self.in_turn(move || hash_password(&password)).await?;
        hash.map_err(|error| ApiError::Internal(Box::new(error)))
    }

    /// Whether `password` is the one that was hashed. How long that takes says nothing of whether there is a
    /// `hash` at all.
    pub(crate) async fn is_right(&self, password: String, hash: Option<String>) -> Result<bool, ApiError> {
        self.in_turn(move || is_right(&password, hash.as_deref())).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = timeout(self.patience, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| ApiError::NotReady)?.map_err(|_| ApiError::NotReady)?;
        let work = move || {
            let done = work();
            // Not before: a client that goes away does not end the work.
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::Internal(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_recognised_by_its_hash_alone() {
        let hash = hash_password("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, hash_password("correct horse").unwrap(), "salted");
        assert!(is_right("correct horse", Some(&hash)));
        assert!(!is_right("correct horse ", Some(&hash)));
        for hash in [None, Some(""), Some(NOBODY), Some("nonsense")] {
            assert!(!is_right("", hash), "{hash:?}");
        }
    }

    #[test]
    fn the_hash_of_nobody_costs_what_that_of_anybody_costs() {
        let parsed = argon2::password_hash::phc::PasswordHash::new(NOBODY).unwrap();
        let other = hash_password("a").unwrap();
        let other = argon2::password_hash::phc::PasswordHash::new(&other).unwrap();
        assert_eq!((parsed.algorithm, parsed.version), (other.algorithm, other.version));
        assert_eq!(parsed.params, other.params);
        assert_eq!(parsed.hash.unwrap().len(), other.hash.unwrap().len());
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_so() {
        let passwords = Passwords { patience: Duration::from_millis(1), ..Passwords::default() };
        let _all = Arc::clone(&passwords.turns).acquire_many_owned(2).await.unwrap();
        let refused = passwords.hash("a".to_owned()).await;
        assert!(matches!(refused, Err(ApiError::NotReady)));
    }
}
