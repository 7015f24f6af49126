//! Ctrl-C and SIGTERM end a run early, but as a run ends: with its history written, its nodes killed and its network and disks gone.

use cluster_tests::Error;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for one of them, and says which.
pub(crate) async fn come() -> Error {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (mut interrupt, mut terminate) = match (interrupt, terminate) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => {
            return Error::Input(format!("cannot listen for signals: {error}"));
        }
    };
    let name = tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    };
    Error::Input(format!("the run was ended by {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    use tokio::time::{Duration, timeout};

    #[tokio::test]
    async fn a_signal_is_an_error_of_the_run() {
        let mut come = std::pin::pin!(come());
        // Polled once, it listens.
        assert!(timeout(Duration::ZERO, &mut come).await.is_err());
        kill(Pid::this(), Signal::SIGTERM).unwrap();
        let error = timeout(Duration::from_secs(5), come).await.unwrap();
        assert_eq!(error.to_string(), "the run was ended by SIGTERM");
    }
}
