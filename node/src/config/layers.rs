//! Flags over the environment over a file.
//!
//! The lower layers are turned into flags and put in front of those that were given: of a flag
//! that stands twice the last counts. So a value is read in the same way wherever it comes from.

use super::ConfigError;
use crate::cli::Cli;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// Names the file itself, and so has no place in it.
const CONFIG: &str = "config";
/// May be a table in the file, whose entries are values of the flag.
const PLANS: &str = "plans";

pub(super) enum Merged {
    Show(String),
    Run(Box<Cli>),
}

/// `args` with what `env` and the file add.
pub(super) fn merge(
    args: Vec<OsString>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Merged, ConfigError> {
    // First by itself, so that what is wrong with the flags is said as such, and for the command's name.
    let given = match read(&args) {
        Ok(cli) => cli,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Ok(Merged::Show(error.to_string())),
            _ => return Err(ConfigError::new(one_line(&error))),
        },
    };
    let (name, config) = given.command.path();
    let config = config.map(Path::to_owned);
    let flags = flags_of(name);

    let mut from_env = Vec::new();
    for flag in &flags {
        let variable = format!("JUSTRUN_{}", flag.to_ascii_uppercase().replace('-', "_"));
        // Compose files set a variable to nothing where they mean not to set it.
        if let Some(value) = env(&variable).filter(|value| !value.is_empty()) {
            from_env.push(as_flag(name, flag, &value, &variable)?);
        }
    }
    let config = match config {
        Some(path) => Some(path),
        None => env("JUSTRUN_CONFIG").filter(|path| !path.is_empty()).map(Into::into),
    };
    let from_file = match config {
        Some(path) => file(name, &flags, &path)?,
        None => Vec::new(),
    };

    // The program, the command, then the flags from the lowest layer up.
    let (head, given) = args.split_at(1 + name.len());
    let all: Vec<OsString> = [head, &from_file, &from_env, given].concat();
    read(&all).map(|cli| Merged::Run(Box::new(cli))).map_err(|error| ConfigError::new(one_line(&error)))
}

/// What the file at `path` sets, as flags of the command `name`.
///
/// A command that only asks something of a cluster passes over what is a server's, so that both can have one file.
fn file(name: &[&str], flags: &[String], path: &Path) -> Result<Vec<OsString>, ConfigError> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::new(format!("cannot read {shown}: {error}")))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        ConfigError::new(format!("{shown}, line {line}: {}", error.message().replace('\n', ", ")))
    })?;
    let passed_over = if matches!(name, ["dev" | "server"]) { Vec::new() } else { flags_of(&["server"]) };
    let mut values = BTreeMap::new();
    for (key, value) in &table {
        let flag = key.replace('_', "-");
        if !flags.contains(&flag) && passed_over.contains(&flag) && flag != CONFIG {
            continue;
        }
        if flag == CONFIG || !flags.contains(&flag) {
            return Err(ConfigError::new(format!("{shown}: unknown key \"{key}\"")));
        }
        let arguments = match value {
            toml::Value::Table(entries) if flag == PLANS => entries_of(entries)
                .into_iter()
                .map(|(path, value)| {
                    let source = format!("{shown}: \"{key}.{path}\"");
                    let entry = format!("{path}={}", as_text(value, &source)?);
                    as_flag(name, &flag, &entry, &source)
                })
                .collect::<Result<_, _>>()?,
            value => {
                let source = format!("{shown}: \"{key}\"");
                vec![as_flag(name, &flag, &as_text(value, &source)?, &source)?]
            }
        };
        if values.insert(flag, arguments).is_some() {
            return Err(ConfigError::new(format!("{shown}: \"{key}\" is set twice")));
        }
    }
    Ok(values.into_values().flatten().collect())
}

/// What stands in a table and the tables in it, under the names that lead there: `maker.jobs`.
fn entries_of(table: &toml::Table) -> Vec<(String, &toml::Value)> {
    let mut entries = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => {
                entries.extend(
                    entries_of(inner).into_iter().map(|(path, value)| (format!("{key}.{path}"), value)),
                );
            }
            value => entries.push((key.clone(), value)),
        }
    }
    entries
}

/// A value of the file as a flag takes it.
fn as_text(value: &toml::Value, source: &str) -> Result<String, ConfigError> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(yes) => Ok(yes.to_string()),
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            Err(ConfigError::new(format!("{source} must be a text, a whole number, true or false")))
        }
    }
}

/// The names of the command's flags.
fn flags_of(name: &[&str]) -> Vec<String> {
    let program = Cli::command();
    let command = name.iter().try_fold(&program, |command, word| command.find_subcommand(word));
    let arguments = command.into_iter().flat_map(clap::Command::get_arguments);
    arguments
        .filter_map(|argument| argument.get_long())
        .filter(|flag| *flag != "help")
        .map(str::to_owned)
        .collect()
}

/// A flag that sets `value`, which comes from `source`.
fn as_flag(name: &[&str], flag: &str, value: &str, source: &str) -> Result<OsString, ConfigError> {
    let argument = OsString::from(format!("--{flag}={value}"));
    let words = std::iter::once(&"justrun").chain(name).map(OsString::from);
    match read(&words.chain([argument.clone()]).collect::<Vec<_>>()) {
        Ok(_) => Ok(argument),
        Err(error) => Err(ConfigError::new(format!("{source}: {}", one_line(&error)))),
    }
}

fn read(args: &[OsString]) -> Result<Cli, clap::Error> {
    let mut matches = Cli::command().term_width(100).try_get_matches_from(args)?;
    Cli::from_arg_matches_mut(&mut matches)
}

/// What is wrong, without the usage that follows it.
fn one_line(error: &clap::Error) -> String {
    if matches!(
        error.kind(),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        return "no command given, try justrun --help".to_owned();
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let first = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) if !words.is_empty() => {
            format!("{first}: must be one of {}", words.join(", "))
        }
        _ => first.to_owned(),
    };
    let suggestion =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
            .into_iter()
            .find_map(|kind| error.get(kind));
    match suggestion {
        Some(suggestion) => format!("{first}; did you mean {suggestion}?"),
        None => first,
    }
}
