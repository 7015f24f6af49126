//! What holds of every state, whatever commands made it: indexes say what records say, and counts are counts.

use domain::channel::EventKind;
use domain::execution::{DueItem, Execution, ExecutionState};
use domain::id::{AccountId, JobId, NodeId};
use domain::node::Incarnation;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use storage::schema::{
    AccountJob, AccountJobs, AccountKeys, AccountSpaces, AccountUsage, Accounts, Answers, AnswersByExpiry,
    ApiKeys, Channels, Claims, Customers, DeletedJobs, Deliveries, DeliveryClaims, Diagnoses, Due, DueKey,
    ExecutionHours, Executions, JobHour, JobStates, Jobs, Meta, Metas, Nodes, Pulses, ResponseBodies,
    Restores, SpaceJobs, Spaces, Timetables, UnalignedSpaces, Users,
};
use storage::{Items, Keyspace, Read, State, StateView};

/// Panics when something does not hold.
pub(crate) fn check(state: &State) {
    let view = state.view();
    if view.get::<Metas>(&()).unwrap().is_some_and(|meta| meta.restoring) {
        // Of a backup that is being restored only some is there.
        assert!(view.contains::<Restores>(&()).unwrap());
        return;
    }
    assert!(!view.contains::<Restores>(&()).unwrap());
    let indexed = Indexed::of(&view);
    jobs(&view);
    spaces(&view);
    counts(&view);
    accounts(&view);
    answers(&view);
    history(&view);
    timetables(&view);

    // Whatever waits is due once, and whatever is held is claimed once.
    same("due", keys::<Due>(&view), indexed.due);
    same("claims", keys::<Claims>(&view), indexed.claims);
    same("delivery_claims", keys::<DeliveryClaims>(&view), indexed.delivery_claims);
}

fn all<K: Keyspace>(view: &StateView<'_>) -> Items<K> {
    view.prefix::<K>(&[], None, usize::MAX).unwrap()
}

fn keys<K: Keyspace>(view: &StateView<'_>) -> Vec<K::Key> {
    view.keys_prefix::<K>(&[], None, usize::MAX).unwrap()
}

/// Each of `expected` stands in the index once, and nothing else does.
fn same<T: Ord + Clone + Debug>(what: &str, mut found: Vec<T>, mut expected: Vec<T>) {
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{what}");
}

/// The entries that the records call for.
#[derive(Default)]
struct Indexed {
    due: Vec<DueKey>,
    claims: Vec<<Claims as Keyspace>::Key>,
    delivery_claims: Vec<<DeliveryClaims as Keyspace>::Key>,
}

impl Indexed {
    fn of(view: &StateView<'_>) -> Self {
        let mut indexed = Self::default();
        for (job, state) in all::<JobStates>(view) {
            if let Some(cursor) = state.next_run_at {
                assert!(state.claimed_until.is_none_or(|until| cursor > until), "{job}: {state:?}");
                indexed.due.push(DueKey::new(cursor, DueItem::Firing(job)));
            }
            for (id, execution) in executions(view, job) {
                assert_eq!(state.open.contains(&id), execution.status().is_none(), "{execution:?}");
                match execution.state {
                    ExecutionState::Pending => {
                        indexed.due.push(DueKey::new(execution.due, DueItem::Execution(id)));
                    }
                    ExecutionState::Claimed { node, incarnation } => {
                        lives(view, node, incarnation);
                        indexed.claims.push((node, id));
                    }
                    ExecutionState::Finished { .. } => {}
                }
            }
        }
        for (id, delivery) in all::<Deliveries>(view) {
            assert_eq!(delivery.id, id);
            match delivery.holder {
                None => indexed.due.push(DueKey::new(delivery.due, DueItem::Delivery(id))),
                Some((node, incarnation)) => {
                    lives(view, node, incarnation);
                    indexed.delivery_claims.push((node, id));
                }
            }
        }
        indexed
    }
}

fn executions(view: &StateView<'_>, job: JobId) -> Vec<(domain::id::ExecutionId, Execution)> {
    view.prefix::<Executions>(&job.0.to_be_bytes(), None, usize::MAX).unwrap()
}

/// Only a process that has not been counted as dead holds anything.
fn lives(view: &StateView<'_>, node: NodeId, incarnation: Incarnation) {
    let known = view.get::<Nodes>(&node).unwrap();
    let lives = known.is_some_and(|known| known.incarnation == incarnation && known.expired_at.is_none());
    assert!(lives, "node {node} holds something under {incarnation:?}, which is over");
}

fn jobs(view: &StateView<'_>) {
    let jobs = all::<Jobs>(view);
    let with_state = keys::<JobStates>(view);
    assert_eq!(jobs.iter().map(|(id, _)| *id).collect::<Vec<_>>(), with_state, "job_states");
    let place = |key: &AccountJob| (key.account, key.created_at, key.job);
    let places = jobs.iter().map(|(id, job)| (job.account, job.created_at, *id)).collect();
    same("account_jobs", keys::<AccountJobs>(view).iter().map(place).collect(), places);
    for (id, job) in jobs {
        let state = view.get::<JobStates>(&id).unwrap().unwrap();
        assert_eq!(state.account, job.account, "{id}");
        assert!(state.paused_at.is_none() || state.next_run_at.is_none(), "{id} fires while it is paused");
        let known = executions(view, id);
        assert_eq!(state.executions_total, known.len() as u64, "executions of {id}");
        assert_eq!(state.open.iter().collect::<BTreeSet<_>>().len(), state.open.len(), "{state:?}");
        for open in &state.open {
            assert!(known.iter().any(|(id, _)| id == open), "{open} is open and not there");
        }
    }
}

fn spaces(view: &StateView<'_>) {
    let spaces = all::<Spaces>(view);
    let owned = spaces.iter().map(|(id, space)| (space.account, *id)).collect();
    same("account_spaces", keys::<AccountSpaces>(view), owned);
    let members = all::<Jobs>(view).into_iter().filter_map(|(id, job)| Some((job.space?, id))).collect();
    same("space_jobs", keys::<SpaceJobs>(view), members);
    let unaligned: BTreeSet<_> = keys::<UnalignedSpaces>(view).into_iter().collect();
    for (id, space) in spaces {
        let members = view.keys_prefix::<SpaceJobs>(&id.0.to_be_bytes(), None, usize::MAX).unwrap();
        assert_eq!(space.jobs, members.len() as u64, "jobs of {id}");
        if space.paused_at.is_some() && !unaligned.contains(&id) {
            for (_, job) in members {
                let cursor = view.get::<JobStates>(&job).unwrap().unwrap().next_run_at;
                assert_eq!(cursor, None, "{job} fires in {id}, which is paused and aligned");
            }
        }
    }
    for id in unaligned {
        assert!(view.contains::<Spaces>(&id).unwrap(), "{id} is unaligned and not there");
    }
}

fn counts(view: &StateView<'_>) {
    let meta = view.get::<Metas>(&()).unwrap().unwrap_or_default();
    let states = all::<JobStates>(view);
    let paused = states.iter().filter(|(_, state)| state.paused_at.is_some()).count() as u64;
    let channels = all::<Channels>(view);
    let of_all = channels.iter().filter(|(_, channel)| channel.hears(EventKind::Executed)).count() as u64;
    let expected = Meta {
        now: meta.now,
        last_incarnation: meta.last_incarnation,
        bootstrapped: !keys::<Accounts>(view).is_empty(),
        jobs_active: states.len() as u64 - paused,
        jobs_paused: paused,
        channels: channels.len() as u64,
        channels_of_all: of_all,
        restoring: false,
        level: meta.level,
    };
    assert_eq!(meta, expected);
    let mut jobs: BTreeMap<AccountId, u64> = BTreeMap::new();
    for (_, state) in states {
        *jobs.entry(state.account).or_default() += 1;
    }
    for (account, usage) in all::<AccountUsage>(view) {
        assert_eq!(usage.jobs, jobs.remove(&account).unwrap_or(0), "jobs of {account}");
    }
    assert!(jobs.is_empty(), "jobs of accounts without usage: {jobs:?}");
}

fn accounts(view: &StateView<'_>) {
    let keys_of = all::<AccountKeys>(view).into_iter().map(|((account, key), hash)| (account, key, hash));
    let stored = all::<ApiKeys>(view).into_iter().map(|(hash, key)| {
        assert_eq!(hash, key.hash);
        (key.account, key.id, hash)
    });
    same("account_keys", keys_of.collect(), stored.collect());
    // The other way round need not hold: a customer who pays for two accounts stands for the later one.
    for (customer, account) in all::<Customers>(view) {
        let account = view.get::<Accounts>(&account).unwrap().unwrap();
        assert_eq!(account.billing.unwrap().customer, customer, "{}", account.id);
    }
    for (email, user) in all::<Users>(view) {
        assert_eq!(email, user.email);
        assert!(view.contains::<Accounts>(&user.account).unwrap(), "{user:?} has no account");
    }
}

fn answers(view: &StateView<'_>) {
    let stored = all::<Answers>(view).into_iter();
    let stored = stored.map(|((account, name), answer)| (answer.expires_at, account, name)).collect();
    same("answers_by_expiry", keys::<AnswersByExpiry>(view), stored);
}

/// What belongs to an execution goes with it, and executions go with their job.
fn history(view: &StateView<'_>) {
    for id in keys::<ResponseBodies>(view).into_iter().chain(keys::<Diagnoses>(view)) {
        assert!(view.contains::<Executions>(&id).unwrap(), "something of {id}, which is gone");
    }
    let jobs: BTreeSet<JobId> = keys::<Jobs>(view).into_iter().chain(keys::<DeletedJobs>(view)).collect();
    let mut hours: BTreeMap<JobHour, u64> = BTreeMap::new();
    for id in keys::<Executions>(view) {
        assert!(jobs.contains(&id.job), "{id} of a job that is gone and not to be swept");
        *hours.entry(JobHour::of(&id)).or_default() += 1;
    }
    let lives = |job: &JobId| view.contains::<Jobs>(job).unwrap();
    hours.retain(|hour, _| lives(&hour.job));
    let (counted, of_deleted): (BTreeMap<_, _>, BTreeMap<_, _>) =
        all::<ExecutionHours>(view).into_iter().partition(|(hour, _)| lives(&hour.job));
    assert_eq!(counted, hours, "execution_hours");
    assert!(of_deleted.keys().all(|hour| jobs.contains(&hour.job)), "{of_deleted:?}");
    assert!(keys::<Pulses>(view).iter().all(lives), "the pulse of a job that is gone");
}

/// What made each job due is known from its beginning, or from that of its history, and goes with it.
fn timetables(view: &StateView<'_>) {
    let jobs: BTreeSet<JobId> = keys::<Jobs>(view).into_iter().collect();
    let known: BTreeSet<JobId> = keys::<DeletedJobs>(view).into_iter().chain(jobs.iter().copied()).collect();
    assert!(keys::<Timetables>(view).iter().all(|key| known.contains(&key.job)), "of a job that is gone");
    for id in jobs {
        let newest_first = view.prefix::<Timetables>(&id.0.to_be_bytes(), None, usize::MAX).unwrap();
        let (_, newest) = newest_first.first().expect("a job has been made");
        let state = view.get::<JobStates>(&id).unwrap().unwrap();
        let job = view.get::<Jobs>(&id).unwrap().unwrap();
        assert_eq!((&newest.cron_expression, &newest.timezone), (&job.cron_expression, &job.timezone));
        // Claims alone move it on.
        assert!(state.next_run_at.is_none() || state.next_run_at >= newest.first, "{state:?} {newest:?}");
        for pair in newest_first.windows(2) {
            let [(later, next), (earlier, timetable)] = pair else { unreachable!() };
            assert_eq!(later.number, earlier.number + 1);
            assert!(next.found.is_none() || next.found >= timetable.first, "{timetable:?} {next:?}");
            assert_eq!(next.kept_from, None, "only the oldest knows where the history begins");
        }
    }
}
