//! `syncline serve`: checks the settings, opens the store, and serves it until a signal ends the server.

use crate::args::{Durability, Serve};
use crate::engine::{Engine, RunOnStore};
use crate::exposure::Exposure;
use crate::failure::Failure;
use crate::output::{note, print, print_line};
use crate::signals::{self, Stop};
use std::io::{self, ErrorKind, IsTerminal};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;
use syncline_server::{
    AccessControl, BindError, ClientCertificates, Config, Handle, Identity, LimitError, Limits, Pem, Server, Tls,
    TlsFiles,
};
use syncline_store::Store;
use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

/// The number of files that the process needs besides one for each connection.
const OTHER_FILES: u64 = 64;

/// The times that clients wait for. With shorter ones, a slow network would look like a lost connection.
const SHORT_TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);

/// The longest lifetime of tombstones, about a hundred years.
const LONGEST_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Runs a server. STATUS shows `log_lines_dropped`.
pub(crate) async fn run(args: Serve, log_lines_dropped: Arc<AtomicU64>) -> Result<(), Failure> {
    if args.check_config {
        return check(args);
    }
    let (mut stop, hangup) =
        signals::install().map_err(|error| Failure::Unavailable(format!("can't receive signals: {error}")))?;
    let engine = Engine::choose(&args)?;
    // Reading a file may take any time, for example if it is a pipe or on a network.
    let args = Arc::new(args);
    let shared = args.clone();
    let Some(config) = stop.unless_requested_blocking(move || config(&shared)).await? else { return Ok(()) };
    let hangups = Hangups { hangup, has_terminal: io::stdin().is_terminal(), stop: stop.clone() };
    let config = Config { log_lines_dropped, ..config? };
    engine.open(stop.clone(), Service { args, config, stop, hangups }).await
}

/// Checks the settings, and prints those that would apply.
fn check(mut args: Serve) -> Result<(), Failure> {
    let engine = Engine::choose(&args)?;
    config(&args)?;
    for (flag, reason) in engine.ignored_flags() {
        args.settings.mark_unused(flag, reason);
    }
    if let Some(warning) = Exposure::of(&args).warning_before(&args.listen) {
        note(&format!("syncline: warning: {warning}"));
    }
    print(format!("# valid; these settings would apply:\n{}", args.settings).as_bytes())
}

/// A server that is ready to be started on a store.
struct Service {
    args: Arc<Serve>,
    config: Config,
    stop: Stop,
    hangups: Hangups,
}

impl RunOnStore for Service {
    /// Serves the store until a signal ends the server.
    async fn run(mut self, store: impl Store) -> Result<(), Failure> {
        allow_files(self.config.max_connections);
        let bound = self.stop.unless_requested(Server::bind(self.config, store)).await;
        let Some(bound) = bound else { return Ok(()) };
        let server = bound.map_err(|error| match &error {
            BindError::Limits(_) | BindError::Input(_) | BindError::MustUseTls(_) => Failure::Usage(error.to_string()),
            BindError::Listen { source, .. } => Failure::Unavailable(format!("{error}{}", listen_hint(source))),
            BindError::Thread(_) | BindError::NoRandomNumbers => Failure::Unavailable(error.to_string()),
        })?;
        let address = server.local_addr();
        if let Some(warning) = Exposure::of(&self.args).warning(&address.to_string(), address.ip()) {
            warn!("{warning}");
        }
        announce(address.to_string());
        let handle = server.handle();
        let shutdown = async {
            tokio::select! {
                () = self.stop.requested() => {}
                () = self.hangups.reload(self.args, &handle) => {}
            }
        };
        server.run(shutdown).await.map_err(|error| Failure::Unavailable(error.to_string()))
    }
}

/// Returns what to do if the server cannot listen, as a further line.
fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "\nAnother process listens there: end it, or choose another address with --listen.",
        ErrorKind::AddrNotAvailable => {
            "\nThis machine has no such address: --listen takes one of its own, or 0.0.0.0 for all of them."
        }
        ErrorKind::PermissionDenied => {
            "\nPorts below 1024 are reserved: choose another port with --listen, or grant the capability CAP_NET_BIND_SERVICE."
        }
        _ => "",
    }
}

/// Prints the address on stdout. Uses a thread, because a reader of stdout may make it wait for ever.
fn announce(address: String) {
    let failed = |reason: &dyn std::fmt::Display| warn!("can't print on stdout that the server listens: {reason}");
    let print = move || {
        if let Err(failure) = print_line(&format!("listening on {address}")) {
            failed(&failure.message().unwrap_or("its reader is gone"));
        }
    };
    if let Err(error) = thread::Builder::new().name("stdout".into()).spawn(print) {
        failed(&error);
    }
}

/// Checks the settings as far as this is possible without opening the data or the port, and returns the server's
/// configuration. Reads the files of certificates and users.
fn config(args: &Serve) -> Result<Config, Failure> {
    let limits = Limits {
        max_key: args.max_key.0,
        max_entry: args.max_entry_size.0,
        max_requests: args.max_requests,
        max_unsent: args.max_unsent.0,
    };
    let limits = limits.validated().map_err(|error| {
        let flag = match error {
            LimitError::MaxKey(_) => "max-key",
            LimitError::MaxEntry(_) => "max-entry-size",
            LimitError::MaxRequests => "max-requests",
            LimitError::MaxUnsent => "max-unsent",
        };
        args.settings.invalid(flag, &error)
    })?;
    let address = args.listen.rsplit_once(':');
    if !address.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
        return Err(args.settings.invalid("listen", &format!("expected HOST:PORT, found {:?}", args.listen)));
    }
    check_ranges(args)?;
    check_data(args)?;
    let (tls, access) = load_tls_and_access(args)?;
    let config = Config {
        listen: args.listen.clone(),
        max_connections: args.max_connections,
        limits,
        max_queue: args.max_queue.0,
        max_input: args.max_input.0,
        recent_log: args.recent_log.0,
        heartbeat: args.heartbeat,
        tls,
        access,
        authorize_within: args.authorize_within,
        max_unauthenticated: args.max_unauthenticated,
        log_lines_dropped: Arc::default(),
    };
    config.check_input().map_err(|error| args.settings.invalid("max-input", &error))?;
    Ok(config)
}

/// Refuses numbers and times with which a server could serve no client, and times that are certainly mistakes.
fn check_ranges(args: &Serve) -> Result<(), Failure> {
    for (flag, number) in [("max-connections", args.max_connections), ("max-unauthenticated", args.max_unauthenticated)]
    {
        if number == 0 {
            return Err(args.settings.invalid(flag, &"expected at least 1, found 0"));
        }
    }
    for (flag, time, range) in [
        ("heartbeat", args.heartbeat, SHORT_TIMES),
        ("authorize-within", args.authorize_within, SHORT_TIMES),
        ("tombstones", args.tombstones, Duration::ZERO..=LONGEST_TIME),
    ] {
        if !range.contains(&time) {
            let [from, to, found] = [*range.start(), *range.end(), time].map(humantime::format_duration);
            return Err(args.settings.invalid(flag, &format!("expected a time from {from} to {to}, found {found}")));
        }
    }
    Ok(())
}

/// Refuses a data directory that exists and is no directory. Opens nothing.
fn check_data(args: &Serve) -> Result<(), Failure> {
    if args.durability == Durability::Memory {
        return Ok(());
    }
    let found = match std::fs::metadata(&args.data) {
        Ok(found) if !found.is_dir() => "a file",
        Err(error) if error.kind() == ErrorKind::NotADirectory => "a path through a file",
        // If the directory cannot be opened or made, opening the store reports this.
        Ok(_) | Err(_) => return Ok(()),
    };
    let reason = format!("expected a directory, found {found}: {}", args.data.display());
    Err(args.settings.invalid("data", &reason))
}

/// Reads the files of certificates and users: everything that a reload reads again.
fn load_tls_and_access(args: &Serve) -> Result<(Option<Tls>, AccessControl), Failure> {
    let access = load_access(args)?;
    let tls = tls_files(args, &access).map(|files| Tls::load(&files)).transpose();
    let tls = tls.map_err(|error| Failure::Usage(error.to_string()))?;
    access.check(tls.is_some()).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok((tls, access))
}

fn load_access(args: &Serve) -> Result<AccessControl, Failure> {
    let access = match (&args.auth_hash_file, &args.users) {
        (Some(file), _) => AccessControl::from_hash_file(file),
        (None, Some(file)) => AccessControl::from_users_file(file),
        (None, None) => return Ok(AccessControl::Open),
    };
    access.map_err(|error| Failure::Usage(error.to_string()))
}

/// Returns the certificate files, or `None` for a server without TLS.
fn tls_files(args: &Serve, access: &AccessControl) -> Option<TlsFiles> {
    let (certificate, key) = args.tls_cert.as_ref().zip(args.tls_key.as_ref())?;
    let clients = match &args.tls_client_ca {
        None => ClientCertificates::None,
        // A client without a certificate may still authenticate with a password.
        Some(ca) if access.is_required() => ClientCertificates::Accepted(Pem::file(ca)),
        Some(ca) => ClientCertificates::Demanded(Pem::file(ca)),
    };
    Some(TlsFiles { identity: Identity::files(certificate, key), clients })
}

/// Raises the limit of open files to what the connections need, as far as the system allows.
fn allow_files(connections: usize) {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    match rlimit::increase_nofile_limit(needed) {
        Ok(allowed) if allowed >= needed => {}
        Ok(allowed) => warn!(allowed, needed, "the system allows fewer open files than --max-connections needs"),
        Err(error) => warn!(%error, "can't determine the limit of open files"),
    }
}

/// The signal SIGHUP. It asks for a reload, or reports that the terminal of the server was closed.
struct Hangups {
    hangup: Signal,
    has_terminal: bool,
    stop: Stop,
}

impl Hangups {
    /// Reloads certificates and users at each signal. Returns when the terminal in which the server was started is
    /// closed.
    async fn reload(mut self, args: Arc<Serve>, handle: &Handle) {
        while self.hangup.recv().await.is_some() {
            if self.has_terminal && !io::stdin().is_terminal() {
                info!("the terminal was closed");
                return;
            }
            let Some(files) = reloadable(&args) else {
                info!("nothing to reload: neither certificates nor users are configured; {RESTART}");
                continue;
            };
            let args = args.clone();
            let loaded = self.stop.unless_requested_blocking(move || load_tls_and_access(&args)).await;
            let Some(loaded) = loaded.transpose() else { return };
            match loaded
                .and_then(|loaded| loaded)
                .map_err(|failure| reason(&failure))
                .and_then(|loaded| apply(loaded, handle))
            {
                Ok(()) => info!("reloaded {files}; {RESTART}"),
                Err(reason) => error!("reload failed, the previous {files} stay in force: {reason}"),
            }
        }
    }
}

/// What a reload does not do.
const RESTART: &str = "other settings, also those in the configuration file, need a restart";

/// Returns what a reload reads, or `None` if no files are configured that it could read.
fn reloadable(args: &Serve) -> Option<&'static str> {
    match (&args.tls_cert, &args.users, &args.auth_hash_file) {
        (None, None, None) => None,
        (None, _, Some(_)) => Some("password hash"),
        (None, Some(_), None) => Some("users"),
        (Some(_), None, None) => Some("certificates"),
        (Some(_), Some(_), _) => Some("certificates and users"),
        (Some(_), None, Some(_)) => Some("certificates and password hash"),
    }
}

fn reason(failure: &Failure) -> String {
    failure.message().unwrap_or_default().to_owned()
}

/// Applies certificates and users to new connections.
fn apply((tls, access): (Option<Tls>, AccessControl), handle: &Handle) -> Result<(), String> {
    if let Some(tls) = tls {
        handle.set_tls(tls).map_err(|error| error.to_string())?;
    }
    handle.set_access(access).map_err(|error| error.to_string())
}
