//! The agent's options from the command line, the environment and a file; those that `check` shares with it, from the
//! first two.
//!
//! All three have one definition, the command line's: a value of the file becomes the default of its option,
//! which clap then reads as if it had stood there always.

use std::collections::BTreeSet;
use std::env;
use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use super::Cli;
use super::file::{self, Entry};

/// The subcommand that takes a file.
const AGENT: &str = "agent";
/// The one that is told what an agent would be, by the same variables.
const CHECK: &str = "check";
/// The option that names the file.
const CONFIG: &str = "config";
/// Variables by their names, and what each was called before: manifests that set that are still in use.
const FORMER: [(&str, &str); 1] = [("UNDERPASS_NODE_NAME", "NODE_NAME")];

/// What the words ask for; of the agent, the environment and the file of `--config` as well, of `check` the environment.
///
/// # Errors
/// A [`clap::Error`] where the words are wrong or ask for help; another one where a variable or the file is
/// wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli> {
    parse_in(words, |variable| env::var_os(variable))
}

fn parse_in(
    words: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Cli> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut command = Cli::command();
    // What is wrong with the words is told below, once everything has been read.
    let lenient = command.clone().ignore_errors(true);
    let seen = lenient.try_get_matches_from(&words)?;
    if let Some((of @ (AGENT | CHECK), on_line)) = seen.subcommand() {
        // An empty variable counts as one that is not set.
        let environment = |name: &OsStr| environment(name).filter(|value| !value.is_empty());
        command = put_behind(command, of, on_line, environment)?;
    }
    Ok(Cli::from_arg_matches(
        &command.try_get_matches_from(&words)?,
    )?)
}

/// What may be set elsewhere: the subcommand's own options, and those that go with every subcommand.
fn settings<'a>(command: &'a Command, of: &str) -> Vec<&'a Arg> {
    let global = command.get_arguments().filter(|arg| arg.is_global_set());
    let own = subcommand(command, of).get_arguments();
    own.chain(global)
        .filter(|arg| arg.get_id() != CONFIG && arg.get_long().is_some_and(|long| long != "help"))
        .collect()
}

fn subcommand<'a>(command: &'a Command, name: &str) -> &'a Command {
    command
        .find_subcommand(name)
        .expect("the command line has this subcommand")
}

/// A value that is given elsewhere than on the command line.
struct Given {
    /// The option's.
    id: String,
    values: Vec<String>,
    /// Where, for messages: a variable, or a line of the file and its key.
    place: String,
}

/// The command line with environment and file behind it.
fn put_behind(
    mut command: Command,
    of: &str,
    on_line: &ArgMatches,
    environment: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Command> {
    let ids = on_line.ids().map(|id| id.as_str());
    let mut taken: BTreeSet<String> = ids
        .filter(|id| on_line.value_source(id) == Some(ValueSource::CommandLine))
        .map(str::to_owned)
        .collect();
    let config = match of {
        AGENT => config(on_line, &environment),
        _ => None,
    };
    let layers = [
        from_environment(&command, of, environment)?,
        config.map_or(Ok(Vec::new()), |path| from_file(&command, &path))?,
    ];
    for id in known(&command, of) {
        command = change(command, of, &id, |arg| arg.env(Resettable::Reset));
    }
    for layer in layers {
        check(&command, of, &layer)?;
        let free = |given: &Given| {
            !taken.contains(&given.id) && rivals(&command, of, &given.id).is_disjoint(&taken)
        };
        let layer: Vec<Given> = layer.into_iter().filter(free).collect();
        for Given { id, values, .. } in layer {
            command = change(command, of, &id, |arg| {
                arg.default_values(values).required(false)
            });
            taken.insert(id);
        }
    }
    Ok(command)
}

/// Where the agent's file is; `None`: there is none.
fn config(
    on_line: &ArgMatches,
    environment: impl Fn(&OsStr) -> Option<OsString>,
) -> Option<PathBuf> {
    let is_named = on_line.value_source(CONFIG) == Some(ValueSource::CommandLine);
    let named = on_line.get_one::<PathBuf>(CONFIG).filter(|_| is_named);
    let by_variable = || environment("UNDERPASS_CONFIG".as_ref()).map(PathBuf::from);
    named.cloned().or_else(by_variable)
}

fn known(command: &Command, of: &str) -> Vec<String> {
    let ids = settings(command, of)
        .into_iter()
        .map(|arg| arg.get_id().to_string());
    ids.chain((of == AGENT).then(|| CONFIG.to_owned()))
        .collect()
}

fn from_environment(
    command: &Command,
    of: &str,
    environment: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Vec<Given>> {
    let set = |name: &OsStr| Some((name.to_owned(), environment(name)?));
    let former = |name: &OsStr| {
        let (_, before) = FORMER.iter().find(|(now, _)| *now == name)?;
        set(before.as_ref())
    };
    let mut layer = Vec::new();
    for arg in settings(command, of) {
        let Some((name, value)) = arg
            .get_env()
            .and_then(|name| set(name).or_else(|| former(name)))
        else {
            continue;
        };
        let place = name.display().to_string();
        let Ok(value) = value.into_string() else {
            bail!("{place}: the variable's value is not UTF-8");
        };
        layer.push(Given {
            id: arg.get_id().to_string(),
            values: vec![value],
            place,
        });
    }
    Ok(layer)
}

fn from_file(command: &Command, path: &Path) -> Result<Vec<Given>> {
    let settings = settings(command, AGENT);
    let mut layer = Vec::new();
    for Entry { key, values, line } in file::read(path)? {
        let place = format!("{}:{line}: {key}", path.display());
        let Some(arg) = settings.iter().find(|arg| arg.get_long() == Some(&key)) else {
            bail!("{place}: there is no such option{}", nearest(command, &key));
        };
        layer.push(Given {
            id: arg.get_id().to_string(),
            values,
            place,
        });
    }
    Ok(layer)
}

/// Refuses values that their options do not take, and options that cannot be together.
fn check(command: &Command, of: &str, layer: &[Given]) -> Result<()> {
    let bare = bare(command, of);
    for (number, given) in layer.iter().enumerate() {
        check_values(&bare, given).map_err(|error| anyhow!("{}: {error}", given.place))?;
        let rivals = rivals(command, of, &given.id);
        if let Some(rival) = layer[..number]
            .iter()
            .find(|before| rivals.contains(&before.id))
        {
            bail!("{}: cannot be together with {}", given.place, rival.place);
        }
    }
    Ok(())
}

/// The subcommand's options, each by itself: nothing is required, nothing excludes another.
fn bare(command: &Command, of: &str) -> Command {
    let alone = |arg: &Arg| {
        let mut alone = Arg::new(arg.get_id().clone())
            .long(arg.get_long().unwrap_or_default().to_owned())
            .action(arg.get_action().clone())
            .value_parser(arg.get_value_parser().clone());
        if let Some(delimiter) = arg.get_value_delimiter() {
            alone = alone.value_delimiter(delimiter);
        }
        alone
    };
    let empty = Command::new(of.to_owned()).no_binary_name(true);
    settings(command, of)
        .into_iter()
        .map(alone)
        .fold(empty, Command::arg)
}

/// Whether the option takes what is given.
fn check_values(bare: &Command, given: &Given) -> Result<(), String> {
    let mut all = bare.get_arguments();
    let arg = all
        .find(|arg| *arg.get_id() == given.id)
        .ok_or("there is no such option")?;
    if given.values.len() != 1 && !matches!(arg.get_action(), ArgAction::Append) {
        return Err("it takes one value, not a list".to_owned());
    }
    if !arg.get_action().takes_values() {
        let is_switch = ["true", "false"].contains(&given.values[0].as_str());
        return is_switch
            .then_some(())
            .ok_or_else(|| "allowed are true and false".to_owned());
    }
    let option = arg.get_long().unwrap_or_default();
    for value in &given.values {
        let Err(error) = bare
            .clone()
            .try_get_matches_from([format!("--{option}={value}")])
        else {
            continue;
        };
        return Err(match (error.get(ContextKind::ValidValue), error.source()) {
            (Some(ContextValue::Strings(allowed)), _) => {
                format!("\"{value}\" is not one of {}", allowed.join(", "))
            }
            (_, Some(why)) => format!("\"{value}\" does not do: {why}"),
            (_, None) => format!("\"{value}\" does not do"),
        });
    }
    Ok(())
}

/// `; did you mean offload?`, or where to look.
fn nearest(command: &Command, key: &str) -> String {
    if key == CONFIG {
        return ": a file names no other".to_owned();
    }
    let error = bare(command, AGENT)
        .try_get_matches_from([format!("--{key}=x")])
        .err();
    let suggested = error
        .as_ref()
        .and_then(|error| error.get(ContextKind::SuggestedArg));
    match suggested {
        Some(ContextValue::String(option)) => {
            format!("; did you mean {}?", option.trim_start_matches('-'))
        }
        _ => "; `underpass agent --help` names all".to_owned(),
    }
}

/// Options that cannot be together with this one, by id.
fn rivals(command: &Command, of: &str, id: &str) -> BTreeSet<String> {
    let subcommand = subcommand(command, of);
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for arg in subcommand.get_arguments() {
        let others = subcommand.get_arg_conflicts_with(arg).into_iter();
        pairs.extend(others.map(|other| (arg.get_id().as_str(), other.get_id().as_str())));
    }
    for group in subcommand
        .get_groups()
        .filter(|group| !(**group).clone().is_multiple())
    {
        let members: Vec<&str> = group.get_args().map(|id| id.as_str()).collect();
        pairs.extend(
            members
                .iter()
                .flat_map(|one| members.iter().map(|other| (*one, *other))),
        );
    }
    let both_ways = pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
    both_ways
        .filter(|(one, other)| *one == id && *other != id)
        .map(|(_, other)| other.to_owned())
        .collect()
}

/// Changes one of the subcommand's options, by id.
fn change(command: Command, of: &str, id: &str, how: impl FnOnce(Arg) -> Arg) -> Command {
    if command.get_arguments().any(|arg| arg.get_id() == id) {
        return command.mut_arg(id, how);
    }
    command.mut_subcommand(of, |subcommand| subcommand.mut_arg(id, how))
}

#[cfg(test)]
mod tests;
