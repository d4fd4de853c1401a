//! `syncline passwd`: prints the hash of a password, or an entry for a users file.

use crate::args::Passwd;
use crate::failure::Failure;
use crate::output::{note, print_line};
use std::io::{self, BufRead, IsTerminal, Read};
use syncline_server::{Hash, Users};

/// The longest password, in bytes. With a user's name, it fits into the input that a server accepts before
/// authentication.
const MAX_PASSWORD: usize = 512;

pub(crate) fn run(args: &Passwd) -> Result<(), Failure> {
    if let Some(name) = &args.user {
        check_entry(name, args)?;
    }
    let password = if io::stdin().is_terminal() { ask()? } else { read_line()? };
    if password.is_empty() {
        return Err(Failure::Usage("expected a password, found none".into()));
    }
    if password.len() > MAX_PASSWORD {
        return Err(Failure::Usage(format!("expected a password of at most {MAX_PASSWORD} bytes, found a longer one")));
    }
    let hash = Hash::make(password.as_bytes()).map_err(|error| Failure::Unavailable(error.to_string()))?.expose();
    let Some(name) = &args.user else { return print_line(&hash) };
    print_line(&entry(name, &format!("hash = \"{hash}\""), args))?;
    if !has_rights(args) {
        note(&format!(
            "{name} has no rights yet, and a server refuses a user without rights: fill in read or write, or use --read, --write or --admin"
        ));
    }
    Ok(())
}

fn has_rights(args: &Passwd) -> bool {
    args.admin || !args.read.is_empty() || !args.write.is_empty()
}

/// Returns an entry for a users file. Without flags for rights, the entry grants none.
fn entry(name: &str, proof: &str, args: &Passwd) -> String {
    let head = format!("[[user]]\nname = {}\n{proof}\n", quoted(name));
    if args.admin {
        return head + "admin = true\n";
    }
    let list = |prefixes: &[String]| prefixes.iter().map(|prefix| quoted(prefix)).collect::<Vec<_>>().join(", ");
    let hint = if has_rights(args) { "" } else { "# Prefixes of keys; \"\" is all keys. Or instead: admin = true\n" };
    format!("{head}{hint}read = [{}]\nwrite = [{}]\n", list(&args.read), list(&args.write))
}

/// Returns a TOML string.
fn quoted(text: &str) -> String {
    // TOML understands all escapes of JSON. JSON leaves DEL as it is, which TOML does not allow.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// Refuses an invalid name or prefix before the command asks for a password.
fn check_entry(name: &str, args: &Passwd) -> Result<(), Failure> {
    let proof = "certificate = \"any\"";
    let check = |entry: &str, flag: &str| {
        Users::parse(entry).map(|_| ()).map_err(|error| Failure::Usage(format!("{flag}: {}", error.problem)))
    };
    check(&format!("[[user]]\nname = {}\n{proof}\nadmin = true", quoted(name)), "--user")?;
    if has_rights(args) { check(&entry(name, proof, args), "--read, --write") } else { Ok(()) }
}

/// Asks for the password twice, without showing it.
fn ask() -> Result<String, Failure> {
    let ask = |prompt| {
        rpassword::prompt_password(prompt).map_err(|error| Failure::Usage(format!("can't ask for a password: {error}")))
    };
    let password = ask("Password: ")?;
    if !password.is_empty() && ask("Repeat the password: ")? != password {
        return Err(Failure::Usage("expected the same password twice, found two different ones".into()));
    }
    Ok(password)
}

/// Reads a line from stdin and returns it without its end.
fn read_line() -> Result<String, Failure> {
    // The longest password, CR LF, and one byte more, which shows that the password is too long.
    let limit = u64::try_from(MAX_PASSWORD).unwrap_or(u64::MAX).saturating_add(3);
    let mut line = String::new();
    let read = io::stdin().lock().take(limit).read_line(&mut line);
    read.map_err(|error| Failure::Usage(format!("can't read a password from stdin: {error}")))?;
    let line = line.strip_suffix('\n').map_or(&*line, |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(line.to_owned())
}
