//! Which `justrun` is under test.

use crate::Error;
use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::timeout;

/// Names a binary to use instead of the one beside the harness.
pub const BINARY_VARIABLE: &str = "JUSTRUN_BIN";
/// The same for the binary that has faults.
pub const FAULTS_BINARY_VARIABLE: &str = "JUSTRUN_FAULTS_BIN";

/// A node that refuses its settings says so at once.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(20);

/// A build profile of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `dev`, in the folder `debug`.
    Dev,
    /// `release`, in the folder of that name.
    Release,
}

impl Profile {
    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

/// The binary and how old it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Where it lies.
    pub path: PathBuf,
    /// Time since it was built, so that a report shows what it speaks of.
    pub age: Option<Duration>,
    /// Whether it follows a file of faults. A build that is shipped refuses to.
    pub takes_faults: bool,
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.age {
            Some(age) => write!(f, ", built {} s ago", age.as_secs()),
            None => Ok(()),
        }
    }
}

impl Binary {
    /// The binary that `JUSTRUN_BIN` names; else the one in the harness's own target folder, in `profile` or,
    /// without one, in the profile that the harness itself was built with. It is built if it is not there
    /// and used as it is if it is: build first to test the newest.
    ///
    /// # Errors
    /// [`Error::Build`] with the last lines of the build, or with what is wrong with `JUSTRUN_BIN`.
    pub fn locate(profile: Option<Profile>) -> Result<Self, Error> {
        Self::find(BINARY_VARIABLE, "justrun", &[], profile)
    }

    /// As [`Binary::locate`], the build that a test can put faults into: `justrun-faults`, or what `JUSTRUN_FAULTS_BIN`
    /// names.
    ///
    /// # Errors
    /// As [`Binary::locate`].
    pub fn with_faults(profile: Option<Profile>) -> Result<Self, Error> {
        let found = Self::find(FAULTS_BINARY_VARIABLE, "justrun-faults", &["--features", "faults"], profile)?;
        Ok(Self { takes_faults: true, ..found })
    }

    fn find(variable: &str, name: &str, flags: &[&str], profile: Option<Profile>) -> Result<Self, Error> {
        if let Some(named) = env::var_os(variable) {
            let path = PathBuf::from(named);
            return if path.is_file() {
                Ok(Self::at(path))
            } else {
                Err(Error::Build(format!("{variable} names {}, which is no file", path.display())))
            };
        }
        let own = env::current_exe().map_err(Error::io("find the harness's own binary"))?;
        let (target_dir, profile) = place(&own, profile)
            .ok_or_else(|| Error::Build(format!("{} lies in no target folder", own.display())))?;
        let path = target_dir.join(profile.folder()).join(name);
        if !path.is_file() {
            build(name, flags, &target_dir, profile)?;
        }
        Ok(Self::at(path))
    }

    /// The binary at `path`, as one that takes no faults.
    pub fn at(path: PathBuf) -> Self {
        let built = path.metadata().and_then(|metadata| metadata.modified()).ok();
        Self { age: built.and_then(|built| built.elapsed().ok()), path, takes_faults: false }
    }

    /// The same binary, after a look whether it takes faults: it is started as a node that cannot have its folder, with a file of
    /// faults, and says which of the two it minds.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Deadline`] if it starts all the same.
    pub async fn probe(self) -> Result<Self, Error> {
        let mut command = tokio::process::Command::new(&self.path);
        forget_settings(&mut command);
        command
            .args(["server", "--node-id", "1", "--data-dir", "/dev/null/none"])
            .args(["--api-addr", "127.0.0.1:0", "--rpc-addr", "127.0.0.1:0", "--cluster", "1=127.0.0.1:1"])
            .args(["--environment", "development", "--faults-file", "/dev/null/none"])
            .env("JUSTRUN_CLUSTER_SECRET", "a secret of nobody and for nothing")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let what = || format!("probe {}", self.path.display());
        let output = timeout(REFUSAL_DEADLINE, command.output()).await.map_err(|_| Error::Deadline {
            what: format!("end of {}", self.path.display()),
            deadline: REFUSAL_DEADLINE,
            seen: "it runs in a folder that cannot be".to_owned(),
        })?;
        let output = output.map_err(Error::io(what()))?;
        let takes_faults = !String::from_utf8_lossy(&output.stderr).contains("faults-file");
        Ok(Self { takes_faults, ..self })
    }
}

/// The settings of whoever runs the harness must not leak into what is tested.
pub(crate) fn forget_settings(command: &mut tokio::process::Command) {
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("JUSTRUN_")) {
        command.env_remove(name);
    }
}

/// The target folder that `own` lies in and the profile to use: tests lie in `<target>/<profile>/deps`,
/// binaries in `<target>/<profile>`.
fn place(own: &Path, profile: Option<Profile>) -> Option<(PathBuf, Profile)> {
    let parent = own.parent()?;
    let folder = if parent.ends_with("deps") { parent.parent()? } else { parent };
    let built_with = if folder.ends_with("release") { Profile::Release } else { Profile::Dev };
    Some((folder.parent()?.to_owned(), profile.unwrap_or(built_with)))
}

fn build(name: &str, flags: &[&str], target_dir: &Path, profile: Profile) -> Result<(), Error> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "-p", "node", "--bin", name, "--profile", profile.name(), "--target-dir"])
        .arg(target_dir)
        .args(flags)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .map_err(Error::io("run cargo"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().collect();
    Err(Error::Build(lines[lines.len().saturating_sub(30)..].join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn tests_and_binaries_find_the_target_folder() {
        let check = |own: &str, asked, folder: &str, profile| {
            assert_eq!(place(Path::new(own), asked), Some((folder.into(), profile)), "{own}");
        };
        check("/t/debug/deps/smoke-1", None, "/t", Profile::Dev);
        check("/t/release/deps/smoke-1", None, "/t", Profile::Release);
        check("/t/release/bench", None, "/t", Profile::Release);
        check("/t/debug/bench", Some(Profile::Release), "/t", Profile::Release);
    }

    #[tokio::test]
    async fn a_build_that_refuses_faults_is_known_by_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        for (said, takes_faults) in [
            ("justrun: --faults-file is for tests, and this build has no faults", false),
            ("error: unexpected argument '--faults-file' found", false),
            ("cannot make /dev/null/none: Not a directory", true),
        ] {
            let path = dir.path().join(format!("justrun-{takes_faults}-{}", said.len()));
            std::fs::write(&path, format!("#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 2\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            let probed = Binary::at(path.clone()).probe().await.unwrap();
            assert_eq!((probed.takes_faults, probed.path), (takes_faults, path), "{said}");
        }
    }
}
