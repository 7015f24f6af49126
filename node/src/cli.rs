//! The command line: every flag, with the help that teaches it.
//!
//! Nothing is required or checked against anything else here; [`crate::config`] does that
//! once the environment and the file have had their say.

mod operate; // what an operator asks of a cluster that runs

pub(crate) use operate::{
    AccessArgs, AccountCommand, BackupArgs, ClusterCommand, KeyCommand, RestoreArgs, RpcTlsArgs, VerifyArgs,
};

use crate::config::{Environment, LogFormat, PlanChange, Secret, SignUp};
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};

/// Said below the flags of every command.
const LAYERS: &str = "\
Every flag can also be set as JUSTRUN_<FLAG> in the environment (dashes become underscores: \
JUSTRUN_DATA_DIR) or as a key of the TOML file named by --config (data-dir = \"/var/lib/justrun\"). \
A flag beats the environment, the environment beats the file. Logs go to standard error; RUST_LOG \
chooses which [default: info,openraft=error,raft_engine=warn].";

/// A cron service that does not go down: one binary, embedded storage, any number of nodes.
#[derive(Debug, Parser)]
#[command(name = "justrun", version, subcommand_required = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try it: starts a whole cluster on this machine and prints how to use it.
    ///
    /// Each node is a process of its own, with its own storage. A second start with the same data
    /// directory goes on where the first stopped. Ctrl-C stops all nodes. For development: http and private
    /// targets are allowed.
    #[command(after_help = LAYERS, args_override_self = true)]
    Dev(DevArgs),
    /// Runs one node of a cluster.
    ///
    /// Start three with the same --cluster and --cluster-secret, each with its own --node-id and
    /// --data-dir:
    ///
    ///   justrun server --node-id 1 --data-dir /var/lib/justrun
    ///       --cluster 1=10.0.0.1:9080,2=10.0.0.2:9080,3=10.0.0.3:9080
    ///       --cluster-secret-file /etc/justrun/secret
    ///
    /// Another one joins them later with --join 10.0.0.1:9080 in place of --cluster.
    ///
    /// SIGTERM stops it cleanly: running requests may finish and their results are recorded.
    #[command(after_help = LAYERS, args_override_self = true, verbatim_doc_comment)]
    Server(Box<ServerArgs>),
    /// Makes and lists accounts.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Makes API keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Looks after the cluster.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Writes the state of the cluster to a file, while it works.
    ///
    ///   justrun backup /var/backups/justrun-2026-06-01.backup
    ///
    /// The file holds every change that was acknowledged before: accounts and the hashes of their keys, jobs, histories,
    /// channels with their secrets. Only its owner may read it. It is checked before it gets its name.
    #[command(after_help = operate::HELP, args_override_self = true, verbatim_doc_comment)]
    Backup(BackupArgs),
    /// Proves that everything that was due in a span of time stands in the histories.
    ///
    ///   justrun verify --from 2026-06-01T00:00:00Z --to 2026-06-02T00:00:00Z
    ///   justrun verify --backup /var/backups/justrun-2026-06-01.backup
    ///
    /// For each job it computes anew what its schedules made due, from what is known of every change of them, and compares
    /// that with the history: each instant ran, or stands there as failed or skipped, with the reason. Each that does not is
    /// named. A cluster is read as a backup is, at one point in its log, while it works.
    #[command(after_help = operate::VERIFY_HELP, args_override_self = true, verbatim_doc_comment)]
    Verify(VerifyArgs),
    /// Fills an empty cluster from such a file.
    ///
    ///   justrun restore /var/backups/justrun-2026-06-01.backup
    ///
    /// The cluster may be of another size than the one the file is from. It is empty when it has no account, or only the
    /// one that --bootstrap-api-key made, which goes. A restoration that was cut off goes on where it was when the same
    /// command is given again, to any node; until it is done nothing fires and the REST API answers 503.
    #[command(after_help = operate::HELP, args_override_self = true, verbatim_doc_comment)]
    Restore(RestoreArgs),
}

impl Command {
    /// The words by which it is called, and the file with settings that it was given.
    pub(crate) fn path(&self) -> (&'static [&'static str], Option<&Path>) {
        let (path, config): (&[&str], _) = match self {
            Self::Dev(args) => (&["dev"], &args.config),
            Self::Server(args) => (&["server"], &args.config),
            Self::Account(AccountCommand::Create(args)) => (&["account", "create"], &args.access.config),
            Self::Account(AccountCommand::List(args)) => (&["account", "list"], &args.config),
            Self::Key(KeyCommand::Create(args)) => (&["key", "create"], &args.access.config),
            Self::Cluster(ClusterCommand::Status(args)) => (&["cluster", "status"], &args.config),
            Self::Backup(args) => (&["backup"], &args.access.config),
            Self::Verify(args) => (&["verify"], &args.access.config),
            Self::Restore(args) => (&["restore"], &args.access.config),
            Self::Cluster(ClusterCommand::Upgrade(args)) => (&["cluster", "upgrade"], &args.config),
            Self::Cluster(ClusterCommand::Add(args)) => (&["cluster", "add"], &args.access.config),
            Self::Cluster(ClusterCommand::Remove(args)) => (&["cluster", "remove"], &args.access.config),
            Self::Cluster(ClusterCommand::TransferLeader(args)) => {
                (&["cluster", "transfer-leader"], &args.access.config)
            }
        };
        (path, config.as_deref())
    }
}

#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// How many nodes: 1, 3 or 5 [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) nodes: Option<u16>,
    /// Where the nodes keep their data [default: .justrun]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// REST API of node 1; node i uses this plus i - 1 [default: 8080]
    #[arg(long, value_name = "PORT")]
    pub(crate) api_port: Option<u16>,
    /// Node-to-node traffic of node 1; node i uses this plus i - 1 [default: 9080]
    #[arg(long, value_name = "PORT")]
    pub(crate) rpc_port: Option<u16>,
    /// How log lines are written [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Settings in TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    /// Which member this is: 1, 2, 3, … (required)
    #[arg(long, value_name = "N")]
    pub(crate) node_id: Option<u64>,
    /// Where this node keeps its data (required)
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the REST API listens [default: 0.0.0.0:8080]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) api_addr: Option<String>,
    /// Where node-to-node traffic listens [default: 0.0.0.0:9080]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) rpc_addr: Option<String>,
    /// How others reach the REST API of this node [default: http://, or https:// with --tls-cert, and the host of
    /// --advertise-rpc-addr with the port of --api-addr]
    #[arg(long, value_name = "URL")]
    pub(crate) advertise_api_url: Option<String>,
    /// How other nodes reach this node [default: its entry in --cluster, else --rpc-addr]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise_rpc_addr: Option<String>,
    /// The first members and their rpc addresses; the same text on all of them. Harmless once the
    /// cluster exists
    #[arg(long, value_name = "1=HOST:PORT,2=HOST:PORT,…")]
    pub(crate) cluster: Option<String>,
    /// Instead of --cluster, for a node that joins a cluster that exists: the rpc address of any member. It is asked to
    /// add this node, for as long as it takes; the node learns first, and votes once it has caught up. Needs
    /// --advertise-rpc-addr when --rpc-addr is 0.0.0.0. Harmless once this node belongs to the cluster
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) join: Option<String>,
    /// What nodes prove to each other that they belong together by. Better in the environment or a
    /// file than on the command line, where everybody on this machine can read it (required)
    #[arg(long, value_name = "SECRET")]
    pub(crate) cluster_secret: Option<Secret>,
    /// A file that holds the cluster secret
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_secret_file: Option<PathBuf>,
    /// Serve the REST API over HTTPS: our certificate, then those between it and its authority, in PEM form
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, in PEM form
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub(crate) tls_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) rpc_tls: RpcTlsArgs,
    /// production: https targets with public addresses only. development: any [default: production]
    #[arg(long, value_name = "NAME")]
    pub(crate) environment: Option<Environment>,
    /// Allow http:// targets
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new())]
    pub(crate) allow_http_targets: Option<bool>,
    /// Allow targets with private and loopback addresses
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new())]
    pub(crate) allow_private_targets: Option<bool>,
    /// Makes, on the first start of the cluster, an account that owns this API key (jrun_sk_ and 32
    /// letters or digits). Better in the environment
    #[arg(long, value_name = "KEY")]
    pub(crate) bootstrap_api_key: Option<Secret>,
    /// What plans allow, where it is not the documented table: PLAN is free, maker, pro or scale, LIMIT is
    /// jobs, general_per_minute, run_per_minute, diagnoses_per_day or history_days, N may be unlimited. In the
    /// file also as a table: [plans.maker] jobs = 100. Entries add up over flags, environment and file. The
    /// same on all nodes: whichever node is asked holds to its own table
    #[arg(long, value_name = "PLAN.LIMIT=N,…", value_delimiter = ',')]
    pub(crate) plans: Vec<PlanChange>,
    /// Requests a minute for every account instead of its plan's; 0 switches the limit off
    #[arg(long, value_name = "N")]
    pub(crate) rate_limit_general: Option<u64>,
    /// Manual runs a minute for every account instead of its plan's; 0 switches the limit off
    #[arg(long, value_name = "N")]
    pub(crate) rate_limit_run: Option<u64>,
    /// Addresses or networks of the proxies in front of the nodes. From them alone X-Forwarded-For is believed, so
    /// that requests without a credential are limited by the address of the client [default: none]
    #[arg(long, value_name = "CIDR,…")]
    pub(crate) trusted_proxies: Option<String>,
    /// Whether strangers may make themselves an account, on plan free, with POST /v1/auth/register: open or
    /// closed. Every account may read the addresses of the nodes from /v1/cluster [default: closed]
    #[arg(long, value_name = "NAME")]
    pub(crate) registration: Option<SignUp>,
    /// The mail server for email channels: smtp://USER:PASSWORD@HOST:PORT, or smtps:// for TLS from the
    /// first byte. smtp:// uses TLS when the server offers it; add ?tls=required to insist. Better in the
    /// environment. Without it email channels fail
    #[arg(long, value_name = "URL")]
    pub(crate) smtp_url: Option<Secret>,
    /// Whom mail comes from, as ADDRESS or NAME <ADDRESS> [default: JustRun and the user of --smtp-url
    /// when that is an address, else justrun@ and its host]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) smtp_from: Option<String>,
    #[command(flatten)]
    pub(crate) services: ServiceArgs,
    /// How early firings are claimed at most, in milliseconds; the claims of one instant are spread over the first quarter.
    /// Elections shorter than the rest delay nothing [default: 2000]
    #[arg(long, value_name = "MS")]
    pub(crate) claim_ahead_ms: Option<u64>,
    /// Requests to targets that are under way from this node at most; what is due beyond that waits [default: 1024]
    #[arg(long, value_name = "N")]
    pub(crate) in_flight_max: Option<u16>,
    /// As --in-flight-max, to one host: scheme, name and port of the URL. Of either, one account takes eight ninths at most,
    /// so that it delays no other [default: 256]
    #[arg(long, value_name = "N")]
    pub(crate) in_flight_per_host_max: Option<u16>,
    /// Stop once standard input is closed: a node that `dev` started must not outlive it
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
        hide = true
    )]
    pub(crate) exit_with_stdin: Option<bool>,
    /// Follow this file of faults: for tests, and refused by builds that have none
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) faults_file: Option<PathBuf>,
    /// How log lines are written [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Settings in TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Services outside. Secrets are better in the environment or a file than on the command line.
#[derive(Args, Debug, Default)]
pub(crate) struct ServiceArgs {
    /// Stripe's secret key (sk_…); without it billing is off
    #[arg(long, value_name = "KEY")]
    pub(crate) stripe_secret_key: Option<Secret>,
    /// What Stripe signs its events with (whsec_…). They go to /v1/billing/stripe/webhook; register
    /// checkout.session.completed, checkout.session.async_payment_succeeded and customer.subscription.*
    #[arg(long, value_name = "SECRET")]
    pub(crate) stripe_webhook_secret: Option<Secret>,
    /// What can be bought: the price_id that clients send, the plan they get, Stripe's price. For example
    /// price_maker_monthly=maker:price_1Abc,price_pro_monthly=pro:price_1Def
    #[arg(long, value_name = "ALIAS=PLAN:PRICE,…")]
    pub(crate) stripe_prices: Option<String>,
    /// Where Stripe's API is [default: https://api.stripe.com]
    #[arg(long, value_name = "URL")]
    pub(crate) stripe_base_url: Option<String>,
    /// Where the browser goes after a purchase [default: --advertise-api-url]
    #[arg(long, value_name = "URL")]
    pub(crate) stripe_success_url: Option<String>,
    /// Where the browser goes when a purchase is given up [default: --advertise-api-url]
    #[arg(long, value_name = "URL")]
    pub(crate) stripe_cancel_url: Option<String>,
    /// Where the browser goes from Stripe's customer portal [default: --advertise-api-url]
    #[arg(long, value_name = "URL")]
    pub(crate) stripe_return_url: Option<String>,
    /// Where EasyCron's API is, for imports [default: https://api.easycron.com]
    #[arg(long, value_name = "URL")]
    pub(crate) easycron_base_url: Option<String>,
    /// Where cron-job.org's API is, for imports [default: https://api.cron-job.org]
    #[arg(long, value_name = "URL")]
    pub(crate) cronjob_org_base_url: Option<String>,
    /// An OpenAI-compatible API for diagnoses, without /chat/completions; without it they are off
    #[arg(long, value_name = "URL")]
    pub(crate) diagnosis_url: Option<String>,
    /// The key for that API, if it wants one
    #[arg(long, value_name = "KEY")]
    pub(crate) diagnosis_key: Option<Secret>,
    /// The model that makes diagnoses (required with --diagnosis-url)
    #[arg(long, value_name = "NAME")]
    pub(crate) diagnosis_model: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
