//! Records as they were before they gained a field: that field at its default, everything else as in the samples. Their
//! lines are read for ever, and no longer written.

use crate::line::Line;
use crate::{commands, samples, tables};
use domain::account::{Account, ApiKey, Plan};
use domain::id::AccountId;
use domain::job::JobState;
use domain::space::Space;
use domain::time::{Month, Timestamp};
use raft::command::{Bootstrap, Command, CreateJob, CreateSpace};
use storage::schema::{AccountUsage, Accounts, ApiKeys, JobStates, Meta, Metas, Spaces, Usage};

fn account(plan: Plan) -> Account {
    Account { email: None, billing: None, ..samples::account(plan) }
}

fn api_key() -> ApiKey {
    ApiKey { last_used_at: None, ..samples::api_key() }
}

fn space(paused_at: Option<Timestamp>) -> Space {
    Space { generation: 0, jobs: 0, ..counted_space(paused_at) }
}

/// Before it was known when a space had turned.
fn counted_space(paused_at: Option<Timestamp>) -> Space {
    Space { turned_at: Timestamp::EPOCH, ..samples::space(paused_at) }
}

fn job_state(state: JobState) -> JobState {
    JobState { account: AccountId::default(), ..state }
}

fn create_job(job: domain::job::Job, next_run_at: Option<Timestamp>, paused: bool) -> Command {
    Command::CreateJob(Box::new(CreateJob { job, next_run_at, paused, jobs_max: None }))
}

/// Before the whole REST API: no channels, no users, no payment, spaces that are never paused.
pub(crate) fn lines() -> Vec<Line> {
    let mut lines = vec![
        Line::value::<Metas>("filled", Meta { channels: 0, channels_of_all: 0, ..samples::meta() }),
        Line::value::<Metas>("new", Meta::default()),
        Line::value::<ApiKeys>("filled", api_key()),
        Line::value::<Spaces>("filled", space(Some(samples::at(4)))),
        Line::value::<Spaces>("active", space(None)),
        Line::value::<Spaces>("counted", counted_space(Some(samples::at(4)))),
        Line::value::<Spaces>("counted-active", counted_space(None)),
        Line::value::<JobStates>("filled", job_state(samples::job_state())),
        Line::value::<JobStates>("new", job_state(samples::new_job_state())),
        Line::value::<AccountUsage>(
            "filled",
            Usage { month: Month::default(), executions: 0, day: 0, diagnoses: 0, ..samples::usage() },
        ),
    ];
    for plan in tables::plans() {
        lines.push(Line::value::<Accounts>(&format!("{plan:?}"), account(plan)));
    }
    let commands = [
        ("filled", Command::Bootstrap(Bootstrap { account: account(Plan::Scale), key: api_key() })),
        ("filled", Command::CreateSpace(CreateSpace { space: space(Some(samples::at(4))) })),
        ("counted", Command::CreateSpace(CreateSpace { space: counted_space(Some(samples::at(4))) })),
        ("filled", create_job(samples::job(), Some(samples::at(60_000)), true)),
        ("bare", create_job(samples::bare_job(), None, false)),
        ("filled", Command::PauseJob(commands::pause_job(Timestamp::EPOCH))),
        ("filled", Command::ResumeJob(commands::resume_job(Timestamp::EPOCH))),
        ("bare", Command::ResumeJob(commands::bare_resume_job(Timestamp::EPOCH))),
    ];
    for (label, command) in commands {
        let name = format!("command/{}/{label}", tables::command(&command));
        lines.push(Line::proposal(name, commands::proposal(vec![command])));
    }
    lines.into_iter().map(Line::readable).collect()
}
