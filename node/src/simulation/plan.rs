//! What a seed has in store: a cluster, jobs, and what people and misfortune do to them. Data, so that a failing plan can
//! be made smaller.

use super::dice::Dice;
use domain::id::JobId;
use domain::job::{Delivery, MisfirePolicy, OverlapPolicy, Retry, RetryPolicy};
use std::time::Duration;

/// How long there is trouble, in seconds.
const TROUBLE_SECS: (u64, u64) = (15, 60);
/// Before that the cluster forms and the first jobs are made.
pub(super) const CALM_START: Duration = Duration::from_secs(4);

/// What a run is made of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) nodes: u64,
    pub(super) jobs: Vec<JobPlan>,
    /// Ordered by when they come.
    pub(super) steps: Vec<(Duration, Step)>,
    /// When everything heals.
    pub(super) heals_at: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct JobPlan {
    pub(super) id: JobId,
    pub(super) expression: String,
    pub(super) timeout_sec: u32,
    pub(super) retry: Retry,
    pub(super) overlap: OverlapPolicy,
    pub(super) misfire: MisfirePolicy,
    pub(super) delivery: Delivery,
    pub(super) target: Target,
}

/// How a job's target answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// So many answers in a thousand are failures.
    pub(super) fails_permille: u64,
    /// So many in a thousand never come.
    pub(super) hangs_permille: u64,
    /// The others take that long.
    pub(super) takes_ms: (u64, u64),
}

/// Whom something befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Leader,
    /// By number, from 1.
    Node(u64),
}

/// What is left of a killed process's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    /// Everything it had applied.
    Whole,
    /// What had been flushed a while ago; the log leads on from there.
    Older,
    /// Nothing.
    Lost,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Create {
        job: usize,
        via: u64,
    },
    Update {
        job: usize,
        expression: String,
        via: u64,
    },
    Pause {
        job: usize,
        via: u64,
    },
    Resume {
        job: usize,
        via: u64,
    },
    Delete {
        job: usize,
        via: u64,
    },
    RunNow {
        job: usize,
        via: u64,
    },
    Kill {
        who: Who,
        down_ms: u64,
        disk: Disk,
    },
    KillAll {
        down_ms: u64,
    },
    Freeze {
        who: Who,
        for_ms: u64,
    },
    Isolate {
        who: Who,
        for_ms: u64,
    },
    /// What the first says does not reach the second.
    CutOneWay {
        from: Who,
        to: u64,
        for_ms: u64,
    },
    /// Applies the log that much later.
    Slow {
        who: Who,
        lag_ms: u64,
        for_ms: u64,
    },
    /// So many messages in a thousand are lost.
    Lossy {
        permille: u64,
        for_ms: u64,
    },
    /// The wall clock is that wrong from now on.
    Skew {
        who: Who,
        millis: i64,
    },
    Drain {
        who: Who,
        down_ms: u64,
    },
    DrainAll {
        down_ms: u64,
    },
    Transfer,
    /// A snapshot replaces the state.
    Reload {
        who: Who,
    },
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed, &[1]);
        let nodes = dice.pick(&[1, 3, 3, 3, 3, 5]);
        let count = dice.between(1, 5);
        let jobs: Vec<JobPlan> = (1..=count).map(|number| job(&mut dice, number)).collect();
        let trouble = dice.between(TROUBLE_SECS.0, TROUBLE_SECS.1) * 1_000;
        let start = u64::try_from(CALM_START.as_millis()).unwrap();

        let mut steps = Vec::new();
        for job in 0..jobs.len() {
            let at = if dice.chance(750) {
                dice.between(500, 2_000)
            } else {
                start + dice.between(0, trouble / 2)
            };
            steps.push((Duration::from_millis(at), Step::Create { job, via: dice.between(1, nodes) }));
        }
        // Few things in most runs: what comes together by chance is then easier to tell apart.
        let faults = if dice.chance(60) { 0 } else { dice.between(1, 7) };
        for _ in 0..faults {
            let at = Duration::from_millis(start + dice.between(0, trouble));
            steps.push((at, fault(&mut dice, nodes)));
        }
        for _ in 0..dice.between(0, 5) {
            let at = Duration::from_millis(start + dice.between(0, trouble));
            let job = dice.between(0, count - 1) as usize;
            steps.push((at, wish(&mut dice, job, nodes)));
        }
        // Stable: what comes at the same instant stays in order.
        steps.sort_by_key(|(at, _)| *at);
        Self { seed, nodes, jobs, steps, heals_at: Duration::from_millis(start + trouble + 1_000) }
    }
}

fn expression(dice: &mut Dice) -> String {
    if dice.chance(80) {
        return "* * * * *".to_owned();
    }
    format!("@every {}s", dice.pick(&[1, 2, 3, 5, 7, 10, 15]))
}

fn job(dice: &mut Dice, number: u64) -> JobPlan {
    let id = JobId(dice.throw() & !0xff | number);
    let retry = if dice.chance(500) {
        Retry::default()
    } else {
        Retry {
            policy: dice.pick(&[RetryPolicy::Fixed, RetryPolicy::Linear, RetryPolicy::Exponential]),
            max: dice.between(1, 3) as u32,
            delay_sec: dice.between(0, 3) as u32,
        }
    };
    let target = match dice.between(0, 3) {
        0 => Target { fails_permille: 0, hangs_permille: 0, takes_ms: (1, 50) },
        1 => Target { fails_permille: 300, hangs_permille: 0, takes_ms: (1, 400) },
        2 => Target { fails_permille: 50, hangs_permille: 0, takes_ms: (500, 4_000) },
        _ => Target { fails_permille: 100, hangs_permille: 100, takes_ms: (1, 3_000) },
    };
    JobPlan {
        id,
        expression: expression(dice),
        timeout_sec: dice.between(1, 6) as u32,
        retry,
        overlap: dice.pick(&OverlapPolicy::ALL),
        misfire: dice.pick(&MisfirePolicy::ALL),
        delivery: dice.pick(&Delivery::ALL),
        target,
    }
}

fn who(dice: &mut Dice, nodes: u64) -> Who {
    if dice.chance(300) { Who::Leader } else { Who::Node(dice.between(1, nodes)) }
}

/// Mostly short, sometimes longer than everything that is patient.
fn span_ms(dice: &mut Dice) -> u64 {
    match dice.between(0, 9) {
        0..=3 => dice.between(50, 2_000),
        4..=7 => dice.between(1_500, 8_000),
        8 => dice.between(8_000, 25_000),
        _ => dice.between(25_000, 50_000),
    }
}

fn fault(dice: &mut Dice, nodes: u64) -> Step {
    let who = who(dice, nodes);
    match dice.between(0, 19) {
        0..=3 => {
            let disk = dice.pick(&[Disk::Whole, Disk::Older, Disk::Older, Disk::Lost]);
            // Alone there is nobody to fill an empty disk.
            let disk = if nodes == 1 && disk == Disk::Lost { Disk::Older } else { disk };
            Step::Kill { who, down_ms: span_ms(dice), disk }
        }
        4 => Step::KillAll { down_ms: span_ms(dice) },
        5..=7 => Step::Freeze { who, for_ms: span_ms(dice) },
        8..=9 => Step::Isolate { who, for_ms: span_ms(dice) },
        10..=11 => Step::CutOneWay { from: who, to: dice.between(1, nodes), for_ms: span_ms(dice) },
        12..=13 => Step::Slow { who, lag_ms: dice.between(100, 6_000), for_ms: span_ms(dice) },
        14 => Step::Lossy { permille: dice.between(20, 400), for_ms: span_ms(dice) },
        15 => {
            let far = if dice.chance(200) { 60_000 } else { 3_000 };
            let millis = dice.between(0, 2 * far) as i64 - far as i64;
            Step::Skew { who, millis }
        }
        16..=17 => Step::Drain { who, down_ms: dice.between(100, 5_000) },
        18 => {
            if dice.chance(500) {
                Step::DrainAll { down_ms: dice.between(100, 5_000) }
            } else {
                Step::Transfer
            }
        }
        _ => Step::Reload { who },
    }
}

fn wish(dice: &mut Dice, job: usize, nodes: u64) -> Step {
    let via = dice.between(1, nodes);
    match dice.between(0, 9) {
        0..=1 => Step::Update { job, expression: expression(dice), via },
        2..=4 => Step::Pause { job, via },
        5..=6 => Step::Resume { job, via },
        7 => Step::Delete { job, via },
        _ => Step::RunNow { job, via },
    }
}
