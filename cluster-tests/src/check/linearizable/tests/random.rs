//! Histories of a register that is right, and of one that is nearly right; and the search for an order as one would write it
//! without a thought of speed, to compare with.

use super::*;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// How a history is made.
struct Shape {
    processes: u64,
    /// Of each process.
    operations: usize,
    /// Of a hundred operations, how many have no answer.
    unknown: u32,
    /// Of a hundred operations, how many are deletes.
    deletes: u32,
    /// Whether every write has a value of its own, or one of two.
    values_differ: bool,
}

/// One history with some thousand operations.
const LONG: Shape = Shape { processes: 8, operations: 400, unknown: 4, deletes: 0, values_differ: true };

/// What a register that does everything at one instant answers to clients that ask beside each other. Some get no answer, and
/// of those some take effect long afterwards.
fn correct(shape: &Shape, random: &mut StdRng) -> Vec<Operation> {
    let mut operations = vec![create("0", 0, 1)];
    let mut effects = Vec::new();
    for process in 0..shape.processes {
        let mut now_us = random.random_range(2..20);
        for _ in 0..shape.operations {
            let kind = match random.random_range(0..100) {
                roll if roll < shape.deletes => OperationKind::Delete,
                roll if roll % 2 == 0 => OperationKind::Read,
                _ if shape.values_differ => write(&operations.len().to_string()),
                _ => write(["1", "2"].choose(random).unwrap()),
            };
            let asked_us = now_us;
            let soon_us = asked_us + random.random_range(0..20);
            let answered_us = asked_us + random.random_range(20..40);
            let (outcome, effect_us) = if random.random_range(0..100) < shape.unknown {
                let late_us = asked_us + random.random_range(0..500);
                let effect_us = [None, Some(soon_us), Some(late_us)][random.random_range(0..3)];
                (Outcome::Unknown { reason: String::new() }, effect_us)
            } else {
                (acknowledged(Reply::Absent, answered_us), Some(soon_us))
            };
            effects.extend(effect_us.map(|effect_us| (effect_us, operations.len())));
            operations.push(Operation { process, ..operation(kind, asked_us, outcome) });
            now_us = answered_us + random.random_range(1..20);
        }
    }
    effects.sort_unstable();
    let mut state = Some("0".to_owned());
    for (_, number) in effects {
        let operation = &mut operations[number];
        let said = match (&operation.kind, &state) {
            (_, None) => Reply::Absent,
            (OperationKind::Read, Some(value)) => Reply::Value(value.clone()),
            (OperationKind::Delete, Some(_)) => {
                state = None;
                Reply::Done
            }
            (OperationKind::Write { value } | OperationKind::Create { value }, Some(_)) => {
                state = Some(value.clone());
                Reply::Done
            }
        };
        if let Outcome::Acknowledged { reply, .. } = &mut operation.outcome {
            *reply = said;
        }
    }
    operations
}

/// The acknowledged reads.
fn reads(operations: &[Operation]) -> Vec<usize> {
    let is_read = |operation: &Operation| {
        operation.kind == OperationKind::Read && matches!(operation.outcome, Outcome::Acknowledged { .. })
    };
    (0..operations.len()).filter(|number| is_read(&operations[*number])).collect()
}

fn answer(operation: &mut Operation, other: Reply) {
    if let Outcome::Acknowledged { reply, .. } = &mut operation.outcome {
        *reply = other;
    }
}

/// Gives one of the reads another answer: any value that was written at some time, or that there is none.
fn mutate(operations: &mut [Operation], random: &mut StdRng) {
    let values: Vec<_> = operations
        .iter()
        .filter_map(|operation| match &operation.kind {
            OperationKind::Create { value } | OperationKind::Write { value } => Some(value.clone()),
            OperationKind::Read | OperationKind::Delete => None,
        })
        .collect();
    let Some(number) = reads(operations).choose(random).copied() else { return };
    let other = if random.random_ratio(1, 8) {
        Reply::Absent
    } else {
        Reply::Value(values.choose(random).unwrap().clone())
    };
    answer(&mut operations[number], other);
}

fn answered_us(operation: &Operation) -> Option<i64> {
    match operation.outcome {
        Outcome::Acknowledged { answered_us, .. } => Some(answered_us),
        Outcome::Refused { .. } | Outcome::Unknown { .. } => None,
    }
}

/// Whether any order of the operations that are left explains them: tries every one of them as the next.
fn explained(left: &[&Operation], state: Option<&str>) -> bool {
    if left.iter().all(|operation| answered_us(operation).is_none()) {
        return true;
    }
    (0..left.len()).any(|next| {
        let operation = left[next];
        let rest = [&left[..next], &left[next + 1..]].concat();
        let is_first = rest.iter().all(|other| answered_us(other).is_none_or(|us| us >= operation.asked_us));
        // What the register says now, and what it is afterwards.
        let (said, after) = match (&operation.kind, state) {
            (OperationKind::Create { value }, None) => (Reply::Done, Some(value.as_str())),
            (OperationKind::Create { .. }, Some(_)) => return false,
            (OperationKind::Write { .. } | OperationKind::Read | OperationKind::Delete, None) => {
                (Reply::Absent, None)
            }
            (OperationKind::Write { value }, Some(_)) => (Reply::Done, Some(value.as_str())),
            (OperationKind::Read, Some(value)) => (Reply::Value(value.to_owned()), Some(value)),
            (OperationKind::Delete, Some(_)) => (Reply::Done, None),
        };
        let is_right = match &operation.outcome {
            Outcome::Acknowledged { reply, .. } => *reply == said,
            Outcome::Unknown { .. } => true,
            Outcome::Refused { .. } => false,
        };
        is_first && is_right && explained(&rest, after)
    })
}

fn is_explained(operations: &[Operation]) -> bool {
    explained(&operations.iter().collect::<Vec<_>>(), None)
}

fn verdict(operations: &[Operation]) -> Vec<Violation> {
    let mut history = History::default();
    operations.iter().for_each(|operation| history.record(Event::Operation(operation.clone())));
    check(&history, &observation(T0_S))
}

/// Which answer has no place.
fn refuted(operations: &[Operation]) -> Operation {
    let found = verdict(operations);
    let [Violation::NotLinearizable { operation, .. }] = &found[..] else { panic!("{found:?}") };
    operations.iter().find(|other| shown(other) == *operation).unwrap().clone()
}

#[test]
fn tiny_histories_get_the_verdict_of_a_search_without_shortcuts() {
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..6_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let shape = Shape {
            processes: random.random_range(1..=3),
            operations: 2,
            unknown: [0, 25, 50][random.random_range(0..3)],
            deletes: [0, 0, 20][random.random_range(0..3)],
            values_differ: random.random(),
        };
        let mut operations = correct(&shape, &mut random);
        for _ in 0..random.random_range(0..3) {
            mutate(&mut operations, &mut random);
        }
        let expected = is_explained(&operations);
        let found = verdict(&operations);
        match &found[..] {
            [] if expected => accepted += 1,
            [Violation::NotLinearizable { .. }] if !expected => refused += 1,
            _ => panic!("seed {seed}: {found:?}, expected {expected}: {operations:#?}"),
        }
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn a_refutation_ends_with_the_first_answer_that_has_no_place() {
    let mut count = 0;
    for seed in 0..1_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let shape = Shape { processes: 3, operations: 2, unknown: 20, deletes: 5, values_differ: true };
        let mut operations = correct(&shape, &mut random);
        mutate(&mut operations, &mut random);
        if verdict(&operations).is_empty() {
            continue;
        }
        count += 1;
        let end_us = answered_us(&refuted(&operations)).unwrap();
        // As it stood at an instant: what was answered later had no answer yet, and what turned out to change nothing
        // cannot have changed anything by then.
        let until = |last_us: i64| -> Vec<_> {
            let asked = operations.iter().filter(|operation| operation.asked_us <= end_us);
            let known = asked.filter_map(|operation| match &operation.outcome {
                Outcome::Acknowledged { answered_us, reply } if *answered_us > last_us => {
                    let outcome = Outcome::Unknown { reason: String::new() };
                    (*reply == Reply::Done).then(|| Operation { outcome, ..operation.clone() })
                }
                Outcome::Acknowledged { .. } | Outcome::Refused { .. } | Outcome::Unknown { .. } => {
                    Some(operation.clone())
                }
            });
            known.collect()
        };
        assert!(!is_explained(&until(end_us)), "seed {seed}");
        assert!(is_explained(&until(end_us - 1)), "seed {seed}");
    }
    assert!(count > 300, "{count} refuted");
}

#[test]
fn long_histories_of_a_correct_register_are_accepted() {
    for seed in 0..3 {
        let operations = correct(&LONG, &mut StdRng::seed_from_u64(seed));
        assert_eq!(verdict(&operations), [], "seed {seed}");
    }
    // Half of it without an answer, and values that do not tell which write was seen.
    for (unknown, values_differ) in [(50, true), (2, false)] {
        let shape = Shape { processes: 5, operations: 200, unknown, values_differ, ..LONG };
        let operations = correct(&shape, &mut StdRng::seed_from_u64(1));
        assert_eq!(verdict(&operations), [], "{unknown} of 100 unknown");
    }
}

#[test]
fn a_foreign_value_in_a_long_history_is_refused() {
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut operations = correct(&LONG, &mut random);
        let number = *reads(&operations).choose(&mut random).unwrap();
        answer(&mut operations[number], Reply::Value("foreign".to_owned()));
        assert_eq!(refuted(&operations), operations[number], "seed {seed}");
    }
}

#[test]
fn a_stale_read_in_a_long_history_is_refused() {
    for seed in 0..3 {
        let mut operations = correct(&LONG, &mut StdRng::seed_from_u64(seed));
        let last = reads(&operations).into_iter().max_by_key(|number| operations[*number].asked_us).unwrap();
        // Overwritten, and the write acknowledged, long before.
        answer(&mut operations[last], Reply::Value("0".to_owned()));
        assert_eq!(refuted(&operations), operations[last], "seed {seed}");
    }
}
