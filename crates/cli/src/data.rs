//! `syncline backup`, `restore` and `check`: operations on a data directory, without a server.

use crate::args::{Backup, Check, Restore};
use crate::failure::Failure;
use crate::output::print_line;
use crate::progress::shown_while;
use std::path::{Path, PathBuf};
use syncline_store::{Contents, DiskOptions};

pub(crate) fn backup(args: &Backup) -> Result<(), Failure> {
    // In a directory, the backup gets the name of the data directory.
    let to = if args.to.is_dir() { args.to.join(backup_name(&args.data)) } else { args.to.clone() };
    let contents = shown_while(|report| syncline_store::backup(&args.data, &to, report))?;
    print_line(&format!("{}: {}", to.display(), summary(&contents)))
}

pub(crate) fn restore(args: &Restore) -> Result<(), Failure> {
    let contents =
        shown_while(|report| syncline_store::restore(&args.from, &args.data, DiskOptions::default(), report))?;
    print_line(&format!("{}: {}, under a new store id", args.data.display(), summary(&contents)))
}

pub(crate) fn check(args: &Check) -> Result<(), Failure> {
    let contents = shown_while(|report| syncline_store::check(&args.data, report))?;
    print_line(&format!("{}: whole; {}", args.data.display(), summary(&contents)))
}

fn backup_name(data: &Path) -> PathBuf {
    let mut name = data.file_name().unwrap_or_else(|| "syncline-data".as_ref()).to_owned();
    name.push(".backup");
    name.into()
}

fn summary(contents: &Contents) -> String {
    let Contents { head, keys, tombstones, bytes } = contents;
    format!("revision {head}, {keys} keys and {tombstones} deleted ones, {bytes} bytes")
}
