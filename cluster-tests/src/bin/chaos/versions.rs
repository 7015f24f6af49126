//! Two releases in one cluster, as in an upgrade, and in one that is taken back.

use crate::faults::roll;
use cluster_tests::{Error, binary::Binary, cluster::Cluster, history::History};
use std::{path::Path, process::Command, time::Duration};
use tokio::time::sleep;

/// Starts one node after the other as the older release, and back after a while in the same order.
///
/// # Errors
/// A node that does not stop or come back; [`Error::Input`] without an older release.
pub(crate) async fn mixed(
    old: Option<&Binary>,
    lasting: Duration,
    cluster: &mut Cluster,
    history: &mut History,
) -> Result<(), Error> {
    let old = old.ok_or_else(|| Error::Input("there is no older release".to_owned()))?;
    let new = cluster.binary().clone();
    for binary in [old, &new] {
        roll(Some(binary), cluster, history).await?;
        sleep(lasting).await;
    }
    Ok(())
}

/// How an older release is come by, for somebody who has named none.
pub(crate) fn advice() -> String {
    let mut git = Command::new("git");
    git.args(["tag", "--list", "v*", "--sort=-version:refname"]);
    git.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let output = git.output().map(|output| output.stdout).unwrap_or_default();
    match String::from_utf8_lossy(&output).lines().next() {
        None => "no release has been made yet; --old-binary FILE names another build".to_owned(),
        Some(tag) => format!(
            "build one with `git worktree add ../{tag} {tag} && (cd ../{tag} && cargo build --release -p node)` \
             and name it: --old-binary ../{tag}/target/release/justrun"
        ),
    }
}
