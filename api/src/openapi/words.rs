//! The words that fields take or show, as schemas made of the lists that the code itself goes by.

use crate::error;
use crate::openapi::shape;
use crate::resources::{channels, jobs};
use domain::account::Plan;
use domain::channel::EventKind;
use domain::execution::{ErrorKind, ExecutionStatus, Trigger};
use domain::job::{Delivery, Method, MisfirePolicy, OverlapPolicy, RetryPolicy};
use std::borrow::Cow;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Types that exist in the document only, each one of a few words.
macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident = $words:expr;)+) => {$(
        $(#[doc = $doc])+
        pub(crate) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let about = [$($doc.trim()),+].join(" ");
                shape::one_of($words).description(Some(about)).into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).trim_end_matches("Word").into()
            }
        }
    )+};
}

words! {
    /// The HTTP method of a job's request.
    MethodWord = Method::ALL.map(|(_, word)| word);
    /// Whether a job fires. That of its space is another matter: a job in a paused space stays `active` and has
    /// no `next_run_at`.
    StatusWord = ["active", "paused"];
    /// How long to wait before attempt n + 1: `fixed` waits `retry_delay_sec`, `linear` n times as long,
    /// `exponential` 2^(n-1) times as long; at most 24 hours. A target that answers 429 or 503 with `Retry-After` is
    /// left alone at least for as long as it asks.
    RetryPolicyWord = RetryPolicy::ALL.map(jobs::retry_policy);
    /// What a firing does while the previous one still runs: `allow` starts it, `skip` records it as skipped.
    OverlapPolicyWord = OverlapPolicy::ALL.map(jobs::overlap_policy);
    /// What happens to firings that were missed while the whole cluster was down: `run_once` makes up for all of
    /// them with one, `skip` records them as skipped.
    MisfirePolicyWord = MisfirePolicy::ALL.map(jobs::misfire_policy);
    /// What happens to an execution whose node died in mid-request: `at_least_once` sends it again under the same
    /// execution id, `at_most_once` fails it with `node_lost`.
    DeliveryWord = Delivery::ALL.map(jobs::delivery);
    /// How an execution ended.
    ResultWord = ExecutionStatus::ALL.map(ExecutionStatus::as_str);
    /// Where an execution stands: `pending` until it is sent (also between attempts), `running`, or how it ended.
    ExecutionStatusWord = ["pending", "running"].into_iter().chain(ExecutionStatus::ALL.map(ExecutionStatus::as_str));
    /// What started an execution.
    TriggerWord = Trigger::ALL.map(Trigger::as_str);
    /// What kind of failure it was.
    ErrorKindWord = ErrorKind::ALL.map(ErrorKind::as_str);
    /// What a channel is told of: `job.executed` after each execution, `job.failed` after one that failed with all
    /// its retries, `job.recovered` when a job that was failing succeeds again.
    EventWord = EventKind::ALL.map(EventKind::as_str);
    /// The type of an alert channel. It cannot be changed.
    ChannelTypeWord = channels::Kind::ALL.map(channels::Kind::as_str);
    /// Whether a message arrived.
    DeliveredWord = ["delivered", "failed"];
    /// The plan of an account.
    PlanWord = Plan::ALL.map(Plan::as_str);
    /// What to do with the jobs.
    BulkActionWord = jobs::BULK_ACTIONS;
    /// What a node is to the cluster.
    RoleWord = raft::Role::ALL.map(raft::Role::as_str);
    /// What programs know a refusal by.
    ErrorCodeWord = error::CODES;
}
