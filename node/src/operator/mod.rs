//! What an operator asks of a cluster that runs, over the rpc address of any node.

mod backup; // the state to a file, and back
mod members; // who joins and who leaves
mod render; // answers, for people and for scripts
pub mod verify; // whether histories are complete

use crate::config::{AccountName, Action, OperatorSettings};
use domain::account::{Account, Plan, User};
use domain::id::{AccountId, KeyId};
use domain::limits;
use domain::rejection::Rejection;
use domain::time::Clock;
use raft::command::{Command, CreateAccount, CreateKey};
use raft::{AccountSummary, Operator, OperatorError};
use std::io::{self, BufRead};
use std::path::PathBuf;

/// Why it was not done: one line for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The node could not be asked, or could not do it.
    #[error(transparent)]
    Node(#[from] OperatorError),
    /// The cluster refuses.
    #[error("{0}")]
    Refused(String),
    /// A node was added but has no vote yet.
    #[error("{0}")]
    NotCaughtUp(String),
    /// Standard input cannot be read.
    #[error("cannot read the password from standard input")]
    Input(#[from] io::Error),
    /// What came on standard input is no password.
    #[error("the password must be one line of {min} to {max} characters",
        min = limits::PASSWORD_CHARS_MIN, max = limits::PASSWORD_CHARS_MAX)]
    Password,
    /// The password cannot be hashed.
    #[error(transparent)]
    Hash(#[from] api::HashError),
    /// A file cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was to be done.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is no backup that could be restored.
    #[error("{} cannot be used: {reason}", path.display())]
    Backup {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: raft::backup::UnusableBackup,
    },
    /// What a node sent is no backup.
    #[error("what arrived cannot be used: {0}")]
    Arrived(raft::backup::UnusableBackup),
    /// A restoration was begun, and its end was not heard of.
    #[error(
        "the answer did not come; as long as cluster status says that a backup is being restored, give the same command again, \
         to any node, and it goes on where it was"
    )]
    RestoreCutOff,
}

/// Asks what the settings say. Returns what is to be shown on standard output; `progress` is told what happens until then.
///
/// # Errors
/// [`OperateError`].
pub async fn run(
    settings: OperatorSettings,
    clock: &dyn Clock,
    input: impl BufRead,
    progress: &mut dyn FnMut(&str),
) -> Result<String, OperateError> {
    let OperatorSettings { rpc_addr, cluster_secret, rpc_tls, output, action } = settings;
    // What is wrong with the input is said before anybody is asked.
    let password = match &action {
        Action::CreateAccount { with_password: true, .. } => api::hash_password(&read_password(input)?)?,
        _ => String::new(),
    };
    let checked = match &action {
        Action::Backup { file, force } => {
            backup::must_be_free(file, *force)?;
            None
        }
        Action::Restore { file, .. } => Some(backup::check(file.clone())?),
        _ => None,
    };
    let secret = raft::Secret::new(cluster_secret.expose());
    let node = Operator::connect(&rpc_addr, &secret, rpc_tls.as_ref()).await?;
    match action {
        Action::CreateAccount { email, plan, .. } => {
            let account = create_account(&node, clock, email, plan, password).await?;
            Ok(render::account(output, &account, &rpc_addr))
        }
        Action::ListAccounts => Ok(render::accounts(output, &list_accounts(&node).await?, &rpc_addr)),
        Action::CreateKey { account, name } => {
            let account = find(&node, account).await?;
            let text = api::mint_key();
            let key = api::stored_key(&text, KeyId(rand::random()), account, name, clock.now());
            let command = Command::CreateKey(CreateKey { key: key.clone() });
            propose(&node, command).await?;
            Ok(render::key(output, &key, &text))
        }
        Action::ClusterStatus => Ok(render::cluster(output, &node.overview().await?)),
        Action::Backup { file, force } => {
            let done = backup::save(&node, clock, file, force).await?;
            Ok(render::saved(output, &done))
        }
        Action::Restore { file, restart } => {
            let checked = checked.map_or_else(|| backup::check(file), Ok)?;
            let (done, applied) = backup::restore(&node, clock, checked, restart).await?;
            Ok(render::restored(output, &done, applied))
        }
        Action::ChangeMembers { change, wait } => {
            let done = members::change(&node, &change, wait, progress).await?;
            Ok(render::done(output, &done))
        }
    }
}

/// The first line, without its end.
fn read_password(mut input: impl BufRead) -> Result<String, OperateError> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    let fits = (limits::PASSWORD_CHARS_MIN..=limits::PASSWORD_CHARS_MAX).contains(&password.chars().count());
    if fits { Ok(password.to_owned()) } else { Err(OperateError::Password) }
}

async fn create_account(
    node: &Operator,
    clock: &dyn Clock,
    email: String,
    plan: Plan,
    password: String,
) -> Result<AccountSummary, OperateError> {
    let id = AccountId(rand::random());
    let created_at = clock.now();
    // Without a password nobody can sign in, but the address is taken.
    let user = User { email: email.clone(), account: id, password, created_at };
    let account = Account { id, plan, email: Some(email.clone()), billing: None, created_at };
    propose(node, Command::CreateAccount(Box::new(CreateAccount { account, user: Some(user) }))).await?;
    Ok(AccountSummary { id, plan, email: Some(email), created_at, jobs: 0 })
}

async fn propose(node: &Operator, command: Command) -> Result<(), OperateError> {
    let replies = node.propose(&[command]).await?;
    match replies.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        Some(Err(rejection)) => Err(OperateError::Refused(refusal(&rejection))),
        None => Err(OperatorError::Unknown.into()),
    }
}

fn refusal(rejection: &Rejection) -> String {
    match rejection {
        Rejection::EmailTaken => "an account with this email exists already".to_owned(),
        Rejection::NoSuchAccount => "there is no such account; see justrun account list".to_owned(),
        Rejection::TooMany { max } => format!("the account has {max} keys already, as many as it may have"),
        // None of what is asked here, but said all the same.
        other => other.to_string(),
    }
}

/// All accounts, oldest first.
async fn list_accounts(node: &Operator) -> Result<Vec<AccountSummary>, OperateError> {
    let mut accounts = Vec::new();
    loop {
        let after = accounts.last().map(|last: &AccountSummary| last.id);
        let (page, more) = node.accounts(after).await?;
        accounts.extend(page);
        if !more {
            accounts.sort_by_key(|account| (account.created_at, account.id));
            return Ok(accounts);
        }
    }
}

async fn find(node: &Operator, name: AccountName) -> Result<AccountId, OperateError> {
    let email = match name {
        AccountName::Id(id) => return Ok(id),
        AccountName::Email(email) => email,
    };
    let accounts = list_accounts(node).await?;
    let found = accounts.iter().find(|account| account.email.as_deref() == Some(&email));
    match found {
        Some(account) => Ok(account.id),
        None => Err(OperateError::Refused(refusal(&Rejection::NoSuchAccount))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: Option<&str>) {
        assert_eq!(read_password(input.as_bytes()).ok().as_deref(), expected, "{input:?}");
    }

    #[test]
    fn a_password_is_the_first_line() {
        check("correct horse\n", Some("correct horse"));
        check("correct horse", Some("correct horse"));
        check(" correct horse \r\nmore\n", Some(" correct horse "));
        check("", None);
        check("1234567\n", None);
        check(&"a".repeat(201), None);
    }
}
