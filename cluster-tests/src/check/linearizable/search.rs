//! Whether operations on one register can be put in an order that respects who was answered before whom was asked, and
//! in which each gets the answer it got. Knows nothing of the history.
//!
//! Method: the search of Wing and Gong ("Testing and verifying concurrent objects") in the breadth-first form with
//! memory that Lowe describes ("Testing for linearizability"). It walks along the calls and answers and keeps every
//! configuration the register may be in: its state, and which of the operations under way have taken effect. An operation
//! takes effect at its answer at the latest, and only there are others tried before it. Where nothing is under way
//! a configuration is a state and no more, so what came before costs nothing further on.

use std::collections::{BTreeSet, HashSet};

/// What a register may hold; values are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum State {
    Absent,
    Present(u32),
}

/// What an operation does, if it takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// From absent to a value.
    Create(u32),
    /// From a value to this one.
    Write(u32),
    /// From a value to absent.
    Delete,
    /// Changes nothing, and can be only in this state.
    See(State),
}

impl Step {
    /// The state behind it; none where it cannot be.
    fn from(self, state: State) -> Option<State> {
        match (self, state) {
            (Self::Create(value), State::Absent) | (Self::Write(value), State::Present(_)) => {
                Some(State::Present(value))
            }
            (Self::Delete, State::Present(_)) => Some(State::Absent),
            (Self::See(seen), state) => (seen == state).then_some(state),
            (Self::Create(_), State::Present(_)) | (Self::Write(_) | Self::Delete, State::Absent) => None,
        }
    }
}

/// One operation. Times are microseconds on one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) step: Step,
    pub(super) asked_us: i64,
    /// None if it may take effect at any time after it was asked, or never.
    pub(super) answered_us: Option<i64>,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none, not even of what had been asked when this entry was answered.
    Refuted {
        /// The number of the entry.
        entry: usize,
        /// How many had been asked by then, itself included.
        asked: usize,
        /// The states the register may have been in before it.
        states: Vec<State>,
        /// The entries that were under way beside it, and may have taken effect or not.
        beside: Vec<usize>,
    },
    /// The bound was reached first.
    Undecided,
}

/// Operations under way at one time, at most: as many as a set of them has bits.
const UNDER_WAY_MAX: u32 = u128::BITS;

/// The state of the register, and which of the operations under way have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Configuration {
    state: State,
    done: u128,
}

/// What happens at an instant. Of one instant questions come first, so that what meets there counts as concurrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Asked,
    Answered,
    /// From here on nothing can show whether it took effect.
    Forgotten,
}

/// Looks for the order; gives up after `configurations_max` configurations.
pub(super) fn search(entries: &[Entry], configurations_max: usize) -> Verdict {
    let mut frontier = Frontier {
        entries,
        under_way: [None; UNDER_WAY_MAX as usize],
        configurations: HashSet::from([Configuration { state: State::Absent, done: 0 }]),
        left: configurations_max,
    };
    let mut asked = 0;
    for (_, moment, entry) in moments(entries) {
        match moment {
            Moment::Asked => {
                asked += 1;
                if frontier.ask(entry).is_none() {
                    return Verdict::Undecided;
                }
            }
            Moment::Answered => match frontier.answer(entry) {
                Some(true) => {}
                Some(false) => return frontier.refuted(entry, asked),
                None => return Verdict::Undecided,
            },
            Moment::Forgotten => frontier.forget(entry),
        }
    }
    Verdict::Linearizable
}

/// Everything in order of time. What has no answer and whose effect no later answer can show is left out.
fn moments(entries: &[Entry]) -> Vec<(i64, Moment, usize)> {
    let mut moments = Vec::with_capacity(entries.len() * 2);
    for (number, entry) in entries.iter().enumerate() {
        if let Some(answered_us) = entry.answered_us {
            moments.push((entry.asked_us, Moment::Asked, number));
            moments.push((answered_us, Moment::Answered, number));
        } else if let Some(shown_us) = shown_last_us(entries, entry) {
            moments.push((entry.asked_us, Moment::Asked, number));
            moments.push((shown_us, Moment::Forgotten, number));
        }
    }
    moments.sort_unstable();
    moments
}

/// When the last answer comes that an effect of `unknown` may be needed for; none if there is no such answer. A value that
/// nobody sees afterwards may as well not have been written: whatever can follow it can follow the value before.
fn shown_last_us(entries: &[Entry], unknown: &Entry) -> Option<i64> {
    let needs = |step: Step| match unknown.step {
        Step::Create(_) => true,
        Step::Write(value) => step == Step::See(State::Present(value)),
        Step::Delete => matches!(step, Step::See(State::Absent) | Step::Create(_)),
        Step::See(_) => false,
    };
    let needing = entries.iter().filter(|entry| needs(entry.step));
    needing.filter_map(|entry| entry.answered_us).max().filter(|shown_us| *shown_us >= unknown.asked_us)
}

/// Where the search stands.
struct Frontier<'a> {
    entries: &'a [Entry],
    /// The entry that each bit of a configuration stands for.
    under_way: [Option<usize>; UNDER_WAY_MAX as usize],
    /// Every one that is possible.
    configurations: HashSet<Configuration>,
    /// How many more may be looked at.
    left: usize,
}

impl Frontier<'_> {
    /// None if too many are under way.
    fn ask(&mut self, entry: usize) -> Option<()> {
        let place = self.under_way.iter().position(Option::is_none)?;
        self.under_way[place] = Some(entry);
        if matches!(self.entries[entry].step, Step::See(_)) {
            self.configurations = self.configurations.iter().map(|found| self.settled(*found)).collect();
        }
        Some(())
    }

    /// Keeps the configurations in which `entry` has taken effect; `Some(false)` and no change if there is none, none if the
    /// bound is reached.
    fn answer(&mut self, entry: usize) -> Option<bool> {
        let place = self.under_way.iter().position(|under_way| *under_way == Some(entry));
        let bit = 1 << place.expect("what is answered was asked before, and is not forgotten");
        let mut kept = HashSet::new();
        let mut seen = HashSet::new();
        let mut open: Vec<_> = self.configurations.iter().copied().collect();
        while let Some(found) = open.pop() {
            self.left = self.left.checked_sub(1)?;
            if found.done & bit != 0 {
                kept.insert(found);
            } else if seen.insert(found) {
                open.extend(self.next(found));
            }
        }
        if kept.is_empty() {
            return Some(false);
        }
        self.configurations = kept;
        // It is done everywhere, and with it whatever had to come before it.
        let everywhere = self.configurations.iter().fold(u128::MAX, |all, found| all & found.done);
        self.free(|place, under_way| {
            under_way == entry
                || (everywhere >> place & 1 == 1 && self.entries[under_way].answered_us.is_none())
        });
        Some(true)
    }

    fn forget(&mut self, entry: usize) {
        self.free(|_, under_way| under_way == entry);
    }

    /// Gives up the places of what need not be told apart any longer.
    fn free(&mut self, over: impl Fn(usize, usize) -> bool) {
        let mut kept_bits = u128::MAX;
        let mut places = self.under_way;
        for (place, under_way) in places.iter_mut().enumerate() {
            if under_way.take_if(|entry| over(place, *entry)).is_some() {
                kept_bits &= !(1 << place);
            }
        }
        self.under_way = places;
        let kept =
            self.configurations.iter().map(|found| Configuration { done: found.done & kept_bits, ..*found });
        self.configurations = kept.collect();
    }

    /// Those that one more change leads to.
    fn next(&self, found: Configuration) -> impl Iterator<Item = Configuration> {
        let mut tried = Vec::new();
        self.waiting(found).filter_map(move |(bit, entry)| {
            let Entry { step, answered_us, .. } = self.entries[entry];
            let state = step.from(found.state)?;
            // Of those that do the same and need not be done at all, one is as good as another.
            if answered_us.is_none() {
                if tried.contains(&step) {
                    return None;
                }
                tried.push(step);
            }
            Some(self.settled(Configuration { state, done: found.done | bit }))
        })
    }

    /// What only looks takes place as soon as it can: it stands in nobody's way.
    fn settled(&self, found: Configuration) -> Configuration {
        let sees = |(_, entry): &(u128, usize)| self.entries[*entry].step == Step::See(found.state);
        let done = self.waiting(found).filter(sees).fold(found.done, |done, (bit, _)| done | bit);
        Configuration { done, ..found }
    }

    /// What is under way and has not taken effect.
    fn waiting(&self, found: Configuration) -> impl Iterator<Item = (u128, usize)> {
        self.under_way.iter().enumerate().filter_map(move |(place, under_way)| {
            let bit = 1 << place;
            let entry = under_way.filter(|_| found.done & bit == 0)?;
            Some((bit, entry))
        })
    }

    fn refuted(&self, entry: usize, asked: usize) -> Verdict {
        let states: BTreeSet<_> = self.configurations.iter().map(|found| found.state).collect();
        let beside = self.under_way.iter().flatten().copied().filter(|other| *other != entry);
        Verdict::Refuted { entry, asked, states: states.into_iter().collect(), beside: beside.collect() }
    }
}
