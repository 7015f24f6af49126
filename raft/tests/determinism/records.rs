//! What the commands of the log carry.

use crate::writer::Random;
use domain::account::{Account, ApiKey, Billing, KeyHash, Plan, User};
use domain::channel::{Channel, ChannelConfig, EventKind};
use domain::execution::Diagnosis;
use domain::id::{AccountId, ChannelId, JobId, KeyId, NodeId, SpaceId};
use domain::job::{Delivery, Job, Method, MisfirePolicy, OverlapPolicy, Request, Retry};
use domain::node::{FeatureLevel, SessionId};
use domain::space::Space;
use domain::time::Timestamp;
use raft::command::{Bootstrap, Command, RegisterNode};

/// Whose the jobs are.
pub(crate) const ACCOUNT: AccountId = AccountId(1);

pub(crate) fn register(node: NodeId) -> Command {
    Command::RegisterNode(RegisterNode {
        node,
        session: SessionId(node.0 * 1_000),
        api_url: "http://localhost".to_owned(),
        rpc_addr: "localhost:1".to_owned(),
        version: "0".to_owned(),
        level: FeatureLevel(2),
        at: Timestamp::EPOCH,
    })
}

pub(crate) fn account(id: AccountId) -> Account {
    let created_at = Timestamp::from_secs(5);
    Account { id, plan: Plan::Scale, email: None, billing: None, created_at }
}

pub(crate) fn bootstrap() -> Bootstrap {
    Bootstrap { account: account(ACCOUNT), key: key(ACCOUNT, 3) }
}

pub(crate) fn hash(number: u64) -> KeyHash {
    let mut hash = [7; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    hash
}

pub(crate) fn key(account: AccountId, id: u64) -> ApiKey {
    ApiKey {
        id: KeyId(id),
        account,
        name: "k".to_owned(),
        hash: hash(id),
        last_four: "abcd".to_owned(),
        created_at: Timestamp::from_secs(5),
        last_used_at: None,
    }
}

pub(crate) fn user(account: AccountId, number: u64, at: Timestamp) -> User {
    let (email, password) = (format!("{number}@example.com"), "$argon2id$".to_owned());
    User { email, account, password, created_at: at }
}

pub(crate) fn billing(customer: u64, changed_at: Timestamp) -> Billing {
    Billing { customer: format!("cus_{customer}"), subscription: None, changed_at }
}

pub(crate) fn diagnosis(at: Timestamp) -> Diagnosis {
    Diagnosis { text: "it is down".to_owned(), model: "m".to_owned(), created_at: at }
}

pub(crate) fn space(id: SpaceId, at: Timestamp) -> Space {
    Space {
        id,
        account: ACCOUNT,
        name: "s".to_owned(),
        timezone: "UTC".to_owned(),
        paused_at: None,
        generation: 0,
        turned_at: Timestamp::EPOCH,
        jobs: 0,
        created_at: at,
        updated_at: at,
    }
}

pub(crate) fn channel(random: &mut Random, at: Timestamp) -> Channel {
    let url = "https://example.com".to_owned();
    let config = if random.chance(2) {
        ChannelConfig::Slack { webhook_url: url }
    } else {
        ChannelConfig::PagerDuty { url, headers: Vec::new(), routing_key: Some("0".repeat(32)), secret: None }
    };
    Channel {
        id: ChannelId(random.below(4)),
        account: ACCOUNT,
        name: "c".to_owned(),
        config,
        events: EventKind::ALL.into_iter().filter(|_| !random.chance(3)).collect(),
        last_delivery: None,
        created_at: at,
        updated_at: at,
    }
}

pub(crate) fn job(random: &mut Random, id: JobId, at: Timestamp) -> Job {
    Job {
        id,
        account: ACCOUNT,
        space: random.chance(2).then(|| SpaceId(random.below(4))),
        name: format!("job {}", random.below(100)),
        cron_expression: "@every 1s".to_owned(),
        timezone: "UTC".to_owned(),
        request: Request {
            url: "https://example.com".to_owned(),
            method: Method::Post,
            headers: vec![("X-A".to_owned(), "b".to_owned())],
            body: Some("y".repeat(usize::try_from(random.below(2_000)).unwrap())),
            timeout_sec: 30,
        },
        retry: Retry::default(),
        tags: vec!["t".to_owned()],
        store_response_body: true,
        alert_channels: random.chance(4).then(|| vec![ChannelId(random.below(5))]),
        overlap: OverlapPolicy::Allow,
        misfire: MisfirePolicy::RunOnce,
        delivery: if random.chance(2) { Delivery::AtLeastOnce } else { Delivery::AtMostOnce },
        created_at: Timestamp::from_secs(1_000 + id.0),
        updated_at: at,
    }
}
