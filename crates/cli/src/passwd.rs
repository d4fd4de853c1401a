//! `syncline passwd`

use crate::args::Passwd;
use crate::failure::Failure;
use crate::output::print_line;
use std::io::{self, BufRead, IsTerminal, Read};
use syncline_server::{Hash, Users};

/// The longest password: with the name of a user, it must fit what a server takes of strangers.
const MAX_PASSWORD: usize = 512;

pub(crate) fn run(args: &Passwd) -> Result<(), Failure> {
    if let Some(name) = &args.user {
        check_name(name)?;
    }
    let password = if io::stdin().is_terminal() { ask()? } else { read_line()? };
    if password.is_empty() {
        return Err(Failure::Usage("expected a password, found none".into()));
    }
    if password.len() > MAX_PASSWORD {
        return Err(Failure::Usage(format!("expected a password of at most {MAX_PASSWORD} bytes")));
    }
    let hash = Hash::make(password.as_bytes()).map_err(|error| Failure::Unavailable(error.to_string()))?.expose();
    match &args.user {
        None => print_line(&hash),
        Some(name) => print_line(&entry(name, &hash)),
    }
}

/// An entry for a file of users, without rights: nobody gets any by pasting.
fn entry(name: &str, hash: &str) -> String {
    format!(
        "[[user]]\nname = {}\nhash = \"{hash}\"\n# Prefixes; \"\" is everything. Or, for both and the status: admin = true\n\
         read = []\nwrite = []\n",
        quoted(name)
    )
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    // JSON escapes are escapes of TOML, too; all that JSON leaves as it is and TOML does not is DEL.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// Refuses what could not be the name of a user, before a password is asked for.
fn check_name(name: &str) -> Result<(), Failure> {
    let probe = format!("[[user]]\nname = {}\ncertificate = \"any\"\nadmin = true", quoted(name));
    Users::parse(&probe).map(|_| ()).map_err(|error| Failure::Usage(format!("--user: {}", error.problem)))
}

/// Asks twice, and shows neither.
fn ask() -> Result<String, Failure> {
    let ask = |prompt| {
        rpassword::prompt_password(prompt).map_err(|error| Failure::Usage(format!("can't ask for a password: {error}")))
    };
    let password = ask("Password: ")?;
    if !password.is_empty() && ask("The same again: ")? != password {
        return Err(Failure::Usage("expected the same password twice, found two".into()));
    }
    Ok(password)
}

/// A line of stdin, without its end.
fn read_line() -> Result<String, Failure> {
    let most = u64::try_from(MAX_PASSWORD).unwrap_or(u64::MAX).saturating_add(3);
    let mut line = String::new();
    let read = io::stdin().lock().take(most).read_line(&mut line);
    read.map_err(|error| Failure::Usage(format!("can't read a password from stdin: {error}")))?;
    let line = line.strip_suffix('\n').map_or(&*line, |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(line.to_owned())
}
