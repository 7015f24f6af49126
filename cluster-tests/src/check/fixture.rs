//! Histories by hand: a job `@every 1s` made two seconds before [`T0_S`], and calls of it; operations on register 1.

use super::{Instant, Observation};
use crate::{
    history::{
        Alert, Call, Configuration, Delivery, Edited, Execution, JobCreated, Operation, OperationKind,
        Outcome, Reply, Stop, Stopped,
    },
    time::SECOND_US,
};
use std::time::Duration;

/// Some instant, in seconds since the Unix epoch.
pub(crate) const T0_S: i64 = 1_775_876_400;

/// `/ok` every second, timeout 2 s.
pub(crate) fn configuration() -> Configuration {
    Configuration {
        expression: "@every 1s".to_owned(),
        timezone: "UTC".to_owned(),
        path: "/ok".to_owned(),
        timeout_sec: 2,
    }
}

/// At least once, no retries, and nobody hears of it.
pub(crate) fn job(id: &str) -> JobCreated {
    JobCreated {
        job: id.to_owned(),
        configuration: configuration(),
        delivery: Delivery::AtLeastOnce,
        retry_max: 0,
        channels: Vec::new(),
        asked_us: (T0_S - 2) * SECOND_US,
        acknowledged_us: (T0_S - 2) * SECOND_US + 50_000,
    }
}

/// With the grace at 2 s the instants from T0 to two seconds before the end must have been called.
pub(crate) fn observation(until_s: i64) -> Observation {
    Observation {
        until_us: until_s * SECOND_US,
        grace: Duration::from_millis(1_500),
        disturbed: Vec::new(),
        losses: Vec::new(),
        outages: Vec::new(),
        skews: Vec::new(),
        claim_ahead: Duration::from_secs(2),
        lateness: Vec::new(),
    }
}

pub(crate) fn instant(job: &str, due_s: i64) -> Instant {
    Instant { job: job.to_owned(), due_s }
}

/// What the API shows of an instant.
pub(crate) fn execution(job: &str, due_s: i64, id: &str, status: &str) -> Execution {
    Execution {
        execution: id.to_owned(),
        job: job.to_owned(),
        status: status.to_owned(),
        triggered_by: "schedule".to_owned(),
        scheduled_s: Some(due_s),
        attempt: Some(1),
        node: Some(1),
        error_kind: None,
        error: None,
        missed_until_s: None,
        finished_s: Some(due_s),
    }
}

/// As [`execution`], with what the target is said to have done.
pub(crate) fn failed(job: &str, due_s: i64, id: &str, error_kind: &str) -> Execution {
    Execution {
        error_kind: Some(error_kind.to_owned()),
        error: Some("it did not work".to_owned()),
        ..execution(job, due_s, id, "failed")
    }
}

/// A change that was asked for at `at_s`, and acknowledged so much later.
pub(crate) fn edited(job: &str, at_s: i64, to: Configuration, acknowledged_after_us: Option<i64>) -> Edited {
    let asked_us = at_s * SECOND_US;
    let acknowledged_us = acknowledged_after_us.map(|after_us| asked_us + after_us);
    Edited { job: job.to_owned(), to, asked_us, acknowledged_us }
}

/// A message of `kind` about an execution of job `a`, taken at this instant.
pub(crate) fn alert(kind: &str, execution: &str, arrived_s: i64) -> Alert {
    let id = Some(format!("{kind} {execution}"));
    Alert {
        arrived_us: arrived_s * SECOND_US,
        path: "/alerts/ready".to_owned(),
        delivery: id.clone(),
        id,
        kind: Some(kind.to_owned()),
        job: Some("a".to_owned()),
        execution: Some(execution.to_owned()),
        status: 200,
    }
}

/// A job that was paused and resumed, or deleted; each acknowledged 50 ms after it was asked.
pub(crate) fn stopped(job: &str, from_s: i64, until_s: Option<i64>) -> Stopped {
    let resume_asked_us = until_s.map(|until_s| until_s * SECOND_US);
    Stopped {
        job: job.to_owned(),
        how: if until_s.is_some() { Stop::Paused } else { Stop::Deleted },
        asked_us: from_s * SECOND_US,
        acknowledged_us: from_s * SECOND_US + 50_000,
        resume_asked_us,
        resumed_us: resume_asked_us.map(|asked_us| asked_us + 50_000),
    }
}

pub(crate) struct CallBuilder(Call);

/// The first attempt, 5 ms after its instant, answered with 200.
pub(crate) fn call(job: &str, due_s: i64, execution: &str) -> CallBuilder {
    CallBuilder(Call {
        arrived_us: due_s * SECOND_US + 5_000,
        arrived_monotonic_us: 0,
        path: "/ok".to_owned(),
        job: Some(job.to_owned()),
        execution: Some(execution.to_owned()),
        attempt: Some(1),
        scheduled_s: Some(due_s),
        status: Some(200),
    })
}

impl CallBuilder {
    pub(crate) fn attempt(mut self, attempt: u32) -> Self {
        self.0.attempt = Some(attempt);
        self
    }

    pub(crate) fn late(mut self, late_us: i64) -> Self {
        self.0.arrived_us = self.0.scheduled_s.unwrap() * SECOND_US + late_us;
        self
    }

    pub(crate) fn early(self, early_us: i64) -> Self {
        self.late(-early_us)
    }

    pub(crate) fn status(mut self, status: Option<u16>) -> Self {
        self.0.status = status;
        self
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        self.0.path = path.to_owned();
        self
    }

    pub(crate) fn build(self) -> Call {
        self.0
    }
}

/// An operation on register 1, asked at this microsecond.
pub(crate) fn operation(kind: OperationKind, asked_us: i64, outcome: Outcome) -> Operation {
    Operation { register: 1, job: "a".to_owned(), process: 1, node: 1, kind, asked_us, outcome }
}

pub(crate) fn acknowledged(reply: Reply, answered_us: i64) -> Outcome {
    Outcome::Acknowledged { reply, answered_us }
}

pub(crate) fn create(value: &str, asked_us: i64, answered_us: i64) -> Operation {
    let kind = OperationKind::Create { value: value.to_owned() };
    operation(kind, asked_us, acknowledged(Reply::Done, answered_us))
}

pub(crate) fn read(value: &str, asked_us: i64, answered_us: i64) -> Operation {
    operation(OperationKind::Read, asked_us, acknowledged(Reply::Value(value.to_owned()), answered_us))
}
