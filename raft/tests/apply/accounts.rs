//! Accounts, who signs in to them, and how they pay.

use crate::machine::{Machine, START, at};
use crate::samples::{ACCOUNT, OTHER, account, key};
use domain::account::{Account, Billing, Plan, User};
use domain::id::AccountId;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use raft::command::{Bootstrap, ChangeBilling, Command, CreateAccount, EndSession, SetSessionKey};
use storage::schema::{AccountUsage, Accounts, Customers, EndedSessions, SecretsOf, Usage, Users};

fn user(account: AccountId, email: &str) -> User {
    let password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".to_owned();
    User { email: email.to_owned(), account, password, created_at: START }
}

fn create(id: u64, email: Option<&str>) -> Command {
    let id = AccountId(id);
    let user = email.map(|email| user(id, email));
    Command::CreateAccount(Box::new(CreateAccount { account: account(id), user }))
}

#[test]
fn an_address_signs_in_to_one_account() {
    let mut machine = Machine::new();
    machine.done(create(10, Some("a@example.com")));
    assert_eq!(machine.get::<AccountUsage>(&AccountId(10)), Some(Usage::default()));
    machine.refused(create(11, Some("a@example.com")), Rejection::EmailTaken);
    assert_eq!(machine.get::<Accounts>(&AccountId(11)), None);
    machine.refused(create(10, Some("b@example.com")), Rejection::Exists);
    machine.done(create(11, Some("b@example.com")));
    machine.done(create(12, None));
    let account_of = |email: &str| machine.get::<Users>(&email.to_owned()).map(|user| user.account);
    assert_eq!(account_of("a@example.com"), Some(AccountId(10)));
    assert_eq!(account_of("b@example.com"), Some(AccountId(11)));
}

#[test]
fn with_any_account_the_cluster_is_set_up() {
    let mut machine = Machine::new();
    let command = Bootstrap { account: account(AccountId(10)), key: key(AccountId(10), 1) };
    machine.refused(Command::Bootstrap(command), Rejection::AlreadyBootstrapped);
}

#[test]
fn sessions_are_signed_with_the_first_key() {
    let mut machine = Machine::new();
    machine.done(Command::SetSessionKey(SetSessionKey { key: vec![1; 32] }));
    machine.done(Command::SetSessionKey(SetSessionKey { key: vec![2; 32] }));
    assert_eq!(machine.get::<SecretsOf>(&()).unwrap().session_key, vec![1; 32]);
}

#[test]
fn ended_sessions_are_forgotten_once_they_have_expired() {
    let mut machine = Machine::new();
    let end = |session, expires_at| Command::EndSession(EndSession { session, expires_at });
    for session in 0..6 {
        machine.done(end(session, at(10)));
    }
    machine.done(end(0, at(10)));
    assert_eq!(machine.keys::<EndedSessions>().len(), 6, "once each");

    machine.set(at(10));
    machine.done(end(6, at(100)));
    assert_eq!(machine.keys::<EndedSessions>().len(), 7, "not before that instant is over");
    machine.set(at(11));
    machine.done(end(7, at(100)));
    assert_eq!(machine.keys::<EndedSessions>().len(), 4, "a few at a time");
    machine.done(end(8, at(100)));
    let known: Vec<_> = machine.keys::<EndedSessions>();
    assert_eq!(known, [6, 7, 8].map(|session| (at(100), session)));
}

/// What the payment service says at an instant.
fn event(account: AccountId, customer: &str, plan: Option<Plan>, changed_at: Timestamp) -> Command {
    let subscription = plan.map(|_| "sub_1".to_owned());
    let billing = Billing { customer: customer.to_owned(), subscription, changed_at };
    Command::ChangeBilling(Box::new(ChangeBilling { account, plan, billing }))
}

fn account_of(machine: &Machine, customer: &str) -> Option<AccountId> {
    machine.get::<Customers>(&customer.to_owned())
}

#[test]
fn what_is_paid_for_follows_the_newest_event() {
    let mut machine = Machine::new();
    let plan = |machine: &Machine| machine.get::<Accounts>(&ACCOUNT).unwrap().plan;
    machine.done(event(ACCOUNT, "cus_1", None, at(10)));
    assert_eq!(plan(&machine), Plan::Free, "nothing was said about the plan");
    machine.done(event(ACCOUNT, "cus_1", Some(Plan::Pro), at(20)));
    assert_eq!(plan(&machine), Plan::Pro);
    machine.refused(event(ACCOUNT, "cus_2", Some(Plan::Free), at(19)), Rejection::Stale);
    assert_eq!((plan(&machine), account_of(&machine, "cus_2")), (Plan::Pro, None));
    machine.done(event(ACCOUNT, "cus_1", Some(Plan::Maker), at(20)));
    assert_eq!(plan(&machine), Plan::Maker, "two events of one instant both count");
    let Account { billing, .. } = machine.get::<Accounts>(&ACCOUNT).unwrap();
    assert_eq!(billing.unwrap().subscription.as_deref(), Some("sub_1"));
    machine.refused(event(AccountId(99), "cus_9", None, at(30)), Rejection::NoSuchAccount);
}

#[test]
fn a_customer_stands_for_the_account_that_has_it() {
    let mut machine = Machine::new();
    machine.done(event(ACCOUNT, "cus_1", None, at(10)));
    machine.done(event(ACCOUNT, "cus_2", None, at(20)));
    assert_eq!((account_of(&machine, "cus_1"), account_of(&machine, "cus_2")), (None, Some(ACCOUNT)));

    // Somebody pays for a second account, and then otherwise for the first.
    machine.done(event(OTHER, "cus_2", None, at(30)));
    assert_eq!(account_of(&machine, "cus_2"), Some(OTHER));
    machine.done(event(ACCOUNT, "cus_3", None, at(40)));
    assert_eq!(account_of(&machine, "cus_2"), Some(OTHER), "it is no longer the first one's to take away");
    assert_eq!(account_of(&machine, "cus_3"), Some(ACCOUNT));
}
