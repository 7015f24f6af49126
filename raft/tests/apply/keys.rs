//! API keys: made, used, revoked.

use crate::machine::{Machine, START, at};
use crate::samples::{ACCOUNT, OTHER, key};
use domain::account::ApiKey;
use domain::id::{AccountId, KeyId};
use domain::limits::KEYS_MAX;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use raft::command::{Command, CreateKey, NoteKeyUse, RevokeKey};
use storage::schema::{AccountKeys, ApiKeys};

fn create(key: &ApiKey) -> Command {
    Command::CreateKey(CreateKey { key: key.clone() })
}

fn revoke(account: AccountId, key: u64) -> Command {
    Command::RevokeKey(RevokeKey { account, key: KeyId(key) })
}

#[test]
fn a_key_speaks_for_its_account_until_it_is_revoked() {
    let mut machine = Machine::new();
    let key = key(ACCOUNT, 1);
    machine.done(create(&key));
    assert_eq!(machine.get::<ApiKeys>(&key.hash), Some(key.clone()));
    assert_eq!(machine.get::<AccountKeys>(&(ACCOUNT, key.id)), Some(key.hash));

    machine.refused(revoke(OTHER, 1), Rejection::NoSuchKey);
    machine.done(revoke(ACCOUNT, 1));
    assert_eq!(machine.get::<ApiKeys>(&key.hash), None);
    machine.refused(revoke(ACCOUNT, 1), Rejection::NoSuchKey);
}

#[test]
fn a_key_is_refused_without_an_account_or_when_it_is_there() {
    let mut machine = Machine::new();
    machine.done(create(&key(ACCOUNT, 1)));
    let same_hash = ApiKey { id: KeyId(2), account: OTHER, ..key(ACCOUNT, 1) };
    let same_id = ApiKey { hash: [9; 32], ..key(ACCOUNT, 1) };
    machine.refused(create(&key(AccountId(99), 3)), Rejection::NoSuchAccount);
    machine.refused(create(&same_hash), Rejection::Exists);
    machine.refused(create(&same_id), Rejection::Exists);
    machine.done(create(&ApiKey { account: OTHER, ..same_id }));
}

#[test]
fn an_account_has_so_many_keys() {
    let mut machine = Machine::new();
    let max = KEYS_MAX as u64;
    let replies = machine.apply_all((1..=max).map(|id| create(&key(ACCOUNT, id))).collect());
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    machine.refused(create(&key(ACCOUNT, max + 1)), Rejection::TooMany { max });
    machine.done(create(&key(OTHER, max + 2)));
    machine.done(revoke(ACCOUNT, 7));
    machine.done(create(&key(ACCOUNT, max + 1)));
}

#[test]
fn the_use_of_a_key_never_goes_back() {
    let mut machine = Machine::new();
    let (used, gone) = (key(ACCOUNT, 1), key(ACCOUNT, 2));
    machine.done(create(&used));
    let mut check = |uses: &[Timestamp], expected| {
        let used_at = uses.iter().map(|at| (used.hash, *at));
        let note = NoteKeyUse { used: used_at.chain([(gone.hash, START)]).collect() };
        machine.done(Command::NoteKeyUse(note));
        assert_eq!(machine.get::<ApiKeys>(&used.hash).unwrap().last_used_at, expected, "{uses:?}");
        assert_eq!(machine.get::<ApiKeys>(&gone.hash), None, "a use makes no key");
    };
    check(&[], None);
    check(&[at(60)], Some(at(60)));
    check(&[at(50)], Some(at(60)));
    check(&[at(60)], Some(at(60)));
    check(&[at(130), at(120)], Some(at(130)));
}
