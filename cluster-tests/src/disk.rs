//! A small file system for one node alone, which can be filled to the last block: an ext4 image on a loop device, which needs
//! root and `mkfs.ext4`.
//!
//! The image lies in the folder of the run. After a run that failed, `mount -o loop` shows what the node had.

use crate::{
    Error,
    cluster::Cluster,
    history::{Fault, FaultKind},
};
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};
use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The image takes only as much room as the node has written.
const BYTES: u64 = 1024 * 1024 * 1024;
/// What the names of our mount points begin with; the harness's process id follows, and then whose it is.
const PREFIX: &str = "jrdisk";
/// The ballast is laid in pieces, each a quarter of those before: the last are smaller than a block.
const PIECE_BYTES: i64 = 256 * 1024 * 1024;
const PIECE_BYTES_MIN: i64 = 1024;

/// The file system of one node. Dropping it unmounts it; the image stays.
#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
}

impl Disk {
    /// A file system for this node, with its image and where it is mounted in `dir`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Input`] where the machine does not allow it.
    pub fn make(dir: &Path, node: u64) -> Result<Self, Error> {
        sweep();
        let image = dir.join(format!("node-{node}.img"));
        let file = File::create_new(&image).map_err(Error::io("make the image of a disk"))?;
        file.set_len(BYTES).map_err(Error::io("make the image of a disk"))?;
        // Nothing is kept back for root, which the nodes may be.
        let args = ["-q", "-F", "-m", "0"].map(Path::new);
        run("mkfs.ext4", args.into_iter().chain([image.as_path()]))?;
        let mount = dir.join(format!("{PREFIX}{}-{node}", std::process::id()));
        fs::create_dir(&mount).map_err(Error::io("make a folder to mount at"))?;
        // What is freed is freed in the image too.
        let args = ["-o", "loop,discard"].map(Path::new);
        run("mount", args.into_iter().chain([image.as_path(), mount.as_path()]))?;
        Ok(Self { mount })
    }

    /// Whether this machine allows it.
    ///
    /// # Errors
    /// As [`Disk::make`].
    pub fn allowed() -> Result<(), Error> {
        let dir = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        Self::make(dir.path(), 1).map(drop)
    }

    /// A folder on it.
    pub fn data_dir(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Fills it; once more, if something was freed since.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn fill(&self) -> Result<(), Error> {
        let file = OpenOptions::new().create(true).append(true).open(self.ballast());
        let file = file.map_err(Error::io("open the ballast of a disk"))?;
        let length = file.metadata().map_err(Error::io("measure the ballast of a disk"))?.len();
        let mut end = i64::try_from(length).unwrap_or(i64::MAX);
        let mut piece = PIECE_BYTES;
        while piece >= PIECE_BYTES_MIN {
            match fallocate(&file, FallocateFlags::empty(), end, piece) {
                Ok(()) => end += piece,
                Err(Errno::ENOSPC) => piece /= 4,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(Error::io("lay the ballast of a disk")(error.into())),
            }
        }
        Ok(())
    }

    /// Takes the ballast away.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn clear(&self) -> Result<(), Error> {
        fs::remove_file(self.ballast()).map_err(Error::io("remove the ballast of a disk"))
    }

    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }
}

impl Cluster {
    /// Fills a node's disk.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Input`] if it has none of its own.
    pub fn fill_disk(&self, id: u64) -> Result<Fault, Error> {
        let fault = Fault::now(id, FaultKind::Cut);
        self.disk(id)?.fill()?;
        Ok(fault)
    }

    /// Gives it its room back.
    ///
    /// # Errors
    /// As [`Cluster::fill_disk`].
    pub fn clear_disk(&self, id: u64) -> Result<Fault, Error> {
        let fault = Fault::now(id, FaultKind::Heal);
        self.disk(id)?.clear()?;
        Ok(fault)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.mount);
    }
}

/// The loop device goes with the mount.
fn unmount(mount: &Path) {
    // A process that was only just killed may still have files open there: then it goes with the process.
    let _ = run("umount", [mount]).or_else(|_| run("umount", [Path::new("--lazy"), mount]));
}

/// Unmounts the disks of harnesses that were killed; their images stay in the folders of their runs.
fn sweep() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mount in mounts.lines().filter_map(|line| line.split_whitespace().nth(1)).map(Path::new) {
        let name = mount.file_name().and_then(|name| name.to_str());
        let owner = name.and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')?.0.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            unmount(mount);
        }
    }
}

/// Runs a program to its end.
fn run<'a>(program: &str, args: impl IntoIterator<Item = &'a Path>) -> Result<(), Error> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let output = command.output().map_err(Error::io(format!("run {program}")))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(Error::Input(format!("{program}: {}", complaint.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, ErrorKind, Write};

    /// Says so where the machine does not allow it.
    fn disk(dir: &Path) -> Option<Disk> {
        match Disk::make(dir, 1) {
            Ok(disk) => Some(disk),
            Err(error) => {
                let _ = writeln!(io::stderr(), "SKIPPED: {error}");
                None
            }
        }
    }

    fn is_mounted(mount: &Path) -> bool {
        fs::read_to_string("/proc/self/mounts").unwrap().contains(mount.to_str().unwrap())
    }

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let Some(disk) = disk(dir.path()) else { return };
        fs::create_dir(disk.data_dir()).unwrap();
        let path = disk.data_dir().join("file");
        fs::write(&path, [1; 100_000]).unwrap();
        let append = || {
            let mut file = OpenOptions::new().append(true).open(&path)?;
            file.write_all(&[2; 10_000])?;
            file.sync_all()
        };
        append().unwrap();
        disk.fill().unwrap();
        assert_eq!(append().unwrap_err().kind(), ErrorKind::StorageFull);
        // The rest of a block that was begun may still be written; freed room is taken again.
        fs::write(disk.data_dir().join("file"), []).unwrap();
        disk.fill().unwrap();
        assert_eq!(append().unwrap_err().kind(), ErrorKind::StorageFull);
        disk.clear().unwrap();
        append().unwrap();

        let mount = disk.mount.clone();
        assert!(is_mounted(&mount));
        drop(disk);
        assert!(!is_mounted(&mount));
    }

    #[test]
    fn disks_of_the_dead_are_unmounted_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let Some(living) = disk(dir.path()) else { return };
        // A process that has ended, whose number is free again.
        let mut child = Command::new("true").spawn().unwrap();
        let gone = child.id();
        child.wait().unwrap();
        let orphan = dir.path().join(format!("{PREFIX}{gone}-1"));
        fs::create_dir(&orphan).unwrap();
        run("mount", ["-t", "tmpfs", "tmpfs"].map(Path::new).into_iter().chain([orphan.as_path()])).unwrap();
        sweep();
        assert!(!is_mounted(&orphan));
        assert!(is_mounted(&living.mount));
    }
}
