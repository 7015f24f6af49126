//! What people ask for, through a node that may be down, cut off or frozen: as the handlers of the REST API do it.

use super::facts::Fact;
use super::plan::{JobPlan, Step};
use super::world::Shared;
use domain::account::{Account, Plan};
use domain::id::{AccountId, ExecutionId};
use domain::job::{Job, JobState};
use domain::rejection::Rejection;
use domain::schedule::Schedule;
use domain::time::{Clock, Timestamp};
use raft::command::{
    Command, CreateAccount, CreateJob, DeleteJob, Overdue, PauseJob, ResumeJob, RunJob, UpdateJob,
};
use raft::{Cluster, ProposeError};
use std::time::Duration;
use storage::Read;
use storage::schema::{JobStates, Jobs};

pub(super) const ACCOUNT: AccountId = AccountId(1);
/// How often what was stale is computed anew.
const TRIES_MAX: u32 = 5;
/// How long somebody waits before asking again for what was not done.
const ASK_AGAIN: Duration = Duration::from_millis(300);

pub(super) fn job(plan: &JobPlan, created_at: Timestamp) -> Job {
    Job {
        id: plan.id,
        cron_expression: plan.expression.clone(),
        request: domain::job::Request {
            timeout_sec: plan.timeout_sec,
            ..crate::samples::job(plan.id).request
        },
        retry: plan.retry,
        overlap: plan.overlap,
        misfire: plan.misfire,
        delivery: plan.delivery,
        created_at,
        updated_at: created_at,
        ..crate::samples::job(plan.id)
    }
}

fn next_run(job: &Job, state: &JobState, now: Timestamp) -> Option<Timestamp> {
    let schedule = Schedule::parse(&job.cron_expression, &job.timezone).unwrap();
    schedule.next_after(state.claimed_until.map_or(now, |until| until.max(now)))
}

/// A user at one node.
pub(super) struct User {
    pub(super) world: Shared,
    pub(super) cluster: Cluster,
    pub(super) clock: Box<dyn Clock>,
}

impl User {
    fn tell(&self, job: usize, what: &'static str, answer: impl Into<String>) {
        self.world.lock().note(Fact::Told { job, what, answer: answer.into() });
    }

    pub(super) async fn found(self) {
        let account = Account {
            id: ACCOUNT,
            plan: Plan::Scale,
            email: None,
            billing: None,
            created_at: super::clock::START,
        };
        let command = Command::CreateAccount(Box::new(CreateAccount { account, user: None }));
        loop {
            match self.cluster.propose(command.clone()).await {
                Ok(_) | Err(ProposeError::Rejected(Rejection::Exists)) => return,
                Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    }

    pub(super) async fn ask(self, step: Step, plan: JobPlan, job: usize, salt: u16) {
        let what = match step {
            Step::Create { .. } => "create",
            Step::Update { .. } => "update",
            Step::Pause { .. } => "pause",
            Step::Resume { .. } => "resume",
            Step::Delete { .. } => "delete",
            _ => "run",
        };
        for _ in 0..TRIES_MAX {
            if self.cluster.read_barrier().await.is_err() {
                self.tell(job, what, "no leader");
                return;
            }
            let Some(command) = self.command(&step, &plan, salt) else {
                self.tell(job, what, "there is no such job");
                return;
            };
            match self.cluster.propose(command).await {
                Ok(_) => {
                    self.tell(job, what, "done");
                    return;
                }
                Err(ProposeError::Rejected(Rejection::Stale)) => {}
                Err(error) => {
                    self.tell(job, what, error.to_string());
                    return;
                }
            }
        }
        self.tell(job, what, "it changes too fast");
    }

    fn command(&self, step: &Step, plan: &JobPlan, salt: u16) -> Option<Command> {
        let now = self.clock.now();
        if let Step::Create { .. } = step {
            let job = job(plan, now);
            let next_run_at = next_run(&job, &JobState::default(), now);
            let create = CreateJob { job, next_run_at, paused: false, jobs_max: None };
            return Some(Command::CreateJob(Box::new(create)));
        }
        let (id, account) = (plan.id, ACCOUNT);
        let (old, state) = {
            let view = self.cluster.state().view();
            (view.get::<Jobs>(&id).unwrap()?, view.get::<JobStates>(&id).unwrap()?)
        };
        Some(match step {
            Step::Update { expression, .. } => {
                let job = Job { cron_expression: expression.clone(), updated_at: now, ..old.clone() };
                let reschedules = job.cron_expression != old.cron_expression;
                let next_run_at = if reschedules { next_run(&job, &state, now) } else { state.next_run_at };
                let overdue = if reschedules { Overdue::of(&old, &state, now) } else { None };
                let expected = state.version();
                Command::UpdateJob(Box::new(UpdateJob { job, expected, next_run_at, overdue }))
            }
            Step::Pause { .. } => {
                let overdue = Overdue::of(&old, &state, now);
                Command::PauseJob(PauseJob { account, job: id, at: now, overdue })
            }
            Step::Resume { .. } => {
                let next_run_at = next_run(&old, &state, now);
                let expected = state.version();
                Command::ResumeJob(ResumeJob { account, job: id, expected, next_run_at, at: now })
            }
            Step::Delete { .. } => Command::DeleteJob(DeleteJob { account, job: id }),
            _ => Command::RunJob(RunJob { account, execution: ExecutionId::manual(id, now, salt) }),
        })
    }
}
