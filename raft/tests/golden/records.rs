//! What is stored: keys and values of every keyspace.

use crate::line::Line;
use crate::{samples, tables};
use domain::channel::{EventKind, LastDelivery};
use domain::execution::{DueItem, ExecutionState};
use domain::id::ExecutionId;
use storage::schema::{
    AccountJobs, AccountKeys, AccountSpaces, AccountUsage, Accounts, Answers, AnswersByExpiry, ApiKeys,
    Channels, Claims, Customers, DeletedJobs, Deliveries, DeliveryClaims, Diagnoses, Due, EndedSessions,
    ExecutionHours, Executions, JobChange, JobHour, JobStates, Jobs, Metas, Nodes, Pulses, RemovedNodes,
    ResponseBodies, RestoreStage, Restores, SecretsOf, Sessions, ShardMaps, SpaceJobs, Spaces, Timetables,
    UnalignedSpaces, Users,
};

pub(crate) fn keys() -> Vec<Line> {
    let (scheduled, manual) = (samples::scheduled(), samples::manual());
    let skipped = ExecutionId::skipped(samples::JOB, samples::at(0));
    let firing = samples::due_key(DueItem::Firing(samples::JOB));
    let execution = samples::due_key(DueItem::Execution(manual));
    let delivery_id = samples::delivery_id(EventKind::Failed);
    let delivery = samples::due_key(DueItem::Delivery(delivery_id));
    let item = |key: &storage::schema::DueKey| tables::due_item(&key.item);
    vec![
        Line::key::<Metas>("one", ()),
        Line::key::<Restores>("one", ()),
        Line::key::<Sessions>("filled", samples::NODE),
        Line::key::<Nodes>("filled", samples::NODE),
        Line::key::<RemovedNodes>("filled", samples::NODE),
        Line::key::<ShardMaps>("one", ()),
        Line::key::<Accounts>("filled", samples::ACCOUNT),
        Line::key::<ApiKeys>("filled", samples::key_hash()),
        Line::key::<Spaces>("filled", samples::SPACE),
        Line::key::<Jobs>("filled", samples::JOB),
        Line::key::<JobStates>("filled", samples::JOB),
        Line::key::<AccountJobs>("filled", samples::account_job()),
        Line::key::<SpaceJobs>("filled", (samples::SPACE, samples::JOB)),
        Line::key::<AccountUsage>("filled", samples::ACCOUNT),
        Line::key::<Executions>("scheduled", scheduled),
        Line::key::<Executions>("manual", manual),
        Line::key::<Executions>("skipped", skipped),
        Line::key::<ResponseBodies>("filled", scheduled),
        Line::key::<Due>(item(&firing), firing),
        Line::key::<Due>(item(&execution), execution),
        Line::key::<Claims>("filled", (samples::NODE, scheduled)),
        Line::key::<DeletedJobs>("filled", samples::JOB),
        Line::key::<Timetables>("filled", JobChange { job: samples::JOB, number: 70_000 }),
        Line::key::<SecretsOf>("one", ()),
        Line::key::<AccountKeys>("filled", (samples::ACCOUNT, samples::KEY)),
        Line::key::<Users>("filled", samples::EMAIL.to_owned()),
        Line::key::<EndedSessions>("filled", (samples::at(86_400_000), 70_000)),
        Line::key::<Customers>("filled", samples::CUSTOMER.to_owned()),
        Line::key::<AccountSpaces>("filled", (samples::ACCOUNT, samples::SPACE)),
        Line::key::<UnalignedSpaces>("filled", samples::SPACE),
        Line::key::<Channels>("filled", (samples::ACCOUNT, samples::CHANNEL)),
        Line::key::<Due>(item(&delivery), delivery),
        Line::key::<Diagnoses>("filled", scheduled),
        Line::key::<Pulses>("filled", samples::JOB),
        Line::key::<ExecutionHours>("filled", JobHour::of(&scheduled)),
        Line::key::<Deliveries>("filled", delivery_id),
        Line::key::<Deliveries>("executed", samples::delivery_id(EventKind::Executed)),
        Line::key::<Deliveries>("recovered", samples::delivery_id(EventKind::Recovered)),
        Line::key::<DeliveryClaims>("filled", (samples::NODE, delivery_id)),
        Line::key::<Answers>("filled", (samples::ACCOUNT, samples::hash(2))),
        Line::key::<AnswersByExpiry>("filled", (samples::at(86_400_000), samples::ACCOUNT, samples::hash(2))),
    ]
}

pub(crate) fn values() -> Vec<Line> {
    let mut lines = vec![
        Line::value::<Metas>("with-restoring", samples::meta()),
        Line::value::<Metas>("new-with-restoring", storage::schema::Meta::default()),
        Line::value::<Metas>("upgraded", samples::upgraded_meta()),
        Line::value::<Sessions>("filled", samples::session()),
        Line::value::<Nodes>("filled", samples::node()),
        Line::value::<Nodes>("upgraded", samples::upgraded_node()),
        Line::value::<Nodes>("live", samples::live_node()),
        Line::value::<RemovedNodes>("filled", samples::removed_node()),
        Line::value::<ShardMaps>("filled", samples::shard_map()),
        Line::value::<ApiKeys>("used", samples::api_key()),
        Line::value::<ApiKeys>("unused", samples::unused_key()),
        Line::value::<Spaces>("turned", samples::space(Some(samples::at(4)))),
        Line::value::<Spaces>("turned-active", samples::space(None)),
        Line::value::<Jobs>("filled", samples::job()),
        Line::value::<Jobs>("bare", samples::bare_job()),
        Line::value::<JobStates>("with-account", samples::job_state()),
        Line::value::<JobStates>("new-with-account", samples::new_job_state()),
        Line::value::<AccountJobs>("unit", ()),
        Line::value::<SpaceJobs>("unit", ()),
        Line::value::<AccountUsage>("of-month-and-day", samples::usage()),
        Line::value::<Executions>("filled", samples::failed_execution()),
        Line::value::<ResponseBodies>("filled", samples::response_body()),
        Line::value::<Due>("unit", ()),
        Line::value::<Claims>("unit", ()),
        Line::value::<DeletedJobs>("unit", ()),
        Line::value::<Timetables>("filled", samples::timetable()),
        Line::value::<Timetables>("bare", samples::bare_timetable()),
        Line::value::<SecretsOf>("filled", samples::secrets()),
        Line::value::<Accounts>("bare", samples::bare_account()),
        Line::value::<AccountKeys>("filled", samples::key_hash()),
        Line::value::<Users>("filled", samples::user()),
        Line::value::<EndedSessions>("unit", ()),
        Line::value::<Customers>("filled", samples::ACCOUNT),
        Line::value::<AccountSpaces>("unit", ()),
        Line::value::<UnalignedSpaces>("unit", ()),
        Line::value::<Diagnoses>("filled", samples::diagnosis()),
        Line::value::<Pulses>("filled", samples::pulse()),
        Line::value::<Pulses>("new", domain::pulse::Pulse::default()),
        Line::value::<ExecutionHours>("filled", 70_000),
        Line::value::<Deliveries>("filled", samples::delivery()),
        Line::value::<Deliveries>("bare", samples::bare_delivery()),
        Line::value::<DeliveryClaims>("unit", ()),
        Line::value::<Answers>("filled", samples::answer()),
        Line::value::<AnswersByExpiry>("unit", ()),
    ];
    for (label, stage) in [
        ("clearing", RestoreStage::Clearing),
        ("filling", RestoreStage::Filling { next: 299 }),
        ("jobs", RestoreStage::Jobs { after: Some(samples::JOB) }),
        ("first-jobs", RestoreStage::Jobs { after: None }),
        ("deliveries", RestoreStage::Deliveries { after: Some(samples::delivery_id(EventKind::Failed)) }),
        ("first-deliveries", RestoreStage::Deliveries { after: None }),
    ] {
        lines.push(Line::value::<Restores>(label, samples::restore(stage)));
    }
    for config in samples::channel_configs() {
        let label = tables::channel_config(&config);
        let error = (label != "Slack").then(|| samples::TEXT.to_owned());
        let last = (label != "Email").then(|| LastDelivery { at: samples::at(9), error });
        lines.push(Line::value::<Channels>(label, samples::channel(config, last)));
    }
    for plan in tables::plans() {
        lines.push(Line::value::<Accounts>(&format!("{plan:?}-paying"), samples::account(plan)));
    }
    let mut job = |label: String, change: &dyn Fn(&mut domain::job::Job)| {
        let mut job = samples::bare_job();
        change(&mut job);
        lines.push(Line::value::<Jobs>(&label, job));
    };
    for method in tables::methods() {
        job(format!("method-{method:?}"), &|job| job.request.method = method);
    }
    for policy in tables::retry_policies() {
        job(format!("retry-{policy:?}"), &|job| job.retry.policy = policy);
    }
    for overlap in tables::overlap_policies() {
        job(format!("overlap-{overlap:?}"), &|job| job.overlap = overlap);
    }
    for misfire in tables::misfire_policies() {
        job(format!("misfire-{misfire:?}"), &|job| job.misfire = misfire);
    }
    for delivery in tables::deliveries() {
        job(format!("delivery-{delivery:?}"), &|job| job.delivery = delivery);
    }
    for trigger in tables::triggers() {
        let execution =
            domain::execution::Execution { trigger, ..samples::execution(ExecutionState::Pending) };
        lines.push(Line::value::<Executions>(&format!("trigger-{trigger:?}"), execution));
    }
    let finished = tables::execution_statuses()
        .into_iter()
        .map(|status| ExecutionState::Finished { status, at: samples::at(1_251) });
    for state in [ExecutionState::Pending, samples::claimed()].into_iter().chain(finished) {
        let label = match &state {
            ExecutionState::Finished { status, .. } => format!("state-Finished-{status:?}"),
            ExecutionState::Pending | ExecutionState::Claimed { .. } => {
                format!("state-{}", tables::execution_state(&state))
            }
        };
        lines.push(Line::value::<Executions>(&label, samples::execution(state)));
    }
    lines
}
