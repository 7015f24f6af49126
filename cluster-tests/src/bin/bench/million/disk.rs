//! What a node has on its disk, by the layout that `storage/src/directory.rs` describes.

use cluster_tests::cluster::Cluster;
use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Bytes of a block as `stat` counts them.
const BLOCK_BYTES: u64 = 512;

/// What is taken from the disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) state: u64,
    pub(super) log: u64,
    pub(super) snapshots: u64,
}

impl Sizes {
    pub(super) fn of(cluster: &Cluster, node: u64) -> Self {
        Self::of_dir(&cluster.data_dir(node))
    }

    fn of_dir(dir: &Path) -> Self {
        let mut sizes = Self::default();
        for (path, _) in entries(dir) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            match name.as_str() {
                "log" => sizes.log += taken(&path),
                "snapshots" => sizes.snapshots += taken(&path),
                name if name.starts_with("state-") => sizes.state += taken(&path),
                _ => {}
            }
        }
        sizes
    }

    pub(super) fn all(self) -> u64 {
        self.state + self.log + self.snapshots
    }
}

/// Where a node's snapshots are.
pub(super) fn snapshots(cluster: &Cluster, node: u64) -> PathBuf {
    cluster.data_dir(node).join("snapshots")
}

/// Whether a snapshot is being written there.
pub(super) fn is_being_written(folder: &Path) -> bool {
    entries(folder).iter().any(|(path, _)| path.extension().is_some_and(|extension| extension == "writing"))
}

/// Bytes of the newest snapshot there.
pub(super) fn newest_snapshot_bytes(folder: &Path) -> u64 {
    let whole = |(path, _): &(PathBuf, Metadata)| path.extension().is_some_and(|found| found == "snap");
    let newest = entries(folder).into_iter().filter(whole).max_by(|(a, _), (b, _)| a.cmp(b));
    newest.map_or(0, |(_, metadata)| metadata.len())
}

/// Bytes that a folder takes, with all that is below it.
fn taken(folder: &Path) -> u64 {
    let of = |(path, metadata): &(PathBuf, Metadata)| {
        if metadata.is_dir() { taken(path) } else { metadata.blocks() * BLOCK_BYTES }
    };
    entries(folder).iter().map(of).sum()
}

/// What is in a folder. What comes or goes meanwhile may be missing.
fn entries(folder: &Path) -> Vec<(PathBuf, Metadata)> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    found.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_measured_part_by_part() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: usize| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![7; bytes]).unwrap();
        };
        write("state-2/db", 100_000);
        write("state-2/blobs/1", 50_000);
        write("log/1.raftlog", 30_000);
        write("snapshots/00000000000000000009.snap", 9_000);
        write("snapshots/00000000000000000010.snap", 10_000);
        write("NODE", 1);
        let sizes = Sizes::of_dir(dir.path());
        assert!((150_000..200_000).contains(&sizes.state), "{sizes:?}");
        assert!((30_000..40_000).contains(&sizes.log), "{sizes:?}");
        assert_eq!(sizes.all(), sizes.state + sizes.log + sizes.snapshots);

        let folder = dir.path().join("snapshots");
        assert_eq!((newest_snapshot_bytes(&folder), is_being_written(&folder)), (10_000, false));
        write("snapshots/00000000000000000011.writing", 1);
        assert_eq!((newest_snapshot_bytes(&folder), is_being_written(&folder)), (10_000, true));
    }
}
