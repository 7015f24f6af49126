//! Deliveries: one message to one channel, from the outcome that caused it to its arrival.
//!
//! A delivery is stored together with the outcome it tells of, waits in the due index, and is claimed
//! by one process like a firing. It goes when it has arrived or been given up.

use crate::channel::{ChannelConfig, EventKind};
use crate::id::{AccountId, DeliveryId, NodeId};
use crate::limits;
use crate::node::Incarnation;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A message on its way. Holds what it says, so that it tells of the moment it is about, whatever has
/// become of the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Whose job and channel.
    pub account: AccountId,
    /// What the job was called.
    pub job_name: String,
    /// Where the job's request went.
    pub job_url: String,
    /// What the target answered, if it did.
    #[serde(default)]
    pub status_code: Option<u16>,
    /// Milliseconds of the last attempt.
    #[serde(default)]
    pub duration_ms: u64,
    /// What went wrong, if something did.
    #[serde(default)]
    pub error: Option<String>,
    /// When the last attempt started.
    pub executed_at: Timestamp,
    /// When the outcome was recorded.
    pub created_at: Timestamp,
    /// When the current attempt is to start.
    pub due: Timestamp,
    /// The number of the current attempt, from 1.
    pub attempt: u32,
    /// Who is sending it, if somebody is.
    #[serde(default)]
    pub holder: Option<(NodeId, Incarnation)>,
}

impl Delivery {
    /// Gives it to a process. False when another one has it.
    pub fn claim(&mut self, node: NodeId, incarnation: Incarnation) -> bool {
        let free = self.holder.is_none();
        if free {
            self.holder = Some((node, incarnation));
        }
        free
    }

    /// Whether this process holds this attempt.
    #[must_use]
    pub fn is_held_by(&self, node: NodeId, incarnation: Incarnation, attempt: u32) -> bool {
        self.holder == Some((node, incarnation)) && self.attempt == attempt
    }

    /// Takes it from a process that is gone: due again at once. Whether that process had sent it is
    /// unknown; a channel is told twice rather than not at all, under the same id.
    pub fn orphan(&mut self, at: Timestamp) {
        self.holder = None;
        self.due = self.due.max(at);
    }

    /// Notes a failed attempt, to be made again at `due`.
    pub fn failed(&mut self, due: Timestamp) {
        self.holder = None;
        self.attempt += 1;
        self.due = due;
    }

    /// Whether a message of the kind `later` to the same channel about the same job has to wait for this one.
    ///
    /// Not for ever, so that one message that is not taken does not keep back all others; only an incident
    /// that is opened after it was closed would stay open, so `PagerDuty` hears everything in order.
    #[must_use]
    pub fn holds_up(&self, later: EventKind, config: &ChannelConfig) -> bool {
        let in_order = match config {
            ChannelConfig::PagerDuty { .. } => true,
            ChannelConfig::Slack { .. }
            | ChannelConfig::Discord { .. }
            | ChannelConfig::Email { .. }
            | ChannelConfig::Webhook { .. } => self.attempt <= limits::DELIVERY_ATTEMPTS_IN_ORDER,
        };
        in_order && later.answers(self.id.event)
    }

    /// When the current attempt, which failed at `now`, is to be made again; `None` when it is not.
    ///
    /// `asked` is the wait that the receiver asked for. `chance` (any number) moves the wait by up to a fifth
    /// in either direction, so that messages that failed together do not come back together.
    #[must_use]
    pub fn next_attempt(&self, now: Timestamp, asked: Option<Duration>, chance: u32) -> Option<Timestamp> {
        let wait = wait(self.attempt) * (800 + chance % 401) / 1_000;
        let asked = asked.unwrap_or_default().min(limits::DELIVERY_WAIT_ASKED_MAX);
        let due = now.plus(wait.max(asked));
        if !self.is_given_up(due) {
            return Some(due);
        }
        // A receiver that asks for a long wait gets one more attempt at the end all the same.
        let last = self.created_at.plus(limits::DELIVERY_TRIED_FOR);
        (asked > wait && last.since(now) > limits::DELIVERY_WAIT_MAX).then_some(last)
    }

    /// Whether an attempt at `due` would come too late to be worth it.
    #[must_use]
    pub fn is_given_up(&self, due: Timestamp) -> bool {
        due.since(self.created_at) > limits::DELIVERY_TRIED_FOR
    }
}

/// What came of an attempt, proposed by the process that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryOutcome {
    /// Of which delivery.
    pub delivery: DeliveryId,
    /// Of which attempt.
    pub attempt: u32,
    /// Who reports it.
    pub node: NodeId,
    /// Under which claim.
    pub incarnation: Incarnation,
    /// When it was over.
    pub at: Timestamp,
    /// How it went.
    pub result: DeliveryResult,
}

/// How an attempt to deliver went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryResult {
    /// It arrived.
    Delivered,
    /// It did not, and is tried again.
    Failed {
        /// Why.
        error: String,
        /// When it is tried again. Computed by the proposer, which adds some chance to it.
        retry_at: Timestamp,
    },
    /// It did not, and will not.
    GivenUp {
        /// Why.
        error: String,
    },
}

/// The wait before the `n`-th repetition (1, 2, …): 5 s, then four times as much each time, at most an hour.
#[must_use]
pub fn wait(n: u32) -> Duration {
    const FIRST_SEC: u64 = 5;
    let factor = 4u64.checked_pow(n.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(FIRST_SEC.saturating_mul(factor)).min(limits::DELIVERY_WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ChannelId, ExecutionId, JobId};

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn delivery() -> Delivery {
        Delivery {
            id: DeliveryId {
                execution: ExecutionId::scheduled(JobId(1), at(60)),
                event: EventKind::Failed,
                channel: ChannelId(2),
            },
            account: AccountId(3),
            job_name: "payroll".to_owned(),
            job_url: "https://example.com".to_owned(),
            status_code: Some(500),
            duration_ms: 3,
            error: Some("HTTP 500".to_owned()),
            executed_at: at(60),
            created_at: at(61),
            due: at(61),
            attempt: 1,
            holder: None,
        }
    }

    #[test]
    fn one_process_at_a_time_sends_it() {
        let mut delivery = delivery();
        assert!(delivery.claim(NodeId(1), Incarnation(1)));
        assert!(!delivery.claim(NodeId(2), Incarnation(2)));
        assert!(delivery.is_held_by(NodeId(1), Incarnation(1), 1));
        delivery.failed(at(66));
        assert!(!delivery.is_held_by(NodeId(1), Incarnation(1), 2));
        assert!(delivery.claim(NodeId(2), Incarnation(2)));
        assert!(delivery.is_held_by(NodeId(2), Incarnation(2), 2));
    }

    #[test]
    fn an_orphan_is_due_at_once_under_the_same_number() {
        let mut delivery = delivery();
        delivery.claim(NodeId(1), Incarnation(1));
        delivery.orphan(at(70));
        assert_eq!((delivery.due, delivery.attempt, delivery.holder), (at(70), 1, None));
    }

    #[test]
    fn waits_grow_and_cover_a_day() {
        let waits: Vec<_> = (1..=7).map(|n| wait(n).as_secs()).collect();
        assert_eq!(waits, [5, 20, 80, 320, 1_280, 3_600, 3_600]);
        assert_eq!(wait(u32::MAX).as_secs(), 3_600);
        assert!(!delivery().is_given_up(at(61 + 25 * 3_600)));
        assert!(delivery().is_given_up(at(62 + 26 * 3_600)));
    }

    #[test]
    fn attempts_go_on_for_a_day_whatever_chance_says() {
        for chance in [0, 200, 400, u32::MAX] {
            let mut delivery = delivery();
            let mut last = delivery.created_at;
            while let Some(due) = delivery.next_attempt(last, None, chance) {
                let waited = due.since(last).as_secs_f64() / wait(delivery.attempt).as_secs_f64();
                assert!((0.8..=1.2).contains(&waited), "{waited}");
                delivery.failed(due);
                last = due;
            }
            assert!(last.since(delivery.created_at) >= Duration::from_secs(24 * 3_600));
            assert!((25..45).contains(&delivery.attempt), "{}", delivery.attempt);
        }
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_wait_within_reason() {
        let delivery = delivery();
        let asked = |secs| delivery.next_attempt(at(61), Some(Duration::from_secs(secs)), 200);
        assert_eq!(asked(0), Some(at(66)));
        assert_eq!(asked(1), Some(at(66)));
        assert_eq!(asked(90), Some(at(151)));
        assert_eq!(asked(1_000_000), Some(at(61 + 6 * 3_600)));
        let late = at(61 + 23 * 3_600);
        let last = at(61 + 26 * 3_600);
        assert_eq!(delivery.next_attempt(late, Some(Duration::from_secs(6 * 3_600)), 200), Some(last));
        assert_eq!(delivery.next_attempt(last, Some(Duration::from_secs(6 * 3_600)), 200), None);
    }

    #[test]
    fn a_recovery_waits_for_its_failure_but_not_for_ever() {
        let slack = ChannelConfig::Slack { webhook_url: String::new() };
        let pager = ChannelConfig::PagerDuty {
            url: String::new(),
            headers: Vec::new(),
            routing_key: None,
            secret: None,
        };
        let mut delivery = delivery();
        assert!(delivery.holds_up(EventKind::Recovered, &slack));
        assert!(!delivery.holds_up(EventKind::Failed, &slack));
        assert!(!delivery.holds_up(EventKind::Executed, &slack));
        delivery.attempt = 5;
        assert!(!delivery.holds_up(EventKind::Recovered, &slack));
        assert!(delivery.holds_up(EventKind::Recovered, &pager));
    }
}
