//! The settings of a server: the value of each flag of `serve`, and where the value comes from.
//!
//! `--check-config` prints them as a configuration file, and errors name the origin of the value at fault.

use crate::failure::Failure;
use std::fmt;
use std::path::{Path, PathBuf};

/// All flags of `serve` that a configuration file may set, in the order of `--help`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings(Vec<Setting>);

/// A flag with its value.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The name of the flag, without `--`.
    pub(crate) name: String,
    /// `None` if the flag is not set and has no default.
    pub(crate) value: Option<String>,
    pub(crate) origin: Origin,
    /// The reason why the value has no effect, if it has none.
    pub(crate) unused: Option<&'static str>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    CommandLine,
    /// The variable of this name.
    Environment(String),
    File {
        path: PathBuf,
        line: usize,
    },
    Default,
}

impl Settings {
    pub(crate) fn new(settings: Vec<Setting>) -> Self {
        Self(settings)
    }

    /// Returns where the value of a flag comes from.
    pub(crate) fn origin(&self, name: &str) -> &Origin {
        self.0.iter().find(|setting| setting.name == name).map_or(&Origin::Default, |setting| &setting.origin)
    }

    /// Returns the failure for an invalid value. The message names the origin of the value.
    pub(crate) fn invalid(&self, name: &str, reason: &impl fmt::Display) -> Failure {
        Failure::Usage(match self.origin(name) {
            Origin::File { path, line } => invalid_in_file(path, *line, name, reason),
            Origin::Environment(variable) => format!("{variable}: {reason}"),
            Origin::CommandLine | Origin::Default => format!("--{name}: {reason}"),
        })
    }

    /// Records that the value of a flag has no effect, which `--check-config` then shows.
    pub(crate) fn mark_unused(&mut self, name: &str, reason: &'static str) {
        for setting in self.0.iter_mut().filter(|setting| setting.name == name) {
            setting.unused = Some(reason);
        }
    }
}

impl fmt::Display for Settings {
    /// Writes a configuration file with the same values. A comment on each line names the origin of the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assignments: Vec<_> = self.0.iter().map(Setting::assignment).collect();
        let width = assignments.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        for (setting, assignment) in self.0.iter().zip(assignments) {
            let origin = if setting.value.is_some() { setting.origin.to_string() } else { "not set".to_owned() };
            let unused = setting.unused.map(|reason| format!("; not used: {reason}")).unwrap_or_default();
            writeln!(f, "{assignment:width$}  # {origin}{unused}")?;
        }
        Ok(())
    }
}

impl Setting {
    fn assignment(&self) -> String {
        let Self { name, value, .. } = self;
        match value {
            None => format!("#{name} ="),
            Some(text) if text == "true" || text == "false" || is_toml_integer(text) => format!("{name} = {text}"),
            Some(text) => format!("{name} = {}", toml::Value::from(text.as_str())),
        }
    }
}

/// Returns whether TOML reads this text as an integer and writes it the same way.
fn is_toml_integer(text: &str) -> bool {
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

/// Returns the message for an invalid value in a configuration file.
pub(crate) fn invalid_in_file(path: &Path, line: usize, key: &str, reason: &impl fmt::Display) -> String {
    format!("{}: line {line}: {key}: {reason}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, value: Option<&str>) -> Setting {
        Setting { name: name.to_owned(), value: value.map(str::to_owned), origin: Origin::Default, unused: None }
    }

    #[test]
    fn settings_are_shown_as_toml_with_unset_flags_as_comments() {
        let settings = [("a", None), ("b", Some("true")), ("c", Some("007")), ("d", Some("-7")), ("e", Some("9e9"))];
        let mut settings = Settings(settings.map(|(name, value)| setting(name, value)).into());
        settings.mark_unused("d", "no reason");
        let expected = "\
#a =       # not set
b = true   # default
c = \"007\"  # default
d = -7     # default; not used: no reason
e = \"9e9\"  # default
";
        assert_eq!(settings.to_string(), expected);
    }
}
