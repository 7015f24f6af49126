//! What commands about accounts, keys and sessions make of the state, and what they refuse.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use domain::account::{Account, ApiKey, Plan, User};
use domain::id::{AccountId, KeyId, NodeId};
use domain::limits;
use domain::node::SessionId;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use raft::apply::apply;
use raft::command::{
    Applied, Bootstrap, Command, CreateAccount, CreateKey, EndSession, NoteKeyUse, Proposal, RegisterNode,
    Reply, RevokeKey, SetSessionKey,
};
use std::time::Duration;
use storage::schema::{AccountKeys, Accounts, ApiKeys, EndedSessions, SecretsOf, Users};
use storage::{Keyspace, Read, Settings, Storage};
use tempfile::TempDir;

const NODE: NodeId = NodeId(1);
const SESSION: SessionId = SessionId(1);

/// So many seconds after the start of a machine.
fn until(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_000).plus(Duration::from_secs(secs))
}

/// A state to which commands are applied one by one.
struct Machine {
    storage: Storage,
    sequence: u64,
    at: Timestamp,
    _dir: TempDir,
}

impl Machine {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let storage = Storage::open(dir.path(), Settings::default()).unwrap();
        let mut machine = Self { storage, sequence: 0, at: until(0), _dir: dir };
        let register = RegisterNode {
            node: NODE,
            session: SESSION,
            api_url: String::new(),
            rpc_addr: String::new(),
            version: String::new(),
        };
        machine.apply(Command::RegisterNode(register)).unwrap();
        machine
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.sequence += 1;
        let proposal = Proposal {
            node: NODE,
            session: SESSION,
            sequence: self.sequence,
            acknowledged_below: self.sequence,
            commands: vec![command],
        };
        let mut txn = self.storage.state.begin();
        let replies = apply(&mut txn, self.at, proposal, &mut Vec::new()).unwrap();
        txn.commit(Vec::new().into()).unwrap();
        replies.into_iter().next().unwrap()
    }

    fn get<K: Keyspace>(&self, key: &K::Key) -> Option<K::Value> {
        self.storage.state.view().get::<K>(key).unwrap()
    }
}

fn account(id: u64) -> Account {
    Account { id: AccountId(id), plan: Plan::Free, email: None, billing: None, created_at: Timestamp::EPOCH }
}

fn create(id: u64, email: Option<&str>) -> Command {
    let user = email.map(|email| User {
        email: email.to_owned(),
        account: AccountId(id),
        password: String::new(),
        created_at: Timestamp::EPOCH,
    });
    Command::CreateAccount(Box::new(CreateAccount { account: account(id), user }))
}

fn key(account: u64, id: u64) -> ApiKey {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&id.to_be_bytes());
    ApiKey {
        id: KeyId(id),
        account: AccountId(account),
        name: "a".to_owned(),
        hash,
        last_four: "aaaa".to_owned(),
        created_at: Timestamp::EPOCH,
        last_used_at: None,
    }
}

fn create_key(account: u64, id: u64) -> Command {
    Command::CreateKey(CreateKey { key: key(account, id) })
}

#[test]
fn an_address_belongs_to_one_account() {
    let mut machine = Machine::start();
    assert_eq!(machine.apply(create(1, Some("a@b"))), Ok(Applied::Done));
    assert_eq!(machine.apply(create(2, Some("a@b"))), Err(Rejection::EmailTaken));
    assert_eq!(machine.get::<Accounts>(&AccountId(2)), None, "a refused command changes nothing");
    assert_eq!(machine.apply(create(1, Some("c@d"))), Err(Rejection::Exists));
    assert_eq!(machine.get::<Users>(&"c@d".to_owned()), None);
    assert_eq!(machine.apply(create(2, None)), Ok(Applied::Done));
    let bootstrap = Bootstrap { account: account(3), key: key(3, 3) };
    assert_eq!(machine.apply(Command::Bootstrap(bootstrap)), Err(Rejection::AlreadyBootstrapped));
}

#[test]
fn a_key_lives_until_its_owner_revokes_it() {
    let mut machine = Machine::start();
    assert_eq!(machine.apply(create_key(1, 1)), Err(Rejection::NoSuchAccount));
    for id in [1, 2] {
        machine.apply(create(id, None)).unwrap();
    }
    machine.apply(create_key(1, 1)).unwrap();
    assert_eq!(machine.apply(create_key(1, 1)), Err(Rejection::Exists));
    assert_eq!(machine.apply(create_key(2, 1)), Err(Rejection::Exists), "the same text is one key");
    let revoke = |account| Command::RevokeKey(RevokeKey { account: AccountId(account), key: KeyId(1) });
    assert_eq!(machine.apply(revoke(2)), Err(Rejection::NoSuchKey));
    assert!(machine.get::<ApiKeys>(&key(1, 1).hash).is_some());
    machine.apply(revoke(1)).unwrap();
    assert_eq!(machine.get::<ApiKeys>(&key(1, 1).hash), None);
    assert_eq!(machine.get::<AccountKeys>(&(AccountId(1), KeyId(1))), None);
    assert_eq!(machine.apply(revoke(1)), Err(Rejection::NoSuchKey));

    let keys_max = limits::KEYS_MAX as u64;
    for id in 0..keys_max {
        machine.apply(create_key(1, 10 + id)).unwrap();
    }
    assert_eq!(machine.apply(create_key(1, 9)), Err(Rejection::TooMany { max: keys_max }));
    machine.apply(create_key(2, 9)).unwrap();
}

#[test]
fn the_latest_use_of_a_key_counts_and_wakes_no_revoked_one() {
    let mut machine = Machine::start();
    machine.apply(create(1, None)).unwrap();
    machine.apply(create_key(1, 1)).unwrap();
    let mut note = |secs| {
        let used = vec![(key(1, 1).hash, Timestamp::from_secs(secs)), (key(1, 2).hash, Timestamp::MAX)];
        machine.apply(Command::NoteKeyUse(NoteKeyUse { used })).unwrap();
        machine.get::<ApiKeys>(&key(1, 1).hash).unwrap().last_used_at
    };
    assert_eq!(note(100), Some(Timestamp::from_secs(100)));
    assert_eq!(note(50), Some(Timestamp::from_secs(100)));
    assert_eq!(note(101), Some(Timestamp::from_secs(101)));
    assert_eq!(machine.get::<ApiKeys>(&key(1, 2).hash), None);
}

#[test]
fn the_first_session_key_stays() {
    let mut machine = Machine::start();
    for key in [vec![1; 32], vec![2; 32]] {
        machine.apply(Command::SetSessionKey(SetSessionKey { key })).unwrap();
    }
    assert_eq!(machine.get::<SecretsOf>(&()).unwrap().session_key, [1; 32]);
}

#[test]
fn an_ended_session_is_remembered_until_it_would_have_expired() {
    let mut machine = Machine::start();
    let end = |session, secs| Command::EndSession(EndSession { session, expires_at: until(secs) });
    machine.apply(end(1, 10)).unwrap();
    machine.apply(end(1, 10)).unwrap();
    machine.apply(end(2, 20)).unwrap();
    machine.at = until(10);
    machine.apply(end(3, 30)).unwrap();
    assert!(
        machine.get::<EndedSessions>(&(until(10), 1)).is_some(),
        "it expires at that instant, not before"
    );
    machine.at = until(11);
    machine.apply(end(4, 40)).unwrap();
    assert!(machine.get::<EndedSessions>(&(until(10), 1)).is_none());
    for (session, secs) in [(2, 20), (3, 30), (4, 40)] {
        assert!(machine.get::<EndedSessions>(&(until(secs), session)).is_some(), "{session}");
    }
}
