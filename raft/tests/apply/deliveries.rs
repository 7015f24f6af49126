//! Messages to channels: one for each event and channel that hears it, sent by one process at a time.

use crate::machine::{Machine, ONE, TWO, at};
use crate::samples::{ACCOUNT, OTHER, channel, create_channel, job};
use DeliveryResult::{Delivered, GivenUp};
use EventKind::{Executed, Failed, Recovered};
use domain::channel::{EventKind, LastDelivery};
use domain::delivery::DeliveryResult;
use domain::execution::{AttemptResult, DueItem, Outcome};
use domain::id::{ChannelId, DeliveryId, ExecutionId, JobId};
use domain::job::{Delivery as Policy, Job};
use domain::limits::DELIVERY_TRIED_FOR;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use raft::apply::Effect;
use raft::command::{
    Applied, Command, CreateJob, DeleteChannel, DeleteJob, DrainNode, PauseJob, UpdateChannel,
};
use std::time::Duration;
use storage::schema::{Channels, DeliveryClaims, DueKey};

/// A machine with a job, and one channel that hears everything.
fn machine() -> (Machine, JobId) {
    let mut machine = Machine::new();
    machine.done(create_channel(ACCOUNT, 1, &EventKind::ALL));
    let job = machine.create_job(1, at(60));
    (machine, job)
}

/// The same with one delivery, of an execution that succeeded.
fn with_delivery() -> (Machine, DeliveryId) {
    let (mut machine, job) = machine();
    machine.run(job, 200);
    let id = machine.deliveries()[0];
    (machine, id)
}

fn failed(retry_at: Timestamp) -> DeliveryResult {
    DeliveryResult::Failed { error: "HTTP 503".to_owned(), retry_at }
}

fn last_delivery(machine: &Machine) -> Option<LastDelivery> {
    machine.get::<Channels>(&(ACCOUNT, ChannelId(1))).unwrap().last_delivery
}

/// Events and channels of what is told of `execution`, in order.
fn told(machine: &Machine, execution: ExecutionId) -> Vec<(EventKind, u64)> {
    let deliveries = machine.deliveries().into_iter().filter(|id| id.execution == execution);
    deliveries.map(|id| (id.event, id.channel.0)).collect()
}

fn skip(machine: &Machine, id: ExecutionId) -> Command {
    let result = AttemptResult::Skipped { at: at(60), reason: "for a test".to_owned() };
    let incarnation = machine.incarnation(ONE);
    Command::Record(Box::new(Outcome { execution: id, attempt: 1, node: ONE, incarnation, result }))
}

#[test]
fn each_channel_is_told_of_what_it_hears() {
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(60));
    let before = machine.run(job, 500);
    assert_eq!(told(&machine, before), [], "nobody was there to hear it");
    machine.done(create_channel(ACCOUNT, 1, &EventKind::ALL));
    machine.done(create_channel(ACCOUNT, 2, &[Failed, Recovered]));
    machine.done(create_channel(ACCOUNT, 3, &[Executed]));
    machine.done(create_channel(ACCOUNT, 4, &[]));
    machine.done(create_channel(OTHER, 5, &EventKind::ALL));

    machine.set(at(61));
    let id = machine.run(job, 500);
    assert_eq!(told(&machine, id), [(Executed, 1), (Executed, 3), (Failed, 1), (Failed, 2)]);
    let due = machine.deliveries().len();
    let hints =
        |effect: &&Effect| matches!(effect, Effect::Due(key) if matches!(key.item, DueItem::Delivery(_)));
    assert_eq!(machine.effects.iter().filter(hints).count(), due);
    let delivery = machine.delivery(DeliveryId { execution: id, event: Failed, channel: ChannelId(2) });
    assert_eq!((delivery.account, delivery.attempt, delivery.holder), (ACCOUNT, 1, None));
    assert_eq!((delivery.created_at, delivery.due, delivery.executed_at), (at(61), at(61), at(61)));
    assert_eq!((delivery.status_code, delivery.duration_ms), (Some(500), 25));
    assert_eq!(delivery.error.as_deref(), Some("HTTP 500"));
    assert_eq!((&*delivery.job_name, &*delivery.job_url), ("job 1", "https://example.com"));
    assert_eq!(machine.waits_for(delivery.id), Some(at(61)));

    let id = machine.run(job, 200);
    assert_eq!(told(&machine, id), [(Executed, 1), (Executed, 3), (Recovered, 1), (Recovered, 2)]);
}

#[test]
fn a_recovery_comes_after_a_failure() {
    let (mut machine, job) = machine();
    for (status, expected) in [
        (Some(200), &[Executed][..]),
        (Some(500), &[Executed, Failed]),
        (Some(404), &[Executed, Failed]),
        (None, &[]), // skipped: neither tells anything nor changes what went before
        (Some(204), &[Executed, Recovered]),
        (Some(200), &[Executed]),
        (None, &[]),
        (Some(200), &[Executed]),
    ] {
        let id = machine.fire(job);
        let outcome = status.map_or_else(|| skip(&machine, id), |status| machine.outcome(id, status, None));
        machine.done(outcome);
        let events: Vec<_> = told(&machine, id).into_iter().map(|(event, _)| event).collect();
        assert_eq!(events, expected, "{status:?}");
    }
}

#[test]
fn only_the_last_attempt_is_told_of() {
    let (mut machine, job) = machine();
    let id = machine.fire(job);
    let first = machine.outcome(id, 500, Some(at(70)));
    machine.done(first);
    assert_eq!(told(&machine, id), []);
    machine.claim(ONE, raft::command::ClaimTarget::Execution { id, attempt: 2 }).unwrap();
    let second = machine.outcome(id, 200, None);
    machine.done(second.clone());
    assert_eq!(told(&machine, id), [(Executed, 1)], "the execution went well, though not at once");
    machine.apply(second).unwrap_err();
    assert_eq!(machine.deliveries().len(), 1);

    // Cancelled with a failed attempt behind it, it has failed.
    let id = machine.fire(job);
    let first = machine.outcome(id, 500, Some(at(200)));
    machine.done(first);
    machine.done(Command::PauseJob(PauseJob { account: ACCOUNT, job, at: at(150), overdue: None }));
    assert_eq!(told(&machine, id), [(Executed, 1), (Failed, 1)]);
}

#[test]
fn a_job_may_choose_who_hears_of_it() {
    let mut machine = Machine::new();
    machine.done(create_channel(ACCOUNT, 1, &[Executed]));
    machine.done(create_channel(ACCOUNT, 2, &[Executed]));
    machine.done(create_channel(OTHER, 3, &[Executed]));
    for (number, (chosen, expected)) in [
        (None, &[1, 2][..]),
        (Some(&[2][..]), &[2]),
        (Some(&[1, 2]), &[1, 2]),
        (Some(&[]), &[]),
        (Some(&[3, 77]), &[]), // another account's, and one that is gone
    ]
    .into_iter()
    .enumerate()
    {
        let alert_channels = chosen.map(|ids: &[u64]| ids.iter().copied().map(ChannelId).collect());
        let job = Job { alert_channels, ..job(number as u64) };
        let job_id = job.id;
        let command = CreateJob { job, next_run_at: Some(at(60)), paused: false, jobs_max: None };
        machine.done(Command::CreateJob(Box::new(command)));
        let id = machine.run(job_id, 200);
        let channels: Vec<_> = told(&machine, id).into_iter().map(|(_, channel)| channel).collect();
        assert_eq!(channels, expected, "{chosen:?}");
    }
}

#[test]
fn one_process_at_a_time_sends_it() {
    let (mut machine, id) = with_delivery();
    assert_eq!(machine.claim_delivery(ONE, id, 2), Err(Rejection::NotClaimable), "it is the first's turn");
    assert_eq!(machine.claim_delivery(ONE, id, 1), Ok(Applied::Done));
    let (due, node, incarnation) = (machine.delivery(id).due, ONE, machine.incarnation(ONE));
    assert_eq!(machine.effects, [Effect::ClaimedDelivery { id, due, node, incarnation }]);
    assert_eq!(machine.waits_for(id), None);
    assert_eq!(machine.claim_delivery(TWO, id, 1), Err(Rejection::NotClaimable));
    assert_eq!(machine.claim_delivery(ONE, id, 1), Err(Rejection::NotClaimable));
    let foreign = machine.report(TWO, id, 1, failed(at(70)));
    machine.refused(foreign, Rejection::NotClaimable);

    machine.set(at(90));
    let report = machine.report(ONE, id, 1, Delivered);
    machine.done(report.clone());
    assert_eq!(last_delivery(&machine), Some(LastDelivery { at: at(90), error: None }));
    assert_eq!(machine.deliveries(), []);
    machine.refused(report, Rejection::NoSuchDelivery);
    assert_eq!(machine.claim_delivery(ONE, id, 1), Err(Rejection::NoSuchDelivery));
}

#[test]
fn a_process_that_ends_takes_nothing_new_and_reports_what_it_has() {
    let (mut machine, id) = with_delivery();
    machine.claim_delivery(TWO, id, 1).unwrap();
    let incarnation = machine.incarnation(TWO);
    machine.done(Command::DrainNode(DrainNode { node: TWO, incarnation }));
    let report = machine.report(TWO, id, 1, failed(at(65)));
    machine.done(report);
    assert_eq!(machine.claim_delivery(TWO, id, 2), Err(Rejection::NotLive));
    assert_eq!(machine.claim_delivery(ONE, id, 2), Ok(Applied::Done));
}

#[test]
fn a_failed_attempt_is_made_again_by_anybody() {
    let (mut machine, id) = with_delivery();
    machine.claim_delivery(ONE, id, 1).unwrap();
    machine.set(at(3));
    let first = machine.report(ONE, id, 1, failed(at(8)));
    machine.done(first.clone());
    assert_eq!((machine.waits_for(id), machine.delivery(id).attempt), (Some(at(8)), 2));
    assert_eq!(machine.claim_delivery(TWO, id, 1), Err(Rejection::NotClaimable), "that attempt is over");
    assert_eq!(last_delivery(&machine), Some(LastDelivery { at: at(3), error: Some("HTTP 503".to_owned()) }));
    machine.refused(first.clone(), Rejection::NotClaimable);

    machine.claim_delivery(TWO, id, 2).unwrap();
    machine.refused(first, Rejection::NotClaimable);
    machine.set(at(9));
    let second = machine.report(TWO, id, 2, Delivered);
    machine.done(second);
    assert_eq!(machine.deliveries(), []);
    assert_eq!(last_delivery(&machine), Some(LastDelivery { at: at(9), error: None }));
}

#[test]
fn it_is_given_up_after_a_day_and_an_hour() {
    let last = at(0).plus(DELIVERY_TRIED_FOR);
    let too_late = last.plus(Duration::from_millis(1));
    for (result, stays) in
        [(failed(last), true), (failed(too_late), false), (GivenUp { error: "HTTP 410".to_owned() }, false)]
    {
        let (mut machine, id) = with_delivery();
        machine.claim_delivery(ONE, id, 1).unwrap();
        let report = machine.report(ONE, id, 1, result.clone());
        machine.done(report);
        assert_eq!(machine.waits_for(id), stays.then_some(last), "{result:?}");
        assert_eq!(!machine.deliveries().is_empty(), stays, "{result:?}");
        assert!(last_delivery(&machine).unwrap().error.is_some());
    }
}

#[test]
fn what_a_lost_process_held_is_due_at_once() {
    let (mut machine, id) = with_delivery();
    for (node, secs, expires) in [(ONE, 10, true), (TWO, 20, false), (TWO, 30, true)] {
        machine.set(at(secs - 5));
        machine.claim_delivery(node, id, 1).unwrap();
        assert_eq!(machine.keys::<DeliveryClaims>(), [(node, id)]);
        let old = machine.incarnation(node);
        machine.set(at(secs));
        if expires {
            machine.expire(node);
            let due = Effect::Due(DueKey::new(at(secs), DueItem::Delivery(id)));
            assert!(machine.effects.contains(&due), "the scheduler is told: {:?}", machine.effects);
            assert_eq!(machine.claim_delivery(node, id, 1), Err(Rejection::NotLive));
            assert_eq!(machine.waits_for(id), Some(at(secs)));
        }
        // A second process of node one would not be let in by this machine's session.
        machine.register(node, if expires || node == ONE { 1 } else { 2 });
        assert_ne!(machine.incarnation(node), old);
        assert_eq!((machine.waits_for(id), machine.delivery(id).attempt), (Some(at(secs)), 1));
    }
}

#[test]
fn what_has_arrived_has_arrived_whoever_was_to_send_it() {
    // While it waits, and while another one has it.
    for held_by_another in [false, true] {
        let (mut machine, id) = with_delivery();
        machine.claim_delivery(TWO, id, 1).unwrap();
        let failure = machine.report(TWO, id, 1, failed(at(70)));
        let given_up = machine.report(TWO, id, 1, GivenUp { error: String::new() });
        let arrival = machine.report(TWO, id, 1, Delivered);
        machine.expire(TWO);
        if held_by_another {
            machine.claim_delivery(ONE, id, 1).unwrap();
        }
        machine.refused(failure, Rejection::NotClaimable);
        machine.refused(given_up, Rejection::NotClaimable);
        machine.done(arrival);
        assert_eq!((machine.deliveries(), machine.keys::<DeliveryClaims>()), (vec![], vec![]));
        let late = machine.report(ONE, id, 1, failed(at(80)));
        machine.refused(late, Rejection::NoSuchDelivery);
        assert_eq!(last_delivery(&machine).unwrap().error, None);
    }
}

#[test]
fn a_channel_or_job_that_is_gone_stops_nothing_that_is_under_way() {
    let (mut machine, id) = with_delivery();
    machine.done(Command::DeleteJob(DeleteJob { account: ACCOUNT, job: id.execution.job }));
    machine.claim_delivery(ONE, id, 1).unwrap();
    let again = machine.report(ONE, id, 1, failed(at(70)));
    machine.done(again);
    machine.done(Command::DeleteChannel(DeleteChannel { account: ACCOUNT, channel: id.channel }));
    machine.claim_delivery(ONE, id, 2).unwrap();
    let given_up = machine.report(ONE, id, 2, GivenUp { error: "The channel was deleted".to_owned() });
    machine.done(given_up);
    assert_eq!(machine.deliveries(), []);
    assert_eq!(machine.get::<Channels>(&(ACCOUNT, id.channel)), None, "the outcome does not bring it back");

    let job = machine.create_job(2, at(60));
    let unheard = machine.run(job, 500);
    assert_eq!(told(&machine, unheard), []);
}

#[test]
fn a_channel_hears_by_what_it_is_set_to_when_an_execution_ends() {
    let (mut machine, job) = machine();
    let id = machine.fire(job);
    let channel = channel(ACCOUNT, 1, &[Failed]);
    let expected = channel.updated_at;
    machine.done(Command::UpdateChannel(Box::new(UpdateChannel { channel, expected })));
    let outcome = machine.outcome(id, 200, None);
    machine.done(outcome);
    assert_eq!(told(&machine, id), []);
}

#[test]
fn an_execution_that_is_lost_with_its_node_is_told_of() {
    let (mut machine, _) = machine();
    let job = Job { delivery: Policy::AtMostOnce, ..job(2) };
    let job_id = job.id;
    let command = CreateJob { job, next_run_at: Some(at(60)), paused: false, jobs_max: None };
    machine.done(Command::CreateJob(Box::new(command)));
    let id = machine.fire(job_id);
    machine.set(at(100));
    machine.expire(ONE);
    assert_eq!(told(&machine, id), [(Executed, 1), (Failed, 1)]);
    let delivery = machine.delivery(DeliveryId { execution: id, event: Failed, channel: ChannelId(1) });
    assert_eq!((delivery.status_code, delivery.created_at), (None, at(100)));
    assert!(delivery.error.unwrap().contains("lost"));
}
