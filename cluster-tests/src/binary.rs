//! Which `justrun` is under test.

use crate::Error;
use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Names a binary to use instead of the one beside the harness.
pub const BINARY_VARIABLE: &str = "JUSTRUN_BIN";
/// The same for the binary that has faults.
pub const FAULTS_BINARY_VARIABLE: &str = "JUSTRUN_FAULTS_BIN";

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
        Self::find(FAULTS_BINARY_VARIABLE, "justrun-faults", &["--features", "faults"], profile)
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

    /// The binary at `path`.
    pub fn at(path: PathBuf) -> Self {
        let built = path.metadata().and_then(|metadata| metadata.modified()).ok();
        Self { age: built.and_then(|built| built.elapsed().ok()), path }
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
}
