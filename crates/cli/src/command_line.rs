//! Parses the command line, the environment and the configuration file of `serve` into [`Args`].
//!
//! A flag is defined once, in `args.rs`. The keys of a configuration file are the names of the flags. Each line of the
//! file is put on the command line as a flag, so a value means the same in both places.
//!
//! An environment variable that is empty counts as not set, for every command.

use crate::args::{Args, Command};
use crate::failure::Failure;
use crate::settings::{Origin, Setting, Settings, invalid_in_file};
use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use syncline_config::{Assignment, MAX_FILE, Names, Value, parse, read_text};

/// The command that accepts a configuration file, and the flag that names the file.
const COMMAND: &str = "serve";
const FILE_FLAG: &str = "config";

/// The flags of `serve` that a file cannot set.
const NOT_IN_A_FILE: [&str; 4] = [FILE_FLAG, "check-config", "help", "version"];

/// Parses a command line, with the values that the environment and a configuration file add.
///
/// For `--help`, and for an error on the command line itself, clap prints its message and ends the process.
///
/// # Errors
/// [`Failure::Usage`] for an error in the environment or in the configuration file.
pub(crate) fn parse_args(line: impl Iterator<Item = OsString>) -> Result<Args, Failure> {
    let line: Vec<_> = line.collect();
    let mut command = without_empty_variables(Args::command());
    // Only after this do flags know their value names, which error messages show.
    command.build();
    let explicit = match parse_without_file(&command, &line) {
        Ok(explicit) => explicit,
        Err(error) => return Err(variable_failure(&command, &line, &error).unwrap_or_else(|| error.exit())),
    };
    if explicit.subcommand_matches(COMMAND).is_none() {
        let matches = command.try_get_matches_from(&line).unwrap_or_else(|error| error.exit());
        return Ok(Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()));
    }
    parse_with_file(&command, &line, &explicit)
}

/// Parses a command line of `serve`, with the values that the configuration file adds.
fn parse_with_file(command: &clap::Command, line: &[OsString], explicit: &ArgMatches) -> Result<Args, Failure> {
    let explicit = explicit.subcommand_matches(COMMAND).unwrap_or(explicit);
    let mut file = match explicit.get_one::<PathBuf>(FILE_FLAG) {
        Some(path) => ConfigFile::read(path, command)?,
        None => ConfigFile::default(),
    };
    file.flags.retain(|flag| !is_explicit(explicit, &flag.arg));
    // The program and the command, then the flags of the file, then the flags of the command line.
    let (head, flags) = line.split_at_checked(2).unwrap_or((line, &[]));
    let whole = head.iter().chain(file.flags.iter().filter_map(|flag| flag.text.as_ref())).chain(flags);
    let matches = command.clone().try_get_matches_from(whole).map_err(|error| file.failure(&error))?;

    let mut args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let (Command::Serve(serve), Some(found)) = (&mut args.command, matches.subcommand_matches(COMMAND)) {
        let setting = |arg: &Arg| Setting {
            name: arg.get_long().unwrap_or_default().to_owned(),
            value: value(found, arg),
            origin: origin(explicit, &file, arg),
            unused: None,
        };
        serve.settings = Settings::new(file_args(command).map(setting).collect());
    }
    Ok(args)
}

/// Makes all commands ignore variables that are set to an empty text, as if they were not set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg });
    command.mut_subcommands(without_empty_variables)
}

/// Turns clap's error about a value in the environment into a failure that names the variable. Returns `None` if the
/// command line is at fault.
fn variable_failure(command: &clap::Command, line: &[OsString], error: &clap::Error) -> Option<Failure> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let command_name = line.get(1)?.to_str()?;
    let found = command.find_subcommand(command_name)?.get_arguments().find(|arg| arg.to_string() == *flag)?;
    let variable = found.get_env()?.to_str()?;
    let ignored = |arg: Arg| if arg == *found { arg.env(Resettable::Reset) } else { arg };
    let without = command.clone().mut_subcommand(command_name, |command| command.mut_args(ignored));
    let is_same = |other: clap::Error| other.render().to_string() == error.render().to_string();
    if parse_without_file(&without, line).is_err_and(is_same) {
        return None;
    }
    Some(Failure::Usage(format!("{variable}: {}", reason(error))))
}

/// Returns the message of an error without the parts that concern the command line only.
fn reason(error: &clap::Error) -> String {
    let message = error.render().to_string();
    let reason = message.split("\n\nFor more").next().unwrap_or(&message);
    reason.trim_start_matches("error: ").to_owned()
}

/// Parses the command line and the environment. A required flag may be missing, because the file may set it.
fn parse_without_file(command: &clap::Command, line: &[OsString]) -> Result<ArgMatches, clap::Error> {
    match command.clone().try_get_matches_from(line) {
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            command.clone().ignore_errors(true).try_get_matches_from(line)
        }
        result => result,
    }
}

/// Returns the flags that a file may set.
fn file_args(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    let args = command.find_subcommand(COMMAND).into_iter().flat_map(clap::Command::get_arguments);
    args.filter(|arg| arg.get_long().is_some_and(|name| !NOT_IN_A_FILE.contains(&name)))
}

/// Returns whether the command line or the environment sets a flag.
fn is_explicit(explicit: &ArgMatches, arg: &Arg) -> bool {
    !matches!(explicit.value_source(arg.get_id().as_str()), None | Some(ValueSource::DefaultValue))
}

fn origin(explicit: &ArgMatches, file: &ConfigFile, arg: &Arg) -> Origin {
    match (explicit.value_source(arg.get_id().as_str()), file.flags.iter().find(|flag| flag.arg == *arg)) {
        (_, Some(flag)) => Origin::File { path: file.path.clone(), line: flag.line },
        (Some(ValueSource::EnvVariable), _) => {
            Origin::Environment(arg.get_env().unwrap_or_default().to_string_lossy().into_owned())
        }
        (Some(ValueSource::CommandLine), _) => Origin::CommandLine,
        _ => Origin::Default,
    }
}

/// Returns the value of a flag as its origin spells it.
fn value(found: &ArgMatches, arg: &Arg) -> Option<String> {
    let values: Vec<_> = found.get_raw(arg.get_id().as_str())?.map(|text| text.to_string_lossy()).collect();
    Some(values.join(","))
}

/// A configuration file, as flags of the command line.
#[derive(Default)]
struct ConfigFile {
    path: PathBuf,
    flags: Vec<Flag>,
}

/// A flag that a line of the file sets.
struct Flag {
    arg: Arg,
    line: usize,
    /// The flag as the command line would spell it, or `None` for a switch that is off.
    text: Option<OsString>,
}

impl ConfigFile {
    fn read(path: &Path, command: &clap::Command) -> Result<Self, Failure> {
        let unreadable =
            |error| Failure::Usage(format!("can't read the configuration file {}: {error}", path.display()));
        let text = read_text(path, MAX_FILE).map_err(unreadable)?;
        let args: Vec<_> = file_args(command).collect();
        let keys: Vec<_> = args.iter().filter_map(|arg| arg.get_long()).collect();
        let names = Names { keys: &keys, not_in_a_file: &NOT_IN_A_FILE };
        let assignments =
            parse(&text, &names).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
        let mut flags = Vec::new();
        for Assignment { key, value, line } in assignments {
            let wrong_type = |expected, found| {
                let reason = format!("expected {expected}, found {found}");
                Failure::Usage(invalid_in_file(path, line, &key, &reason))
            };
            let Some(arg) = args.iter().find(|arg| arg.get_long() == Some(&key)) else { continue };
            let text = match (arg.get_action().takes_values(), value) {
                (true, Value::Text(text)) => Some(format!("--{key}={text}").into()),
                (true, Value::Switch(_)) => return Err(wrong_type("a string or an integer", "a boolean")),
                (false, Value::Switch(is_on)) => is_on.then(|| format!("--{key}").into()),
                (false, Value::Text(_)) => return Err(wrong_type("true or false", "a string or an integer")),
            };
            flags.push(Flag { arg: (*arg).clone(), line, text });
        }
        Ok(Self { path: path.to_owned(), flags })
    }

    /// Turns clap's error about a value of this file into a failure that names the line. For any other error, clap prints
    /// its message and ends the process.
    fn failure(&self, error: &clap::Error) -> Failure {
        let flag = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(arg)) => self.flags.iter().find(|flag| flag.arg.to_string() == *arg),
            _ => None,
        };
        let Some(flag) = flag else { error.exit() };
        let name = flag.arg.get_long().unwrap_or_default();
        Failure::Usage(invalid_in_file(&self.path, flag.line, name, &reason(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_requires_another_may_find_it_in_the_file() {
        let flag = |name: &'static str| Arg::new(name).long(name).default_value("default");
        let serve = clap::Command::new(COMMAND).args([Arg::new("cert").long("cert").requires("key"), flag("port")]);
        let command = clap::Command::new("syncline").subcommand(serve.arg(Arg::new("key").long("key")));
        let line = |words: &str| words.split(' ').map(OsString::from).collect::<Vec<_>>();

        let explicit = parse_without_file(&command, &line("syncline serve --cert c")).unwrap();
        let explicit = explicit.subcommand_matches(COMMAND).unwrap();
        let sources = ["cert", "key", "port"].map(|name| explicit.value_source(name));
        assert_eq!(sources, [Some(ValueSource::CommandLine), None, Some(ValueSource::DefaultValue)]);

        let missing_value = parse_without_file(&command, &line("syncline serve --cert"));
        assert!(missing_value.is_err(), "a file cannot repair the command line");
        assert!(parse_without_file(&command, &line("syncline serve --nonsense")).is_err());
    }
}
