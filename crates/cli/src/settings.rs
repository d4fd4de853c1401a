//! Where each flag of `serve` gets its value: the command line, the environment, the configuration file, or its default,
//! in this order.
//!
//! A flag is defined once, in `args.rs`. The keys of a file are the names of the flags, and what a file says is parsed by
//! putting it on the command line, so it means there what it means here.

use crate::args::{Args, Command};
use crate::config_file::{Entry, MAX_FILE, Names, Value, parse};
use crate::failure::Failure;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The command that takes a file, and the flag that names it.
const COMMAND: &str = "serve";
const FILE_FLAG: &str = "config";

/// What says something only on the command line.
const NOT_IN_A_FILE: [&str; 4] = [FILE_FLAG, "check-config", "help", "version"];

/// All flags of a command, each with its value and where that is from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings(Vec<Setting>);

#[derive(Clone, Debug)]
struct Setting {
    name: String,
    /// None where nothing is said and there is no default.
    value: Option<String>,
    origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    CommandLine,
    Environment(String),
    File { path: PathBuf, line: usize },
    Default,
}

impl Settings {
    /// Something that is wrong with the value of a flag, with where that is from.
    pub(crate) fn wrong(&self, name: &str, why: &impl fmt::Display) -> Failure {
        let origin = self.0.iter().find(|setting| setting.name == name).map(|setting| &setting.origin);
        Failure::Usage(match origin {
            Some(Origin::File { path, line }) => in_file(path, *line, name, why),
            Some(Origin::Environment(variable)) => format!("{variable}: {why}"),
            Some(Origin::CommandLine | Origin::Default) | None => format!("--{name}: {why}"),
        })
    }
}

impl fmt::Display for Settings {
    /// As a file that says the same, with where each value is from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assignments: Vec<_> = self.0.iter().map(Setting::assignment).collect();
        let width = assignments.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        for (setting, assignment) in self.0.iter().zip(assignments) {
            let origin = if setting.value.is_some() { setting.origin.to_string() } else { "not set".to_owned() };
            writeln!(f, "{assignment:width$}  # {origin}")?;
        }
        Ok(())
    }
}

impl Setting {
    fn assignment(&self) -> String {
        let Self { name, value, .. } = self;
        match value {
            None => format!("#{name} ="),
            Some(text) if text == "true" || text == "false" || is_integer(text) => format!("{name} = {text}"),
            Some(text) => format!("{name} = {}", toml::Value::from(text.as_str())),
        }
    }
}

/// Whether TOML has this number, written like this.
fn is_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::Environment(variable) => f.write_str(variable),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Parses a command line, with what the environment and a configuration file say. Help, and what is wrong with the command
/// line itself, is told by clap, which ends the process.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn parse_args(line: impl Iterator<Item = OsString>) -> Result<Args, Failure> {
    let line: Vec<_> = line.collect();
    let mut command = Args::command();
    // Only then do flags have their types, which is how they are named in errors.
    command.build();
    let said = look(&command, &line).unwrap_or_else(|error| error.exit());
    let Some(said) = said.subcommand_matches(COMMAND) else {
        return Ok(Args::parse_from(&line));
    };

    let mut file = match said.get_one::<PathBuf>(FILE_FLAG) {
        Some(path) => ConfigFile::read(path, &command)?,
        None => ConfigFile::default(),
    };
    file.lines.retain(|line| !is_said(said, &line.arg));
    // The program and the command, what the file says, and the flags.
    let (head, flags) = line.split_at_checked(2).unwrap_or((&line, &[]));
    let whole = head.iter().chain(file.lines.iter().filter_map(|line| line.flag.as_ref())).chain(flags);
    let matches = command.clone().try_get_matches_from(whole).map_err(|error| file.blame(&error))?;

    let mut args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let (Command::Serve(serve), Some(found)) = (&mut args.command, matches.subcommand_matches(COMMAND)) {
        let of = |arg: &Arg| Setting {
            name: arg.get_long().unwrap_or_default().to_owned(),
            value: value(found, arg),
            origin: origin(said, &file, arg),
        };
        serve.settings = Settings(keys(&command).map(of).collect());
    }
    Ok(args)
}

/// What the command line and the environment say, where a file may say more.
fn look(command: &clap::Command, line: &[OsString]) -> Result<ArgMatches, clap::Error> {
    match command.clone().try_get_matches_from(line) {
        // What is missing may stand in the file.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            command.clone().ignore_errors(true).try_get_matches_from(line)
        }
        said => said,
    }
}

/// The flags that may stand in a file.
fn keys(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    let flags = command.find_subcommand(COMMAND).into_iter().flat_map(clap::Command::get_arguments);
    flags.filter(|arg| arg.get_long().is_some_and(|name| !NOT_IN_A_FILE.contains(&name)))
}

/// Whether the command line or the environment says what a flag is.
fn is_said(said: &ArgMatches, arg: &Arg) -> bool {
    !matches!(said.value_source(arg.get_id().as_str()), None | Some(ValueSource::DefaultValue))
}

fn origin(said: &ArgMatches, file: &ConfigFile, arg: &Arg) -> Origin {
    match (said.value_source(arg.get_id().as_str()), file.lines.iter().find(|line| line.arg == *arg)) {
        (_, Some(line)) => Origin::File { path: file.path.clone(), line: line.number },
        (Some(ValueSource::EnvVariable), _) => {
            Origin::Environment(arg.get_env().unwrap_or_default().to_string_lossy().into_owned())
        }
        (Some(ValueSource::CommandLine), _) => Origin::CommandLine,
        _ => Origin::Default,
    }
}

/// What a flag is, as it was said.
fn value(found: &ArgMatches, arg: &Arg) -> Option<String> {
    let said: Vec<_> = found.get_raw(arg.get_id().as_str())?.map(|text| text.to_string_lossy()).collect();
    Some(said.join(","))
}

/// A configuration file.
#[derive(Default)]
struct ConfigFile {
    path: PathBuf,
    lines: Vec<Line>,
}

/// What a file says of one flag.
struct Line {
    arg: Arg,
    number: usize,
    /// As it would stand on the command line; None where the flag is one that is off.
    flag: Option<OsString>,
}

impl ConfigFile {
    fn read(path: &Path, command: &clap::Command) -> Result<Self, Failure> {
        let cannot = |error| Failure::Usage(format!("can't read the configuration file {}: {error}", path.display()));
        let text = read_text(path).map_err(cannot)?;
        let args: Vec<_> = keys(command).collect();
        let names: Vec<_> = args.iter().filter_map(|arg| arg.get_long()).collect();
        let names = Names { keys: &names, not_in_a_file: &NOT_IN_A_FILE };
        let entries = parse(&text, &names).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
        let mut lines = Vec::new();
        for Entry { key, value, line } in entries {
            let wrong = |expected, found| {
                let why = format!("expected {expected}, found {found}");
                Failure::Usage(in_file(path, line, &key, &why))
            };
            let Some(arg) = args.iter().find(|arg| arg.get_long() == Some(&key)) else { continue };
            let flag = match (arg.get_action().takes_values(), value) {
                (true, Value::Text(text)) => Some(format!("--{key}={text}").into()),
                (true, Value::Switch(_)) => return Err(wrong("a string or an integer", "a boolean")),
                (false, Value::Switch(is_on)) => is_on.then(|| format!("--{key}").into()),
                (false, Value::Text(_)) => return Err(wrong("true or false", "a string or an integer")),
            };
            lines.push(Line { arg: (*arg).clone(), number: line, flag });
        }
        Ok(Self { path: path.to_owned(), lines })
    }

    /// What clap says of a value of this file; of anything else, clap says it itself, and ends the process.
    fn blame(&self, error: &clap::Error) -> Failure {
        let of = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(arg)) => self.lines.iter().find(|line| line.arg.to_string() == *arg),
            _ => None,
        };
        let Some(line) = of else { error.exit() };
        let said = error.render().to_string();
        let why = said.split("\n\nFor more").next().unwrap_or(&said);
        let why = why.trim_start_matches("error: ");
        Failure::Usage(in_file(&self.path, line.number, line.arg.get_long().unwrap_or_default(), &why))
    }
}

/// What is told of a line of a file.
fn in_file(path: &Path, line: usize, key: &str, why: &impl fmt::Display) -> String {
    format!("{}: line {line}: {key}: {why}", path.display())
}

/// Reads a file that has at most so many bytes.
///
/// # Errors
/// What the system says, or that it has more.
pub(crate) fn read_bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let and_one_more = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(and_one_more).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("expected at most {most} bytes, found more")));
    }
    Ok(bytes)
}

/// Reads a file of text that is not too large.
fn read_text(path: &Path) -> io::Result<String> {
    let text = read_bounded(path, MAX_FILE)?;
    String::from_utf8(text).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
        io::Error::other(format!("line {line}: expected UTF-8, found other bytes"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_needs_another_may_find_it_in_the_file() {
        let flag = |name: &'static str| Arg::new(name).long(name).default_value("default");
        let serve = clap::Command::new(COMMAND).args([Arg::new("cert").long("cert").requires("key"), flag("port")]);
        let command = clap::Command::new("syncline").subcommand(serve.arg(Arg::new("key").long("key")));
        let line = |words: &str| words.split(' ').map(OsString::from).collect::<Vec<_>>();

        let said = look(&command, &line("syncline serve --cert c")).unwrap();
        let said = said.subcommand_matches(COMMAND).unwrap();
        let sources = ["cert", "key", "port"].map(|name| said.value_source(name));
        assert_eq!(sources, [Some(ValueSource::CommandLine), None, Some(ValueSource::DefaultValue)]);

        assert!(look(&command, &line("syncline serve --cert")).is_err(), "what no file can mend is told");
        assert!(look(&command, &line("syncline serve --nonsense")).is_err());
    }

    #[test]
    fn what_is_shown_is_toml_and_what_is_not_set_a_comment() {
        let setting = |name: &str, value: Option<&str>| Setting {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            origin: Origin::Default,
        };
        let settings = [("a", None), ("b", Some("true")), ("c", Some("007")), ("d", Some("-7")), ("e", Some("9e9"))];
        let shown = Settings(settings.map(|(name, value)| setting(name, value)).into()).to_string();
        let expected = "\
#a =       # not set
b = true   # default
c = \"007\"  # default
d = -7     # default
e = \"9e9\"  # default
";
        assert_eq!(shown, expected);
    }
}
