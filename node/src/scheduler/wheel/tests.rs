use super::*;
use proptest::prelude::*;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Inserts `dues` into a wheel at `start` and expects `advance(now)` to take `expected`.
fn check(start: u64, dues: &[u64], now: u64, expected: &[u64]) {
    let mut wheel = Wheel::new(at(start));
    for due in dues {
        wheel.insert(at(*due), ());
    }
    let taken: Vec<u64> = wheel.advance(at(now)).into_iter().map(|(due, ())| due.as_millis()).collect();
    assert_eq!(taken, expected);
    assert_eq!(wheel.len(), dues.len() - expected.len());
}

#[test]
fn takes_what_is_due_and_leaves_the_rest() {
    check(0, &[30, 10, 20, 31], 30, &[10, 20, 30]);
    check(0, &[], 99, &[]);
    check(5, &[5], 5, &[5]);
    check(5, &[6], 5, &[]);
}

#[test]
fn takes_what_was_due_before_it_started() {
    check(1_000, &[999, 1, 1_000, 500], 1_000, &[1, 500, 999, 1_000]);
}

#[test]
fn crosses_the_borders_of_levels() {
    check(
        0,
        &[63, 64, 65, 4_095, 4_096, 4_097, 262_143, 262_144],
        262_143,
        &[63, 64, 65, 4_095, 4_096, 4_097, 262_143],
    );
    check(63, &[64], 64, &[64]);
    check(4_095, &[4_096, 4_097], 4_096, &[4_096]);
}

#[test]
fn reaches_to_the_end_of_time() {
    check(0, &[u64::MAX, u64::MAX - 1], u64::MAX, &[u64::MAX - 1, u64::MAX]);
    check(u64::MAX, &[u64::MAX, 0], u64::MAX, &[0, u64::MAX]);
}

#[test]
fn a_jump_over_years_takes_few_steps() {
    let year_ms = 365 * 86_400_000;
    let dues: Vec<u64> = (0..1_000).map(|n| n * year_ms / 10).collect();
    check(0, &dues, 200 * year_ms, &dues);
}

#[test]
fn one_instant_keeps_the_order_of_insertion_across_levels() {
    let mut wheel = Wheel::new(at(0));
    wheel.insert(at(5_000), 'a');
    assert!(wheel.advance(at(4_000)).is_empty());
    wheel.insert(at(5_000), 'b');
    assert!(wheel.advance(at(4_999)).is_empty());
    wheel.insert(at(5_000), 'c');
    let taken: String = wheel.advance(at(5_000)).into_iter().map(|(_, item)| item).collect();
    assert_eq!(taken, "abc");
}

#[test]
fn a_clock_that_steps_back_neither_loses_nor_hastens_anything() {
    let mut wheel = Wheel::new(at(10_000));
    wheel.insert(at(10_500), "before the step");
    assert!(wheel.advance(at(10_400)).is_empty());
    // The clock goes back by nine seconds, and something is planned by the new time.
    wheel.insert(at(2_000), "after the step");
    assert_eq!(wheel.next_due(), Some(at(2_000)));
    assert!(wheel.advance(at(1_400)).is_empty());
    assert_eq!(wheel.advance(at(2_000)), [(at(2_000), "after the step")]);
    assert!(wheel.advance(at(10_499)).is_empty());
    assert_eq!(wheel.advance(at(10_500)), [(at(10_500), "before the step")]);
    assert!(wheel.is_empty());
}

#[test]
fn following_next_due_reaches_every_item_on_time() {
    let mut wheel = Wheel::new(at(7));
    let dues = [8, 70, 4_200, 4_201, 300_000, 90_000_000_000];
    for due in dues {
        wheel.insert(at(due), ());
    }
    let mut taken = Vec::new();
    let mut wakes = 0;
    while let Some(next) = wheel.next_due() {
        for (due, ()) in wheel.advance(next) {
            assert_eq!(due, next, "taken late");
            taken.push(due.as_millis());
        }
        wakes += 1;
    }
    assert_eq!(taken, dues);
    assert!(wakes <= dues.len() * LEVELS, "{wakes} wakes");
}

#[test]
fn retain_and_clear_drop_and_count() {
    let mut wheel = Wheel::new(at(100));
    for due in [1, 2, 101, 102, 99_999, 100_000] {
        wheel.insert(at(due), due);
    }
    wheel.retain(|due, item| {
        assert_eq!(due.as_millis(), *item);
        item % 2 == 0
    });
    assert_eq!(wheel.len(), 3);
    assert_eq!(wheel.advance(at(102)), [(at(2), 2), (at(102), 102)]);
    wheel.insert(at(5), 5);
    wheel.clear();
    assert_eq!((wheel.len(), wheel.next_due()), (0, None));
    assert!(wheel.advance(Timestamp::MAX).is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Advance(u64),
    Retain(u64),
}

/// Instants near each other, so that they often coincide, and now and then very far.
fn instant() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0u64..300,
        4 => 0u64..20_000,
        2 => 0u64..10_000_000_000,
        1 => any::<u64>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => instant().prop_map(Step::Insert),
        3 => instant().prop_map(Step::Advance),
        1 => (2u64..5).prop_map(Step::Retain),
    ]
}

proptest! {
    #[test]
    fn behaves_as_an_ordered_map(start in instant(), steps in prop::collection::vec(step(), 0..200)) {
        let mut wheel = Wheel::new(at(start));
        let mut model: BTreeMap<(u64, usize), ()> = BTreeMap::new();
        for (id, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(due) => {
                    wheel.insert(at(due), id);
                    model.insert((due, id), ());
                }
                Step::Advance(now) => {
                    let taken: Vec<_> =
                        wheel.advance(at(now)).into_iter().map(|(due, id)| (due.as_millis(), id)).collect();
                    let mut expected = Vec::new();
                    while let Some(entry) = model.first_entry().filter(|entry| entry.key().0 <= now) {
                        expected.push(entry.remove_entry().0);
                    }
                    prop_assert_eq!(taken, expected);
                    // Whoever sleeps until then must be woken after `now` and in time.
                    prop_assert!(wheel.next_due().is_none_or(|next| next > at(now)));
                }
                Step::Retain(divisor) => {
                    wheel.retain(|_, id| !(*id as u64).is_multiple_of(divisor));
                    model.retain(|(_, id), ()| !(*id as u64).is_multiple_of(divisor));
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
            let first = model.first_key_value().map(|((due, _), ())| at(*due));
            prop_assert_eq!(wheel.next_due().is_some(), first.is_some());
            prop_assert!(wheel.next_due() <= first);
        }
    }
}
