//! The names of all variants. A new variant breaks the build here, and a variant without a golden line the test.

use domain::account::Plan;
use domain::channel::{ChannelConfig, EventKind};
use domain::delivery::DeliveryResult;
use domain::execution::{
    AttemptResult, DueItem, ErrorKind, ExecutionState, ExecutionStatus, NotRecorded, Trigger,
};
use domain::job::{Delivery, Method, MisfirePolicy, OverlapPolicy, RetryPolicy};
use domain::rejection::Rejection;
use openraft::EntryPayload;
use raft::TypeConfig;
use raft::command::{Applied, ClaimTarget, Command};

type Payload = openraft::alias::EntryPayloadOf<TypeConfig>;

/// A function from a value to its variant's name, and the names of all variants.
macro_rules! table {
    ($name:ident, $all:ident, $type:ty { $($pattern:pat => $label:literal),+ $(,)? }) => {
        pub(crate) const $all: &[&str] = &[$($label),+];

        pub(crate) fn $name(value: &$type) -> &'static str {
            match value { $($pattern => $label),+ }
        }
    };
}

table!(command, COMMANDS, Command {
    Command::RegisterNode(_) => "RegisterNode",
    Command::DrainNode(_) => "DrainNode",
    Command::ExpireNode(_) => "ExpireNode",
    Command::RemoveNode(_) => "RemoveNode",
    Command::RaiseLevel(_) => "RaiseLevel",
    Command::SetShardMap(_) => "SetShardMap",
    Command::Bootstrap(_) => "Bootstrap",
    Command::CreateSpace(_) => "CreateSpace",
    Command::CreateJob(_) => "CreateJob",
    Command::UpdateJob(_) => "UpdateJob",
    Command::DeleteJob(_) => "DeleteJob",
    Command::PauseJob(_) => "PauseJob",
    Command::ResumeJob(_) => "ResumeJob",
    Command::RunJob(_) => "RunJob",
    Command::Claim(_) => "Claim",
    Command::Release(_) => "Release",
    Command::Record(_) => "Record",
    Command::Sweep(_) => "Sweep",
    Command::Prune(_) => "Prune",
    Command::CreateAccount(_) => "CreateAccount",
    Command::CreateKey(_) => "CreateKey",
    Command::RevokeKey(_) => "RevokeKey",
    Command::NoteKeyUse(_) => "NoteKeyUse",
    Command::SetSessionKey(_) => "SetSessionKey",
    Command::EndSession(_) => "EndSession",
    Command::ChangeBilling(_) => "ChangeBilling",
    Command::SaveDiagnosis(_) => "SaveDiagnosis",
    Command::UpdateSpace(_) => "UpdateSpace",
    Command::DeleteSpace(_) => "DeleteSpace",
    Command::PauseSpace(_) => "PauseSpace",
    Command::ResumeSpace(_) => "ResumeSpace",
    Command::AlignSpace(_) => "AlignSpace",
    Command::CreateChannel(_) => "CreateChannel",
    Command::UpdateChannel(_) => "UpdateChannel",
    Command::DeleteChannel(_) => "DeleteChannel",
    Command::RecordDelivery(_) => "RecordDelivery",
    Command::Once(_) => "Once",
    Command::BeginRestore(_) => "BeginRestore",
    Command::RestorePart(_) => "RestorePart",
    Command::StepRestore(_) => "StepRestore",
});

table!(claim_target, CLAIM_TARGETS, ClaimTarget {
    ClaimTarget::Firing { .. } => "Firing",
    ClaimTarget::Missed { .. } => "Missed",
    ClaimTarget::Delivery { .. } => "Delivery",
    ClaimTarget::Execution { .. } => "Execution",
});

table!(attempt_result, ATTEMPT_RESULTS, AttemptResult {
    AttemptResult::Sent { .. } => "Sent",
    AttemptResult::Skipped { .. } => "Skipped",
});

table!(delivery_result, DELIVERY_RESULTS, DeliveryResult {
    DeliveryResult::Delivered => "Delivered",
    DeliveryResult::Failed { .. } => "Failed",
    DeliveryResult::GivenUp { .. } => "GivenUp",
});

table!(channel_config, CHANNEL_CONFIGS, ChannelConfig {
    ChannelConfig::Slack { .. } => "Slack",
    ChannelConfig::Discord { .. } => "Discord",
    ChannelConfig::Email { .. } => "Email",
    ChannelConfig::Webhook { .. } => "Webhook",
    ChannelConfig::PagerDuty { .. } => "PagerDuty",
});

table!(applied, APPLIED, Applied {
    Applied::Done => "Done",
    Applied::Registered(_) => "Registered",
    Applied::Claimed(_) => "Claimed",
    Applied::All(_) => "All",
    Applied::Swept(_) => "Swept",
});

table!(rejection, REJECTIONS, Rejection {
    Rejection::NoSuchAccount => "NoSuchAccount",
    Rejection::NoSuchJob => "NoSuchJob",
    Rejection::NoSuchSpace => "NoSuchSpace",
    Rejection::NoSuchKey => "NoSuchKey",
    Rejection::NoSuchChannel => "NoSuchChannel",
    Rejection::NoSuchDelivery => "NoSuchDelivery",
    Rejection::NoSuchExecution => "NoSuchExecution",
    Rejection::NoSuchNode => "NoSuchNode",
    Rejection::NodeRemoved => "NodeRemoved",
    Rejection::LevelTooLow { .. } => "LevelTooLow",
    Rejection::LevelUnsupported { .. } => "LevelUnsupported",
    Rejection::Exists => "Exists",
    Rejection::AlreadyPaused => "AlreadyPaused",
    Rejection::AlreadyActive => "AlreadyActive",
    Rejection::TooManyJobs { .. } => "TooManyJobs",
    Rejection::TooManyDiagnoses { .. } => "TooManyDiagnoses",
    Rejection::TooMany { .. } => "TooMany",
    Rejection::EmailTaken => "EmailTaken",
    Rejection::SpaceNotEmpty => "SpaceNotEmpty",
    Rejection::Answered => "Answered",
    Rejection::TooManyOpen => "TooManyOpen",
    Rejection::Stale => "Stale",
    Rejection::NotClaimable => "NotClaimable",
    Rejection::NotRecorded(_) => "NotRecorded",
    Rejection::NotLive => "NotLive",
    Rejection::UnknownSession => "UnknownSession",
    Rejection::AlreadyBootstrapped => "AlreadyBootstrapped",
    Rejection::Restoring => "Restoring",
    Rejection::NotEmpty => "NotEmpty",
    Rejection::UnreadablePart => "UnreadablePart",
});

table!(not_recorded, NOT_RECORDED, NotRecorded {
    NotRecorded::Finished => "Finished",
    NotRecorded::Superseded => "Superseded",
});

table!(execution_state, EXECUTION_STATES, ExecutionState {
    ExecutionState::Pending => "Pending",
    ExecutionState::Claimed { .. } => "Claimed",
    ExecutionState::Finished { .. } => "Finished",
});

table!(due_item, DUE_ITEMS, DueItem {
    DueItem::Firing(_) => "Firing",
    DueItem::Execution(_) => "Execution",
    DueItem::Delivery(_) => "Delivery",
});

table!(payload, PAYLOADS, Payload {
    EntryPayload::Blank => "blank",
    EntryPayload::Normal(_) => "normal",
    EntryPayload::Membership(_) => "membership",
});

/// All variants of an enum whose variants hold nothing; the match is there to break the build for a new one.
macro_rules! variants {
    ($all:ident, $type:ident: $first:ident, $($other:ident),+ $(,)?) => {
        pub(crate) fn $all() -> Vec<$type> {
            match $type::$first {
                $type::$first $(| $type::$other)+ => vec![$type::$first, $($type::$other),+],
            }
        }
    };
}

variants!(plans, Plan: Free, Maker, Pro, Scale);
variants!(methods, Method: Get, Post, Put, Patch, Delete);
variants!(retry_policies, RetryPolicy: None, Fixed, Linear, Exponential);
variants!(overlap_policies, OverlapPolicy: Allow, Skip);
variants!(misfire_policies, MisfirePolicy: RunOnce, Skip);
variants!(deliveries, Delivery: AtLeastOnce, AtMostOnce);
variants!(event_kinds, EventKind: Executed, Failed, Recovered);
variants!(triggers, Trigger: Schedule, Manual);
variants!(execution_statuses, ExecutionStatus: Success, Failed, Skipped);
variants!(error_kinds, ErrorKind: Timeout, Connect, Dns, Tls, HttpStatus, BlockedTarget, NodeLost);
