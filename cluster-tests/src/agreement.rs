//! Whether the replicas are equal: each node shows the digest of all that was written up to an entry of the log, and those
//! of one entry must be the same.

use crate::{
    Error,
    api::{Api, ClusterView},
    cluster::Cluster,
    wait::eventually,
};
use futures::future::join_all;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

impl Cluster {
    /// Waits until all nodes that were not stopped have shown the same digest at one entry of the log. Returns its index.
    ///
    /// # Errors
    /// [`Error::Diverged`] as soon as two digests of one entry differ, [`Error::Deadline`] with what the nodes showed last.
    pub async fn same_state(&self, deadline: Duration) -> Result<u64, Error> {
        same_state(&self.apis(), deadline).await
    }
}

async fn same_state(apis: &[Api], deadline: Duration) -> Result<u64, Error> {
    let mut shown = Shown::default();
    eventually("equal replicas", deadline, async || {
        let mut last = Vec::new();
        // Together: under load the log grows between one answer and the next.
        for answer in join_all(apis.iter().map(Api::cluster)).await {
            match answer {
                Ok(view) => {
                    last.push(label(&view));
                    // Carried through the loop as a success: it will not get better.
                    if let Err(error) = shown.note(&view) {
                        return Ok(Err(error));
                    }
                }
                Err(error) => last.push(error.to_string()),
            }
        }
        match shown.agreed(apis.len()) {
            Some(index) => Ok(Ok(index)),
            None => Err(last.join("; ")),
        }
    })
    .await?
}

/// Digests by the entry up to which they go, and the nodes that have shown them.
#[derive(Debug, Default)]
struct Shown(BTreeMap<u64, BTreeMap<u64, String>>);

impl Shown {
    /// # Errors
    /// [`Error::Diverged`] if another digest was shown for the entry.
    fn note(&mut self, view: &ClusterView) -> Result<(), Error> {
        let Some(digest) = &view.state_digest else { return Ok(()) };
        let nodes = self.0.entry(view.applied_index).or_default();
        nodes.insert(view.node_id, digest.clone());
        if nodes.values().collect::<BTreeSet<_>>().len() > 1 {
            let nodes = nodes.iter().map(|(node, digest)| format!("node {node} has {digest}"));
            let nodes = nodes.collect::<Vec<_>>().join(", ");
            return Err(Error::Diverged { index: view.applied_index, nodes });
        }
        Ok(())
    }

    /// The last entry for which so many nodes have shown their digest.
    fn agreed(&self, nodes: usize) -> Option<u64> {
        let mut all = self.0.iter().rev().filter(|(_, shown)| shown.len() == nodes);
        all.next().map(|(index, _)| *index)
    }
}

fn label(view: &ClusterView) -> String {
    let digest = view.state_digest.as_deref().unwrap_or("none");
    format!("node {} at {} has {digest}", view.node_id, view.applied_index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use axum::{Json, Router, routing::get};
    use serde_json::json;
    use std::sync::{Arc, Mutex};
    use tokio::{net::TcpListener, task::JoinSet};

    /// What a node shows, one look after the other, the last for ever.
    async fn node(servers: &mut JoinSet<()>, node_id: u64, looks: &[(u64, Option<&str>)]) -> Api {
        let looks: Vec<_> = looks.iter().map(|(index, digest)| (*index, digest.map(str::to_owned))).collect();
        let next = Arc::new(Mutex::new(looks.into_iter().peekable()));
        let answer = move || {
            let mut next = next.lock().unwrap();
            let (applied_index, state_digest) = next.peek().cloned().unwrap();
            if next.len() > 1 {
                next.next();
            }
            let data = json!({
                "node_id": node_id, "leader_id": 1, "term": 1, "applied_index": applied_index,
                "state_digest": state_digest, "shard_map_version": 1, "members": [],
            });
            async move { Json(json!({ "data": data })) }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/cluster", get(answer));
        servers.spawn(async { axum::serve(listener, router).await.unwrap() });
        Api::new(Client::new(Duration::from_secs(5)), url, "key")
    }

    async fn outcome(nodes: &[&[(u64, Option<&str>)]], deadline: Duration) -> Result<u64, String> {
        let mut servers = JoinSet::new();
        let mut apis = Vec::new();
        for (id, looks) in (1..).zip(nodes) {
            apis.push(node(&mut servers, id, looks).await);
        }
        same_state(&apis, deadline).await.map_err(|error| error.to_string())
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn nodes_agree_once_each_has_shown_the_same_of_one_entry() {
        let three: [&[_]; 3] = [
            &[(5, Some("a5")), (7, Some("a7")), (9, Some("a9"))],
            // It passes the entry before the others do, and none is at the same one at the same time.
            &[(4, Some("a4")), (9, Some("a9")), (11, Some("b11"))],
            &[(6, None), (7, Some("a7")), (8, Some("a8")), (9, Some("a9"))],
        ];
        assert_eq!(outcome(&three, PATIENCE).await, Ok(9));
    }

    #[tokio::test]
    async fn two_digests_of_one_entry_end_the_wait() {
        let three: [&[_]; 3] =
            [&[(5, Some("a5")), (7, Some("a7"))], &[(7, Some("b7")), (8, Some("b8"))], &[(6, Some("a6"))]];
        assert_eq!(
            outcome(&three, PATIENCE).await,
            Err("replicas differ at log entry 7: node 1 has a7, node 2 has b7".to_owned())
        );
    }

    #[tokio::test]
    async fn who_shows_no_digest_has_not_agreed() {
        let two: [&[_]; 2] = [&[(5, Some("a5"))], &[(5, None)]];
        let error = outcome(&two, Duration::ZERO).await.unwrap_err();
        assert!(error.ends_with("last seen: node 1 at 5 has a5; node 2 at 5 has none"), "{error}");
    }
}
