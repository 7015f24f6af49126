//! Histories by hand, with the verdict that each must get.

mod random; // by the thousand, against a search without shortcuts

use super::*;
use crate::{
    check::fixture::{T0_S, acknowledged, create, observation, operation, read},
    history::Event,
};

fn write(value: &str) -> OperationKind {
    OperationKind::Write { value: value.to_owned() }
}

fn written(value: &str, asked_us: i64, answered_us: i64) -> Operation {
    operation(write(value), asked_us, acknowledged(Reply::Done, answered_us))
}

fn deleted(asked_us: i64, answered_us: i64) -> Operation {
    operation(OperationKind::Delete, asked_us, acknowledged(Reply::Done, answered_us))
}

fn absent(kind: OperationKind, asked_us: i64, answered_us: i64) -> Operation {
    operation(kind, asked_us, acknowledged(Reply::Absent, answered_us))
}

fn unknown(kind: OperationKind, asked_us: i64) -> Operation {
    operation(kind, asked_us, Outcome::Unknown { reason: "no answer".to_owned() })
}

fn refused(kind: OperationKind, asked_us: i64) -> Operation {
    operation(kind, asked_us, Outcome::Refused { reason: "503 no_leader".to_owned() })
}

/// A register that was created as "0" from 0 to 9, and these operations on it.
fn violations(operations: &[Operation]) -> Vec<Violation> {
    let mut history = History::default();
    history.record(Event::Operation(create("0", 0, 9)));
    operations.iter().for_each(|operation| history.record(Event::Operation(operation.clone())));
    check(&history, &observation(T0_S))
}

fn accepts(operations: &[Operation]) {
    assert_eq!(violations(operations), []);
}

/// The last operation has no place, the register being in one of these states before it.
fn refuses(operations: &[Operation], possible: &[&str]) {
    let found = violations(operations);
    let [Violation::NotLinearizable { register, operation, asked, states, .. }] = &found[..] else {
        panic!("{found:?}");
    };
    let last = shown(operations.last().unwrap());
    assert_eq!(
        (*register, operation, states.iter().map(String::as_str).collect()),
        (1, &last, possible.to_vec())
    );
    let known = operations.iter().filter(|operation| !matches!(operation.outcome, Outcome::Refused { .. }));
    assert!(*asked <= 1 + known.count());
}

#[test]
fn one_after_the_other_is_fine() {
    accepts(&[]);
    accepts(&[read("0", 10, 19), written("1", 20, 29), read("1", 30, 39), deleted(40, 49)]);
    let gone = [OperationKind::Read, write("9"), OperationKind::Delete];
    for (kind, asked_us) in gone.into_iter().zip([50, 60, 70]) {
        accepts(&[deleted(40, 49), absent(kind, asked_us, asked_us + 9)]);
    }
}

#[test]
fn reads_beside_a_write_see_the_old_or_the_new_value() {
    let write = written("1", 10, 90);
    for (first, second) in [("0", "0"), ("0", "1"), ("1", "1")] {
        accepts(&[write.clone(), read(first, 20, 29), read(second, 30, 39)]);
    }
    // Beside each other they may see them in either order.
    accepts(&[write.clone(), read("1", 20, 39), read("0", 30, 49)]);
    refuses(&[write, read("1", 20, 29), read("0", 30, 39)], &["\"1\""]);
}

#[test]
fn what_meets_in_one_microsecond_is_concurrent() {
    accepts(&[written("1", 10, 20), read("0", 20, 29)]);
    refuses(&[written("1", 10, 20), read("0", 21, 29)], &["\"1\""]);
}

#[test]
fn writes_beside_each_other_end_in_either_order() {
    let writes = [written("1", 10, 30), written("2", 20, 40)];
    for last in ["1", "2"] {
        accepts(&[&writes[..], &[read(last, 50, 59), read(last, 60, 69)]].concat());
    }
    refuses(&[&writes[..], &[read("1", 50, 59), read("2", 60, 69)]].concat(), &["\"1\""]);
    refuses(&[&writes[..], &[read("0", 50, 59)]].concat(), &["\"1\"", "\"2\""]);
}

#[test]
fn an_unknown_write_takes_effect_at_any_time_or_never() {
    let unknown = unknown(write("1"), 10);
    accepts(&[unknown.clone(), read("0", 20, 29), read("0", 1_000, 1_009)]);
    accepts(&[unknown.clone(), read("0", 20, 29), read("1", 1_000, 1_009), read("1", 1_010, 1_019)]);
    // Also behind writes that were acknowledged after it was given up, and then it is what everybody sees.
    let later = [unknown.clone(), written("2", 20, 29), read("2", 30, 39), read("1", 40, 49)];
    accepts(&later);
    accepts(&[&later[..], &[written("3", 50, 59), read("3", 60, 69)]].concat());
    // Once, however: what it was replaced by stays.
    refuses(&[&later[..], &[read("2", 50, 59)]].concat(), &["\"1\""]);
    let seen = [unknown.clone(), read("1", 20, 29), written("2", 30, 39)];
    refuses(&[&seen[..], &[read("1", 40, 49)]].concat(), &["\"2\""]);
    // Not before it was asked.
    refuses(&[unknown.clone(), read("1", 1, 9)], &["\"0\""]);
    accepts(&[unknown, deleted(20, 29), absent(OperationKind::Read, 30, 39)]);
}

#[test]
fn two_unknown_writes_show_each_once() {
    let both = [unknown(write("1"), 10), unknown(write("2"), 20)];
    accepts(&[&both[..], &[read("2", 30, 39), read("1", 40, 49)]].concat());
    accepts(&[&both[..], &[read("1", 30, 39), read("1", 40, 49), read("2", 50, 59)]].concat());
    refuses(&[&both[..], &[read("2", 30, 39), read("1", 40, 49), read("2", 50, 59)]].concat(), &["\"1\""]);
    refuses(&[&both[..], &[read("2", 30, 39), read("0", 40, 49)]].concat(), &["\"2\""]);
}

#[test]
fn an_unknown_delete_takes_effect_at_any_time_or_never() {
    let delete = unknown(OperationKind::Delete, 10);
    accepts(&[delete.clone(), written("1", 20, 29), read("1", 30, 39)]);
    let gone = [delete.clone(), written("1", 20, 29), absent(write("2"), 30, 39)];
    accepts(&gone);
    refuses(&[&gone[..], &[read("1", 40, 49)]].concat(), &["absent"]);
    // One of two deletes can have found it.
    accepts(&[delete.clone(), absent(OperationKind::Delete, 20, 29)]);
    accepts(&[delete, deleted(20, 29)]);
}

#[test]
fn unknown_reads_and_creates_say_nothing() {
    accepts(&[unknown(OperationKind::Read, 10), read("0", 20, 29)]);
    let mut history = History::default();
    let create = unknown(OperationKind::Create { value: "0".to_owned() }, 10);
    history.record(Event::Operation(create));
    assert_eq!(check(&history, &observation(T0_S)), []);
}

#[test]
fn a_stale_read_is_refused() {
    refuses(&[written("1", 10, 19), read("0", 20, 29)], &["\"1\""]);
    // A thousand operations later, too.
    let mut operations: Vec<_> =
        (1..1_000).map(|number| written(&number.to_string(), number * 10, number * 10 + 9)).collect();
    operations.push(read("998", 10_000, 10_009));
    refuses(&operations, &["\"999\""]);
}

#[test]
fn a_lost_write_is_refused() {
    // The next write does not excuse it: it was read as lost before.
    let operations = [written("1", 10, 19), read("1", 20, 29), written("2", 30, 39), read("1", 40, 49)];
    refuses(&operations, &["\"2\""]);
}

#[test]
fn a_value_that_nobody_wrote_is_refused() {
    refuses(&[read("x", 10, 19)], &["\"0\""]);
    refuses(&[written("1", 10, 99), read("x", 20, 29)], &["\"0\""]);
}

#[test]
fn what_was_deleted_stays_so() {
    refuses(&[deleted(10, 19), read("0", 20, 29)], &["absent"]);
    refuses(&[deleted(10, 19), written("1", 20, 29)], &["absent"]);
    refuses(&[deleted(10, 19), deleted(20, 29)], &["absent"]);
    refuses(&[absent(OperationKind::Read, 10, 19)], &["\"0\""]);
}

#[test]
fn what_was_refused_has_no_effect() {
    let write = write("1");
    accepts(&[refused(write.clone(), 10), read("0", 20, 29)]);
    refuses(&[refused(write.clone(), 10), read("1", 20, 29)], &["\"0\""]);
    refuses(&[refused(OperationKind::Delete, 10), absent(OperationKind::Read, 20, 29)], &["\"0\""]);
    // A write that is told that there is nothing to write to has none either.
    let told = [absent(write, 10, 39), deleted(20, 49), read("1", 30, 59)];
    refuses(&told, &["absent"]);
}

#[test]
fn registers_do_not_mix() {
    let other = |operation: Operation| Operation { register: 2, ..operation };
    let mut history = History::default();
    for operation in [create("0", 0, 9), other(create("1", 0, 9)), read("0", 10, 19)] {
        history.record(Event::Operation(operation));
    }
    assert_eq!(check(&history, &observation(T0_S)), []);
    history.record(Event::Operation(other(read("0", 20, 29))));
    let found = check(&history, &observation(T0_S));
    assert!(matches!(&found[..], [Violation::NotLinearizable { register: 2, asked: 2, .. }]), "{found:?}");
}

#[test]
fn a_violation_names_the_answer_the_states_and_what_was_under_way() {
    let found =
        violations(&[written("1", 10, 19), written("2", 20, 99), read("0", 30, 39), written("3", 200, 209)]);
    let text = found[0].to_string();
    assert_eq!(
        text,
        "not linearizable: register 1, first 4 operations: read of a by process 1 on node 1, asked at 30, answered \
         \"0\" at 39; before it the register can only be \"1\"; under way beside it: write \"2\" of a by process 1 on \
         node 1, asked at 20, answered done at 99"
    );
}

#[test]
fn what_makes_no_sense_is_not_passed_over() {
    let unreadable = |operations: &[Operation]| {
        let found = violations(operations);
        assert!(matches!(&found[..], [Violation::Unreadable(_)]), "{found:?}");
    };
    unreadable(&[create("1", 10, 19)]);
    unreadable(&[read("0", 19, 10)]);
    unreadable(&[operation(OperationKind::Read, 10, acknowledged(Reply::Done, 19))]);
    unreadable(&[operation(write("1"), 10, acknowledged(Reply::Value("1".to_owned()), 19))]);
    let mut history = History::default();
    history.record(Event::Operation(read("0", 10, 19)));
    assert!(matches!(&check(&history, &observation(T0_S))[..], [Violation::Unreadable(_)]));
}

#[test]
fn a_search_that_is_too_long_is_not_passed_over() {
    // More than fit under way at one time.
    let many: Vec<_> = (1..200).map(|number| written(&number.to_string(), 10, 99)).collect();
    assert_eq!(violations(&many), [Violation::Undecided { register: 1, operations: 200 }]);
    // Forty concurrent writes have more orders than can be looked at; of five they are few.
    for (count, expected) in [(5, None), (40, Some(Violation::Undecided { register: 1, operations: 81 }))] {
        let writes = (1..=count).map(|number| written(&number.to_string(), 10, 99));
        let reads = (1..=count).map(|number| read(&number.to_string(), 10, 199));
        let operations: Vec<_> = [create("0", 0, 9)].into_iter().chain(writes).chain(reads).collect();
        assert_eq!(judge(1, &operations.iter().collect::<Vec<_>>(), 10_000), expected, "{count} writes");
    }
}
