//! What tests are about.

use domain::id::{AccountId, JobId, NodeId, SpaceId};
use domain::job::{Delivery, Job, Method, MisfirePolicy, OverlapPolicy, Request, Retry};
use domain::node::{FeatureLevel, Incarnation, Node, SessionId};
use domain::space::Space;
use domain::time::Timestamp;

/// A job of the first account that is due every minute, in no space.
pub(crate) fn job(id: JobId) -> Job {
    Job {
        id,
        account: AccountId(1),
        space: None,
        name: "payroll".to_owned(),
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
        store_response_body: false,
        alert_channels: None,
        overlap: OverlapPolicy::Allow,
        misfire: MisfirePolicy::RunOnce,
        delivery: Delivery::AtLeastOnce,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

/// A space of the first account that is not paused.
pub(crate) fn space(id: SpaceId) -> Space {
    Space {
        id,
        account: AccountId(1),
        name: "Production".to_owned(),
        timezone: "UTC".to_owned(),
        paused_at: None,
        generation: 0,
        turned_at: Timestamp::EPOCH,
        jobs: 0,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

/// A node that lives.
pub(crate) fn node(id: u64) -> Node {
    Node {
        id: NodeId(id),
        session: SessionId(id),
        incarnation: Incarnation(id * 10),
        api_url: String::new(),
        rpc_addr: String::new(),
        version: String::new(),
        level: FeatureLevel::FIRST,
        registered_at: Timestamp::EPOCH,
        draining: false,
        expired_at: None,
    }
}
