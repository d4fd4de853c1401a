//! The command line, flag by flag: the help texts come from here.

use crate::failure::EXIT_CODES;
use crate::servers::ServersArg;
use crate::settings::Settings;
use crate::size::{Size, count};
use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;
use syncline_client::Position;
use syncline_server::{Config, Limits};

/// A versioned key-value server that keeps every client up to date.
///
/// Each key has a version. A write is accepted only if it carries the current version plus 1, and so proves that it has
/// seen the latest; every accepted write is sent to all clients at once, in one order.
#[derive(Parser)]
#[command(name = "syncline", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Serve(Serve),
    Get(Get),
    Put(Put),
    Watch(Watch),
    Delete(Delete),
    List(List),
    Txn(Txn),
    Status(Status),
    Export(Export),
    Import(Import),
    Backup(Backup),
    Restore(Restore),
    Check(Check),
    Passwd(Passwd),
    Bench(Bench),
    Cert(Cert),
}

/// Run a server.
///
/// Prints `listening on HOST:PORT` once clients can connect, and logs to stderr (RUST_LOG=debug says more). Ctrl-C or
/// SIGTERM ends it in order.
///
/// What a flag says may stand in a file too (--config), under the same name. A flag wins over its environment variable, that
/// over the file, the file over the default.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline serve --listen 0.0.0.0:6660 --data /var/lib/syncline
  syncline serve --config syncline.toml
  syncline serve --config syncline.toml --check-config")]
pub(crate) struct Serve {
    /// A file with any of the flags below: TOML, as in `max-connections = 20000`
    #[arg(long, env = "SYNCLINE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Check everything that can be without opening the data or the port, print what would be in force, and end
    #[arg(long)]
    pub(crate) check_config: bool,

    /// Where each of the others got its value
    #[arg(skip)]
    pub(crate) settings: Settings,

    /// Where to listen; port 0 takes any that is free
    #[arg(long, env = "SYNCLINE_LISTEN", value_name = "HOST:PORT", default_value_t = Config::default().listen)]
    pub(crate) listen: String,

    /// The directory that the data is kept in; made where it is not there
    #[arg(long, env = "SYNCLINE_DATA", value_name = "DIR", default_value = "syncline-data")]
    pub(crate) data: PathBuf,

    /// Speak TLS, and nothing else on this port: the server's certificate, in PEM, with those behind it that lead to its CA
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = TLS)]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = TLS)]
    pub(crate) tls_key: Option<PathBuf>,

    /// Take certificates of clients that one of these CAs has signed; without one, a client needs a password, where there
    /// are any, or is turned away
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = TLS)]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// A file with the hash of a password, which every client must know then; `syncline passwd` makes one. Needs TLS
    #[arg(long, value_name = "FILE", conflicts_with = "users", help_heading = ACCESS)]
    pub(crate) auth_hash_file: Option<PathBuf>,

    /// A file with users, each with a password or certificate and the prefixes that they may read and write. Needs TLS
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub(crate) users: Option<PathBuf>,

    /// What an acknowledged write survives
    #[arg(long, value_enum, default_value_t = Durability::Fsync)]
    pub(crate) durability: Durability,

    /// How long a deleted key is remembered, with its version
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "7d")]
    pub(crate) tombstones: Duration,

    /// How many threads serve connections; commits have one of their own [default: one less than there are processors, at
    /// least 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS))]
    pub(crate) threads: Option<u16>,

    /// The longest key
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_key), help_heading = LIMITS)]
    pub(crate) max_key: Size,

    /// The most of key and value together; up to 16 MiB. More than 65,525 bytes only clients get that know PUTL
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_entry), help_heading = LIMITS)]
    pub(crate) max_entry_size: Size,

    /// The most connections; more are refused
    #[arg(long, value_name = "N", value_parser = count, default_value_t = Config::default().max_connections, help_heading = LIMITS)]
    pub(crate) max_connections: usize,

    /// The most connections that have not shown yet who they are; a quarter of them from one address
    #[arg(long, value_name = "N", value_parser = count, default_value_t = Config::default().max_unauthenticated, help_heading = LIMITS)]
    pub(crate) max_unauthenticated: usize,

    /// The most requests in flight per connection; at it, the connection is not read from
    #[arg(long, value_name = "N", value_parser = count, default_value_t = Limits::default().max_requests, help_heading = LIMITS)]
    pub(crate) max_requests: usize,

    /// The most bytes in flight per connection, answers not sent yet included; at it, it is not read from
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_unsent), help_heading = LIMITS)]
    pub(crate) max_unsent: Size,

    /// The most bytes of writes that wait to be committed; at it, nobody who writes is read from
    #[arg(long, value_name = "SIZE", default_value_t = Size(Config::default().max_queue), help_heading = LIMITS)]
    pub(crate) max_queue: Size,

    /// The most bytes of large requests that have come in part, all connections together; at it, they wait to be read
    #[arg(long, value_name = "SIZE", default_value_t = Size(Config::default().max_input), help_heading = LIMITS)]
    pub(crate) max_input: Size,

    /// How much of the newest history is kept in memory; who falls behind it is sent the latest of each key
    #[arg(long, value_name = "SIZE", default_value_t = Size(Config::default().recent_log), help_heading = LIMITS)]
    pub(crate) recent_log: Size,

    /// How often a watcher hears from the server at the least; silent for three times as long, the connection is dead
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "2s", help_heading = LIMITS)]
    pub(crate) heartbeat: Duration,

    /// How long a stranger may take for the TLS handshake and for showing who it is, in all
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10s", help_heading = LIMITS)]
    pub(crate) authorize_within: Duration,
}

impl Serve {
    /// How many threads serve connections.
    pub(crate) fn threads(&self) -> usize {
        let most_useful = || available_parallelism().map_or(1, |processors| (processors.get() - 1).max(1));
        self.threads.map_or_else(most_useful, usize::from)
    }
}

/// More threads than this are a slip.
const MAX_THREADS: i64 = 1024;

const ACCESS: &str = "Access";
const TLS: &str = "TLS";
const LIMITS: &str = "Limits";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// A power cut: it is on disk
    Fsync,
    /// A killed process: the system has it. A power cut may take the newest; then the store has a new id
    Os,
    /// Nothing: all is kept in memory, and lost when the process ends
    Memory,
}

/// Print the value of a key.
///
/// The bytes are printed exactly as they are; on a terminal, with a newline and the version behind them.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline get name
  syncline get picture > picture.png
  syncline get name --json")]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// Which key
    pub(crate) key: OsString,

    /// Print a JSON object: key, value, version (bytes that are not UTF-8 as key_hex, value_hex)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write a key.
///
/// Without --version or --force, the key must be new.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("what").args(["value", "file"]), after_long_help = "\
Examples:
  syncline put name mark
  syncline put name tony --version 2
  syncline put picture --file picture.png --force")]
pub(crate) struct Put {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// Which key
    pub(crate) key: OsString,

    /// What it shall hold; without this and --file, it is read from stdin
    pub(crate) value: Option<OsString>,

    /// Read the value from a file; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The version that the value will have: the current one plus 1, or 1 for a new key
    #[arg(long, value_name = "N", conflicts_with = "force", default_value_t = 1)]
    pub(crate) version: u64,

    /// Put over whatever is there
    #[arg(long)]
    pub(crate) force: bool,

    /// Print a JSON object: key, version
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print all keys under a prefix, then every change as it happens, until Ctrl-C.
///
/// Each line is a key with its value and version. A connection that is lost is made again, and nothing is missed.
///
/// With --json, every line has the revision at which it is true. Where what was told before is to be forgotten, because the
/// history is another one (a restored backup) or what was deleted since is no longer known, a line says
/// {"reset":true,…}, and everything follows.
///
/// With --exec, a command is run for each change, one after the other, by `sh -c`. It finds SYNCLINE_KEY, SYNCLINE_VERSION,
/// SYNCLINE_REVISION, SYNCLINE_DELETED (true or false) and SYNCLINE_VALUE in its environment, and the value on its stdin.
/// What can't stand there (a NUL byte, more than 64 KiB) is not set; stdin has any value. A command that fails is told on
/// stderr, and the watch goes on.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline watch config/
  syncline watch config/ --json --once > snapshot.jsonl
  syncline watch config/ --since 17
  syncline watch config/ --exec 'echo \"$SYNCLINE_KEY has changed\"; ./reload'")]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// What the keys start with; all keys where it is left out
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: OsString,

    /// Only what has changed after this: REVISION, or STORE:REVISION, of which --marks and `syncline status` tell both
    /// parts. If the store is another one, everything is told
    #[arg(long, value_name = "REVISION")]
    pub(crate) since: Option<Position>,

    /// End when everything up to now is told
    #[arg(long)]
    pub(crate) once: bool,

    /// Print a JSON object a line: key, value, version, revision, and deleted where it was (bytes that are not UTF-8 as
    /// key_hex, value_hex). With --exec, that is what the command finds on its stdin
    #[arg(long)]
    pub(crate) json: bool,

    /// With --json: print {"revision":…,"store":…} when all up to there is told, to go on from with --since
    #[arg(long, requires = "json")]
    pub(crate) marks: bool,

    /// Run a command for each change, instead of printing it. With --once, exit code 7 tells that one has failed
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: Option<OsString>,
}

/// Delete a key.
///
/// Its version is remembered (by default for 7 days), so that nobody takes a key that was made again for the old one.
/// Without --version, whatever is there is deleted.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline delete name
  syncline delete name --version 4")]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// Which key
    pub(crate) key: OsString,

    /// The version that the deletion will have: the current one plus 1
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,

    /// Print a JSON object: key, version, deleted
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the keys under a prefix, in their order.
///
/// Asks for one page after the other, and so needs little memory. What changes meanwhile is told as it was or as it is;
/// `syncline export` tells all as of one revision.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline list config/
  syncline list --keys --limit 100
  syncline list --keys --limit 100 --after config/theme")]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// What the keys start with; all keys where it is left out
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: OsString,

    /// Print only the keys: into a pipe exactly as they are, each with a newline behind it
    #[arg(long)]
    pub(crate) keys: bool,

    /// Print a JSON object a line: key, value, version (bytes that are not UTF-8 as key_hex, value_hex)
    #[arg(long)]
    pub(crate) json: bool,

    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,

    /// Only those that come after this one
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<OsString>,
}

/// Do several things together, or none of them.
///
/// Reads operations from stdin, one a line, with quotes as in a shell; `#` begins a comment:
///
///   check KEY VERSION         only if the key is at this version (0: not there)
///   put KEY VALUE [VERSION]   without VERSION, the key must be new
///   delete KEY [VERSION]      without VERSION, whatever is there is deleted
///
/// VERSION is what `syncline put` and `syncline delete` take: the current one plus 1. A key may stand there once.
/// Prints the revision that all of it has.
#[allow(rustdoc::broken_intra_doc_links, reason = "in a help text, brackets say that something may be left out")]
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Example:
  syncline txn <<END
  check mayor 3                # nobody else has become mayor
  put mayor/office 'Room 1' 2
  delete mayor/candidate
  END"
)]
pub(crate) struct Txn {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// Print a JSON object: revision
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print how the server is.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline status
  syncline status --json | jq .head")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// Print the JSON object that the server sends
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write all keys under a prefix to a file, as JSON lines.
///
/// All as of one revision, while the server goes on; they are held in memory meanwhile. `syncline import` reads them;
/// `watch --json --once` and `list --json` print the same.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline export > all.jsonl
  syncline export config/ --file config.jsonl")]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// What the keys start with; all keys where it is left out
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: OsString,

    /// The file to write, which must not be there yet; without it, or -, they are printed
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Write the keys of a file of JSON lines, with their versions.
///
/// Each line is a write with its version: it is accepted where the key is not there at all, or at the version before. A
/// key that is there just as the line says is left as it is, so an import that was interrupted can be run again. All else
/// is a conflict, which is told, counted, and leaves the key as it is (exit code 3), unless --force is given.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline import all.jsonl
  syncline export --addr one:6660 | syncline import --addr other:6660")]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// The file, with lines as `export` writes them; without it, or -, stdin is read
    pub(crate) file: Option<PathBuf>,

    /// Write over what is there at another version; it gets the version after that
    #[arg(long)]
    pub(crate) force: bool,

    /// Print a JSON object: written, unchanged, conflicts
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write everything of a data directory to one file.
///
/// A server may be running on it: what was acknowledged before is in the backup, all as of one revision.
#[derive(clap::Args)]
pub(crate) struct Backup {
    /// The file to write, which must not be there yet; or a directory to write it to
    #[arg(value_name = "FILE_OR_DIR")]
    pub(crate) to: PathBuf,

    /// The data directory
    #[arg(long, env = "SYNCLINE_DATA", value_name = "DIR", default_value = "syncline-data")]
    pub(crate) data: PathBuf,
}

/// Make a data directory of a backup.
///
/// The same keys, values, versions and revisions, under a new store id: clients that knew the old one start afresh.
#[derive(clap::Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) from: PathBuf,

    /// The data directory to make; what is there must be empty
    #[arg(long, env = "SYNCLINE_DATA", value_name = "DIR", default_value = "syncline-data")]
    pub(crate) data: PathBuf,
}

/// Look whether a data directory is whole, and count what is in it.
///
/// Reads everything, checks every checksum, and that all orders agree. Changes nothing; a server may be running on it.
#[derive(clap::Args)]
pub(crate) struct Check {
    /// The data directory
    #[arg(env = "SYNCLINE_DATA", value_name = "DIR", default_value = "syncline-data")]
    pub(crate) data: PathBuf,
}

/// Hash a password, for `serve --auth-hash-file` or a file of users.
///
/// Asks for the password twice, without showing it. Where stdin is no terminal, reads one line from it.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline passwd > password.hash
  syncline passwd --user ann >> users.toml")]
pub(crate) struct Passwd {
    /// Print a whole entry for a file of users. It may read and write nothing until you say what
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
}

/// Measure a server: how much it does a second, and how long each request takes.
///
/// A closed loop: each connection keeps --depth requests in flight, and sends the next when one is answered. Writes go to
/// keys that start with `syncline-bench/`, which stay there. Run it on another machine than the server's, or share its
/// processors; it says which machine it ran on.
#[derive(Clone, clap::Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// What to do
    #[arg(value_enum)]
    pub(crate) workload: Workload,

    /// Connections; for fanout, those that are sent every change
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) connections: u64,

    /// Requests in flight on each connection; for fanout, on the one that writes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(crate) depth: u64,

    /// Keys, shared out among the connections
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) keys: u64,

    /// The bytes of each value; at least 8
    #[arg(long, value_name = "SIZE", default_value_t = Size(100))]
    pub(crate) value_size: Size,

    /// Connect as programs do that know no HELLO: each connection is sent what all others write
    #[arg(long)]
    pub(crate) base: bool,

    /// For put: watchers of everything that read nothing before the end
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub(crate) stalled: u64,

    /// For fanout: at most so many puts per second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: Option<u32>,

    /// How long to measure
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "5s")]
    pub(crate) time: Duration,

    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Compare-and-swap: each connection writes its own keys
    Put,
    /// Reads of random keys, which are written before
    Get,
    /// One connection writes; how long until the others, which watch, are sent it
    Fanout,
    /// Each connection begins to watch everything; how fast the keys come
    Snapshot,
}

/// Make certificates to try TLS with: a CA, a server's certificate, and a client's.
///
/// Writes ca.pem, ca-key.pem, server.pem, server-key.pem and, with --client, NAME.pem and NAME-key.pem; overwrites nothing.
/// Where the directory holds a CA already, it signs with that. The keys are for whoever runs this, and for nobody else.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline cert --host localhost
  syncline cert --host db.example --host 10.0.0.7 --client backup --dir /etc/syncline
  syncline cert --client reports --dir /etc/syncline")]
pub(crate) struct Cert {
    /// A name or address by which clients reach the server; localhost stands for 127.0.0.1 and ::1 too
    #[arg(long = "host", value_name = "HOST", required_unless_present = "client")]
    pub(crate) hosts: Vec<String>,

    /// Make a certificate for a client of this name too
    #[arg(long, value_name = "NAME")]
    pub(crate) client: Option<String>,

    /// Where to write them; made where it is not there
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub(crate) dir: PathBuf,

    /// For how many days the certificates are valid; the CA is for ten years, or as long
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}
