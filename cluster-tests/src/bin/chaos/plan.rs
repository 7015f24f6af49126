//! What is done to the nodes, and when: all of it follows from the seed.

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
    (Fault::TargetFail, "target-fail", "some of what jobs call answers 500"),
    (Fault::TargetHang, "target-hang", "the same takes requests and never answers"),
    (Fault::TargetRefuse, "target-refuse", "the same resets connections"),
];

/// Between two faults, from when the cluster is whole again.
const CALM_MS: std::ops::RangeInclusive<u64> = 8_000..=14_000;
/// How long a node stays killed or stopped: from less than it takes the others to notice (2.5 s) to far more.
const LASTING_MS: std::ops::RangeInclusive<u64> = 500..=12_000;

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
}

/// Endless steps: every one of `faults` once, in some order, then all of them in another order, and so on.
pub(crate) fn steps(seed: u64, faults: Vec<Fault>) -> impl Iterator<Item = Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut round: Vec<Fault> = Vec::new();
    std::iter::from_fn(move || {
        if round.is_empty() {
            round.clone_from(&faults);
            round.shuffle(&mut random);
        }
        Some(Step {
            fault: round.pop()?,
            calm: Duration::from_millis(random.random_range(CALM_MS)),
            lasting: Duration::from_millis(random.random_range(LASTING_MS)),
            pick: random.random_range(0..1_000),
        })
    })
}

/// The faults that a list of names means; `all` means all.
///
/// # Errors
/// The name that is none, with those that are.
pub(crate) fn parse(names: &str) -> Result<Vec<Fault>, String> {
    let mut faults = Vec::new();
    for name in names.split(',').map(str::trim) {
        match FAULTS.iter().find(|(_, known, _)| *known == name) {
            Some((fault, _, _)) => faults.push(*fault),
            None if name == "all" => faults.extend(FAULTS.iter().map(|(fault, _, _)| *fault)),
            None => {
                let known: Vec<_> = FAULTS.iter().map(|(_, known, _)| *known).collect();
                return Err(format!("{name} is not one of all, {}", known.join(", ")));
            }
        }
    }
    Ok(faults)
}

impl Fault {
    /// Whether it is done to the network between the nodes.
    pub(crate) fn needs_net(self) -> bool {
        matches!(self, Self::CutLeader | Self::CutFollower | Self::CutOneWay | Self::CutBridge)
    }

    pub(crate) fn name(self) -> &'static str {
        FAULTS.iter().find(|(fault, _, _)| *fault == self).map_or("", |(_, name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan() {
        let plan = |seed| steps(seed, parse("all").unwrap()).take(40).collect::<Vec<_>>();
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn each_round_has_every_fault() {
        let plan: Vec<_> = steps(1, parse("all").unwrap()).take(3 * FAULTS.len()).collect();
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
        assert!(parse("kill").unwrap_err().starts_with("kill is not one of all, kill-leader, "));
        assert!(FAULTS.iter().all(|(fault, name, _)| fault.name() == *name));
    }
}
