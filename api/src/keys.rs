//! API keys: how they are made, and what is kept of them.

use domain::account::{ApiKey, KEY_PREFIX, KEY_RANDOM_CHARS, KeyHash};
use domain::id::{AccountId, KeyId};
use domain::time::Timestamp;
use rand::RngExt;
use sha2::{Digest, Sha256};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of a key that lists show.
const LAST_CHARS: usize = 4;

/// A new key. It is shown once and kept nowhere.
#[must_use]
pub fn mint_key() -> String {
    let mut rng = rand::rng();
    let mut key = String::with_capacity(KEY_PREFIX.len() + KEY_RANDOM_CHARS);
    key.push_str(KEY_PREFIX);
    key.extend((0..KEY_RANDOM_CHARS).map(|_| char::from(DIGITS[rng.random_range(0..DIGITS.len())])));
    key
}

/// How an API key is stored and found.
#[must_use]
pub fn hash_key(key: &str) -> KeyHash {
    Sha256::digest(key).into()
}

/// What is kept of `key`.
#[must_use]
pub fn stored_key(key: &str, id: KeyId, account: AccountId, name: String, created_at: Timestamp) -> ApiKey {
    ApiKey {
        id,
        account,
        name,
        hash: hash_key(key),
        last_four: key.chars().skip(key.chars().count().saturating_sub(LAST_CHARS)).collect(),
        created_at,
        last_used_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_have_the_documented_form_and_are_all_different() {
        let keys: BTreeSet<_> = (0..100).map(|_| mint_key()).collect();
        assert_eq!(keys.len(), 100);
        for key in keys {
            let digits = key.strip_prefix("jrun_sk_").unwrap();
            assert!(digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{key}");
        }
    }

    #[test]
    fn only_the_end_of_a_key_is_kept() {
        let stored = stored_key("jrun_sk_secret_f6g7", KeyId(1), AccountId(2), "a".into(), Timestamp::EPOCH);
        assert_eq!(stored.last_four, "f6g7");
        assert!(!format!("{stored:?}").contains("secret"));
    }
}
