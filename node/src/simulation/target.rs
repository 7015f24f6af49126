//! The target that jobs call, and the client that calls it.

use super::facts::{Fact, Sent};
use super::gate::Gate;
use super::mutation::Mutation;
use super::plan::Target;
use super::world::Shared;
use crate::executor::http::{AttemptReport, AttemptRequest};
use crate::executor::{Client, Withheld};
use domain::execution::{Attempt, ErrorKind, Failure};
use domain::node::SessionId;
use domain::time::{Clock, Timestamp};
use std::time::Duration;
use tokio::time::sleep;

pub(super) struct SimClient {
    pub(super) world: Shared,
    pub(super) session: SessionId,
    pub(super) gate: Gate,
}

/// What the target makes of one request.
struct Answer {
    after: Duration,
    success: bool,
}

impl Client for SimClient {
    async fn send(
        &self,
        request: AttemptRequest<'_>,
        clock: &dyn Clock,
        may_start: impl FnOnce(Timestamp) -> Result<(), Withheld> + Send,
    ) -> Result<AttemptReport, Withheld> {
        self.gate.pass().await;
        let (started_at, started) = (clock.now(), clock.elapsed());
        let mutation = self.world.lock().mutation;
        match may_start(started_at) {
            Err(Withheld::Wait | Withheld::Gone) if mutation == Some(Mutation::IgnoresStanding) => {}
            Err(withheld) => return Err(withheld),
            Ok(()) => {}
        }
        let Answer { after, success } = self.answer(&request, started_at);
        if mutation == Some(Mutation::SendsTwice) && request.execution.as_u128().is_multiple_of(7) {
            self.answer(&request, started_at);
        }
        let timeout = Duration::from_secs(request.request.timeout_sec.into());
        sleep(after.min(timeout)).await;
        self.gate.pass().await;
        let in_time = after < timeout;
        let success = success && in_time;
        let failure = (!success).then(|| Failure {
            kind: if in_time { ErrorKind::HttpStatus } else { ErrorKind::Timeout },
            message: if in_time { "HTTP 500" } else { "Request timed out" }.to_owned(),
        });
        self.world.lock().note(Fact::Answered {
            node: request.node,
            session: self.session,
            execution: request.execution,
            attempt: request.attempt,
            success,
        });
        let duration = clock.elapsed().saturating_sub(started);
        Ok(AttemptReport {
            attempt: Attempt {
                number: request.attempt,
                node: request.node,
                started_at,
                finished_at: clock.now(),
                duration_ms: u64::try_from(duration.as_millis()).unwrap(),
                status_code: Some(if success { 200 } else { 500 }),
                failure,
            },
            retry_after: None,
            body: None,
        })
    }
}

impl SimClient {
    /// The request arrives.
    fn answer(&self, request: &AttemptRequest<'_>, at: Timestamp) -> Answer {
        let mut world = self.world.lock();
        world.note(Fact::Sent(Sent {
            node: request.node,
            session: self.session,
            job: request.job,
            execution: request.execution,
            attempt: request.attempt,
            at,
        }));
        let target = world.plan.jobs.iter().find(|job| job.id == request.job).map(|job| job.target);
        let target = target.unwrap_or(Target { fails_permille: 0, hangs_permille: 0, takes_ms: (1, 1) });
        let number = request.execution.as_u128();
        // By what is asked, not by when.
        let parts = [(number >> 64) as u64, number as u64, request.attempt.into()];
        let mut dice = world.dice_of(&parts);
        let hangs = dice.chance(target.hangs_permille);
        let takes = dice.between(target.takes_ms.0, target.takes_ms.1);
        Answer {
            after: if hangs { Duration::from_secs(3_600) } else { Duration::from_millis(takes) },
            success: !dice.chance(target.fails_permille),
        }
    }
}
