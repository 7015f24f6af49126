//! Settings of the commands with which an operator asks something of a cluster that runs.

use super::{ConfigError, Secret, cluster_secret, host_port, invalid, missing, reachable, tls};
use crate::cli::{AccessArgs, AccountCommand, BackupArgs, ClusterCommand, KeyCommand, RestoreArgs};
use clap::ValueEnum;
use domain::account::{Plan, normal_email};
use domain::id::{AccountId, NodeId};
use domain::limits;
use raft::MemberChange;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Which node is asked when nobody says.
pub(crate) const RPC_ADDR_DEFAULT: &str = "127.0.0.1:9080";

/// How long a node that is added may take to catch up before the operator is told that it has not.
const ADD_WAIT_SECS: u64 = 60;

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

/// What an operator asks, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSettings {
    /// The rpc address of any node.
    pub rpc_addr: String,
    /// What the cluster's nodes share.
    pub cluster_secret: Secret,
    /// How nodes of this cluster are spoken to; in the clear without it.
    pub rpc_tls: Option<raft::Tls>,
    /// How the answer is written.
    pub output: OutputFormat,
    /// What is asked.
    pub action: Action,
}

/// What an operator asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `justrun account create`
    CreateAccount {
        /// In the form in which addresses are compared.
        email: String,
        /// What it may use.
        plan: Plan,
        /// Whether a password comes on standard input.
        with_password: bool,
    },
    /// `justrun account list`
    ListAccounts,
    /// `justrun key create`
    CreateKey {
        /// Whose.
        account: AccountName,
        /// What for.
        name: String,
    },
    /// `justrun cluster status`
    ClusterStatus,
    /// `justrun backup`
    Backup {
        /// Where to.
        file: PathBuf,
        /// Whether it may replace a file.
        force: bool,
    },
    /// `justrun restore`
    Restore {
        /// From where.
        file: PathBuf,
        /// Whether it may take the place of another one that was restored by half.
        restart: bool,
    },
    /// `justrun cluster add`, `remove`, `transfer-leader` and `upgrade`
    ChangeMembers {
        /// What is wanted.
        change: MemberChange,
        /// How long a node that is added is waited for until it has a vote.
        wait: Duration,
    },
}

/// What an account is called on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountName {
    /// By its id.
    Id(AccountId),
    /// By its email.
    Email(String),
}

pub(super) fn account(command: AccountCommand) -> Result<OperatorSettings, ConfigError> {
    match command {
        AccountCommand::Create(args) => {
            let email = args.email.ok_or_else(|| missing("email"))?;
            let email = normal_email(&email)
                .ok_or_else(|| invalid("email", format!("\"{email}\" is not an email address")))?;
            let plan = plan(&args.plan.ok_or_else(|| missing("plan"))?)?;
            let with_password = args.password_stdin.unwrap_or(false);
            access(args.access, Action::CreateAccount { email, plan, with_password })
        }
        AccountCommand::List(args) => access(args, Action::ListAccounts),
    }
}

pub(super) fn key(command: KeyCommand) -> Result<OperatorSettings, ConfigError> {
    let KeyCommand::Create(args) = command;
    let account = args.account.ok_or_else(|| missing("account"))?;
    let account = match (account.parse(), normal_email(&account)) {
        (Ok(id), _) => AccountName::Id(id),
        (Err(_), Some(email)) => AccountName::Email(email),
        (Err(_), None) => {
            let form = format!("\"{account}\" is neither the id of an account (acc_…) nor an email address");
            return Err(invalid("account", form));
        }
    };
    let name = args.name.ok_or_else(|| missing("name"))?;
    let chars_max = limits::LABEL_CHARS_MAX;
    let fits = (1..=chars_max).contains(&name.chars().count());
    if name.trim().is_empty() || !fits || name.chars().any(char::is_control) {
        return Err(invalid("name", format!("must be one line of 1 to {chars_max} characters")));
    }
    access(args.access, Action::CreateKey { account, name })
}

pub(super) fn cluster(command: ClusterCommand) -> Result<OperatorSettings, ConfigError> {
    match command {
        ClusterCommand::Status(args) => access(args, Action::ClusterStatus),
        ClusterCommand::Add(args) => {
            let given = args.member.ok_or_else(|| ConfigError::new("say which node: ID=HOST:PORT"))?;
            let parts = given.split_once('=').and_then(|(id, addr)| Some((id.parse().ok()?, addr)));
            let Some((id, addr)) = parts.filter(|(id, _)| *id > 0) else {
                return Err(ConfigError::new(format!("\"{given}\" is not of the form ID=HOST:PORT")));
            };
            if host_port("rpc-addr", addr).is_err() {
                return Err(ConfigError::new(format!("\"{addr}\" is not of the form HOST:PORT")));
            }
            let change = MemberChange::Add { node: NodeId(id), addr: addr.to_owned(), level: None };
            let wait = Duration::from_secs(args.wait_sec.unwrap_or(ADD_WAIT_SECS));
            access(args.access, Action::ChangeMembers { change, wait })
        }
        ClusterCommand::Upgrade(args) => {
            access(args, Action::ChangeMembers { change: MemberChange::Upgrade, wait: Duration::ZERO })
        }
        ClusterCommand::Remove(args) => {
            let change = MemberChange::Remove(member(args.id)?);
            access(args.access, Action::ChangeMembers { change, wait: Duration::ZERO })
        }
        ClusterCommand::TransferLeader(args) => {
            let change = MemberChange::TransferLeader(member(args.id)?);
            access(args.access, Action::ChangeMembers { change, wait: Duration::ZERO })
        }
    }
}

fn member(id: Option<u64>) -> Result<NodeId, ConfigError> {
    match id {
        Some(id) if id > 0 => Ok(NodeId(id)),
        Some(_) | None => Err(ConfigError::new("say which node by its id, 1 or more")),
    }
}

pub(super) fn backup(args: BackupArgs) -> Result<OperatorSettings, ConfigError> {
    let action = Action::Backup { file: file(args.file)?, force: args.force.unwrap_or(false) };
    access(args.access, action)
}

pub(super) fn restore(args: RestoreArgs) -> Result<OperatorSettings, ConfigError> {
    let action = Action::Restore { file: file(args.file)?, restart: args.restart.unwrap_or(false) };
    access(args.access, action)
}

fn file(given: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    given.filter(|file| !file.as_os_str().is_empty()).ok_or_else(|| ConfigError::new("FILE is required"))
}

fn plan(text: &str) -> Result<Plan, ConfigError> {
    let found = Plan::ALL.into_iter().find(|plan| plan.as_str() == text);
    found.ok_or_else(|| {
        let names = Plan::ALL.map(Plan::as_str).join(", ");
        invalid("plan", format!("must be one of {names}"))
    })
}

pub(super) fn access(args: AccessArgs, action: Action) -> Result<OperatorSettings, ConfigError> {
    let rpc_addr = args.rpc_addr.unwrap_or_else(|| RPC_ADDR_DEFAULT.to_owned());
    host_port("rpc-addr", &rpc_addr)?;
    // A node's own settings may stand here, and it listens on every address.
    let rpc_addr = rpc_addr.parse::<SocketAddr>().map_or(rpc_addr, |listens| reachable(listens).to_string());
    Ok(OperatorSettings {
        rpc_addr,
        cluster_secret: cluster_secret(args.cluster_secret, args.cluster_secret_file)?,
        rpc_tls: tls::rpc(args.rpc_tls)?,
        output: args.output.unwrap_or_default(),
        action,
    })
}
