//! One node's process.

use crate::Error;
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use std::{
    process::{Child as StdChild, Command as StdCommand, ExitStatus, Stdio},
    time::Duration,
};
use tokio::process::{Child, Command};

/// SIGKILL cannot be refused; a process that outlives it this long is stuck in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A process that dies with the harness: with a panic, because it is killed on drop; with Ctrl-C or an
/// outer `timeout`, because it stays in the harness's process group; and however else the harness ends,
/// because a watchdog, which only SIGKILL ends, then sees its pipe close.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    watchdog: Watchdog,
}

impl NodeProcess {
    /// Starts the command.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn spawn(mut command: Command) -> Result<Self, Error> {
        let mut child = command.kill_on_drop(true).spawn().map_err(Error::io("start a node"))?;
        let pid = child.id().expect("a child that was not waited for has an id");
        match Watchdog::over(pid) {
            Ok(watchdog) => Ok(Self { child, watchdog }),
            Err(error) => {
                // Dropping kills as well, but this way nothing is left of it even if the runtime ends now.
                let _ = child.start_kill();
                Err(error)
            }
        }
    }

    /// Its process id, until its end has been noticed.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(Error::io("look after a node"))
    }

    /// SIGKILL; returns when the process is gone.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Deadline`].
    pub async fn kill(mut self) -> Result<(), Error> {
        self.signal(Signal::SIGKILL)?;
        self.watchdog.dismiss();
        self.wait(KILL_DEADLINE).await.map(drop)
    }

    /// SIGTERM; returns how it ended. It is killed if that takes longer than `deadline`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Deadline`].
    pub async fn terminate(mut self, deadline: Duration) -> Result<ExitStatus, Error> {
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline).await
    }

    /// SIGSTOP: it freezes, its connections stay open.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn pause(&self) -> Result<(), Error> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume(&self) -> Result<(), Error> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        // Without an id it was waited for, and the number may belong to somebody else by now.
        let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) else { return Ok(()) };
        signal::kill(Pid::from_raw(pid), signal)
            .map_err(|error| Error::io(format!("send {signal} to a node"))(error.into()))
    }

    async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus, Error> {
        match tokio::time::timeout(deadline, self.child.wait()).await {
            Ok(status) => status.map_err(Error::io("wait for a node to end")),
            Err(_) => Err(Error::Deadline {
                what: "end of a node".to_owned(),
                deadline,
                seen: "it still runs".to_owned(),
            }),
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // First, so that the watchdog never knows a number that may already be somebody else's.
        self.watchdog.dismiss();
        let _ = self.child.start_kill();
    }
}

/// A shell that waits for the end of a pipe only this process holds, and then kills the node.
#[derive(Debug)]
struct Watchdog(StdChild);

impl Watchdog {
    fn over(pid: u32) -> Result<Self, Error> {
        StdCommand::new("sh")
            // A signal for the whole group is no reason to leave its node alone.
            .args(["-c", r#"trap '' INT TERM HUP; read -r _; kill -9 "$0""#, &pid.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Self)
            .map_err(Error::io("start a watchdog"))
    }

    fn dismiss(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::eventually;
    use std::os::unix::process::ExitStatusExt;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("60");
        command
    }

    /// The third field of `/proc/<pid>/stat`; none once the process is gone.
    fn state(pid: u32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.trim_start().chars().next()
    }

    async fn becomes(pid: u32, expected: &[Option<char>]) {
        eventually("state", Duration::from_secs(5), async || {
            let found = state(pid);
            if expected.contains(&found) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn pause_resume_terminate() {
        let mut process = NodeProcess::spawn(sleeper()).unwrap();
        let pid = process.pid().unwrap();
        process.pause().unwrap();
        becomes(pid, &[Some('T')]).await;
        process.resume().unwrap();
        becomes(pid, &[Some('S')]).await;
        assert!(process.ended().unwrap().is_none());
        let status = process.terminate(Duration::from_secs(5)).await.unwrap();
        assert_eq!(status.signal(), Some(15));
    }

    #[tokio::test]
    async fn killed_and_dropped_processes_are_gone() {
        let process = NodeProcess::spawn(sleeper()).unwrap();
        let pid = process.pid().unwrap();
        process.kill().await.unwrap();
        assert_eq!(state(pid), None);

        let process = NodeProcess::spawn(sleeper()).unwrap();
        let pid = process.pid().unwrap();
        drop(process);
        becomes(pid, &[None, Some('Z')]).await;
    }

    /// The signals that a process ignores, as in `/proc/<pid>/status`.
    fn ignored(pid: u32) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_signal_for_the_whole_group_does_not_end_the_watchdog() {
        let mut child = sleeper().kill_on_drop(true).spawn().unwrap();
        let mut watchdog = Watchdog::over(child.id().unwrap()).unwrap();
        let signals = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];
        let wanted: u64 = signals.iter().map(|signal| 1 << (*signal as u64 - 1)).sum();
        eventually("ignored signals", Duration::from_secs(5), async || {
            let found = ignored(watchdog.0.id());
            if found & wanted == wanted { Ok(()) } else { Err(format!("{found:x}")) }
        })
        .await
        .unwrap();
        for signal in signals {
            signal::kill(Pid::from_raw(watchdog.0.id().cast_signed()), signal).unwrap();
        }
        assert!(watchdog.0.try_wait().unwrap().is_none());
        drop(watchdog.0.stdin.take());
        let status = tokio::time::timeout(Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
        assert_eq!(status.signal(), Some(9));
        watchdog.dismiss();
    }

    #[tokio::test]
    async fn the_watchdog_kills_when_its_pipe_closes() {
        let mut child = sleeper().kill_on_drop(true).spawn().unwrap();
        let mut watchdog = Watchdog::over(child.id().unwrap()).unwrap();
        drop(watchdog.0.stdin.take());
        let status = tokio::time::timeout(Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
        assert_eq!(status.signal(), Some(9));
        watchdog.dismiss();
    }
}
