//! Nodes that join a cluster that runs, and that leave it for good.

use super::{Cluster, Node, free_addresses, log_tail};
use crate::{Error, api::ClusterView, process::NodeProcess, wait::eventually};
use std::{process::ExitStatus, time::Duration};
use tokio::process::Command;

/// How a node belongs to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is one of the first members, and named as such by `--cluster`.
    Founder,
    /// It has an address, no more.
    Reserved,
    /// It has asked another one to be added.
    Joined,
    /// It was removed, and is told what it was told before.
    Removed {
        /// Whether it was one of the first members.
        founder: bool,
    },
}

impl Place {
    fn is_founder(self) -> bool {
        matches!(self, Self::Founder | Self::Removed { founder: true })
    }
}

impl Cluster {
    /// Chooses addresses for nodes that will join, so that clients can know them before. Their numbers.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn reserve(&mut self, count: usize) -> Result<Vec<u64>, Error> {
        let first = self.nodes.iter().map(|node| node.id).max().unwrap_or(0) + 1;
        let mut ids = Vec::with_capacity(count);
        for (id, pair) in (first..).zip(free_addresses(count * 2)?.chunks_exact(2)) {
            self.nodes.push(Node { id, api: pair[0], rpc: pair[1], place: Place::Reserved, process: None });
            ids.push(id);
        }
        Ok(ids)
    }

    /// Starts a node that asks one of the others to be added.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn join(&mut self, id: u64) -> Result<(), Error> {
        self.node_mut(id).place = Place::Joined;
        self.launch(id)
    }

    /// Has the cluster forget a node, as its operator does who asks the node `asked`.
    ///
    /// # Errors
    /// As [`Cluster::operate`].
    pub async fn remove(&mut self, asked: u64, id: u64) -> Result<(), Error> {
        self.operate(asked, &["cluster", "remove", &id.to_string()]).await?;
        let node = self.node_mut(id);
        node.place = Place::Removed { founder: node.place.is_founder() };
        Ok(())
    }

    /// Runs `justrun` with these words as an operator does who asks one node. What it prints.
    ///
    /// # Errors
    /// [`Error::Input`] with what it says on standard error when it does not end with 0; [`Error::Io`].
    pub async fn operate(&self, asked: u64, words: &[&str]) -> Result<String, Error> {
        let output = Command::new(&self.settings.binary.path)
            .args(words)
            .args(["--rpc-addr", &self.node(asked).rpc.to_string()])
            .env("JUSTRUN_CLUSTER_SECRET", &self.secret)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(Error::io("run an operator's command"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Error::Input(format!("{} ended with {}: {}", words.join(" "), output.status, said.trim())))
        }
    }

    /// Waits until every node that belongs has a vote, is alive, and nobody else is known.
    ///
    /// # Errors
    /// [`Error::Deadline`] with what was seen last.
    pub async fn all_vote(&self, deadline: Duration) -> Result<ClusterView, Error> {
        let expected = self.belonging();
        self.agreed("vote of every node", deadline, |view| {
            let members: Vec<u64> = view.members.iter().map(|member| member.node_id).collect();
            let all_vote = view.members.iter().all(|member| member.role != "learner");
            let objection = view.not_whole(expected.len());
            objection.or_else(|| (members != expected || !all_vote).then(|| format!("{view:?}")))
        })
        .await
    }

    /// Waits until a node has ended by itself. How, and the end of its log.
    ///
    /// # Errors
    /// [`Error::Deadline`] if it does not; [`Error::Input`] if it does not run.
    pub async fn ends(&mut self, id: u64, deadline: Duration) -> Result<(ExitStatus, String), Error> {
        let process = self.node_mut(id).process.take();
        let mut process = process.ok_or_else(|| Error::Input(format!("node {id} does not run")))?;
        let status = ended(&mut process, deadline).await?;
        Ok((status, log_tail(&self.log_path(id))))
    }

    /// The numbers of the nodes that belong to the cluster, running or not.
    pub(super) fn belonging(&self) -> Vec<u64> {
        let belongs = |node: &&Node| matches!(node.place, Place::Founder | Place::Joined);
        let mut ids: Vec<u64> = self.nodes.iter().filter(belongs).map(|node| node.id).collect();
        ids.sort_unstable();
        ids
    }

    /// How a node is told to which cluster it belongs.
    pub(super) fn whose(&self, id: u64) -> [String; 2] {
        if self.node(id).place.is_founder() {
            let peers = self.nodes.iter().filter(|node| node.place.is_founder());
            let peers: Vec<_> = peers.map(|node| format!("{}={}", node.id, node.rpc)).collect();
            return ["--cluster".to_owned(), peers.join(",")];
        }
        let is_there = |node: &&Node| {
            node.id != id && node.process.is_some() && matches!(node.place, Place::Founder | Place::Joined)
        };
        let via = self.nodes.iter().find(is_there).map_or_else(|| self.node(id).rpc, |node| node.rpc);
        ["--join".to_owned(), via.to_string()]
    }
}

async fn ended(process: &mut NodeProcess, deadline: Duration) -> Result<ExitStatus, Error> {
    eventually("end of a node", deadline, async || match process.ended() {
        Ok(Some(status)) => Ok(Ok(status)),
        Ok(None) => Err("it still runs".to_owned()),
        Err(error) => Ok(Err(error)),
    })
    .await?
}
