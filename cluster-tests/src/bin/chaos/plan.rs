//! What is done to the nodes, and when: all of it follows from the seed.

use cluster_tests::relay::Impairment;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::time::Duration;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    KillLeader,
    KillFollower,
    KillMajority,
    KillAll,
    PauseLeader,
    PauseFollower,
    PauseMajority,
    CutLeader,
    CutFollower,
    CutOneWay,
    CutBridge,
    Roll,
    LoseDisk,
    ClockForward,
    ClockBack,
    ClockSkew,
    SlowDisk,
    FsyncFails,
    NetSlow,
    NetLossy,
    NetMessy,
    DiskFull,
    TornWrite,
    MixedVersion,
    TargetFail,
    TargetHang,
    TargetRefuse,
}

/// THE TABLE: every fault, its name on the command line, and what it is.
pub(crate) const FAULTS: &[(Fault, &str, &str)] = &[
    (Fault::KillLeader, "kill-leader", "kill -9 of the leader, which comes back"),
    (Fault::KillFollower, "kill-follower", "kill -9 of a follower, which comes back"),
    (Fault::KillMajority, "kill-majority", "kill -9 of the leader and all but one of the others at once"),
    (Fault::KillAll, "kill-all", "kill -9 of every node at once"),
    (Fault::PauseLeader, "pause-leader", "SIGSTOP of the leader for longer than every timeout, then SIGCONT"),
    (Fault::PauseFollower, "pause-follower", "the same of a follower"),
    (Fault::PauseMajority, "pause-majority", "the same of the leader and all but one of the others"),
    (Fault::CutLeader, "cut-leader", "no packet passes between the leader and the others"),
    (Fault::CutFollower, "cut-follower", "the same of a follower"),
    (Fault::CutOneWay, "cut-one-way", "what the leader sends is lost, or what is sent to it"),
    (
        Fault::CutBridge,
        "cut-bridge",
        "no packet passes between the leader and one follower; the others see both",
    ),
    (Fault::Roll, "roll", "SIGTERM and restart of each node, one after the other, as in an upgrade"),
    (Fault::LoseDisk, "lose-disk", "kill -9 of a follower, which comes back without its data"),
    (
        Fault::ClockForward,
        "clock-forward",
        "the clock of the leader or a follower jumps ahead, by seconds or by hours, and later back",
    ),
    (Fault::ClockBack, "clock-back", "the same clock jumps back, by seconds or by hours, and later forward"),
    (
        Fault::ClockSkew,
        "clock-skew",
        "the same clock is off by 100 to 900 ms, less than what counts as wrong, in either direction",
    ),
    (Fault::SlowDisk, "slow-disk", "the log of the leader or a follower takes 30 to 300 ms to sync"),
    (
        Fault::FsyncFails,
        "fsync-fails",
        "that log cannot be synced at all; the node ends, and is started again and again",
    ),
    (Fault::NetSlow, "net-slow", "packets between all nodes come 20 to 150 ms late, and overtake each other"),
    (Fault::NetLossy, "net-lossy", "of those packets 1 to 20 % are lost and 1 to 5 % come twice"),
    (Fault::NetMessy, "net-messy", "all of that, between the leader and the others"),
    (
        Fault::DiskFull,
        "disk-full",
        "the disk of the leader or a follower is full; if the node ends, it is started again and again",
    ),
    (
        Fault::TornWrite,
        "torn-write",
        "kill -9 of the leader or a follower, which comes back with half a record behind its log",
    ),
    (
        Fault::MixedVersion,
        "mixed-version",
        "each node is stopped and started as an older release, and then back, one after the other",
    ),
    (Fault::TargetFail, "target-fail", "some of what jobs call answers 500"),
    (Fault::TargetHang, "target-hang", "the same takes requests and never answers"),
    (Fault::TargetRefuse, "target-refuse", "the same resets connections"),
];

/// Between two faults, from when the cluster is whole again.
const CALM_MS: std::ops::RangeInclusive<u64> = 8_000..=14_000;
/// How long a node stays killed or stopped: from less than it takes the others to notice (2.5 s) to far more.
const LASTING_MS: std::ops::RangeInclusive<u64> = 500..=12_000;

/// How far clocks jump.
const JUMP_MS_MIN: f64 = 2_000.0;
const JUMP_MS_MAX: f64 = 7_200_000.0;
/// How far clocks are off that do not count as wrong, which they do from a second on.
const SKEW_MS: std::ops::RangeInclusive<i64> = 100..=900;
/// See [`Fault::sync_ms`].
const SLOW_SYNC_MS: std::ops::RangeInclusive<u64> = 30..=300;

/// One fault of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Before it, since the cluster was whole.
    pub(crate) calm: Duration,
    pub(crate) fault: Fault,
    /// How long its nodes are away.
    pub(crate) lasting: Duration,
    /// Chooses among nodes that are alike.
    pub(crate) pick: usize,
    /// For what else is left to chance.
    pub(crate) seed: u64,
}

/// Endless steps: every one of the faults that were `asked` for once, in some order, then all of them in another order, and so
/// on. Those that are not `possible` are passed over, so that the others come as they would on a machine where all are.
pub(crate) fn steps(seed: u64, asked: Vec<Fault>, possible: Vec<Fault>) -> impl Iterator<Item = Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut round: Vec<Fault> = Vec::new();
    // Of rounds without any there would be no end.
    let is_endless = asked.iter().any(|fault| possible.contains(fault));
    let all = std::iter::from_fn(move || {
        if round.is_empty() && is_endless {
            round.clone_from(&asked);
            round.shuffle(&mut random);
        }
        Some(Step {
            fault: round.pop()?,
            calm: Duration::from_millis(random.random_range(CALM_MS)),
            lasting: Duration::from_millis(random.random_range(LASTING_MS)),
            pick: random.random_range(0..1_000),
            seed: random.random(),
        })
    });
    all.filter(move |step| possible.contains(&step.fault))
}

/// The faults that a list of names means; `all` means all, `none` none.
///
/// # Errors
/// The name that is none, with those that are.
pub(crate) fn parse(names: &str) -> Result<Vec<Fault>, String> {
    let mut faults = Vec::new();
    for name in names.split(',').map(str::trim) {
        match FAULTS.iter().find(|(_, known, _)| *known == name) {
            Some((fault, _, _)) => faults.push(*fault),
            None if name == "all" => faults.extend(FAULTS.iter().map(|(fault, _, _)| *fault)),
            None if name == "none" => {}
            None => {
                let known: Vec<_> = FAULTS.iter().map(|(_, known, _)| *known).collect();
                return Err(format!("{name} is not one of all, none, {}", known.join(", ")));
            }
        }
    }
    Ok(faults)
}

impl Fault {
    /// Whether it is done to the network between the nodes.
    pub(crate) fn needs_net(self) -> bool {
        matches!(self, Self::CutLeader | Self::CutFollower | Self::CutOneWay | Self::CutBridge)
            || self.needs_relay()
    }

    /// Whether packets take the detour over a relay.
    pub(crate) fn needs_relay(self) -> bool {
        matches!(self, Self::NetSlow | Self::NetLossy | Self::NetMessy)
    }

    /// Whether each node has to have a small disk of its own.
    pub(crate) fn needs_disks(self) -> bool {
        matches!(self, Self::DiskFull)
    }

    /// Whether an older release has to be there.
    pub(crate) fn needs_old_binary(self) -> bool {
        matches!(self, Self::MixedVersion)
    }

    /// What it does to packets.
    pub(crate) fn impairment(self, seed: u64) -> Impairment {
        let random = &mut StdRng::seed_from_u64(seed);
        let slow = Impairment {
            delay_ms: random.random_range(20..=75),
            jitter_ms: random.random_range(10..=75),
            ..Impairment::default()
        };
        let lossy = Impairment {
            loss_permille: random.random_range(10..=200),
            duplicate_permille: random.random_range(10..=50),
            ..Impairment::default()
        };
        match self {
            Self::NetSlow => slow,
            Self::NetLossy => lossy,
            Self::NetMessy => Impairment {
                loss_permille: lossy.loss_permille,
                duplicate_permille: lossy.duplicate_permille,
                ..slow
            },
            _ => Impairment::default(),
        }
    }

    /// By how much a clock jumps: from a little more than what counts as wrong (a second) to hours.
    pub(crate) fn jump_ms(self, seed: u64) -> i64 {
        let exponent = StdRng::seed_from_u64(seed).random_range(0.0..=1.0);
        (JUMP_MS_MIN * (JUMP_MS_MAX / JUMP_MS_MIN).powf(exponent)).round() as i64
    }

    /// By how much a clock is off that does not count as wrong; ahead, or behind if negative.
    pub(crate) fn skew_ms(self, seed: u64) -> i64 {
        let mut random = StdRng::seed_from_u64(seed);
        let off_ms = random.random_range(SKEW_MS);
        if random.random() { off_ms } else { -off_ms }
    }

    /// How long a slow disk takes to sync.
    pub(crate) fn sync_ms(self, seed: u64) -> u64 {
        StdRng::seed_from_u64(seed).random_range(SLOW_SYNC_MS)
    }

    /// Whether it is put into the process, which a build that is shipped does not allow.
    pub(crate) fn needs_faults(self) -> bool {
        matches!(
            self,
            Self::ClockForward | Self::ClockBack | Self::ClockSkew | Self::SlowDisk | Self::FsyncFails
        )
    }

    pub(crate) fn name(self) -> &'static str {
        FAULTS.iter().find(|(fault, _, _)| *fault == self).map_or("", |(_, name, _)| name)
    }
}

/// The names and what they mean, for people.
pub(crate) fn help() -> String {
    let mut text = "Which faults, separated by commas; all, or of these:".to_owned();
    for (_, name, what) in FAULTS {
        text.push_str(&format!("\n  {name:<16}{what}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan() {
        let all = || parse("all").unwrap();
        let plan = |seed| steps(seed, all(), all()).take(40).collect::<Vec<_>>();
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn a_seed_is_the_same_plan_where_less_is_possible() {
        let all = || parse("all").unwrap();
        let mut some = all();
        some.retain(|fault| !fault.needs_net() && !fault.needs_old_binary());
        let mut expected: Vec<_> = steps(7, all(), all()).take(4 * FAULTS.len()).collect();
        expected.retain(|step| some.contains(&step.fault));
        assert!(expected.len() < 4 * FAULTS.len());
        let found: Vec<_> = steps(7, all(), some).take(expected.len()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn where_nothing_is_possible_there_is_no_plan() {
        assert_eq!(steps(7, parse("all").unwrap(), Vec::new()).next(), None);
        assert_eq!(steps(7, Vec::new(), Vec::new()).next(), None);
    }

    #[test]
    fn each_round_has_every_fault() {
        let all = || parse("all").unwrap();
        let plan: Vec<_> = steps(1, all(), all()).take(3 * FAULTS.len()).collect();
        for round in plan.chunks(FAULTS.len()) {
            for (fault, name, _) in FAULTS {
                assert_eq!(round.iter().filter(|step| step.fault == *fault).count(), 1, "{name}");
            }
        }
        let orders: Vec<Vec<_>> =
            plan.chunks(FAULTS.len()).map(|round| round.iter().map(|step| step.fault).collect()).collect();
        assert_ne!(orders[0], orders[1]);
    }

    #[test]
    fn names_are_faults() {
        assert_eq!(parse("roll, kill-all"), Ok(vec![Fault::Roll, Fault::KillAll]));
        assert_eq!(parse("all").unwrap().len(), FAULTS.len());
        assert_eq!(parse("none"), Ok(Vec::new()));
        assert!(parse("kill").unwrap_err().starts_with("kill is not one of all, none, kill-leader, "));
        assert!(FAULTS.iter().all(|(fault, name, _)| fault.name() == *name));
        assert!(
            FAULTS
                .iter()
                .all(|(_, name, what)| help().contains(&format!("{name} ")) && help().contains(what))
        );
    }

    #[test]
    fn clocks_are_off_in_either_direction() {
        let skews: Vec<_> = (0..200).map(|seed| Fault::ClockSkew.skew_ms(seed)).collect();
        assert!(skews.iter().all(|skew_ms| (100..=900).contains(&skew_ms.abs())));
        assert!(skews.iter().any(|skew_ms| *skew_ms > 0) && skews.iter().any(|skew_ms| *skew_ms < 0));
    }

    #[test]
    fn packets_fare_as_the_table_says() {
        for seed in 0..200 {
            let [slow, lossy, messy] =
                [Fault::NetSlow, Fault::NetLossy, Fault::NetMessy].map(|fault| fault.impairment(seed));
            assert!(slow.delay_ms >= 20 && slow.delay_ms + slow.jitter_ms <= 150 && slow.jitter_ms > 0);
            assert_eq!((slow.loss_permille, slow.duplicate_permille), (0, 0));
            assert!(
                (10..=200).contains(&lossy.loss_permille) && (10..=50).contains(&lossy.duplicate_permille)
            );
            assert_eq!((lossy.delay_ms, lossy.jitter_ms), (0, 0));
            let both = (slow.delay_ms, slow.jitter_ms, lossy.loss_permille, lossy.duplicate_permille);
            let all = (messy.delay_ms, messy.jitter_ms, messy.loss_permille, messy.duplicate_permille);
            assert_eq!(all, both);
        }
        for (fault, name, _) in FAULTS.iter().filter(|(fault, ..)| !fault.needs_relay()) {
            assert_eq!(fault.impairment(1), Impairment::default(), "{name}");
        }
    }
}
