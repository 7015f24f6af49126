//! Alert channels, and the counts by which an outcome knows whether anybody wants to hear of it.

use crate::machine::{Machine, START, at};
use crate::samples::{ACCOUNT, OTHER, channel, create_channel};
use EventKind::{Executed, Failed, Recovered};
use domain::channel::{Channel, ChannelConfig, EventKind, LastDelivery};
use domain::delivery::DeliveryResult;
use domain::id::{AccountId, ChannelId};
use domain::limits::CHANNELS_MAX;
use domain::rejection::Rejection;
use raft::command::{Command, DeleteChannel, UpdateChannel};
use storage::schema::Channels;

fn update(channel: Channel) -> Command {
    Command::UpdateChannel(Box::new(UpdateChannel { channel }))
}

fn delete(account: AccountId, channel: u64) -> Command {
    Command::DeleteChannel(DeleteChannel { account, channel: ChannelId(channel) })
}

fn pager(id: u64, events: &[EventKind]) -> Channel {
    let config = ChannelConfig::PagerDuty {
        url: "https://events.pagerduty.com/v2/enqueue".to_owned(),
        headers: Vec::new(),
        routing_key: "0123456789abcdef".to_owned(),
    };
    Channel { config, ..channel(ACCOUNT, id, events) }
}

#[test]
fn counts_follow_every_change() {
    let mut machine = Machine::new();
    let mut check = |command: Command, channels, channels_of_all| {
        machine.done(command);
        let meta = machine.meta();
        assert_eq!((meta.channels, meta.channels_of_all), (channels, channels_of_all));
    };
    check(create_channel(ACCOUNT, 1, &EventKind::ALL), 1, 1);
    check(create_channel(ACCOUNT, 2, &[Failed]), 2, 1);
    check(create_channel(OTHER, 1, &[Executed, Failed]), 3, 2);
    check(update(channel(ACCOUNT, 2, &[Failed, Recovered])), 3, 2);
    check(update(channel(ACCOUNT, 2, &[Executed])), 3, 3);
    check(update(channel(ACCOUNT, 2, &[Executed])), 3, 3);
    check(update(channel(ACCOUNT, 1, &[])), 3, 2);
    check(update(pager(2, &[Executed])), 3, 1); // nobody is paged for a success
    check(delete(ACCOUNT, 2), 2, 1);
    check(delete(OTHER, 1), 1, 0);
    check(delete(ACCOUNT, 1), 0, 0);
    check(create_channel(ACCOUNT, 1, &[Executed]), 1, 1);
}

#[test]
fn another_accounts_channel_is_as_good_as_none() {
    let mut machine = Machine::new();
    machine.done(create_channel(ACCOUNT, 1, &EventKind::ALL));
    machine.refused(create_channel(ACCOUNT, 1, &[Failed]), Rejection::Exists);
    machine.refused(create_channel(AccountId(99), 2, &[Failed]), Rejection::NoSuchAccount);
    machine.refused(update(channel(OTHER, 1, &[Failed])), Rejection::NoSuchChannel);
    machine.refused(delete(OTHER, 1), Rejection::NoSuchChannel);
    machine.refused(delete(ACCOUNT, 2), Rejection::NoSuchChannel);
}

#[test]
fn an_account_has_so_many_channels() {
    let mut machine = Machine::new();
    let max = CHANNELS_MAX as u64;
    let replies = machine.apply_all((1..=max).map(|id| create_channel(ACCOUNT, id, &[Failed])).collect());
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    machine.refused(create_channel(ACCOUNT, max + 1, &[Failed]), Rejection::TooMany { max });
    machine.done(create_channel(OTHER, 1, &[Failed]));
    machine.done(delete(ACCOUNT, 50));
    machine.done(create_channel(ACCOUNT, max + 1, &[Failed]));
}

#[test]
fn an_update_keeps_what_its_owner_does_not_set() {
    let mut machine = Machine::new();
    machine.done(create_channel(ACCOUNT, 1, &[Failed]));
    let job = machine.create_job(1, at(60));
    machine.run(job, 500);
    let id = machine.deliveries()[0];
    machine.claim_delivery(crate::machine::ONE, id, 1).unwrap();
    let report =
        machine.report(crate::machine::ONE, id, 1, DeliveryResult::GivenUp { error: "no".to_owned() });
    machine.done(report);

    let changed = Channel {
        name: "another".to_owned(),
        created_at: at(9_999),
        updated_at: at(70),
        last_delivery: None,
        ..channel(ACCOUNT, 1, &[Recovered])
    };
    machine.done(update(changed.clone()));
    let last_delivery = Some(LastDelivery { at: START, error: Some("no".to_owned()) });
    let expected = Channel { created_at: START, last_delivery, ..changed };
    assert_eq!(machine.get::<Channels>(&(ACCOUNT, ChannelId(1))), Some(expected));
}
