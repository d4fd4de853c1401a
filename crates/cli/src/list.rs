//! `syncline list`: prints the keys under a prefix, page by page.

use crate::args::List;
use crate::failure::Failure;
use crate::output::{Json, Printer, entry};
use bytes::Bytes;
use syncline_client::{GetError, Versioned};

/// The number of keys in a page.
const PAGE: u32 = 1000;

pub(crate) async fn run(args: List) -> Result<(), Failure> {
    let notation = args.notation;
    let prefix = Bytes::from(notation.read(args.prefix)?);
    let after = args.after.map(|after| notation.read(after)).transpose()?.map(Bytes::from);
    let client = args.servers.connect().await?;
    let mut printer = Printer::stdout();
    let mut print = |key: &Bytes, Versioned { value, version }: &Versioned| match (args.json, args.keys) {
        (true, true) => printer.line(Json::new(key, *version).to_string().as_bytes()),
        (true, false) => printer.line(Json::new(key, *version).value(value).to_string().as_bytes()),
        (false, true) => printer.line(notation.show_whole(key).as_bytes()),
        (false, false) => printer.line(entry(&notation.show(key), value, *version).as_bytes()),
    };
    let mut left = args.limit.unwrap_or(u64::MAX);
    // A LIST returns only keys after a given key, so it never returns the empty key.
    if prefix.is_empty() && after.is_none() && left > 0 {
        match client.get("").await {
            Ok(found) => {
                print(&Bytes::new(), &found)?;
                left -= 1;
            }
            Err(GetError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut after = after.unwrap_or_default();
    while left > 0 {
        let limit = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = client.list(prefix.clone(), after.clone(), limit).await?;
        for (key, found) in &page {
            print(key, found)?;
        }
        left -= page.len() as u64;
        match page.last() {
            Some((last, _)) if page.len() == limit as usize => after = last.clone(),
            _ => break,
        }
    }
    printer.flush()
}
