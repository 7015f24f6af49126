//! A backup comes into an empty cluster: in steps, whole, and with nothing held by processes of the other one.

use crate::machine::{Machine, TWO, at};
use crate::samples::{ACCOUNT, OTHER, account, create_channel, create_space, job, key};
use bytes::Bytes;
use domain::account::Account;
use domain::channel::EventKind;
use domain::execution::{ExecutionState, ExecutionStatus};
use domain::id::{AccountId, ExecutionId, JobId};
use domain::job::{Delivery, Job};
use domain::rejection::Rejection;
use raft::apply::Effect;
use raft::command::{
    Applied, BeginRestore, Bootstrap, Command, CreateAccount, CreateJob, CreateKey, DeleteJob, RestorePart,
    SetSessionKey, StepRestore,
};
use storage::backup::BackupReader;
use storage::schema::{Accounts, ApiKeys, Due, Executions, Jobs, Restore, RestoreStage, Restores, SecretsOf};

struct Backup {
    number: u64,
    parts: Vec<Bytes>,
}

impl Backup {
    fn of(machine: &Machine) -> Self {
        let file = machine.backup();
        let mut reader = BackupReader::new(&file[..]).unwrap();
        let mut parts = Vec::new();
        while let Some(part) = reader.next_part().unwrap() {
            parts.push(part.block);
        }
        Self { number: reader.number(), parts }
    }

    fn begin(&self, replaces: Option<u64>) -> Command {
        let parts = self.parts.len() as u64;
        Command::BeginRestore(BeginRestore { backup: self.number, parts, replaces })
    }

    fn part(&self, number: usize) -> Command {
        let block = self.parts[number].clone();
        Command::RestorePart(RestorePart { backup: self.number, number: number as u64, block })
    }

    fn step(&self) -> Command {
        Command::StepRestore(StepRestore { backup: self.number })
    }

    /// Takes the next step, if there is one.
    fn go_on(&self, machine: &mut Machine) -> bool {
        let Some(Restore { stage, .. }) = machine.get::<Restores>(&()) else { return false };
        machine.done(match stage {
            RestoreStage::Filling { next } => self.part(usize::try_from(next).unwrap()),
            RestoreStage::Clearing | RestoreStage::Jobs { .. } | RestoreStage::Deliveries { .. } => {
                self.step()
            }
        });
        true
    }

    fn restore(&self, machine: &mut Machine) {
        machine.done(self.begin(None));
        while self.go_on(machine) {}
    }
}

fn create(machine: &mut Machine, job: Job, secs: u64) -> ExecutionId {
    let id = job.id;
    let command = CreateJob { job, next_run_at: Some(at(secs)), paused: false, jobs_max: None };
    machine.done(Command::CreateJob(Box::new(command)));
    ExecutionId::scheduled(id, at(secs))
}

/// What a new cluster has by itself.
fn founded() -> Machine {
    let mut machine = Machine::empty();
    let bootstrap = Bootstrap { account: account(AccountId(77)), key: key(AccountId(77), 77) };
    machine.done(Command::Bootstrap(bootstrap));
    machine.done(Command::SetSessionKey(SetSessionKey { key: vec![9; 32] }));
    machine
}

/// A cluster in which something is held, something waits, and something is to be told.
fn busy() -> Machine {
    let mut machine = Machine::new();
    machine.done(Command::SetSessionKey(SetSessionKey { key: vec![7; 32] }));
    machine.done(Command::CreateKey(CreateKey { key: key(ACCOUNT, 1) }));
    machine.done(create_space(ACCOUNT, 1));
    machine.done(create_channel(ACCOUNT, 1, &[EventKind::Executed]));
    for (id, delivery) in [(1, Delivery::AtLeastOnce), (2, Delivery::AtMostOnce), (3, Delivery::AtLeastOnce)]
    {
        create(&mut machine, Job { delivery, ..job(id) }, 60);
    }
    machine.set(at(59));
    for id in [1, 2] {
        machine.fire(JobId(id));
    }
    // One that waits to be tried again, and one that is told of by a process.
    let retried = machine.fire(JobId(3));
    let outcome = machine.outcome(retried, 500, Some(at(90)));
    machine.done(outcome);
    let told = machine.create_job(4, at(60));
    machine.run(told, 200);
    let delivery = machine.deliveries()[0];
    assert_eq!(machine.claim_delivery(TWO, delivery, 1), Ok(Applied::Done));
    let gone = machine.create_job(5, at(60));
    machine.run(gone, 200);
    machine.done(Command::DeleteJob(DeleteJob { account: ACCOUNT, job: gone }));
    machine
}

#[test]
fn what_was_there_is_there_and_what_was_held_is_due_by_each_jobs_rules() {
    let old = busy();
    let mut new = founded();
    new.set(at(100));
    Backup::of(&old).restore(&mut new);
    assert!(new.effects.contains(&Effect::Restored), "{:?}", new.effects);

    assert_eq!(new.keys::<Accounts>(), [ACCOUNT, OTHER], "not the one the new cluster had");
    assert_eq!(new.keys::<ApiKeys>(), old.keys::<ApiKeys>());
    assert_eq!(new.get::<SecretsOf>(&()), old.get::<SecretsOf>(&()));
    assert_eq!(new.keys::<Executions>(), old.keys::<Executions>());
    for id in old.keys::<Jobs>() {
        assert_eq!(new.get::<Jobs>(&id), old.get::<Jobs>(&id));
        assert_eq!(new.cursor(id), old.cursor(id));
    }
    let (was, is) = (old.meta(), new.meta());
    assert_eq!((is.jobs_active, is.channels, is.now), (was.jobs_active, was.channels, at(100)));

    // By the rules for processes that are gone: the other cluster's.
    let [again, lost, waits] = [1, 2, 3].map(|id| new.execution(ExecutionId::scheduled(JobId(id), at(60))));
    assert_eq!((again.state, again.attempt, again.due), (ExecutionState::Pending, 2, at(100)));
    let failed = ExecutionState::Finished { status: ExecutionStatus::Failed, at: at(100) };
    assert_eq!(lost.state, failed);
    assert_eq!((waits.state, waits.due), (ExecutionState::Pending, at(90)));
    assert_eq!(new.waits_for(old.deliveries()[0]), Some(at(100)), "nobody is sending it");
    assert_eq!(new.deliveries().len(), old.deliveries().len() + 1, "of the one that failed just now");
    // And it goes on.
    new.fire(JobId(1));
}

#[test]
fn an_execution_whose_instant_has_not_come_keeps_its_attempt() {
    let old = busy();
    let mut new = founded();
    new.set(at(59));
    Backup::of(&old).restore(&mut new);
    for id in [1, 2] {
        let execution = new.execution(ExecutionId::scheduled(JobId(id), at(60)));
        assert_eq!((execution.state, execution.attempt), (ExecutionState::Pending, 1));
    }
}

#[test]
fn nothing_else_changes_and_nothing_is_due_until_all_of_it_is_there() {
    let backup = Backup::of(&busy());
    let mut new = founded();
    new.done(backup.begin(None));
    let mut steps = 0;
    loop {
        let create = CreateAccount { account: account(AccountId(5)), user: None };
        new.refused(Command::CreateAccount(Box::new(create)), Rejection::Restoring);
        let bootstrap = Bootstrap { account: account(AccountId(5)), key: key(AccountId(5), 5) };
        new.refused(Command::Bootstrap(bootstrap), Rejection::Restoring);
        if matches!(new.get::<Restores>(&()).unwrap().stage, RestoreStage::Filling { .. }) {
            assert_eq!(new.keys::<Due>(), []);
        }
        // Nodes come and go as ever.
        new.register(TWO, 2 + steps);
        if !backup.go_on(&mut new) || new.get::<Restores>(&()).is_none() {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 3, "{steps} steps");
    assert!(!new.meta().restoring);
}

#[test]
fn each_part_comes_in_once_and_in_its_turn() {
    let backup = Backup::of(&busy());
    let mut new = founded();
    new.refused(backup.part(0), Rejection::Stale);
    new.refused(backup.step(), Rejection::Stale);
    new.done(backup.begin(None));
    new.done(backup.begin(None));
    new.refused(backup.part(0), Rejection::Stale);
    while new.get::<Restores>(&()).unwrap().stage == RestoreStage::Clearing {
        new.done(backup.step());
    }
    new.refused(backup.step(), Rejection::Stale);
    let mut damaged = backup.parts[0].to_vec();
    damaged.truncate(damaged.len() / 2);
    let part = RestorePart { backup: backup.number, number: 0, block: damaged.into() };
    new.refused(Command::RestorePart(part), Rejection::UnreadablePart);
    let other = RestorePart { backup: backup.number + 1, number: 0, block: backup.parts[0].clone() };
    new.refused(Command::RestorePart(other), Rejection::Stale);
    new.done(backup.part(0));
    new.refused(backup.part(0), Rejection::Stale);
    new.done(backup.begin(None));
    while backup.go_on(&mut new) {}
    new.refused(backup.begin(None), Rejection::NotEmpty);
}

#[test]
fn one_that_was_restored_by_half_gives_way_when_told_to() {
    let first = Backup::of(&busy());
    let mut other = busy();
    other.create_job(8, at(60));
    let second = Backup::of(&other);
    let mut new = founded();
    new.done(first.begin(None));
    new.done(first.step());
    new.done(first.part(0));
    new.refused(second.begin(None), Rejection::Restoring);
    new.refused(second.begin(Some(second.number)), Rejection::Restoring);
    new.done(second.begin(Some(first.number)));
    while second.go_on(&mut new) {}
    assert_eq!(new.keys::<Jobs>(), other.keys::<Jobs>());
    assert_eq!(new.keys::<Executions>(), other.keys::<Executions>());
}

#[test]
fn a_cluster_that_somebody_has_used_is_not_empty() {
    let backup = Backup::of(&busy());
    let check = |change: &dyn Fn(&mut Machine)| {
        let mut machine = founded();
        change(&mut machine);
        machine.refused(backup.begin(None), Rejection::NotEmpty);
    };
    let mine = AccountId(77);
    check(&|machine| {
        let account = Account { email: Some("ada@example.com".to_owned()), ..account(AccountId(5)) };
        machine.done(Command::CreateAccount(Box::new(CreateAccount { account, user: None })));
    });
    check(&|machine| machine.done(Command::CreateKey(CreateKey { key: key(mine, 5) })));
    check(&|machine| machine.done(create_space(mine, 5)));
    check(&|machine| {
        machine.done(create_channel(mine, 5, &EventKind::ALL));
    });
    check(&|machine| {
        create(machine, Job { account: mine, ..job(5) }, 60);
    });
    // Nor is one with a history that is still to be swept.
    check(&|machine| {
        let id = create(machine, Job { account: mine, ..job(5) }, 60);
        machine.fire(id.job);
        machine.done(Command::DeleteJob(DeleteJob { account: mine, job: id.job }));
    });
}
