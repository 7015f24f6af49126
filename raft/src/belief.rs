//! Whether this node's wall clock can be believed.
//!
//! Firings are due by the wall clock, and so a node whose clock is wrong would send early what it holds, and count as missed
//! what is due in an hour. No single clock is the right one, but most of them agree: a node believes its own as long as the
//! leader's agrees with it, a leader believes its own as long as a majority of the voters do not agree on another time. And
//! since a clock that was right a moment ago and has jumped is wrong until somebody else says otherwise, what was agreed on is
//! carried on by the monotonic clock.
//!
//! Clocks differ by some milliseconds, always; [`CLOCK_ERROR_MAX`] says from where on one counts as wrong.

use domain::id::NodeId;
use domain::limits::{CLOCK_ERROR_MAX, NODE_TIMEOUT};
use domain::time::Timestamp;
use proto::cluster as pb;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Both clocks of this node at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The wall clock.
    pub(crate) wall: Timestamp,
    /// The monotonic one.
    pub(crate) elapsed: Duration,
}

impl Reading {
    /// What the wall clock would show at `elapsed` if it had gone on without a jump.
    fn at(self, elapsed: Duration) -> Timestamp {
        if elapsed >= self.elapsed {
            self.wall.plus(elapsed - self.elapsed)
        } else {
            self.wall.minus(self.elapsed - elapsed)
        }
    }
}

/// What a node says of its wall clock to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// What it shows.
    pub wall: Timestamp,
    /// Whether the node believes it.
    pub is_believed: bool,
    /// Whether the node has found that it differs from the clock of the node this is said to.
    pub differs: bool,
    /// Whether the node knows that it is wrong, or that it has jumped. One that knows nothing yet is neither astray nor
    /// believed.
    pub is_astray: bool,
}

impl From<pb::Clock> for ClockReading {
    fn from(clock: pb::Clock) -> Self {
        let pb::Clock { wall_ms, is_believed, differs, is_astray } = clock;
        Self { wall: Timestamp::from_millis(wall_ms), is_believed, differs, is_astray }
    }
}

impl From<ClockReading> for pb::Clock {
    fn from(clock: ClockReading) -> Self {
        let ClockReading { wall, is_believed, differs, is_astray } = clock;
        Self { wall_ms: wall.as_millis(), is_believed, differs, is_astray }
    }
}

/// What this node thinks of its wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Belief {
    /// Nobody has said anything about it yet.
    #[default]
    Unknown,
    /// Others agreed with it then.
    Agreed(Reading),
    /// Others show another time.
    Astray,
}

impl Belief {
    /// Whether the clock can be believed as it is `now`.
    pub(crate) fn holds(&self, now: Reading) -> bool {
        match self {
            Self::Unknown | Self::Astray => false,
            Self::Agreed(then) => distance(then.at(now.elapsed), now.wall) <= CLOCK_ERROR_MAX,
        }
    }

    /// Whether the clock is known to be wrong, or has jumped.
    pub(crate) fn is_astray(&self, now: Reading) -> bool {
        !matches!(self, Self::Unknown) && !self.holds(now)
    }
}

/// What comparing two clocks has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Agree,
    Differ,
    /// The answer took too long to tell.
    Unclear,
}

/// Compares this node's clock with another's that was read at some moment between `sent` and `received`.
pub(crate) fn compare(sent: Reading, received: Reading, theirs: Timestamp) -> Comparison {
    let flight = received.elapsed.saturating_sub(sent.elapsed);
    let middle = received.wall.minus(flight / 2);
    let difference = distance(middle, theirs);
    if difference > CLOCK_ERROR_MAX + flight / 2 {
        Comparison::Differ
    } else if difference <= CLOCK_ERROR_MAX {
        Comparison::Agree
    } else {
        Comparison::Unclear
    }
}

/// What another node last said of its clock to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Milliseconds by which its clock was ahead of the leader's when that was heard, too low by the time it was on its way.
    pub(crate) ahead_ms: i64,
    /// What it said.
    pub(crate) clock: ClockReading,
}

impl Word {
    /// What a clock that was heard of at `heard`, by the monotonic clock, says of the leader's as it is `now`.
    pub(crate) fn of(now: Reading, heard: Duration, clock: ClockReading) -> Self {
        let theirs = Reading { wall: clock.wall, elapsed: heard }.at(now.elapsed);
        let millis = |at: Timestamp| i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        Self { ahead_ms: millis(theirs).saturating_sub(millis(now.wall)), clock }
    }

    /// Whether its clock shows about what the leader's does. A word that was long on its way seems to be behind.
    pub(crate) fn agrees(&self) -> bool {
        !self.clock.differs && Duration::from_millis(self.ahead_ms.unsigned_abs()) <= CLOCK_ERROR_MAX
    }
}

/// What the voters' words make of the clock of `leader`.
pub(crate) fn judge(leader: NodeId, voters: &BTreeSet<NodeId>, words: &BTreeMap<NodeId, Word>) -> Comparison {
    let is_majority = |count: usize| count * 2 > voters.len();
    let heard = of_others(leader, voters, words);
    let agree = 1 + heard.clone().filter(|word| word.agrees()).count();
    if is_majority(agree) {
        return Comparison::Agree;
    }
    let differing: Vec<i64> = heard.filter(|word| word.clock.differs).map(|word| word.ahead_ms).collect();
    let (Some(least), Some(most)) = (differing.iter().min(), differing.iter().max()) else {
        return Comparison::Unclear;
    };
    // Words are on their way for a while, so they may seem to differ by more than the clocks do.
    let is_one_time = Duration::from_millis(most.abs_diff(*least)) <= CLOCK_ERROR_MAX * 2;
    if is_majority(differing.len()) && is_one_time { Comparison::Differ } else { Comparison::Unclear }
}

/// Whether a voter knows the time, since others agreed with it before `leader` was started, and it is not the leader's.
pub(crate) fn is_known_better(
    leader: NodeId,
    voters: &BTreeSet<NodeId>,
    words: &BTreeMap<NodeId, Word>,
) -> bool {
    let mut believed = of_others(leader, voters, words).filter(|word| word.clock.is_believed);
    believed.clone().any(|word| word.clock.differs) && !believed.any(Word::agrees)
}

/// Whether nobody is left who might know better than a `leader` that has been for so long: somebody was heard of, and each voter
/// has compared clocks with it, or has been silent for as long as one that is alive may be. One that speaks and has not compared
/// may never come to it, and has twice as long.
pub(crate) fn is_heard_out(
    leader: NodeId,
    voters: &BTreeSet<NodeId>,
    words: &BTreeMap<NodeId, Word>,
    led: Duration,
) -> bool {
    let mut others = voters.iter().filter(|voter| **voter != leader).map(|voter| words.get(voter));
    others.clone().any(|word| word.is_some())
        && others.all(|word| match word {
            Some(word) => word.clock.differs || word.agrees() || led >= NODE_TIMEOUT * 2,
            None => led >= NODE_TIMEOUT,
        })
}

/// Whether a majority of the voters, with `leader`, knows that its clocks are wrong, and nobody who was heard of says
/// otherwise. There is no right time to wait for then. A node that was just started knows nothing yet, and is waited for.
pub(crate) fn is_everybody_astray(
    leader: NodeId,
    voters: &BTreeSet<NodeId>,
    words: &BTreeMap<NodeId, Word>,
) -> bool {
    let mut others = of_others(leader, voters, words);
    (1 + others.clone().count()) * 2 > voters.len() && others.all(|word| word.clock.is_astray)
}

/// What the voters beside `leader` said.
fn of_others<'a>(
    leader: NodeId,
    voters: &'a BTreeSet<NodeId>,
    words: &'a BTreeMap<NodeId, Word>,
) -> impl Iterator<Item = &'a Word> + Clone {
    let others = words.iter().filter(move |(node, _)| **node != leader && voters.contains(node));
    others.map(|(_, word)| word)
}

fn distance(one: Timestamp, other: Timestamp) -> Duration {
    Duration::from_millis(one.as_millis().abs_diff(other.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn reading(wall_ms: i64, elapsed_ms: u64) -> Reading {
        let wall = Timestamp::from_millis(NOON.as_millis().saturating_add_signed(wall_ms));
        Reading { wall, elapsed: Duration::from_millis(elapsed_ms) }
    }

    #[test]
    fn what_was_agreed_on_holds_until_the_clock_jumps() {
        let belief = Belief::Agreed(reading(0, 5_000));
        assert!(belief.holds(reading(0, 5_000)));
        assert!(belief.holds(reading(60_000, 65_000)));
        assert!(belief.holds(reading(61_000, 65_000)) && belief.holds(reading(59_000, 65_000)));
        for (wall_ms, elapsed_ms) in [(61_001, 65_000), (58_999, 65_000), (3_600_000, 5_001), (-9_000, 5_001)]
        {
            assert!(!belief.holds(reading(wall_ms, elapsed_ms)));
            assert!(belief.is_astray(reading(wall_ms, elapsed_ms)));
        }
    }

    #[test]
    fn who_was_told_nothing_neither_believes_nor_is_astray() {
        let now = reading(0, 0);
        assert!(!Belief::Unknown.holds(now) && !Belief::Unknown.is_astray(now));
        assert!(!Belief::Astray.holds(now) && Belief::Astray.is_astray(now));
    }

    #[test]
    fn an_answer_that_took_long_proves_less() {
        let check = |flight_ms: u64, theirs_ms: i64, expected| {
            let received = reading(i64::try_from(flight_ms).unwrap(), flight_ms);
            assert_eq!(compare(reading(0, 0), received, reading(theirs_ms, 0).wall), expected, "{theirs_ms}");
        };
        check(2, 900, Comparison::Agree);
        check(2, -1_000, Comparison::Unclear);
        check(2, 1_003, Comparison::Differ);
        check(2, -3_600_000, Comparison::Differ);
        // It may have been read when the answer was about to arrive.
        check(4_000, 4_900, Comparison::Unclear);
        check(4_000, -900, Comparison::Unclear);
        check(4_000, 5_001, Comparison::Differ);
    }

    /// The clock of node 1, which leads three or five voters, by the words of others: milliseconds ahead, and whether that
    /// was measured.
    fn check(voters: u64, words: &[(u64, i64, bool)], expected: Comparison) {
        let voters = (1..=voters).map(NodeId).collect();
        let words = words.iter().map(|(node, ahead_ms, differs)| {
            let clock = ClockReading { wall: NOON, is_believed: false, differs: *differs, is_astray: false };
            (NodeId(*node), Word { ahead_ms: *ahead_ms, clock })
        });
        let words: BTreeMap<_, _> = words.collect();
        assert_eq!(judge(NodeId(1), &voters, &words), expected, "{words:?}");
    }

    #[test]
    fn what_was_heard_before_a_jump_does_not_agree_with_where_it_led() {
        let wall = reading(0, 0).wall;
        let clock = ClockReading { wall, is_believed: true, differs: false, is_astray: false };
        let heard = Duration::from_secs(10);
        assert!(Word::of(reading(0, 10_000), heard, clock).agrees());
        assert!(Word::of(reading(2_000, 12_000), heard, clock).agrees());
        for jumped_ms in [640_000, -640_000] {
            let word = Word::of(reading(100 + jumped_ms, 10_100), heard, clock);
            assert_eq!((word.ahead_ms, word.agrees()), (-jumped_ms, false));
        }
    }

    #[test]
    fn one_other_that_agrees_is_enough_of_three() {
        check(3, &[(2, -40, false)], Comparison::Agree);
        check(3, &[(2, -40, false), (3, 3_600_000, true)], Comparison::Agree);
        check(5, &[(2, -40, false)], Comparison::Unclear);
        check(5, &[(2, -40, false), (3, 12, false)], Comparison::Agree);
        check(3, &[], Comparison::Unclear);
    }

    #[test]
    fn a_majority_that_shows_one_other_time_is_right() {
        check(3, &[(2, -3_600_000, true), (3, -3_600_400, true)], Comparison::Differ);
        check(3, &[(2, -3_600_000, true), (3, 3_600_000, true)], Comparison::Unclear);
        check(3, &[(2, -3_600_000, true)], Comparison::Unclear);
    }

    #[test]
    fn everybody_is_astray_when_a_majority_says_so_and_nobody_else() {
        let clock =
            |is_believed, is_astray| ClockReading { wall: NOON, is_believed, differs: true, is_astray };
        let (right, wrong, new) = (clock(true, false), clock(false, true), clock(false, false));
        let check = |voters: u64, clocks: &[(u64, ClockReading)], expected| {
            let voters = (1..=voters).map(NodeId).collect();
            let words =
                clocks.iter().map(|(node, clock)| (NodeId(*node), Word { ahead_ms: 0, clock: *clock }));
            assert_eq!(is_everybody_astray(NodeId(1), &voters, &words.collect()), expected);
        };
        check(3, &[(2, wrong)], true);
        check(3, &[(2, wrong), (3, wrong)], true);
        check(3, &[], false);
        check(3, &[(2, wrong), (3, right)], false);
        check(3, &[(2, new)], false);
        check(5, &[(2, wrong)], false);
        check(3, &[(4, wrong), (5, wrong)], false);
    }

    #[test]
    fn a_word_that_was_long_on_its_way_proves_nothing() {
        check(3, &[(2, -9_000, false), (3, -9_000, false)], Comparison::Unclear);
    }

    #[test]
    fn those_without_a_vote_are_not_asked() {
        check(3, &[(4, 0, false), (5, 0, false)], Comparison::Unclear);
        check(1, &[], Comparison::Agree);
    }
}
