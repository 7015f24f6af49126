//! What commands are about.

use crate::machine::START;
use domain::account::{Account, ApiKey, Plan};
use domain::channel::{Channel, ChannelConfig, EventKind};
use domain::id::{AccountId, ChannelId, JobId, KeyId, SpaceId};
use domain::job::{Delivery, Job, Method, MisfirePolicy, OverlapPolicy, Request, Retry};
use domain::space::Space;
use domain::time::Timestamp;
use raft::command::{Command, CreateChannel, CreateSpace};

pub(crate) const ACCOUNT: AccountId = AccountId(1);
pub(crate) const OTHER: AccountId = AccountId(2);

pub(crate) fn account(id: AccountId) -> Account {
    Account { id, plan: Plan::Free, email: None, billing: None, created_at: START }
}

pub(crate) fn key(account: AccountId, id: u64) -> ApiKey {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&id.to_be_bytes());
    ApiKey {
        id: KeyId(id),
        account,
        name: format!("key {id}"),
        hash,
        last_four: "aB3x".to_owned(),
        created_at: START,
        last_used_at: None,
    }
}

/// A job that is in no space and tells every channel.
pub(crate) fn job(id: u64) -> Job {
    Job {
        id: JobId(id),
        account: ACCOUNT,
        space: None,
        name: format!("job {id}"),
        cron_expression: "* * * * *".to_owned(),
        timezone: "UTC".to_owned(),
        request: Request {
            url: "https://example.com".to_owned(),
            method: Method::Get,
            headers: Vec::new(),
            body: None,
            timeout_sec: 30,
        },
        retry: Retry::default(),
        tags: Vec::new(),
        store_response_body: true,
        alert_channels: None,
        overlap: OverlapPolicy::Allow,
        misfire: MisfirePolicy::RunOnce,
        delivery: Delivery::AtLeastOnce,
        created_at: START,
        updated_at: START,
    }
}

pub(crate) fn space(account: AccountId, id: u64) -> Space {
    Space {
        id: SpaceId(id),
        account,
        name: format!("space {id}"),
        timezone: "UTC".to_owned(),
        paused_at: None,
        generation: 0,
        turned_at: Timestamp::EPOCH,
        jobs: 0,
        created_at: START,
        updated_at: START,
    }
}

pub(crate) fn create_space(account: AccountId, id: u64) -> Command {
    Command::CreateSpace(CreateSpace { space: space(account, id) })
}

/// A webhook that hears of these events.
pub(crate) fn channel(account: AccountId, id: u64, events: &[EventKind]) -> Channel {
    Channel {
        id: ChannelId(id),
        account,
        name: format!("channel {id}"),
        config: ChannelConfig::Webhook {
            url: "https://example.com/hook".to_owned(),
            headers: Vec::new(),
            secret: "whsec_c2VjcmV0".to_owned(),
        },
        events: events.to_vec(),
        last_delivery: None,
        created_at: START,
        updated_at: START,
    }
}

pub(crate) fn create_channel(account: AccountId, id: u64, events: &[EventKind]) -> Command {
    Command::CreateChannel(Box::new(CreateChannel { channel: channel(account, id, events) }))
}
