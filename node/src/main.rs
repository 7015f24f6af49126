//! The `justrun` binary: arguments, sockets, signals, exit code.

use domain::limits::PING_INTERVAL;
use mimalloc::MiMalloc;
use node::bootstrap::{Listeners, Outside, explain_bind, run};
use node::clock::{Sleeper, SystemClock};
use node::config::{self, DevSettings, Invocation, OperatorSettings, ServerSettings, VerifySettings};
use node::operator::verify::Verdict;
use node::{dev, files, operator, telemetry};
use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Requests make many small and short-lived objects, on one thread, and drop them on another, which this is better at than
/// the system's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Nothing was started: the settings, a port or the data directory cannot be used, and starting again will not help.
const EXIT_NOT_STARTED: u8 = 2;

pub(crate) fn main() -> ExitCode {
    let invocation = match config::parse(std::env::args_os(), |key| std::env::var(key).ok()) {
        Ok(invocation) => invocation,
        Err(error) => return refuse(&error),
    };
    match invocation {
        Invocation::Show(text) => {
            // Nobody is left to be told when standard output is closed.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Invocation::Dev(settings) => start_dev(settings),
        Invocation::Server(settings) => {
            keep_pages_small();
            start_server(*settings)
        }
        Invocation::Operate(settings) => operate(*settings),
        Invocation::Verify(settings) => verify(*settings),
    }
}

/// Has the kernel not round memory up to huge pages, for which the allocator asks: a node holds many small things, and took a
/// fifth more memory for the same speed. Where there are no such pages, nothing is to be done.
fn keep_pages_small() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
}

fn start_dev(settings: DevSettings) -> ExitCode {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(async { dev::run(settings, stop_on_signal()?).await }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&*error),
    }
}

fn operate(settings: OperatorSettings) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let clock = SystemClock::new();
    let mut progress = |line: &str| {
        // Nobody is left to be told when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{line}");
    };
    match runtime.block_on(operator::run(settings, &clock, std::io::stdin().lock(), &mut progress)) {
        // A key that cannot be shown is lost, so that is a failure here.
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Err(error) => fail(&error),
    }
}

fn verify(settings: VerifySettings) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error),
    };
    let verified = match runtime.block_on(operator::verify::run(settings)) {
        Ok(verified) => verified,
        // Nothing was proven, and nothing was found.
        Err(error) => return refuse(&error),
    };
    match (std::io::stdout().write_all(verified.text.as_bytes()), verified.verdict) {
        (Err(error), _) => refuse(&error),
        (Ok(()), Verdict::Complete) => ExitCode::SUCCESS,
        (Ok(()), Verdict::Gaps) => ExitCode::FAILURE,
        (Ok(()), Verdict::Unknown) => ExitCode::from(EXIT_NOT_STARTED),
    }
}

fn start_server(settings: ServerSettings) -> ExitCode {
    let filter = std::env::var("RUST_LOG").ok();
    if let Err(error) = telemetry::init_logging(settings.log_format, filter.as_deref()) {
        return refuse(&error);
    }
    files::raise_limit();
    let (api, rpc) = match (bind("api-addr", settings.api_addr), bind("rpc-addr", settings.rpc_addr)) {
        (Ok(api), Ok(rpc)) => (api, rpc),
        (Err(error), _) | (_, Err(error)) => return refuse(&*error),
    };
    let (metrics, runtime) = match (telemetry::Metrics::install(), Runtime::new()) {
        (Ok(metrics), Ok(runtime)) => (metrics, runtime),
        (Err(error), _) => return fail(&error),
        (_, Err(error)) => return fail(&error),
    };
    let rendered = metrics.clone();
    let outside = Outside {
        sleeper: clock(&settings),
        metrics: Arc::new(move || rendered.render()),
        upkeep: Arc::new(move || metrics.upkeep()),
        ping_interval: PING_INTERVAL,
    };
    let exit_with_stdin = settings.exit_with_stdin;
    let ended = runtime.block_on(async {
        let stop = stop_on_signal()?;
        if exit_with_stdin {
            stop_on_closed_stdin(stop.clone());
        }
        run(settings, Listeners { api, rpc }, outside, stop).await
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.stops_the_start() => refuse(&error),
        Err(error) => fail(&error),
    }
}

#[cfg(not(feature = "faults"))]
fn clock(_: &ServerSettings) -> Arc<dyn Sleeper> {
    Arc::new(SystemClock::new())
}

#[cfg(feature = "faults")]
fn clock(settings: &ServerSettings) -> Arc<dyn Sleeper> {
    match &settings.faults_file {
        Some(path) => Arc::new(node::faults::FaultyClock::following(path.clone())),
        None => Arc::new(SystemClock::new()),
    }
}

fn bind(flag: &str, addr: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    TcpListener::bind(addr).map_err(|error| format!("--{flag} {addr} {}", explain_bind(&error)).into())
}

/// A token that the first SIGTERM or SIGINT cancels; the second ends the process at once.
fn stop_on_signal() -> Result<CancellationToken, std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let first = stop.clone();
    #[expect(clippy::disallowed_methods, reason = "outlives every supervised task")]
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first.is_cancelled() {
                std::process::exit(1);
            }
            first.cancel();
        }
    });
    Ok(stop)
}

/// Ends this process when its parent, which holds the other end of standard input, is gone.
fn stop_on_closed_stdin(stop: CancellationToken) {
    // A thread of its own, because reading standard input cannot be given up: it goes with the process.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().by_ref(), &mut std::io::sink());
        stop.cancel();
    });
}

fn refuse(error: &dyn Error) -> ExitCode {
    say(error);
    ExitCode::from(EXIT_NOT_STARTED)
}

fn fail(error: &dyn Error) -> ExitCode {
    say(error);
    ExitCode::FAILURE
}

/// One line on standard error, with the causes.
fn say(error: &dyn Error) {
    let causes = std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string);
    let line = causes.collect::<Vec<_>>().join(": ");
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(std::io::stderr(), "justrun: {line}");
}
