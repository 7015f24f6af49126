//! The ceiling: an HTTP server of the same library that does nothing, in a process of its own as a node is.

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use clap::Args;
use cluster_tests::{Error, process::NodeProcess, wait::eventually};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::TcpListener, process::Command};

/// How long the server may take to say where it is.
const START_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Bytes of each answer
    #[arg(long)]
    bytes: usize,
    /// The file that is told the address, in a line
    #[arg(long)]
    address: PathBuf,
}

/// Serves until it is killed. Says first where.
pub(crate) async fn serve(arguments: &Arguments) -> Result<(), Error> {
    let input = |error: std::io::Error| Error::Input(format!("bare server: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(input)?;
    let body: &'static str = " ".repeat(arguments.bytes).leak();
    let router =
        Router::new().route("/", get(move || async move { ([(CONTENT_TYPE, "application/json")], body) }));
    let address = listener.local_addr().map_err(input)?;
    std::fs::write(&arguments.address, format!("{address}\n")).map_err(input)?;
    axum::serve(listener, router).await.map_err(input)
}

/// One that runs. It is killed with this.
#[derive(Debug)]
pub(crate) struct Bare {
    pub(crate) address: SocketAddr,
    process: NodeProcess,
}

impl Bare {
    /// Starts one whose answers have `bytes` bytes, and which says in `dir` where it is.
    pub(crate) async fn start(dir: &Path, bytes: usize) -> Result<Self, Error> {
        let program =
            std::env::current_exe().map_err(|error| Error::Input(format!("bare server: {error}")))?;
        let file = dir.join("bare");
        let mut command = Command::new(program);
        command.args(["bare", "--bytes", &bytes.to_string(), "--address"]).arg(&file);
        let process = NodeProcess::spawn(command)?;
        let address = eventually("address of the bare server", START_DEADLINE, async || {
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            // Without its end the line may be half an address.
            text.strip_suffix('\n').and_then(|line| line.parse().ok()).ok_or(text)
        });
        Ok(Self { address: address.await?, process })
    }

    /// Its process, which must run.
    pub(crate) fn pid(&self) -> Result<u32, Error> {
        self.process.pid().ok_or_else(|| Error::Input("the bare server does not run".to_owned()))
    }
}
