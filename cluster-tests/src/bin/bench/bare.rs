//! The ceiling: an HTTP server of the same library that does nothing, in a process of its own as a node is.

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use clap::Args;
use cluster_tests::Error;
use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};
use tokio::net::TcpListener;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Bytes of each answer
    #[arg(long)]
    bytes: usize,
}

/// Serves until it is killed. Prints its address first.
pub(crate) async fn serve(arguments: &Arguments) -> Result<(), Error> {
    let input = |error: std::io::Error| Error::Input(format!("bare server: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(input)?;
    let body: &'static str = " ".repeat(arguments.bytes).leak();
    let router =
        Router::new().route("/", get(move || async move { ([(CONTENT_TYPE, "application/json")], body) }));
    writeln!(std::io::stdout(), "{}", listener.local_addr().map_err(input)?).map_err(input)?;
    axum::serve(listener, router).await.map_err(input)
}

/// One that runs. It is killed with this.
#[derive(Debug)]
pub(crate) struct Bare {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Bare {
    /// Starts one whose answers have `bytes` bytes.
    pub(crate) fn start(bytes: usize) -> Result<Self, Error> {
        let input = |error: std::io::Error| Error::Input(format!("bare server: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(input)?);
        command.args(["bare", "--bytes", &bytes.to_string()]).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(input)?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or_else(|| Error::Input("bare server: no output".to_owned()))?;
        BufReader::new(stdout).read_line(&mut line).map_err(input)?;
        let address =
            line.trim().parse().map_err(|_| Error::Input(format!("bare server: no address in {line:?}")));
        match address {
            Ok(address) => Ok(Self { child, address }),
            Err(error) => {
                Self { child, address: (Ipv4Addr::LOCALHOST, 0).into() };
                Err(error)
            }
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It ended by itself if this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
