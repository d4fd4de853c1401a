//! The command line, flag by flag. The help texts are the doc comments of this file.

use crate::failure::EXIT_CODES;
use crate::keys::KeyNotation;
use crate::servers::ServersArg;
use crate::settings::Settings;
use clap::builder::BoolishValueParser;
use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;
use syncline_client::Position;
use syncline_config::{Size, count};
use syncline_server::{Config, Limits};
use syncline_store::DiskOptions;

/// Returns the default of `--reserve`: that of the disk engine.
fn default_reserve() -> Size {
    Size(usize::try_from(DiskOptions::default().reserve).unwrap_or(usize::MAX))
}

/// A versioned key-value server that keeps every client up to date.
///
/// Each key has a version. The server accepts a write only if it carries the current version plus 1, which proves that
/// the writer has seen the latest value. The server sends every accepted write to all clients at once, in one order.
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
/// Prints `listening on HOST:PORT` on stdout as soon as clients can connect, and writes its log to stderr
/// (RUST_LOG=debug logs more). Ctrl-C or SIGTERM shuts it down in order. SIGHUP makes it read certificates and users
/// again, and nothing else. No other signal ends it, except SIGKILL and those that report a fault of the program.
///
/// A configuration file (--config) can set every flag below, under the same name. A flag overrides its environment
/// variable, which overrides the file, which overrides the default. An empty variable counts as not set.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline serve --listen 0.0.0.0:6660 --data /var/lib/syncline
  syncline serve --config syncline.toml
  syncline serve --config syncline.toml --check-config")]
pub(crate) struct Serve {
    /// The configuration file, in TOML, with lines such as `max-connections = 20000`
    #[arg(long, env = "SYNCLINE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Check the settings, print those that would apply, and exit; opens neither the data nor the port
    #[arg(long, env = "SYNCLINE_CHECK_CONFIG", value_parser = BoolishValueParser::new())]
    pub(crate) check_config: bool,

    /// The value and the origin of each flag that a file can set.
    #[arg(skip)]
    pub(crate) settings: Settings,

    /// The address to listen on; port 0 chooses a free port
    #[arg(long, env = "SYNCLINE_LISTEN", value_name = "HOST:PORT", default_value_t = Config::default().listen)]
    pub(crate) listen: String,

    /// The data directory, which is created if it does not exist. Cannot be combined with --durability memory
    #[arg(long, env = "SYNCLINE_DATA", value_name = "DIR", default_value = "syncline-data")]
    pub(crate) data: PathBuf,

    /// The server's certificate in PEM, followed by any intermediate certificates. The server then speaks TLS only
    #[arg(long, env = "SYNCLINE_SERVER_TLS_CERT", value_name = "FILE", requires = "tls_key", help_heading = TLS)]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key of that certificate, in PEM
    #[arg(long, env = "SYNCLINE_SERVER_TLS_KEY", value_name = "FILE", requires = "tls_cert", help_heading = TLS)]
    pub(crate) tls_key: Option<PathBuf>,

    /// Accept client certificates that one of these CAs has signed. A client without one needs a password; if the
    /// server has no passwords, it refuses the client
    #[arg(long, env = "SYNCLINE_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert", help_heading = TLS)]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// A file with the hash of one password that every client must send; `syncline passwd` makes it. Requires TLS
    #[arg(long, env = "SYNCLINE_AUTH_HASH_FILE", value_name = "FILE", conflicts_with = "users", help_heading = ACCESS)]
    pub(crate) auth_hash_file: Option<PathBuf>,

    /// A file with users. Each has a password or a certificate, and the prefixes that it may read and write. Requires
    /// TLS
    #[arg(long, env = "SYNCLINE_USERS", value_name = "FILE", help_heading = ACCESS)]
    pub(crate) users: Option<PathBuf>,

    /// What an acknowledged write survives
    #[arg(long, env = "SYNCLINE_DURABILITY", value_enum, default_value_t = Durability::Fsync)]
    pub(crate) durability: Durability,

    /// How long the server remembers the version of a deleted key, counted while the server runs
    #[arg(long, env = "SYNCLINE_TOMBSTONES", value_name = "TIME", value_parser = humantime::parse_duration, default_value = "7d")]
    pub(crate) tombstones: Duration,

    /// How much more disk space the server keeps than its next checkpoint needs, so that a full disk can be freed by
    /// deletions; 0 keeps none
    #[arg(long, env = "SYNCLINE_RESERVE", value_name = "SIZE", default_value_t = default_reserve())]
    pub(crate) reserve: Size,

    /// The number of threads that serve connections, besides the one that commits to disk [default: the number of
    /// processors minus 1, at least 1]
    #[arg(long, env = "SYNCLINE_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS))]
    pub(crate) threads: Option<u16>,

    /// The largest key
    #[arg(long, env = "SYNCLINE_MAX_KEY", value_name = "SIZE", default_value_t = Size(Limits::default().max_key), help_heading = LIMITS)]
    pub(crate) max_key: Size,

    /// The largest key and value together, at most 16 MiB. Clients without the feature PUTL cannot receive entries of
    /// more than 65,525 bytes
    #[arg(long, env = "SYNCLINE_MAX_ENTRY_SIZE", value_name = "SIZE", default_value_t = Size(Limits::default().max_entry), help_heading = LIMITS)]
    pub(crate) max_entry_size: Size,

    /// The number of connections; the server refuses any more
    #[arg(long, env = "SYNCLINE_MAX_CONNECTIONS", value_name = "N", value_parser = count, default_value_t = Config::default().max_connections, help_heading = LIMITS)]
    pub(crate) max_connections: usize,

    /// With TLS: the number of connections that have not authenticated yet, a quarter of them from one address
    #[arg(long, env = "SYNCLINE_MAX_UNAUTHENTICATED", value_name = "N", value_parser = count, default_value_t = Config::default().max_unauthenticated, help_heading = LIMITS)]
    pub(crate) max_unauthenticated: usize,

    /// The number of requests in flight on a connection; the server then stops reading from it until one is answered
    #[arg(long, env = "SYNCLINE_MAX_REQUESTS", value_name = "N", value_parser = count, default_value_t = Limits::default().max_requests, help_heading = LIMITS)]
    pub(crate) max_requests: usize,

    /// The size of the requests in flight and the unsent responses of a connection; the server then stops reading from
    /// it
    #[arg(long, env = "SYNCLINE_MAX_UNSENT", value_name = "SIZE", default_value_t = Size(Limits::default().max_unsent), help_heading = LIMITS)]
    pub(crate) max_unsent: Size,

    /// The size of all writes that wait for a commit; the server then stops reading from connections that write
    #[arg(long, env = "SYNCLINE_MAX_QUEUE", value_name = "SIZE", default_value_t = Size(Config::default().max_queue), help_heading = LIMITS)]
    pub(crate) max_queue: Size,

    /// The size of all large requests that have arrived in part; the server then stops reading the next ones
    #[arg(long, env = "SYNCLINE_MAX_INPUT", value_name = "SIZE", default_value_t = Size(Config::default().max_input), help_heading = LIMITS)]
    pub(crate) max_input: Size,

    /// The size of the newest history in memory. A reader that falls behind it gets only the latest version of each key
    #[arg(long, env = "SYNCLINE_RECENT_LOG", value_name = "SIZE", default_value_t = Size(Config::default().recent_log), help_heading = LIMITS)]
    pub(crate) recent_log: Size,

    /// How often a watcher receives something at least; clients take three such times of silence for a lost connection
    #[arg(long, env = "SYNCLINE_HEARTBEAT", value_name = "TIME", value_parser = humantime::parse_duration, default_value = "2s", help_heading = LIMITS)]
    pub(crate) heartbeat: Duration,

    /// With TLS: the time that a client has for the TLS handshake and for authentication together
    #[arg(long, env = "SYNCLINE_AUTHORIZE_WITHIN", value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10s", help_heading = LIMITS)]
    pub(crate) authorize_within: Duration,
}

impl Serve {
    /// Returns the number of threads that serve connections.
    pub(crate) fn threads(&self) -> usize {
        let default = || available_parallelism().map_or(1, |processors| (processors.get() - 1).max(1));
        self.threads.map_or_else(default, usize::from)
    }
}

/// A larger number of threads is taken for a mistake.
const MAX_THREADS: i64 = 1024;

const ACCESS: &str = "Access";
const TLS: &str = "TLS";
const LIMITS: &str = "Limits";

/// What an acknowledged write survives. `memory` chooses another engine as well: `engine.rs`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// A power cut: the write is on disk
    Fsync,
    /// A killed process: the operating system has the write. A power cut may lose the newest writes; the store then
    /// gets a new id
    Os,
    /// Nothing: the server keeps everything in memory only, and uses no data directory
    Memory,
}

/// Print the value of a key.
///
/// Into a pipe or a file, the bytes are written exactly as they are. On a terminal, the version and a newline follow.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline get name
  syncline get picture > picture.png
  syncline get name --json")]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    #[command(flatten)]
    pub(crate) notation: KeyNotation,

    /// The key
    pub(crate) key: OsString,

    /// Print a JSON object: key, value, version (key_hex and value_hex for bytes that are not UTF-8)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write a key.
///
/// Without --version or --force, the key must not exist yet.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("what").args(["value", "file"]), after_long_help = "\
Examples:
  syncline put name mark
  syncline put name tony --version 2
  syncline put picture --file picture.png --force")]
pub(crate) struct Put {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    #[command(flatten)]
    pub(crate) notation: KeyNotation,

    /// The key
    pub(crate) key: OsString,

    /// The value; without it and without --file, the value is read from stdin
    pub(crate) value: Option<OsString>,

    /// Write an empty value if the file or stdin is empty; without this, that is taken for a mistake
    #[arg(long)]
    pub(crate) empty: bool,

    /// Read the value from a file; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The version that the value will have: the current version plus 1, or 1 for a new key
    #[arg(long, value_name = "N", conflicts_with = "force", default_value_t = 1)]
    pub(crate) version: u64,

    /// Overwrite the key, whatever its version is
    #[arg(long)]
    pub(crate) force: bool,

    /// Print a JSON object: key, version
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print all keys under a prefix, then every change as it happens, until Ctrl-C.
///
/// Each line shows a key with its value and version. If the connection is lost, the command connects again and misses
/// no change.
///
/// With --json, every line contains the revision at which it is true. A line {"reset":true,…} means: forget everything
/// printed before, because the complete state follows. It is printed when the server has another history (a restored
/// backup), or no longer remembers all deletions since.
///
/// With --exec, the command runs CMD with `sh -c` for each change, one after the other. CMD gets the value on stdin and
/// these environment variables: SYNCLINE_KEY, SYNCLINE_VALUE, SYNCLINE_VERSION, SYNCLINE_REVISION, and SYNCLINE_DELETED
/// (true or false). SYNCLINE_KEY and SYNCLINE_VALUE are not set if they contain a NUL byte or are longer than 64 KiB. If
/// CMD fails, a message on stderr says so, and the watch continues.
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

    #[command(flatten)]
    pub(crate) notation: KeyNotation,

    /// The prefix of the keys; without it, all keys
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: OsString,

    /// Print only what changed after this position: REVISION, or STORE:REVISION as --marks and `syncline status` show
    /// it. If the server has another store, the command prints everything
    #[arg(long, value_name = "REVISION")]
    pub(crate) since: Option<Position>,

    /// Exit as soon as everything up to now is printed
    #[arg(long)]
    pub(crate) once: bool,

    /// Print one JSON object per line: key, value, version, revision, and deleted if the key was deleted (key_hex and
    /// value_hex for bytes that are not UTF-8). With --exec, CMD gets that line on stdin
    #[arg(long)]
    pub(crate) json: bool,

    /// With --json: print {"revision":…,"store":…} whenever everything up to that revision is printed; --since
    /// continues there
    #[arg(long, requires = "json")]
    pub(crate) marks: bool,

    /// Run a command for each change instead of printing it. With --once, exit code 7 means that a run failed
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: Option<OsString>,
}

/// Delete a key.
///
/// The server remembers the version of a deleted key (for 7 days by default), so that a key that is created again is not
/// mistaken for the old one. Without --version, the command deletes the key whatever its version is.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline delete name
  syncline delete name --version 4")]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    #[command(flatten)]
    pub(crate) notation: KeyNotation,

    /// The key
    pub(crate) key: OsString,

    /// The version that the deletion will have: the current version plus 1
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,

    /// Print a JSON object: key, version, deleted
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the keys under a prefix, in their order.
///
/// The command reads one page after the other and needs little memory. A key that changes meanwhile is printed as it was
/// or as it is. To print all keys as of one revision, use `syncline export`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline list config/
  syncline list --keys --limit 100
  syncline list --keys --limit 100 --after config/theme")]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    #[command(flatten)]
    pub(crate) notation: KeyNotation,

    /// The prefix of the keys; without it, all keys
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: OsString,

    /// Print only the keys, each on a line of its own, and never shortened
    #[arg(long)]
    pub(crate) keys: bool,

    /// Print one JSON object per line: key, value, version (key_hex and value_hex for bytes that are not UTF-8)
    #[arg(long)]
    pub(crate) json: bool,

    /// Print at most N keys
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,

    /// Print only keys after this one
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<OsString>,
}

/// Commit several operations as one transaction
///
/// Reads operations from stdin, one per line. Words are quoted as in a shell;
/// `#` begins a comment:
///
///   check KEY VERSION         the key must be at this version (0: absent)
///   put KEY VALUE [VERSION]   without VERSION, the key must be new
///   delete KEY [VERSION]      without VERSION, deletes the current version
///
/// VERSION of put and delete is the current version plus 1. Each key may occur
/// once. Prints the revision of the transaction.
#[allow(rustdoc::broken_intra_doc_links, reason = "in a help text, brackets mark an optional argument")]
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Example:
  syncline txn <<END
  check mayor 3                # the mayor is still the same
  put mayor/office 'Room 1' 2
  delete mayor/candidate
  END"
)]
pub(crate) struct Txn {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    #[command(flatten)]
    pub(crate) notation: KeyNotation,

    /// Print a JSON object: revision
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the state of the server.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline status
  syncline status --json | jq .head
  syncline status --check || echo 'not healthy'")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// Print the JSON object that the server sends
    #[arg(long)]
    pub(crate) json: bool,

    /// Print nothing, and exit with 0 if the server accepts writes, or with 4 and the reason on stderr if it does not. For
    /// health checks: it needs no rights
    #[arg(long, conflicts_with = "json")]
    pub(crate) check: bool,

    /// How long --check may take: after that, the server counts as not healthy
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "5s", requires = "check")]
    pub(crate) timeout: Duration,
}

/// Write all keys under a prefix to a file, as JSON lines.
///
/// All keys are as of one revision, and the server is not paused. The command holds them in memory until they are
/// written. `syncline import` reads the file; `watch --json --once` and `list --json` print the same format.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline export > all.jsonl
  syncline export config/ --file config.jsonl")]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    #[command(flatten)]
    pub(crate) notation: KeyNotation,

    /// The prefix of the keys; without it, all keys
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: OsString,

    /// The file to write, which must not exist; without it, or with `-`, stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Write the keys of a file of JSON lines, with their versions.
///
/// Each line is a write with its version. The server accepts it if it does not know the key, or if the key is at the
/// version before. A line whose key already has the same value and version is skipped, so an interrupted import can be
/// repeated. Any other line is a conflict: the command reports and counts it, and leaves the key as it is (exit code 3).
/// With --force, it overwrites the key instead.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline import all.jsonl
  syncline export --addr one:6660 | syncline import --addr other:6660")]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// The file, with lines as `export` writes them; without it, or with `-`, stdin
    pub(crate) file: Option<PathBuf>,

    /// Overwrite keys that are at another version; they get the version after that
    #[arg(long)]
    pub(crate) force: bool,

    /// Print a JSON object: written, unchanged, conflicts
    #[arg(long)]
    pub(crate) json: bool,
}

/// Copy a data directory to one backup file.
///
/// A server may be running on the directory. The backup contains everything acknowledged before, as of one revision.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline backup monday.backup
  syncline backup /mnt/backups/ --data /var/lib/syncline")]
pub(crate) struct Backup {
    /// The file to write, which must not exist; or a directory to write it to
    #[arg(value_name = "FILE_OR_DIR")]
    pub(crate) to: PathBuf,

    /// The data directory
    #[arg(long, env = "SYNCLINE_DATA", value_name = "DIR", default_value = "syncline-data")]
    pub(crate) data: PathBuf,
}

/// Make a data directory from a backup.
///
/// It has the same keys, values, versions and revisions, and a new store id: clients that knew the old store start from
/// the beginning.
#[derive(clap::Args)]
#[command(after_long_help = "\
Example:
  syncline restore monday.backup --data restored")]
pub(crate) struct Restore {
    /// The backup file
    #[arg(value_name = "FILE")]
    pub(crate) from: PathBuf,

    /// The data directory to make; if it exists, it must be empty
    #[arg(long, env = "SYNCLINE_DATA", value_name = "DIR", default_value = "syncline-data")]
    pub(crate) data: PathBuf,
}

/// Check a data directory or a backup for damage, and count its keys.
///
/// Reads everything and verifies every checksum and every index. Changes nothing. A server may be running on the
/// directory.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline check /var/lib/syncline
  syncline check monday.backup")]
pub(crate) struct Check {
    /// The data directory, or a backup file
    #[arg(env = "SYNCLINE_DATA", value_name = "DIR_OR_FILE", default_value = "syncline-data")]
    pub(crate) data: PathBuf,
}

/// Print the hash of a password, for `serve --auth-hash-file` or `serve --users`.
///
/// Asks for the password twice without showing it. If stdin is not a terminal, reads the password from its first line.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline passwd > password.hash
  syncline passwd --user ann --read config/ --write config/ann/ >> users.toml
  syncline passwd --user operator --admin < operator.password >> users.toml")]
pub(crate) struct Passwd {
    /// Print an entry for a users file instead of the hash alone
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// A prefix of the keys that the user may read; '' is all keys. May be repeated
    #[arg(long, value_name = "PREFIX", requires = "user")]
    pub(crate) read: Vec<String>,

    /// A prefix of the keys that the user may write; '' is all keys. May be repeated
    #[arg(long, value_name = "PREFIX", requires = "user")]
    pub(crate) write: Vec<String>,

    /// Let the user read and write all keys, and read the status
    #[arg(long, requires = "user", conflicts_with_all = ["read", "write"])]
    pub(crate) admin: bool,
}

/// Measure how many requests a server answers per second, and how long each takes.
///
/// Each connection keeps --depth requests in flight and sends the next one when one is answered. Writes go to keys that
/// start with `syncline-bench/`. At the end, the command deletes all keys that start so. The command and the server compete
/// for processors if they run on the same machine.
#[derive(Clone, clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline bench put
  syncline bench get --connections 256 --depth 16
  syncline bench fanout --rate 1000 --json")]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) servers: ServersArg,

    /// The workload
    #[arg(value_enum)]
    pub(crate) workload: Workload,

    /// The number of connections; for fanout, the number of watchers
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) connections: u64,

    /// The number of requests in flight on each connection; for fanout, on the connection that writes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(crate) depth: u64,

    /// The number of keys, divided among the connections
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) keys: u64,

    /// The size of each value, at least 8 bytes
    #[arg(long, value_name = "SIZE", default_value_t = Size(100))]
    pub(crate) value_size: Size,

    /// Speak the base protocol, without HELLO: each connection then receives what all others write
    #[arg(long)]
    pub(crate) base: bool,

    /// For put: the number of watchers of all keys that read nothing until the end
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub(crate) stalled: u64,

    /// For fanout: the largest number of puts per second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: Option<u32>,

    /// The duration of the measurement
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
    /// Reads of random keys, which are written first
    Get,
    /// One connection writes; the others watch. Measures the time until they receive each change
    Fanout,
    /// Each connection begins to watch all keys. Measures how fast the keys arrive
    Snapshot,
}

/// Make certificates to try TLS: for a CA, a server and clients.
///
/// Writes ca.pem, ca-key.pem, server.pem, server-key.pem and, with --client, NAME.pem and NAME-key.pem. Overwrites
/// nothing: if the directory already contains a CA, the command signs with that CA. Only the current user can read the
/// keys.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  syncline cert --host localhost
  syncline cert --host db.example --host 10.0.0.7 --client backup --dir /etc/syncline
  syncline cert --client reports --dir /etc/syncline")]
pub(crate) struct Cert {
    /// A name or address by which clients reach the server; localhost includes 127.0.0.1 and ::1
    #[arg(long = "host", value_name = "HOST", required_unless_present = "client")]
    pub(crate) hosts: Vec<String>,

    /// Make a certificate for a client of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) client: Option<String>,

    /// The directory to write to, which is created if it does not exist
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub(crate) dir: PathBuf,

    /// The days for which the certificates are valid. The CA is valid for at least ten years
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}
