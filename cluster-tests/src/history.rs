//! What happened in one run, on one clock, in one file.

mod changes; // by users
mod judged; // by the harness and the service itself, while the run went on
mod messages; // to channels

pub use changes::{Configuration, Edited, RunAsked, Shown, ShownBy, Stop, Stopped};
pub use judged::{Compared, Differs, Healed, Proven};
pub use messages::{Alert, Channel, Misbehaved, Mode};

use crate::{Error, time::now_us};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
};

/// A job as the API names it.
pub type JobId = String;
/// An execution as the API names it.
pub type ExecutionId = String;

/// One thing that was asked, answered, called or done to a node. Times are microseconds since the Unix
/// epoch on the harness's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The API acknowledged a new job.
    JobCreated(JobCreated),
    /// The target was called.
    Call(Call),
    /// Every page of a job's executions was read.
    JobRead(JobRead),
    /// The API showed an execution.
    Execution(Execution),
    /// The harness did something to a node.
    Fault(Fault),
    /// A POST that names itself was answered with a success.
    Posted(Posted),
    /// The API listed a job at the end of the run.
    Listed(Listed),
    /// A job was paused or deleted.
    Stopped(Stopped),
    /// A job's configuration was changed.
    Edited(Edited),
    /// A run was asked for.
    RunAsked(RunAsked),
    /// A node showed a job at the end of the run.
    Shown(Shown),
    /// A channel was made.
    Channel(Channel),
    /// A message to a channel arrived.
    Alert(Alert),
    /// The target stopped doing what it should, and did it again.
    Misbehaved(Misbehaved),
    /// A register was asked for or changed.
    Operation(Operation),
    /// The wall clock of a node was off, and is right again.
    Skewed(Skewed),
    /// A node was asked for all its jobs at the end of the run.
    ShownBy(ShownBy),
    /// A node's record of a job's executions was compared with another's.
    Compared(Compared),
    /// What two nodes show of an execution is not the same.
    Differs(Box<Differs>),
    /// A fault is over, and what it broke is whole again.
    Healed(Healed),
    /// The service was asked to prove its histories complete.
    Proven(Proven),
}

/// A promise: from here on this job fires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCreated {
    /// Its id.
    pub job: JobId,
    /// What it is to do, until that is changed.
    pub configuration: Configuration,
    /// What happens to a request whose node dies.
    pub delivery: Delivery,
    /// Retries after a failed attempt.
    pub retry_max: u32,
    /// The channels that hear of it.
    pub channels: Vec<String>,
    /// When the request left.
    pub asked_us: i64,
    /// When the 201 was here.
    pub acknowledged_us: i64,
}

/// The job field of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Sent again.
    AtLeastOnce,
    /// Recorded as failed.
    AtMostOnce,
}

/// One request at the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// When its headers had been read.
    pub arrived_us: i64,
    /// The same on the monotonic clock, see [`crate::time::monotonic_us`].
    pub arrived_monotonic_us: i64,
    /// The path asked for.
    pub path: String,
    /// `X-JustRun-Job-Id`.
    pub job: Option<JobId>,
    /// `X-JustRun-Execution-Id`.
    pub execution: Option<ExecutionId>,
    /// `X-JustRun-Attempt`, counted from 1.
    pub attempt: Option<u32>,
    /// `X-JustRun-Scheduled-At`, in seconds since the Unix epoch.
    pub scheduled_s: Option<i64>,
    /// The status answered; none until then, and none for ever where the target hangs.
    pub status: Option<u16>,
}

impl Call {
    /// Whether the caller was told that all is well.
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// A job whose executions were all read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRead {
    /// Whose.
    pub job: JobId,
    /// When the first page was asked for: what finished before then must be on the pages.
    pub asked_us: i64,
}

/// One execution as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Its id.
    pub execution: ExecutionId,
    /// Whose.
    pub job: JobId,
    /// `pending`, `running`, `success`, `failed`, `skipped`, …
    pub status: String,
    /// `schedule` or `manual`.
    pub triggered_by: String,
    /// The due instant, in seconds since the Unix epoch.
    pub scheduled_s: Option<i64>,
    /// The last attempt.
    pub attempt: Option<u32>,
    /// The node that made it.
    pub node: Option<u64>,
    /// Why it failed.
    pub error_kind: Option<String>,
    /// What the API says of why it failed or was skipped.
    pub error: Option<String>,
    /// On a record of several firings that were missed: the last of them, in seconds since the Unix epoch.
    pub missed_until_s: Option<i64>,
    /// When it ended, in seconds since the Unix epoch.
    pub finished_s: Option<i64>,
}

/// An answer to a POST with an `Idempotency-Key` that makes a job of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    /// The key, and the job's name.
    pub key: String,
    /// The job's id in the answer.
    pub job: JobId,
    /// The status and the whole body.
    pub answer: String,
    /// When the request left.
    pub asked_us: i64,
    /// When the answer was here.
    pub answered_us: i64,
}

/// One job of a list of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its id.
    pub job: JobId,
    /// Its name.
    pub name: String,
}

/// One request on a register: a job that never fires, whose name is the register's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Which, by the harness's numbers. A register begins with its create and never comes back after its delete,
    /// because the service chooses the ids of jobs.
    pub register: u64,
    /// The job that it is.
    pub job: JobId,
    /// The client that asked, which waits for one operation before it begins the next.
    pub process: u64,
    /// Which node was asked.
    pub node: u64,
    /// What was asked.
    pub kind: OperationKind,
    /// When the request left, on the clock of [`crate::time::steady_us`].
    pub asked_us: i64,
    /// What came of it.
    pub outcome: Outcome,
}

/// See [`Operation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Makes the register.
    Create {
        /// Its first value.
        value: String,
    },
    /// Changes it.
    Write {
        /// Its new value.
        value: String,
    },
    /// Asks for its value.
    Read,
    /// Ends it.
    Delete,
}

/// What came of an [`Operation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It took effect, or had an answer to give.
    Acknowledged {
        /// What was said.
        reply: Reply,
        /// When the answer was here, on the clock of [`crate::time::steady_us`].
        answered_us: i64,
    },
    /// The answer says that it has no effect, or it never reached a node.
    Refused {
        /// The answer, or why there is none.
        reason: String,
    },
    /// It may take effect at any time after it was asked, or never.
    Unknown {
        /// The answer, or why there is none.
        reason: String,
    },
}

/// What an acknowledged [`Operation`] was answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The create, write or delete took effect.
    Done,
    /// The register's value, to a read.
    Value(String),
    /// There is no such register. A write or delete that is told so has no effect.
    Absent,
}

/// A stretch in which the wall clock of a node was off, by less than what counts as wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skewed {
    /// Whose.
    pub node: u64,
    /// By how much it was ahead; behind, if negative.
    pub offset_ms: i64,
    /// From when on.
    pub from_us: i64,
    /// Until when.
    pub until_us: i64,
}

/// What was done to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// To which.
    pub node: u64,
    /// What.
    pub kind: FaultKind,
    /// When.
    pub at_us: i64,
}

impl Fault {
    /// What is done to a node just now.
    pub fn now(node: u64, kind: FaultKind) -> Self {
        Self { node, kind, at_us: now_us() }
    }
}

/// See [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Terminate,
    /// SIGSTOP.
    Pause,
    /// SIGCONT.
    Resume,
    /// Started again after a kill or a termination.
    Restart,
    /// It goes on, with something missing: packets between it and others are lost in one direction at least, or come late
    /// or twice; or its disk is full.
    Cut,
    /// Nothing is missing any more.
    Heal,
}

/// The events of one run, in the order they were learnt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// See [`History`].
    pub events: Vec<Event>,
}

impl History {
    /// Adds an event.
    pub fn record(&mut self, event: Event) {
        self.events.push(event);
    }

    /// The jobs that were acknowledged.
    pub fn jobs(&self) -> impl Iterator<Item = &JobCreated> {
        self.events.iter().filter_map(|event| if let Event::JobCreated(it) = event { Some(it) } else { None })
    }

    /// The requests at the target.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.events.iter().filter_map(|event| if let Event::Call(it) = event { Some(it) } else { None })
    }

    /// The jobs whose executions were read.
    pub fn reads(&self) -> impl Iterator<Item = &JobRead> {
        self.events.iter().filter_map(|event| if let Event::JobRead(it) = event { Some(it) } else { None })
    }

    /// The executions that were read.
    pub fn executions(&self) -> impl Iterator<Item = &Execution> {
        self.events.iter().filter_map(|event| if let Event::Execution(it) = event { Some(it) } else { None })
    }

    /// What was done to the nodes.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.events.iter().filter_map(|event| if let Event::Fault(it) = event { Some(it) } else { None })
    }

    /// The answers to POSTs that name themselves.
    pub fn posts(&self) -> impl Iterator<Item = &Posted> {
        self.events.iter().filter_map(|event| if let Event::Posted(it) = event { Some(it) } else { None })
    }

    /// The jobs there are at the end, as far as they were listed.
    pub fn listed(&self) -> impl Iterator<Item = &Listed> {
        self.events.iter().filter_map(|event| if let Event::Listed(it) = event { Some(it) } else { None })
    }

    /// The stretches in which jobs were paused or gone.
    pub fn stops(&self) -> impl Iterator<Item = &Stopped> {
        self.events.iter().filter_map(|event| if let Event::Stopped(it) = event { Some(it) } else { None })
    }

    /// The changes of jobs, those of one job in order.
    pub fn edits(&self) -> impl Iterator<Item = &Edited> {
        self.events.iter().filter_map(|event| if let Event::Edited(it) = event { Some(it) } else { None })
    }

    /// The runs that were asked for.
    pub fn runs_asked(&self) -> impl Iterator<Item = &RunAsked> {
        self.events.iter().filter_map(|event| if let Event::RunAsked(it) = event { Some(it) } else { None })
    }

    /// What the nodes show of the jobs at the end.
    pub fn shown(&self) -> impl Iterator<Item = &Shown> {
        self.events.iter().filter_map(|event| if let Event::Shown(it) = event { Some(it) } else { None })
    }

    /// The channels.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.events.iter().filter_map(|event| if let Event::Channel(it) = event { Some(it) } else { None })
    }

    /// The messages that arrived, in order.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.events.iter().filter_map(|event| if let Event::Alert(it) = event { Some(it) } else { None })
    }

    /// When the target did not do what it should.
    pub fn misbehaviour(&self) -> impl Iterator<Item = &Misbehaved> {
        self.events.iter().filter_map(|event| if let Event::Misbehaved(it) = event { Some(it) } else { None })
    }

    /// When the clocks of nodes were off by less than what counts as wrong.
    pub fn skews(&self) -> impl Iterator<Item = &Skewed> {
        self.events.iter().filter_map(|event| if let Event::Skewed(it) = event { Some(it) } else { None })
    }

    /// The requests on registers.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.events.iter().filter_map(|event| if let Event::Operation(it) = event { Some(it) } else { None })
    }

    /// The nodes that were asked for all jobs at the end. Histories of earlier harnesses do not say.
    pub fn shown_by(&self) -> impl Iterator<Item = &ShownBy> {
        self.events.iter().filter_map(|event| if let Event::ShownBy(it) = event { Some(it) } else { None })
    }

    /// The comparisons of executions between nodes.
    pub fn comparisons(&self) -> impl Iterator<Item = &Compared> {
        self.events.iter().filter_map(|event| if let Event::Compared(it) = event { Some(it) } else { None })
    }

    /// The executions of which nodes show different things.
    pub fn differences(&self) -> impl Iterator<Item = &Differs> {
        self.events
            .iter()
            .filter_map(|event| if let Event::Differs(it) = event { Some(it.as_ref()) } else { None })
    }

    /// The faults that are over.
    pub fn healed(&self) -> impl Iterator<Item = &Healed> {
        self.events.iter().filter_map(|event| if let Event::Healed(it) = event { Some(it) } else { None })
    }

    /// What the service says of its own histories.
    pub fn proofs(&self) -> impl Iterator<Item = &Proven> {
        self.events.iter().filter_map(|event| if let Event::Proven(it) = event { Some(it) } else { None })
    }

    /// Writes one JSON object a line.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let what = || format!("write {}", path.display());
        let mut file = BufWriter::new(File::create(path).map_err(Error::io(what()))?);
        for event in &self.events {
            serde_json::to_writer(&mut file, event).map_err(|error| Error::io(what())(error.into()))?;
            file.write_all(b"\n").map_err(Error::io(what()))?;
        }
        file.flush().map_err(Error::io(what()))
    }

    /// Reads what [`History::write`] wrote, so that a kept run can be checked again.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Input`] with the number of the line that is no event.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io(format!("open {}", path.display())))?;
        let mut history = Self::default();
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(Error::io(format!("read {}", path.display())))?;
            let event = serde_json::from_str(&line)
                .map_err(|error| Error::Input(format!("{} line {}: {error}", path.display(), index + 1)))?;
            history.record(event);
        }
        Ok(history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(kind: OperationKind, outcome: Outcome) -> Event {
        let job = "job_b".to_owned();
        Event::Operation(Operation { register: 1, job, process: 2, node: 3, kind, asked_us: 10, outcome })
    }

    fn configuration() -> Configuration {
        Configuration {
            expression: "@every 1s".into(),
            timezone: "UTC".into(),
            path: "/ok".into(),
            timeout_sec: 5,
        }
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let acknowledged = |reply| Outcome::Acknowledged { reply, answered_us: 11 };
        let history = History {
            events: vec![
                Event::JobCreated(JobCreated {
                    job: "job_a".into(),
                    configuration: configuration(),
                    delivery: Delivery::AtMostOnce,
                    retry_max: 2,
                    channels: vec!["ch_a".into()],
                    asked_us: 1,
                    acknowledged_us: 2,
                }),
                Event::Call(Call {
                    arrived_us: 3,
                    arrived_monotonic_us: 4,
                    path: "/ok".into(),
                    job: Some("job_a".into()),
                    execution: None,
                    attempt: Some(1),
                    scheduled_s: Some(5),
                    status: Some(200),
                }),
                Event::JobRead(JobRead { job: "job_a".into(), asked_us: 6 }),
                Event::Execution(Execution {
                    execution: "exec_a".into(),
                    job: "job_a".into(),
                    status: "success".into(),
                    triggered_by: "schedule".into(),
                    scheduled_s: Some(5),
                    attempt: Some(1),
                    node: Some(2),
                    error_kind: None,
                    error: None,
                    missed_until_s: Some(9),
                    finished_s: Some(10),
                }),
                Event::Fault(Fault { node: 1, kind: FaultKind::Kill, at_us: 7 }),
                Event::Posted(Posted {
                    key: "1".into(),
                    job: "job_a".into(),
                    answer: "201 {}".into(),
                    asked_us: 8,
                    answered_us: 9,
                }),
                Event::Listed(Listed { job: "job_a".into(), name: "1".into() }),
                Event::Stopped(Stopped {
                    job: "job_a".into(),
                    how: Stop::Paused,
                    asked_us: 10,
                    acknowledged_us: 11,
                    resume_asked_us: Some(12),
                    resumed_us: None,
                }),
                Event::Edited(Edited {
                    job: "job_a".into(),
                    to: configuration(),
                    asked_us: 13,
                    acknowledged_us: None,
                }),
                Event::RunAsked(RunAsked {
                    job: "job_a".into(),
                    key: Some("k".into()),
                    asked_us: 14,
                    execution: Some("exec_a".into()),
                }),
                Event::Shown(Shown {
                    node: 1,
                    job: "job_a".into(),
                    name: "1".into(),
                    configuration: configuration(),
                    status: "active".into(),
                }),
                Event::Channel(Channel { channel: "ch_a".into(), path: "/alerts/ready".into() }),
                Event::Alert(Alert {
                    arrived_us: 15,
                    path: "/alerts/ready".into(),
                    delivery: Some("evt_a".into()),
                    id: Some("evt_a".into()),
                    kind: Some("job.failed".into()),
                    job: Some("job_a".into()),
                    execution: None,
                    status: 200,
                }),
                Event::Misbehaved(Misbehaved { mode: Mode::Refuse, from_us: 16, until_us: 17 }),
                operation(OperationKind::Create { value: "0".into() }, acknowledged(Reply::Done)),
                operation(
                    OperationKind::Write { value: "1".into() },
                    Outcome::Unknown { reason: "no answer".into() },
                ),
                operation(OperationKind::Read, acknowledged(Reply::Value("1".into()))),
                operation(OperationKind::Read, acknowledged(Reply::Absent)),
                operation(OperationKind::Delete, Outcome::Refused { reason: "503".into() }),
                Event::Skewed(Skewed { node: 2, offset_ms: -300, from_us: 16, until_us: 17 }),
                Event::ShownBy(ShownBy { node: 2, asked_us: 18 }),
                Event::Compared(Compared { job: "job_a".into(), nodes: [1, 2], executions: 7, asked_us: 19 }),
                Event::Differs(Box::new(Differs {
                    job: "job_a".into(),
                    execution: "exec_a".into(),
                    nodes: [1, 2],
                    shown: [None, None],
                    asked_us: 19,
                })),
                Event::Healed(Healed {
                    fault: "kill-all".into(),
                    leader: 1,
                    lasting_us: 20,
                    at_us: 21,
                    ready_us: 22,
                    whole_us: 23,
                }),
                Event::Proven(Proven {
                    node: 3,
                    verdict: "complete".into(),
                    instants: 24,
                    said: String::new(),
                }),
            ],
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        history.write(&path).unwrap();
        assert_eq!(History::read(&path).unwrap(), history);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 25);

        std::fs::write(&path, "{}\n").unwrap();
        assert!(matches!(History::read(&path), Err(Error::Input(text)) if text.contains("line 1")));
    }
}
