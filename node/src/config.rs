//! Settings: flags over the environment over a file, checked once, into types that make sense
//! together.

mod layers; // flags over the environment over a file
mod operate; // what an operator asks
mod plans; // what plans allow
mod services; // services outside
mod tls; // certificates
mod verify; // what is to be proven

pub(crate) use operate::RPC_ADDR_DEFAULT;
pub use operate::{AccountName, Action, OperatorSettings, OutputFormat};
pub(crate) use plans::PlanChange;
pub use verify::{VerifySettings, VerifySource};

use crate::cli::{Command, DevArgs, ServerArgs};
use crate::executor::Bounds;
use crate::executor::egress::EgressPolicy;
use crate::notifier::{Mailer, SmtpError};
use clap::ValueEnum;
use domain::account::Plans;
use domain::id::NodeId;
use domain::limits;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// What every API key starts with (documented); 32 letters or digits follow.
const API_KEY_PREFIX: &str = "jrun_sk_";
const API_KEY_DIGITS: usize = 32;

/// Why the settings cannot be used: one line for the person who starts the program, which then ends
/// with exit code 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// What was asked for.
#[derive(Debug)]
pub enum Invocation {
    /// To be shown this, on standard output: the help or the version.
    Show(String),
    /// `justrun dev`
    Dev(DevSettings),
    /// `justrun server`
    Server(Box<ServerSettings>),
    /// `justrun account …`, `key …`, `cluster …`, `backup`, `restore`
    Operate(Box<OperatorSettings>),
    /// `justrun verify`
    Verify(Box<VerifySettings>),
}

/// A text that must not get into logs. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// As the flag takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// What the cluster is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Environment {
    /// Only `https` targets with public addresses.
    #[default]
    Production,
    /// Any target.
    Development,
}

/// Who may make an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SignUp {
    /// Whoever signs up.
    Open,
    /// Only the operator.
    #[default]
    Closed,
}

/// Settings of `justrun dev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevSettings {
    /// 1, 3 or 5.
    pub nodes: u16,
    /// Where all of them keep their data.
    pub data_dir: PathBuf,
    /// Node i uses this plus i - 1; none of them is above 65535 or an rpc port.
    pub api_port: u16,
    /// Node i uses this plus i - 1.
    pub rpc_port: u16,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// Settings of `justrun server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Which member this is; 1 or more.
    pub node_id: NodeId,
    /// Where this node keeps its data.
    pub data_dir: PathBuf,
    /// Where the REST API listens.
    pub api_addr: SocketAddr,
    /// Where node-to-node traffic listens.
    pub rpc_addr: SocketAddr,
    /// How others reach the REST API of this node; without a final slash.
    pub advertise_api_url: String,
    /// The certificate of the REST API, if it is served over HTTPS.
    pub tls: Option<api::Tls>,
    /// How other nodes reach this node, `host:port`.
    pub advertise_rpc_addr: String,
    /// The first members and their `host:port`; this node is among them unless it is empty.
    pub cluster: BTreeMap<NodeId, String>,
    /// Whom an empty node asks to be added, `host:port`. Not beside `cluster`.
    pub join: Option<String>,
    /// What nodes prove to each other that they belong together by. Not empty.
    pub cluster_secret: Secret,
    /// How nodes speak to each other; in the clear without it.
    pub rpc_tls: Option<raft::Tls>,
    /// What the cluster is for.
    pub environment: Environment,
    /// What targets may be called, by environment and flags. Refuses no endpoint of the cluster yet.
    pub egress: EgressPolicy,
    /// The API key of the account made on the first start of the cluster.
    pub bootstrap_api_key: Option<Secret>,
    /// What each plan allows.
    pub plans: Plans,
    /// Limits of all accounts in place of their plans'.
    pub rate_limits: api::RateLimits,
    /// Proxies that are believed when they say whom a request comes from.
    pub proxies: api::Proxies,
    /// Who may make an account.
    pub registration: SignUp,
    /// The mail server, if there is one.
    pub smtp: Option<SmtpSettings>,
    /// Services outside.
    pub services: api::services::Services,
    /// How early firings are claimed.
    pub claim_ahead: Duration,
    /// How many requests to targets are under way at most.
    pub in_flight: Bounds,
    /// Whether the node stops once its standard input is closed, so that it does not outlive the
    /// `dev` that started it.
    pub exit_with_stdin: bool,
    /// What a test breaks this node with. None unless this build has the feature `faults`.
    pub faults_file: Option<PathBuf>,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// How mail is sent. Known to make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpSettings {
    /// The server, with the password.
    pub url: Secret,
    /// Whom mail comes from.
    pub from: Option<String>,
}

/// Reads the command line (with the program's name first), the environment through `env`, and the
/// file that either of them names.
///
/// # Errors
/// [`ConfigError`] with the one thing to put right.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Invocation, ConfigError> {
    match layers::merge(args.into_iter().collect(), &env)? {
        layers::Merged::Show(text) => Ok(Invocation::Show(text)),
        layers::Merged::Run(cli) => match cli.command {
            Command::Dev(args) => Ok(Invocation::Dev(dev(args)?)),
            Command::Server(args) => Ok(Invocation::Server(Box::new(server(*args)?))),
            Command::Account(command) => Ok(Invocation::Operate(Box::new(operate::account(command)?))),
            Command::Key(command) => Ok(Invocation::Operate(Box::new(operate::key(command)?))),
            Command::Cluster(command) => Ok(Invocation::Operate(Box::new(operate::cluster(command)?))),
            Command::Backup(args) => Ok(Invocation::Operate(Box::new(operate::backup(args)?))),
            Command::Verify(args) => Ok(Invocation::Verify(Box::new(verify::verify(args)?))),
            Command::Restore(args) => Ok(Invocation::Operate(Box::new(operate::restore(args)?))),
        },
    }
}

fn dev(args: DevArgs) -> Result<DevSettings, ConfigError> {
    let settings = DevSettings {
        nodes: args.nodes.unwrap_or(3),
        data_dir: args.data_dir.unwrap_or_else(|| PathBuf::from(".justrun")),
        api_port: args.api_port.unwrap_or(8080),
        rpc_port: args.rpc_port.unwrap_or(9080),
        log_format: args.log_format.unwrap_or_default(),
    };
    if ![1, 3, 5].contains(&settings.nodes) {
        return Err(invalid("nodes", "must be 1, 3 or 5"));
    }
    let last = |flag, first: u16| match first.checked_add(settings.nodes - 1) {
        Some(last) if first > 0 => Ok(last),
        _ => Err(invalid(flag, "must leave a port from 1 to 65535 for every node")),
    };
    let api_last = last("api-port", settings.api_port)?;
    let rpc_last = last("rpc-port", settings.rpc_port)?;
    if settings.api_port <= rpc_last && settings.rpc_port <= api_last {
        return Err(invalid("rpc-port", "must not give a node a port that --api-port gives as well"));
    }
    Ok(settings)
}

fn server(args: ServerArgs) -> Result<ServerSettings, ConfigError> {
    let node_id = NodeId(args.node_id.ok_or_else(|| missing("node-id"))?);
    if node_id.0 == 0 {
        return Err(invalid("node-id", "must be 1 or more"));
    }
    let data_dir =
        args.data_dir.filter(|dir| !dir.as_os_str().is_empty()).ok_or_else(|| missing("data-dir"))?;
    let cluster = args.cluster.as_deref().map(cluster).transpose()?.unwrap_or_default();
    if !cluster.is_empty() && !cluster.contains_key(&node_id) {
        return Err(invalid(
            "cluster",
            format!("does not name node {node_id}, which --node-id says this is"),
        ));
    }
    let join = args.join;
    if let Some(addr) = &join {
        host_port("join", addr)?;
        if !cluster.is_empty() {
            return Err(ConfigError::new("give --cluster or --join, not both"));
        }
    }
    let cluster_secret = cluster_secret(args.cluster_secret, args.cluster_secret_file)?;
    let api_addr = listen_addr("api-addr", args.api_addr.as_deref().unwrap_or("0.0.0.0:8080"))?;
    let rpc_addr = listen_addr("rpc-addr", args.rpc_addr.as_deref().unwrap_or("0.0.0.0:9080"))?;
    if api_addr == rpc_addr && api_addr.port() != 0 {
        return Err(invalid("rpc-addr", "must not be the same as --api-addr"));
    }
    let advertise_rpc_addr = match (args.advertise_rpc_addr, cluster.get(&node_id)) {
        (Some(given), _) => {
            host_port("advertise-rpc-addr", &given)?;
            given
        }
        (None, Some(entry)) => entry.clone(),
        // Others would be told of an address that means themselves.
        (None, None) if join.is_some() && rpc_addr.ip().is_unspecified() => {
            let message = "is required with --join, unless --rpc-addr names the address by which others reach this node";
            return Err(invalid("advertise-rpc-addr", message));
        }
        (None, None) => reachable(rpc_addr).to_string(),
    };
    let tls = tls::api(args.tls_cert, args.tls_key)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let advertise_api_url = match args.advertise_api_url {
        Some(given) => api_url(&given)?,
        None if !api_addr.ip().is_unspecified() => format!("{scheme}://{api_addr}"),
        None => {
            let (host, _) = host_port("advertise-rpc-addr", &advertise_rpc_addr)?;
            format!("{scheme}://{host}:{}", api_addr.port())
        }
    };
    let services = services::services(args.services, &advertise_api_url)?;
    let environment = args.environment.unwrap_or_default();
    let is_development = environment == Environment::Development;
    Ok(ServerSettings {
        node_id,
        data_dir,
        api_addr,
        rpc_addr,
        advertise_api_url,
        tls,
        advertise_rpc_addr,
        cluster,
        join,
        cluster_secret,
        rpc_tls: tls::rpc(args.rpc_tls)?,
        environment,
        egress: EgressPolicy {
            allow_http: args.allow_http_targets.unwrap_or(is_development),
            allow_private: args.allow_private_targets.unwrap_or(is_development),
            ..EgressPolicy::default()
        },
        bootstrap_api_key: args.bootstrap_api_key.map(api_key).transpose()?,
        plans: plans::plans(&args.plans),
        rate_limits: api::RateLimits {
            general: args.rate_limit_general,
            run: args.rate_limit_run,
            ..api::RateLimits::default()
        },
        proxies: proxies(args.trusted_proxies.as_deref().unwrap_or_default())?,
        registration: args.registration.unwrap_or_default(),
        smtp: smtp(args.smtp_url, args.smtp_from)?,
        services,
        claim_ahead: args.claim_ahead_ms.map_or(Ok(limits::CLAIM_AHEAD_DEFAULT), claim_ahead)?,
        in_flight: in_flight(args.in_flight_max, args.in_flight_per_host_max)?,
        exit_with_stdin: args.exit_with_stdin.unwrap_or(false),
        faults_file: args.faults_file.map(faults_file).transpose()?,
        log_format: args.log_format.unwrap_or_default(),
    })
}

/// A clock that can be set wrong from outside has no place where anybody depends on it.
fn faults_file(path: PathBuf) -> Result<PathBuf, ConfigError> {
    if cfg!(feature = "faults") {
        Ok(path)
    } else {
        Err(invalid("faults-file", "is for tests, and this build has no faults"))
    }
}

fn smtp(url: Option<Secret>, from: Option<String>) -> Result<Option<SmtpSettings>, ConfigError> {
    let Some(url) = url else {
        return if from.is_some() { Err(invalid("smtp-from", "needs --smtp-url")) } else { Ok(None) };
    };
    match Mailer::new(url.expose(), from.as_deref()) {
        Ok(_) => Ok(Some(SmtpSettings { url, from })),
        Err(error @ SmtpError::Url) => Err(invalid("smtp-url", error)),
        Err(error @ SmtpError::From) => Err(invalid("smtp-from", error)),
    }
}

/// `10.0.0.0/8,192.0.2.7`
fn proxies(text: &str) -> Result<api::Proxies, ConfigError> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let networks = entries.map(|entry| {
        let alone = || entry.parse::<IpAddr>().map(IpNet::from);
        entry.parse::<IpNet>().or_else(|_| alone()).map_err(|_| {
            invalid(
                "trusted-proxies",
                format!("\"{entry}\" is neither an address nor a network such as 10.0.0.0/8"),
            )
        })
    });
    Ok(api::Proxies::new(networks.collect::<Result<_, _>>()?))
}

fn claim_ahead(ms: u64) -> Result<Duration, ConfigError> {
    let claim_ahead = Duration::from_millis(ms);
    if claim_ahead >= limits::NODE_TIMEOUT {
        // Otherwise a node that is cut off could still start what has been given to another.
        let max = limits::NODE_TIMEOUT.as_millis();
        return Err(invalid("claim-ahead-ms", format!("must be below the node timeout of {max} ms")));
    }
    if claim_ahead <= limits::PING_INTERVAL {
        // A node starts nothing once it has not heard from the leader for that long.
        let min = limits::PING_INTERVAL.as_millis();
        return Err(invalid(
            "claim-ahead-ms",
            format!("must be above the {min} ms between two signs of life"),
        ));
    }
    Ok(claim_ahead)
}

fn in_flight(overall: Option<u16>, per_host: Option<u16>) -> Result<Bounds, ConfigError> {
    let default = Bounds::default();
    let bounds = Bounds {
        overall: overall.map_or(default.overall, usize::from),
        per_host: per_host.map_or(default.per_host, usize::from),
    };
    for (flag, bound) in [("in-flight-max", bounds.overall), ("in-flight-per-host-max", bounds.per_host)] {
        if bound == 0 {
            return Err(invalid(flag, "must be 1 or more"));
        }
    }
    Ok(bounds)
}

fn cluster_secret(given: Option<Secret>, file: Option<PathBuf>) -> Result<Secret, ConfigError> {
    let (flag, text) = match (given, file) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::new("give --cluster-secret or --cluster-secret-file, not both"));
        }
        (None, None) => {
            return Err(ConfigError::new("--cluster-secret or --cluster-secret-file is required"));
        }
        (Some(secret), None) => ("cluster-secret", secret.expose().to_owned()),
        (None, Some(path)) => {
            let text = fs::read_to_string(&path);
            let text = text.map_err(|error| {
                invalid("cluster-secret-file", format!("cannot read {}: {error}", path.display()))
            })?;
            ("cluster-secret-file", text)
        }
    };
    // Editors end a file with a line break, which is no part of the secret.
    let text = text.trim();
    if text.is_empty() {
        return Err(invalid(flag, "must not be empty"));
    }
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(invalid(flag, "must be one line of printable ASCII characters"));
    }
    Ok(Secret::from(text.to_owned()))
}

fn api_key(key: Secret) -> Result<Secret, ConfigError> {
    let digits = key.expose().strip_prefix(API_KEY_PREFIX);
    if digits.is_some_and(|d| d.len() == API_KEY_DIGITS && d.bytes().all(|b| b.is_ascii_alphanumeric())) {
        Ok(key)
    } else {
        let form = format!("must be {API_KEY_PREFIX} and {API_KEY_DIGITS} letters or digits");
        Err(invalid("bootstrap-api-key", form))
    }
}

/// `1=HOST:PORT,2=HOST:PORT,…`
fn cluster(text: &str) -> Result<BTreeMap<NodeId, String>, ConfigError> {
    let mut members = BTreeMap::new();
    for entry in text.split(',').map(str::trim) {
        let member =
            entry.split_once('=').and_then(|(id, addr)| Some((id.trim().parse().ok()?, addr.trim())));
        let Some((id, addr)) = member.filter(|(id, _)| *id > 0) else {
            return Err(invalid("cluster", format!("\"{entry}\" is not of the form 1=HOST:PORT")));
        };
        host_port("cluster", addr)?;
        if members.values().any(|other| other == addr) {
            return Err(invalid("cluster", format!("names {addr} twice")));
        }
        if members.insert(NodeId(id), addr.to_owned()).is_some() {
            return Err(invalid("cluster", format!("names node {id} twice")));
        }
    }
    Ok(members)
}

/// The parts of a `host:port` that others can connect to; the host as it is written in a URL.
fn host_port(flag: &'static str, text: &str) -> Result<(String, u16), ConfigError> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let host = Host::parse(host).ok()?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        Some((host.to_string(), port))
    });
    parts.ok_or_else(|| invalid(flag, format!("\"{text}\" is not of the form HOST:PORT")))
}

/// An address of this machine, which may be written as a name. Port 0 lets the system choose.
fn listen_addr(flag: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let resolved = text.to_socket_addrs().map(|mut addrs| addrs.next());
    resolved
        .ok()
        .flatten()
        .ok_or_else(|| invalid(flag, format!("\"{text}\" is not an address of the form HOST:PORT")))
}

/// Where others on this machine reach what listens on `addr`.
fn reachable(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], addr.port())) } else { addr }
}

fn api_url(text: &str) -> Result<String, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
    });
    match url {
        Some(url) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        None => Err(invalid("advertise-api-url", format!("\"{text}\" is not an http or https URL"))),
    }
}

fn missing(flag: &str) -> ConfigError {
    ConfigError::new(format!("--{flag} is required"))
}

fn invalid(flag: &str, message: impl fmt::Display) -> ConfigError {
    ConfigError::new(format!("--{flag} {message}"))
}

#[cfg(test)]
mod tests;
