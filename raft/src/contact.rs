//! Who has heard of whom, and when: the leader of the nodes, a node of the leader. And whose clock can be believed.

use crate::belief::{
    Belief, ClockReading, Comparison, Reading, Word, compare, is_everybody_astray, is_heard_out,
    is_known_better, judge,
};
use crate::way::Sight;
use domain::id::NodeId;
use domain::limits;
use domain::time::{Clock, Timestamp};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Consensus as this node sees it now.
pub(crate) type Look = Arc<dyn Fn() -> Sight + Send + Sync>;

/// Signs of life between this node and the leader. Clones share what they know.
#[derive(Clone)]
pub struct Contact {
    shared: Arc<Shared>,
}

struct Shared {
    me: NodeId,
    clock: Arc<dyn Clock>,
    look: Look,
    /// How old a quorum's answer may be for a leader to be sure of its office.
    lease: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// As of when this node has last caught up with a leader, by the clock's elapsed time: when a sign of life was sent that one
    /// has answered, or when this node was sure of its own office.
    leader_heard: Option<Duration>,
    /// As of when it has not caught up yet, and how far it has to apply the log for that.
    behind: VecDeque<(Duration, u64)>,
    /// Since when this node leads in `term`, as far as it has noticed.
    leads_since: Option<Duration>,
    /// The term of the office that what follows was learned in.
    term: u64,
    /// When each node was heard of while this one leads, and how far it had applied the log then.
    heard: BTreeMap<NodeId, (Duration, u64)>,
    /// How far the leader said that each member is.
    told: BTreeMap<NodeId, u64>,
    /// What this node thinks of its wall clock.
    belief: Belief,
    /// Whether it is the only one that has a vote, so that nobody is there to compare clocks with.
    alone: bool,
    /// The leader from whose clock this node's was last found to differ.
    differs_from: Option<NodeId>,
    /// What each node said of its clock while this one leads, and when, by the monotonic clock: what was heard before this
    /// node's wall clock jumped says nothing for where it jumped to.
    words: BTreeMap<NodeId, (Duration, ClockReading)>,
}

/// What becomes of a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// It is not for this node to hear.
    NotLeader,
    /// The node counts as alive.
    Counted,
    /// The node's clock is wrong. It is as good as silent, so that what it holds goes to others.
    Discounted,
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contact").field("since_leader", &self.since_leader()).finish_non_exhaustive()
    }
}

impl Contact {
    pub(crate) fn new(me: NodeId, clock: Arc<dyn Clock>, look: Look, lease: Duration) -> Self {
        Self { shared: Arc::new(Shared { me, clock, look, lease, known: Mutex::default() }) }
    }

    /// How long ago this node knew that it is in touch with a leader which has a quorum; `None` when it
    /// never was.
    #[must_use]
    pub fn since_leader(&self) -> Option<Duration> {
        let heard = self.shared.known.lock().leader_heard?;
        Some(self.shared.clock.elapsed().saturating_sub(heard))
    }

    /// Whether [`Contact::since_leader`] is at most `within`, and this node's wall clock can be believed.
    #[must_use]
    pub fn is_in_touch(&self, within: Duration) -> bool {
        self.since_leader().is_some_and(|since| since <= within) && self.believes(self.shared.clock.now())
    }

    /// Whether the wall clock of this node, which showed `now` just now, can be believed: the others agree with it, and it
    /// has not jumped since they did. What is due by a clock that cannot be believed is not due.
    #[must_use]
    pub fn believes(&self, now: Timestamp) -> bool {
        let now = Reading { wall: now, elapsed: self.shared.clock.elapsed() };
        self.shared.known.lock().holds(now)
    }

    /// Whether the wall clock of this node is known to be wrong, or has jumped and nobody has agreed with it since.
    #[must_use]
    pub fn is_astray(&self) -> bool {
        let now = self.shared.read();
        self.shared.known.lock().is_astray(now)
    }

    /// How long ago each other member was heard of, counted from when this node began to lead at the earliest.
    /// Empty while it does not lead.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<NodeId, Duration> {
        let sight = (self.shared.look)();
        let known = self.shared.known.lock();
        let Some(leads_since) = known.leads_since(&sight) else { return BTreeMap::new() };
        let now = self.shared.clock.elapsed();
        sight
            .members
            .into_iter()
            .map(|member| member.id)
            .filter(|node| *node != self.shared.me)
            .map(|node| {
                let heard =
                    known.heard.get(&node).map_or(leads_since, |(heard, _)| (*heard).max(leads_since));
                (node, now.saturating_sub(heard))
            })
            .collect()
    }

    /// How far each other member has applied the log, by its last sign of life while this one leads.
    #[must_use]
    pub fn applied(&self) -> BTreeMap<NodeId, u64> {
        let sight = (self.shared.look)();
        let belongs: BTreeSet<NodeId> = sight.members.iter().map(|member| member.id).collect();
        let known = self.shared.known.lock();
        if known.leads_since(&sight).is_none() {
            return BTreeMap::new();
        }
        let members = known.heard.iter().filter(|(node, _)| belongs.contains(node));
        members.map(|(node, (_, applied))| (*node, *applied)).collect()
    }

    /// The other nodes that have given a sign of life within this time, to this node as the leader.
    pub(crate) fn live(&self, within: Duration) -> BTreeSet<NodeId> {
        let sight = (self.shared.look)();
        let now = self.shared.clock.elapsed();
        let known = self.shared.known.lock();
        let since = known.leads_since(&sight).unwrap_or(now).max(now.saturating_sub(within));
        known.heard.iter().filter(|(_, (heard, _))| *heard >= since).map(|(node, _)| *node).collect()
    }

    /// Whether this node has led for so long that it has heard of everybody who is alive.
    pub(crate) fn has_led_for(&self, a_while: Duration) -> bool {
        let sight = (self.shared.look)();
        let now = self.shared.clock.elapsed();
        let known = self.shared.known.lock();
        known.leads_since(&sight).is_some_and(|since| now.saturating_sub(since) >= a_while)
    }

    /// How far each member is, as the leader said last. Empty while that is not known.
    pub(crate) fn told(&self) -> BTreeMap<NodeId, u64> {
        self.shared.known.lock().told.clone()
    }

    /// Whether this node leads and a quorum has confirmed it lately.
    pub(crate) fn is_sure_leader(&self) -> bool {
        self.shared.since_quorum().is_some_and(|since| since <= self.shared.lease)
    }

    /// Notes that `node` is alive and has applied the log that far, if this node leads and a quorum has confirmed it lately.
    #[must_use]
    pub fn hear(&self, node: NodeId, applied: u64, clock: Option<ClockReading>) -> Hearing {
        if !self.is_sure_leader() {
            return Hearing::NotLeader;
        }
        if !self.hear_clock(node, clock) {
            return Hearing::Discounted;
        }
        let now = self.shared.clock.elapsed();
        self.shared.known.lock().heard.insert(node, (now, applied));
        Hearing::Counted
    }

    /// Who is to lead instead of this node if its clock is wrong: the voter that is furthest of those that believe theirs.
    pub(crate) fn successor(&self) -> Option<NodeId> {
        let sight = (self.shared.look)();
        let known = self.shared.known.lock();
        let is_believed = |node| known.words.get(node).is_some_and(|(_, clock)| clock.is_believed);
        let others = sight.members.iter().filter(|member| member.voter && member.id != self.shared.me);
        let believed = others.filter(|member| is_believed(&member.id));
        believed.max_by_key(|member| member.matched).map(|member| member.id)
    }

    /// Notes how far the leader says that each member is.
    pub(crate) fn learn(&self, members: BTreeMap<NodeId, u64>) {
        self.shared.known.lock().told = members;
    }

    /// What the wall clock of this machine shows.
    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Both clocks of this node.
    pub(crate) fn read(&self) -> Reading {
        self.shared.read()
    }

    /// What this node says of its clock to `to`.
    #[must_use]
    pub fn clock_for(&self, to: NodeId) -> ClockReading {
        let now = self.shared.read();
        let known = self.shared.known.lock();
        ClockReading {
            wall: now.wall,
            is_believed: known.holds(now),
            differs: known.differs_from == Some(to),
            is_astray: known.is_astray(now),
        }
    }

    /// Notes what `node` says of its clock. Whether the node counts as alive.
    fn hear_clock(&self, node: NodeId, clock: Option<ClockReading>) -> bool {
        let Some(clock) = clock else { return true };
        let now = self.shared.read();
        let word = Word::of(now, now.elapsed, clock);
        let mut known = self.shared.known.lock();
        known.words.insert(node, (now.elapsed, clock));
        clock.is_believed || word.agrees()
    }

    /// Compares this node's clock with that of `leader`, who was asked at `sent` and has answered just now. Whether this
    /// node's can be believed.
    pub(crate) fn compare(&self, leader: NodeId, sent: Reading, theirs: Option<ClockReading>) -> bool {
        let received = self.shared.read();
        let comparison = match theirs {
            Some(theirs) => compare(sent, received, theirs.wall),
            None => Comparison::Agree,
        };
        let mut known = self.shared.known.lock();
        match comparison {
            Comparison::Agree => {
                known.differs_from = None;
                known.believe(Belief::Agreed(received), received);
            }
            Comparison::Differ => {
                known.differs_from = Some(leader);
                // Of a leader that does not believe its own clock nothing is learned.
                if theirs.is_some_and(|theirs| theirs.is_believed) {
                    known.believe(Belief::Astray, received);
                }
            }
            Comparison::Unclear => {}
        }
        known.holds(received)
    }

    /// Notes that a leader whose log ended at `log_end` has answered what was sent at `sent`. This node is in touch as of then once
    /// it has applied that far: what it holds by its state may have been given to others by what is committed. However long that
    /// takes; a log that grows faster than it is applied moves on with each answer.
    pub(crate) fn leader_answered(&self, sent: Duration, log_end: u64, applied: u64) {
        self.shared.known.lock().follow(sent, log_end, applied);
    }

    /// Whether this node has not caught up yet with what a leader has answered.
    pub(crate) fn is_behind(&self) -> bool {
        !self.shared.known.lock().behind.is_empty()
    }

    /// Notes how far this node has applied the log.
    pub(crate) fn has_applied(&self, applied: u64) {
        self.shared.known.lock().catch_up(applied);
    }

    /// Follows this node's own office: to be called as often as signs of life are sent.
    pub(crate) fn follow_office(&self) {
        let reading = self.shared.read();
        let now = reading.elapsed;
        let sight = (self.shared.look)();
        let voters: BTreeSet<NodeId> =
            sight.members.iter().filter(|member| member.voter).map(|member| member.id).collect();
        let mut known = self.shared.known.lock();
        known.alone = voters.iter().eq([&self.shared.me]);
        match sight.since_quorum {
            Some(since) => {
                // A node that was frozen can have lost its office and won another one since it last looked, and has heard of
                // nobody in that.
                if known.leads_since.is_none() || known.term != sight.term {
                    known.term = sight.term;
                    known.heard.clear();
                    known.told.clear();
                    known.words.clear();
                    known.leads_since = Some(now);
                }
                // As for a follower: what this node holds by its state may have been given to others, or its job paused, by what
                // is committed and not applied here yet.
                if since <= self.shared.lease && sight.is_caught_up {
                    known.follow(now.saturating_sub(since), sight.committed, sight.applied);
                }
                known.words.retain(|_, (heard, _)| now.saturating_sub(*heard) < limits::NODE_TIMEOUT);
                let heard = known.words.iter();
                let words: BTreeMap<NodeId, Word> =
                    heard.map(|(node, (heard, clock))| (*node, Word::of(reading, *heard, *clock))).collect();
                match judge(self.shared.me, &voters, &words) {
                    Comparison::Agree => known.believe(Belief::Agreed(reading), reading),
                    Comparison::Differ => known.believe(Belief::Astray, reading),
                    Comparison::Unclear
                        if known.belief == Belief::Unknown
                            && is_known_better(self.shared.me, &voters, &words) =>
                    {
                        known.believe(Belief::Astray, reading);
                    }
                    Comparison::Unclear => {
                        // Nobody knows the time. Somebody's has to do, once nobody is left who might know better.
                        let led = known.leads_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
                        let is_first = known.belief == Belief::Unknown
                            && is_heard_out(self.shared.me, &voters, &words, led);
                        let is_anybodys =
                            known.is_astray(reading) && is_everybody_astray(self.shared.me, &voters, &words);
                        if is_first || is_anybodys {
                            known.believe(Belief::Agreed(reading), reading);
                        }
                    }
                }
            }
            None => known.leads_since = None,
        }
    }
}

impl Known {
    /// Since when this node holds the office that it has by `sight`; `None` when it has none, or has not noticed yet.
    fn leads_since(&self, sight: &Sight) -> Option<Duration> {
        self.leads_since.filter(|_| sight.since_quorum.is_some() && self.term == sight.term)
    }

    /// Notes that this node is in touch as of then once it has applied the log up to `end`.
    fn follow(&mut self, as_of: Duration, end: u64, applied: u64) {
        // Of no use are those too old, and those that take longer than this one: the log of a new leader may end before the old one's.
        self.behind.retain(|(before, its_end)| {
            *its_end < end && as_of.saturating_sub(*before) < limits::NODE_TIMEOUT
        });
        self.behind.push_back((as_of, end));
        self.catch_up(applied);
    }

    fn catch_up(&mut self, applied: u64) {
        while let Some((sent, _)) = self.behind.pop_front_if(|(_, log_end)| *log_end <= applied) {
            self.leader_heard = self.leader_heard.max(Some(sent));
        }
    }

    /// Whether this node's wall clock can be believed as it is `now`.
    fn holds(&self, now: Reading) -> bool {
        self.alone || self.belief.holds(now)
    }

    /// Whether it is known to be wrong, or has jumped.
    fn is_astray(&self, now: Reading) -> bool {
        !self.alone && self.belief.is_astray(now)
    }

    /// Changes what this node thinks of its clock, and says so.
    fn believe(&mut self, belief: Belief, now: Reading) {
        let before = self.is_astray(now);
        self.belief = belief;
        match (before, self.is_astray(now)) {
            (false, true) => tracing::error!(
                limit_ms = limits::CLOCK_ERROR_MAX.as_millis(),
                "the clock of this node differs from those of the others; until they agree it claims, sends and writes nothing"
            ),
            (true, false) => tracing::warn!("the clock of this node agrees with those of the others again"),
            (false, false) | (true, true) => {}
        }
    }
}

impl Shared {
    fn read(&self) -> Reading {
        Reading { wall: self.clock.now(), elapsed: self.clock.elapsed() }
    }

    /// How long ago a quorum confirmed this node as the leader; `None` when it does not lead.
    fn since_quorum(&self) -> Option<Duration> {
        (self.look)().since_quorum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Member;

    const NOON: Timestamp = Timestamp::from_secs(1_800_000_000);
    const TICK: Duration = limits::PING_INTERVAL;

    /// Node 1, which has just come to lead three voters, was just started, and shows noon.
    struct Leader {
        contact: Contact,
        elapsed: Arc<Mutex<Duration>>,
    }

    struct SteppedClock(Arc<Mutex<Duration>>);

    impl Clock for SteppedClock {
        fn now(&self) -> Timestamp {
            NOON.plus(self.elapsed())
        }

        fn elapsed(&self) -> Duration {
            *self.0.lock()
        }
    }

    impl Leader {
        fn new() -> Self {
            let elapsed = Arc::new(Mutex::new(Duration::from_secs(5)));
            let members = [1, 2, 3].map(|node| Member {
                id: NodeId(node),
                rpc_addr: String::new(),
                voter: true,
                matched: None,
            });
            let sight = Sight {
                leader: Some(NodeId(1)),
                term: 1,
                since_quorum: Some(Duration::ZERO),
                is_caught_up: true,
                members: members.to_vec(),
                ..Sight::default()
            };
            let clock = Arc::new(SteppedClock(Arc::clone(&elapsed)));
            let look: Look = Arc::new(move || sight.clone());
            let contact = Contact::new(NodeId(1), clock, look, Duration::from_secs(1));
            contact.follow_office();
            Self { contact, elapsed }
        }

        /// A sign of life of `node`, whose clock is that far behind, and which may have compared the two by now.
        fn hear(&self, node: u64, behind: Duration, differs: bool) {
            self.hear_of(node, behind, differs, false);
        }

        fn hear_of(&self, node: u64, behind: Duration, differs: bool, is_believed: bool) {
            let wall = self.contact.now().minus(behind);
            let clock = ClockReading { wall, is_believed, differs, is_astray: false };
            assert_ne!(self.contact.hear(NodeId(node), 0, Some(clock)), Hearing::NotLeader);
        }

        /// Whether the leader believes its clock one tick later.
        fn believes(&self) -> bool {
            *self.elapsed.lock() += TICK;
            self.contact.follow_office();
            self.contact.believes(self.contact.now())
        }
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_new_leader_whose_clock_is_wrong_never_believes_it_before_the_others_have_compared() {
        let leader = Leader::new();
        assert!(!leader.believes());
        // The first signs of life are sent before anything is known.
        leader.hear(2, HOUR, false);
        assert!(!leader.believes());
        leader.hear(2, HOUR, true);
        assert!(!leader.believes());
        leader.hear(3, HOUR, false);
        assert!(!leader.believes());
        leader.hear(2, HOUR, true);
        leader.hear(3, HOUR, true);
        assert!(!leader.believes() && leader.contact.is_astray());
    }

    #[test]
    fn a_node_is_in_touch_as_of_what_it_has_caught_up_with() {
        let Leader { contact, elapsed } = Leader::new();
        let began = *elapsed.lock();
        let since = |contact: &Contact| contact.since_leader().unwrap();
        contact.leader_answered(began + TICK, 100, 100);
        *elapsed.lock() = began + TICK * 4;
        assert_eq!((since(&contact), contact.is_behind()), (TICK * 3, false));
        contact.leader_answered(began + TICK * 2, 200, 150);
        contact.leader_answered(began + TICK * 3, 300, 199);
        assert_eq!((since(&contact), contact.is_behind()), (TICK * 3, true));
        contact.has_applied(299);
        assert_eq!((since(&contact), contact.is_behind()), (TICK * 2, true));
        // Of what the old leader had, the end is gone.
        contact.leader_answered(began + TICK * 4, 250, 240);
        assert_eq!(since(&contact), TICK * 2);
        contact.has_applied(250);
        assert_eq!((since(&contact), contact.is_behind()), (Duration::ZERO, false));
    }

    /// By what it said last, its clock is wrong, even if it has been put right and the node is about to find out.
    #[test]
    fn a_node_counts_as_alive_once_it_says_that_its_clock_is_right() {
        let leader = Leader::new();
        let hear = |node, behind, differs| {
            let wall = leader.contact.now().minus(behind);
            let clock = ClockReading { wall, is_believed: false, differs, is_astray: true };
            leader.contact.hear(NodeId(node), 0, Some(clock))
        };
        assert_eq!(hear(2, HOUR, true), Hearing::Discounted);
        assert_eq!(hear(2, Duration::ZERO, true), Hearing::Discounted);
        assert!(leader.contact.live(HOUR).is_empty());
        assert_eq!(hear(2, Duration::ZERO, false), Hearing::Counted);
        assert_eq!(leader.contact.live(HOUR), BTreeSet::from([NodeId(2)]));
    }

    #[test]
    fn a_new_leader_believes_its_clock_as_soon_as_one_of_two_agrees() {
        let leader = Leader::new();
        assert!(!leader.believes());
        leader.hear(2, Duration::ZERO, false);
        assert!(leader.believes());
    }

    #[test]
    fn where_all_three_show_another_time_the_leaders_has_to_do() {
        let leader = Leader::new();
        leader.hear(2, HOUR, true);
        assert!(!leader.believes());
        leader.hear(3, HOUR * 2, true);
        assert!(leader.believes());
    }

    #[test]
    fn who_is_silent_is_waited_for_as_long_as_it_may_be_alive() {
        let leader = Leader::new();
        let ticks = limits::NODE_TIMEOUT.as_millis() / TICK.as_millis();
        for tick in 1..=ticks {
            leader.hear(2, HOUR, true);
            assert_eq!(leader.believes(), tick == ticks, "{tick}");
        }
    }

    #[test]
    fn who_is_heard_at_last_is_heard_out() {
        let leader = Leader::new();
        let ticks = limits::NODE_TIMEOUT.as_millis() / TICK.as_millis();
        for tick in 1..=ticks * 2 {
            leader.hear(2, HOUR, true);
            if tick >= ticks {
                leader.hear(3, HOUR, false);
            }
            // It may never come to comparing, and is not waited for for ever.
            assert_eq!(leader.believes(), tick == ticks * 2, "{tick}");
        }
    }

    #[test]
    fn a_new_leader_gives_way_to_whom_others_have_agreed_with() {
        let leader = Leader::new();
        leader.hear_of(2, HOUR, false, true);
        assert!(!leader.believes() && !leader.contact.is_astray(), "it may agree");
        leader.hear_of(2, HOUR, true, true);
        assert!(!leader.believes() && leader.contact.is_astray());
        assert_eq!(leader.contact.successor(), Some(NodeId(2)));

        // Nobody knows better than those who agree.
        let leader = Leader::new();
        leader.hear_of(2, HOUR, true, true);
        leader.hear_of(3, Duration::ZERO, false, true);
        assert!(leader.believes());
    }

    #[test]
    fn a_word_of_a_learner_is_no_voters() {
        let leader = Leader::new();
        for _ in 0..limits::NODE_TIMEOUT.as_millis() / TICK.as_millis() {
            leader.hear(4, Duration::ZERO, false);
            assert!(!leader.believes());
        }
    }
}
