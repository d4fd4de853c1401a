//! `syncline get`: prints the value of a key.

use crate::args::Get;
use crate::failure::Failure;
use crate::output::{Json, print, print_line};
use crate::shown::shown_value;
use std::io::{self, IsTerminal};
use syncline_client::{GetError, Versioned};

pub(crate) async fn run(args: Get) -> Result<(), Failure> {
    let key = args.notation.read(args.key)?;
    let client = args.servers.connect().await?;
    let Versioned { value, version } = client.get(key.clone()).await.map_err(|error| match error {
        GetError::NotFound { .. } => Failure::NotFound(format!("{}: {error}", args.notation.show(&key))),
        error => error.into(),
    })?;
    if args.json {
        print_line(&Json::new(&key, version).value(&value).to_string())
    } else if io::stdout().is_terminal() {
        print_line(&format!("{}  (version {version})", shown_value(&value)))
    } else {
        print(&value)
    }
}
