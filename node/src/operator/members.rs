//! Members join, leave and take over.

use super::OperateError;
use domain::id::NodeId;
use raft::{MemberChange, Operator, OperatorError, Overview, Role};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at a node that catches up, and between two lines about it.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const SAY_INTERVAL: Duration = Duration::from_secs(2);
/// How long the asked node may take to show a level that was raised.
const RAISED_TIMEOUT: Duration = Duration::from_secs(5);

/// Changes the members. What was done, in a sentence.
pub(super) async fn change(
    operator: &Operator,
    change: &MemberChange,
    wait: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<String, OperateError> {
    operator.change(change).await?;
    match change {
        MemberChange::Add { node, .. } => {
            if wait.is_zero() {
                return Ok(format!(
                    "Node {node} is a member. It gets its vote by itself once it has caught up."
                ));
            }
            progress(&format!("node {node} is a member and learns what the others know"));
            wait_for_vote(operator, *node, wait, progress).await?;
            Ok(format!("Node {node} has caught up and votes."))
        }
        MemberChange::Remove(node) => Ok(format!("Node {node} was removed. Its id will not be used again.")),
        MemberChange::TransferLeader(node) => Ok(format!("Node {node} leads.")),
        MemberChange::Upgrade => Ok(upgraded(&raised(operator).await?)),
    }
}

/// How far a node is that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Votes,
    /// Up to which entry it has got, and up to which whoever says so.
    Learns(Option<u64>, u64),
    /// Another operator has removed it meanwhile.
    Gone,
}

fn stage(overview: &Overview, node: NodeId) -> Stage {
    match overview.members.iter().find(|member| member.id == node) {
        None => Stage::Gone,
        Some(member) if member.role == Role::Learner => Stage::Learns(member.applied, overview.applied),
        Some(_) => Stage::Votes,
    }
}

fn say(node: NodeId, applied: Option<u64>, all: u64) -> String {
    match applied {
        Some(applied) if applied > 0 => format!("node {node} is at entry {applied} of {all}"),
        Some(_) | None => format!("node {node} has not been heard of yet; does it run, with --join?"),
    }
}

/// The cluster once the asked node shows what the leader has done.
async fn raised(operator: &Operator) -> Result<Overview, OperateError> {
    let started = Instant::now();
    loop {
        let overview = operator.overview().await?;
        if overview.upgrade().is_none() || started.elapsed() >= RAISED_TIMEOUT {
            return Ok(overview);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// Where the cluster stands, and who keeps it from more.
fn upgraded(overview: &Overview) -> String {
    let supports_more = overview.members.iter().any(|member| member.level > Some(overview.level));
    let holds_back = overview.members.iter().filter(|member| member.level == Some(overview.level));
    let holds_back: Vec<_> = holds_back.map(|member| member.id.to_string()).collect();
    if supports_more && !holds_back.is_empty() {
        let nodes = holds_back.join(", ");
        return format!(
            "The cluster is at feature level {}; more is not supported by: node {nodes}.",
            overview.level
        );
    }
    format!("The cluster is at feature level {}, the highest that all nodes support.", overview.level)
}

async fn wait_for_vote(
    operator: &Operator,
    node: NodeId,
    wait: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<(), OperateError> {
    let started = Instant::now();
    let mut said: Option<Instant> = None;
    let mut last = say(node, None, 0);
    // The asked node may not have heard yet of what the leader has done.
    let mut was_seen = false;
    loop {
        match operator.overview().await.map(|overview| stage(&overview, node)) {
            Ok(Stage::Votes) => return Ok(()),
            Ok(Stage::Learns(applied, all)) => {
                was_seen = true;
                last = say(node, applied, all);
                if said.is_none_or(|said| said.elapsed() >= SAY_INTERVAL) {
                    progress(&last);
                    said = Some(Instant::now());
                }
            }
            Ok(Stage::Gone) if was_seen => {
                return Err(OperateError::Refused(format!("node {node} was removed meanwhile")));
            }
            Ok(Stage::Gone) | Err(OperatorError::NoLeader | OperatorError::Unknown) => {}
            Err(error) => return Err(error.into()),
        }
        if started.elapsed() >= wait {
            return Err(OperateError::NotCaughtUp(format!(
                "node {node} was added but has no vote after {} s: {last}; it gets its vote by itself once it has caught \
                 up, see justrun cluster status",
                wait.as_secs()
            )));
        }
        sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::node::FeatureLevel;
    use raft::MemberOverview;

    fn check(role: Option<Role>, applied: Option<u64>, expected: Stage) {
        let member = |id, role, applied| MemberOverview {
            id: NodeId(id),
            role,
            live: None,
            api_url: None,
            rpc_addr: String::new(),
            applied,
            shards: 0,
            version: None,
            level: None,
        };
        let mut members = vec![member(1, Role::Leader, Some(70))];
        members.extend(role.map(|role| member(4, role, applied)));
        let overview = Overview {
            node: NodeId(1),
            leader: Some(NodeId(1)),
            term: 1,
            applied: 70,
            digest: None,
            restoring: None,
            level: FeatureLevel::FIRST,
            shard_map_version: 1,
            members,
        };
        assert_eq!(stage(&overview, NodeId(4)), expected);
    }

    #[test]
    fn a_node_learns_before_it_votes() {
        check(None, None, Stage::Gone);
        check(Some(Role::Learner), None, Stage::Learns(None, 70));
        check(Some(Role::Learner), Some(9), Stage::Learns(Some(9), 70));
        check(Some(Role::Follower), Some(9), Stage::Votes);
        check(Some(Role::Leader), Some(70), Stage::Votes);
    }

    #[test]
    fn who_holds_the_cluster_back_is_named() {
        let member = |id, level| MemberOverview {
            id: NodeId(id),
            role: Role::Follower,
            live: None,
            api_url: None,
            rpc_addr: String::new(),
            applied: None,
            shards: 0,
            version: None,
            level: Some(FeatureLevel(level)),
        };
        let overview = |level, members| Overview {
            restoring: None,
            node: NodeId(1),
            leader: None,
            term: 1,
            applied: 70,
            digest: None,
            level: FeatureLevel(level),
            shard_map_version: 1,
            members,
        };
        let said = upgraded(&overview(1, vec![member(1, 2), member(2, 1), member(3, 1)]));
        assert_eq!(said, "The cluster is at feature level 1; more is not supported by: node 2, 3.");
        let said = upgraded(&overview(2, vec![member(1, 2), member(2, 2)]));
        assert_eq!(said, "The cluster is at feature level 2, the highest that all nodes support.");
    }

    #[test]
    fn what_is_said_helps() {
        assert_eq!(say(NodeId(4), Some(9), 70), "node 4 is at entry 9 of 70");
        assert!(say(NodeId(4), None, 70).contains("--join"));
    }
}
