//! `syncline watch`

use crate::args::Watch;
use crate::failure::Failure;
use crate::output::{json, note, print_line, shown};
use syncline_client::{Change, Client, GetError};

pub(crate) async fn run(args: Watch) -> Result<(), Failure> {
    let client = Client::connect(args.server.addr.clone()).await?;
    let mut changes = client.changes();
    // Once this is answered, the server has taken us in, and no change is missed.
    match client.get("").await {
        Ok(_) | Err(GetError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    note(&format!("watching {} (Ctrl-C to end)", args.server.addr));
    while let Some(change) = changes.next().await {
        match change {
            Change::Put { key, value, version } if args.json => print_line(&json(&key, Some(&value), version))?,
            Change::Put { key, value, version } => {
                print_line(&format!("{} = {}  (version {version})", shown(&key), shown(&value)))?;
            }
            Change::Gap if args.json => print_line(r#"{"gap":true}"#)?,
            Change::Gap => note("changes may have been missed here: read again what matters"),
        }
    }
    Ok(())
}
