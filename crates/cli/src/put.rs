//! `syncline put`: writes a key.

use crate::args::Put;
use crate::failure::Failure;
use crate::output::{Json, print_committed};
use crate::stale::stale;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use syncline_client::{PutError, Version};
use syncline_server::Limits;

pub(crate) async fn run(args: Put) -> Result<(), Failure> {
    let key = args.notation.read(args.key)?;
    let value = value(args.value, args.file, args.empty)?;
    let client = args.servers.connect().await?;
    let version = if args.force {
        client.update(key.clone(), |_| value.clone()).await?.version
    } else {
        let version = Version::new(args.version);
        match client.put(key.clone(), value, version).await {
            Ok(()) => version,
            Err(PutError::StalePut) => return Err(stale("put", &client, args.notation, &key, version).await),
            Err(error) => return Err(error.into()),
        }
    };
    print_committed(&if args.json {
        Json::new(&key, version).to_string()
    } else {
        format!("{}  (version {version})", args.notation.show(&key))
    })
}

/// Returns the value from the argument, a file or stdin. Reads at most one byte more than any server accepts, so that a
/// value that is too large is refused as such.
///
/// An empty file or an empty stdin is usually a mistake: the shell has removed an unset variable, or the command before the
/// pipe has failed. It must be confirmed with `--empty`, while an empty argument is explicit.
fn value(argument: Option<OsString>, file: Option<PathBuf>, empty: bool) -> Result<Vec<u8>, Failure> {
    if let Some(argument) = argument {
        return Ok(argument.into_encoded_bytes());
    }
    let file = file.filter(|path| path.as_os_str() != "-");
    let name = file.as_ref().map_or_else(|| "stdin".into(), |path| path.display().to_string());
    let read = |source: &mut dyn Read| {
        let mut value = Vec::new();
        source.take(Limits::MAX_ENTRY as u64 + 1).read_to_end(&mut value).map(|_| value)
    };
    let value = match file {
        Some(path) => File::open(path).and_then(|mut file| read(&mut file)),
        None if io::stdin().is_terminal() => {
            return Err(Failure::Usage("expected a value as VALUE, --file FILE or a pipe on stdin, found none".into()));
        }
        None => read(&mut io::stdin().lock()),
    };
    let value = value.map_err(|error| Failure::Usage(format!("can't read the value from {name}: {error}")))?;
    if value.is_empty() && !empty {
        return Err(Failure::Usage(format!(
            "expected a value, found nothing in {name}\nTo write an empty value: --empty, or '' as VALUE."
        )));
    }
    Ok(value)
}
