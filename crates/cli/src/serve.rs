//! `syncline serve`: checks the settings, opens the store, and serves it until a signal ends the server.

use crate::args::Serve;
use crate::engine::{Engine, RunOnStore};
use crate::failure::Failure;
use crate::output::{print, print_line};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use syncline_server::{
    AccessControl, BindError, ClientCertificates, Config, Handle, Identity, LimitError, Limits, Pem, Server, Tls,
    TlsFiles, is_listen_address,
};
use syncline_store::Store;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// The number of files that the process needs besides one for each connection.
const OTHER_FILES: u64 = 64;

pub(crate) async fn run(mut args: Serve) -> Result<(), Failure> {
    let engine = Engine::choose(&args)?;
    let config = config(&args)?;
    for (flag, reason) in engine.ignored_flags() {
        args.settings.mark_unused(flag, reason);
    }
    if args.check_config {
        return print(format!("# valid; these settings would apply:\n{}", args.settings).as_bytes());
    }
    engine.open(Service { args: Arc::new(args), config }).await
}

/// A server that is ready to be started on a store.
struct Service {
    args: Arc<Serve>,
    config: Config,
}

impl RunOnStore for Service {
    /// Serves the store until a signal ends the server.
    async fn run(self, store: impl Store) -> Result<(), Failure> {
        let no_signals = |error| Failure::Unavailable(format!("can't receive signals: {error}"));
        let (end_signals, hangups) = (EndSignals::new().map_err(no_signals)?, Hangups::new().map_err(no_signals)?);
        allow_files(self.config.max_connections);
        let server = Server::bind(self.config, store).await.map_err(|error| match error {
            BindError::Limits(_) | BindError::Input(_) | BindError::MustUseTls(_) => Failure::Usage(error.to_string()),
            BindError::Listen { .. } | BindError::Thread(_) | BindError::NoRandomNumbers => {
                Failure::Unavailable(error.to_string())
            }
        })?;
        print_line(&format!("listening on {}", server.local_addr()))?;
        let handle = server.handle();
        let shutdown = async {
            tokio::select! {
                () = end_signals.first() => {}
                () = hangups.reload(self.args, &handle) => {}
            }
        };
        server.run(shutdown).await.map_err(|error| Failure::Unavailable(error.to_string()))
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
    if !is_listen_address(&args.listen) {
        let is_ipv6 = args.listen.matches(':').count() > 1;
        let hint = if is_ipv6 { "; IPv6 addresses are written in brackets: [::1]:6660" } else { "" };
        let reason = format!("expected HOST:PORT, found {:?}{hint}", args.listen);
        return Err(args.settings.invalid("listen", &reason));
    }
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
    };
    config.check_input().map_err(|error| args.settings.invalid("max-input", &error))?;
    Ok(config)
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
}

impl Hangups {
    fn new() -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, has_terminal: io::stdin().is_terminal() })
    }

    /// Reloads certificates and users at each signal. Returns when the terminal in which the server was started is
    /// closed.
    async fn reload(mut self, args: Arc<Serve>, handle: &Handle) {
        while self.hangup.recv().await.is_some() {
            if self.has_terminal && !io::stdin().is_terminal() {
                info!("the terminal was closed");
                return;
            }
            let args = args.clone();
            let loaded = tokio::task::spawn_blocking(move || load_tls_and_access(&args)).await;
            match loaded.map_err(|error| error.to_string()).and_then(|loaded| apply(loaded, handle)) {
                Ok(()) => info!("reloaded certificates and users"),
                Err(reason) => error!("reload failed, the previous certificates and users stay in force: {reason}"),
            }
        }
    }
}

/// Applies certificates and users to new connections, or leaves both unchanged if loading failed.
fn apply(loaded: Result<(Option<Tls>, AccessControl), Failure>, handle: &Handle) -> Result<(), String> {
    let (tls, access) = loaded.map_err(|failure| failure.message().unwrap_or_default().to_owned())?;
    if let Some(tls) = tls {
        handle.set_tls(tls).map_err(|error| error.to_string())?;
    }
    handle.set_access(access).map_err(|error| error.to_string())
}

/// The signals that end a server: SIGINT and SIGTERM.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl EndSignals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Returns at the first signal. A second signal ends the process at once; this loses no acknowledged write, because
    /// an acknowledged write is already as durable as `--durability` says.
    async fn first(mut self) {
        let name = self.next().await;
        info!(signal = name, "shutting down after a signal; a second signal ends the process at once");
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(130);
        });
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
