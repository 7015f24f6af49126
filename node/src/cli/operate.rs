//! What an operator asks of a cluster that runs: every flag, with the help that teaches it.

use crate::config::{OutputFormat, Secret};
use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Said below the flags of every command here.
pub(crate) const HELP: &str = "\
The node is asked over its rpc address, and proves by the cluster secret that you may. Any node will do; it \
need not lead. Every flag can also be set as JUSTRUN_<FLAG> in the environment (JUSTRUN_RPC_ADDR) or in the \
TOML file named by --config, which may be the one of the server. On a machine that runs a node this is \
usually enough:

  justrun cluster status --config /etc/justrun/justrun.toml

Exit codes: 0 done, 1 failed, 2 not understood.";

/// Said below the flags of `verify`.
pub(crate) const VERIFY_HELP: &str = "\
Without --backup any node is asked over its rpc address, as by the other commands. Every flag can also be set as \
JUSTRUN_<FLAG> in the environment or in the TOML file named by --config.

Exit codes: 0 complete, 1 something is missing or does not belong there, 2 not understood, or nobody can tell.";

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Makes an account.
    ///
    /// The first one of a new cluster is made like this, too:
    ///
    ///   justrun account create --email ops@example.com --plan scale
    ///   justrun key create --account ops@example.com --name laptop
    ///
    /// With --password-stdin its owner can also sign in:
    ///
    ///   justrun account create --email ops@example.com --plan scale --password-stdin < password.txt
    #[command(after_help = HELP, args_override_self = true, verbatim_doc_comment)]
    Create(AccountCreateArgs),
    /// Lists all accounts, oldest first.
    #[command(after_help = HELP, args_override_self = true)]
    List(AccessArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Makes an API key and prints it, this once: only its hash is kept.
    ///
    ///   justrun key create --account acc_07kR3mNxQ2v --name "CI/CD Pipeline"
    #[command(after_help = HELP, args_override_self = true, verbatim_doc_comment)]
    Create(KeyCreateArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Shows the members: who leads, who lives, how far each has got, and how many shards it owns.
    ///
    /// It is what the node that is asked knows, so it answers without a leader, too. How far the others have
    /// got only the leader knows.
    #[command(after_help = HELP, args_override_self = true)]
    Status(AccessArgs),
    /// Adds a node, and waits until it has a vote.
    ///
    /// It learns first, and gets its vote by itself once it has caught up. A node that is started with --join
    /// adds itself, so that this is needed only to say beforehand who may come:
    ///
    ///   justrun cluster add 4=10.0.0.4:9080
    ///
    /// Harmless for a node that is a member already.
    #[command(after_help = HELP, args_override_self = true, verbatim_doc_comment)]
    Add(AddArgs),
    /// Removes a node for good: its id is never used again.
    ///
    /// It need not run; what it holds goes to others at once. Stop it first (SIGTERM) if it does, so that
    /// what it has begun is not sent twice. Refused when those left that are alive would be no quorum.
    /// Harmless for a node that was removed already.
    #[command(after_help = HELP, args_override_self = true)]
    Remove(MemberArgs),
    /// Turns on what is new, once every node runs a release that knows it.
    ///
    /// The feature level rises to the highest that all members support. From then on no node can go back to a
    /// release that does not. Before, every node can.
    #[command(after_help = HELP, args_override_self = true)]
    Upgrade(AccessArgs),
    /// Has a node lead that follows now.
    #[command(after_help = HELP, args_override_self = true)]
    TransferLeader(MemberArgs),
}

#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// Its id, which no node has had before, and its rpc address (required)
    #[arg(value_name = "ID=HOST:PORT")]
    pub(crate) member: Option<String>,
    /// How long to wait until it has caught up, in seconds; 0 does not wait [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait_sec: Option<u64>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Args, Debug)]
pub(crate) struct MemberArgs {
    /// Which node (required)
    #[arg(value_name = "ID")]
    pub(crate) id: Option<u64>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

/// How the cluster is reached.
#[derive(Args, Debug)]
pub(crate) struct AccessArgs {
    /// The rpc address of any node [default: 127.0.0.1:9080]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) rpc_addr: Option<String>,
    /// The cluster secret. Better in the environment or a file than on the command line, where
    /// everybody on this machine can read it (required)
    #[arg(long, value_name = "SECRET")]
    pub(crate) cluster_secret: Option<Secret>,
    /// A file that holds the cluster secret
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_secret_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) rpc_tls: RpcTlsArgs,
    /// text: for people. json: for scripts [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) output: Option<OutputFormat>,
    /// Settings in TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// TLS on rpc addresses: all three of them, or none.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub(crate) struct RpcTlsArgs {
    /// TLS between nodes: certificates, in PEM form, of the authority by which nodes and operators know each
    /// other. The same on all nodes; with --rpc-tls-cert and --rpc-tls-key
    #[arg(long, value_name = "FILE")]
    pub(crate) rpc_tls_ca: Option<PathBuf>,
    /// Our certificate from that authority. A node's is for the host by which others reach it, and good for servers
    /// and clients alike
    #[arg(long, value_name = "FILE")]
    pub(crate) rpc_tls_cert: Option<PathBuf>,
    /// The private key of --rpc-tls-cert
    #[arg(long, value_name = "FILE")]
    pub(crate) rpc_tls_key: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct AccountCreateArgs {
    /// Where its owner is reached; no two accounts have the same (required)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// What it may use: free, maker, pro or scale (required)
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<String>,
    /// Read a password to sign in with from standard input, one line of 8 to 200 characters
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new())]
    pub(crate) password_stdin: Option<bool>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Args, Debug)]
pub(crate) struct KeyCreateArgs {
    /// Whose key: the id of an account (acc_…) or its email (required)
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) account: Option<String>,
    /// What the key is for, at most 100 characters (required)
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Args, Debug)]
pub(crate) struct BackupArgs {
    /// Where to (required)
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Replace the file if there is one, once the new one is whole
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new())]
    pub(crate) force: Option<bool>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// From where (required)
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Begin anew with this file where another one was restored by half
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new())]
    pub(crate) restart: Option<bool>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Look at this backup instead of a cluster
    #[arg(long, value_name = "FILE")]
    pub(crate) backup: Option<PathBuf>,
    /// The beginning of the span [default: an hour before its end]
    #[arg(long, value_name = "RFC3339")]
    pub(crate) from: Option<String>,
    /// Its end, which is not part of it [default: when the state last changed]
    #[arg(long, value_name = "RFC3339")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}
