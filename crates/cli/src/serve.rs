//! `syncline serve`

use crate::args::{Durability, Serve};
use crate::failure::Failure;
use crate::output::{print, print_line};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use syncline_server::{
    AccessControl, BindError, ClientCertificates, Config, Handle, Identity, LimitError, Limits, Pem, Server, Tls,
    TlsFiles,
};
use syncline_store::{self as store, DiskOptions, DiskStore, MemoryStore, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// Files that the process has open beside its connections.
const OTHER_FILES: u64 = 64;

pub(crate) async fn run(args: Serve) -> Result<(), Failure> {
    let config = checked(&args)?;
    if args.check_config {
        return print(format!("# fine; this would be in force:\n{}", args.settings).as_bytes());
    }
    let durability = match args.durability {
        Durability::Fsync => store::Durability::Fsync,
        Durability::Os => store::Durability::Os,
        Durability::Memory => {
            let store = MemoryStore::new().map_err(|error| Failure::Unavailable(error.to_string()))?;
            warn!("durability is memory: everything is lost when this process ends");
            return serve(args, config, store).await;
        }
    };
    let options = DiskOptions { durability, tombstones: args.tombstones, ..DiskOptions::default() };
    let store = DiskStore::open(&args.data, options)?;
    let promise = match durability {
        store::Durability::Fsync => "an acknowledged write is on disk: it survives a power cut",
        store::Durability::Os => "an acknowledged write survives a killed process, not a power cut",
    };
    info!(data = %args.data.display(), store = %store.id(), "{promise}");
    serve(args, config, store).await
}

/// Serves a store until a signal ends it.
async fn serve(args: Serve, config: Config, store: impl Store) -> Result<(), Failure> {
    let deaf = |error| Failure::Unavailable(format!("can't hear signals: {error}"));
    let (signals, hangups) = (Signals::new().map_err(deaf)?, Hangups::new().map_err(deaf)?);
    allow_files(config.max_connections);
    let server = Server::bind(config, store).await.map_err(|error| match error {
        BindError::Limits(_) | BindError::Input(_) | BindError::MustUseTls(_) => Failure::Usage(error.to_string()),
        BindError::Listen { .. } | BindError::Thread(_) | BindError::NoRandomNumbers => {
            Failure::Unavailable(error.to_string())
        }
    })?;
    print_line(&format!("listening on {}", server.local_addr()))?;
    let handle = server.handle();
    let ends = async {
        tokio::select! {
            () = signals.first() => {}
            () = hangups.reload(Arc::new(args), &handle) => {}
        }
    };
    server.run(ends).await.map_err(|error| Failure::Unavailable(error.to_string()))
}

/// What the server is told to do, as far as it can be checked without opening the data or the port. Whatever else is read
/// before that is read here.
fn checked(args: &Serve) -> Result<Config, Failure> {
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
        args.settings.wrong(flag, &error)
    })?;
    let address = args.listen.rsplit_once(':');
    if !address.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
        return Err(args.settings.wrong("listen", &format!("expected HOST:PORT, found {:?}", args.listen)));
    }
    let (tls, access) = door(args)?;
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
    config.check_input().map_err(|error| args.settings.wrong("max-input", &error))?;
    Ok(config)
}

/// By which certificates the server is known, and who may come in: all that a reload reads again.
fn door(args: &Serve) -> Result<(Option<Tls>, AccessControl), Failure> {
    let access = access(args)?;
    let tls = tls_files(args, &access).map(|files| Tls::load(&files)).transpose();
    let tls = tls.map_err(|error| Failure::Usage(error.to_string()))?;
    access.check(tls.is_some()).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok((tls, access))
}

/// Who may come in, as the files say that are named.
fn access(args: &Serve) -> Result<AccessControl, Failure> {
    let access = match (&args.auth_hash_file, &args.users) {
        (Some(file), _) => AccessControl::from_hash_file(file),
        (None, Some(file)) => AccessControl::from_users_file(file),
        (None, None) => return Ok(AccessControl::Open),
    };
    access.map_err(|error| Failure::Usage(error.to_string()))
}

/// Where the certificates are; `None`: no TLS is to be spoken.
fn tls_files(args: &Serve, access: &AccessControl) -> Option<TlsFiles> {
    let (certificate, key) = args.tls_cert.as_ref().zip(args.tls_key.as_ref())?;
    let clients = match &args.tls_client_ca {
        None => ClientCertificates::None,
        // Whoever shows none may show a password.
        Some(ca) if access.is_required() => ClientCertificates::Accepted(Pem::file(ca)),
        Some(ca) => ClientCertificates::Demanded(Pem::file(ca)),
    };
    Some(TlsFiles { identity: Identity::files(certificate, key), clients })
}

/// Allows this process as many files as it has connections, as far as the system lets it.
fn allow_files(connections: usize) {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    match rlimit::increase_nofile_limit(needed) {
        Ok(allowed) if allowed >= needed => {}
        Ok(allowed) => warn!(allowed, needed, "the system allows fewer open files than --max-connections needs"),
        Err(error) => warn!(%error, "can't tell how many files may be open"),
    }
}

/// The signal that says: read the files again. It also says that the terminal is gone.
struct Hangups {
    hangup: Signal,
    has_terminal: bool,
}

impl Hangups {
    fn new() -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, has_terminal: io::stdin().is_terminal() })
    }

    /// Reads certificates and users again whenever it comes; resolves when the terminal is gone in which the server was
    /// started.
    async fn reload(mut self, args: Arc<Serve>, handle: &Handle) {
        while self.hangup.recv().await.is_some() {
            if self.has_terminal && !io::stdin().is_terminal() {
                info!("the terminal is gone");
                return;
            }
            let of_reader = args.clone();
            let read = tokio::task::spawn_blocking(move || door(&of_reader)).await;
            match read.map_err(|error| error.to_string()).and_then(|read| put_in_force(read, handle)) {
                Ok(()) => info!("certificates and users were read again, and are in force"),
                Err(why) => error!("nothing was reloaded, what was in force stays so: {why}"),
            }
        }
    }
}

/// Puts all in force, or nothing.
fn put_in_force(read: Result<(Option<Tls>, AccessControl), Failure>, handle: &Handle) -> Result<(), String> {
    let (tls, access) = read.map_err(|failure| failure.message().unwrap_or_default().to_owned())?;
    if let Some(tls) = tls {
        handle.set_tls(tls).map_err(|error| error.to_string())?;
    }
    handle.set_access(access).map_err(|error| error.to_string())
}

/// The signals that end a server in order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Resolves at the first of them. A second one ends the process at once: whatever was acknowledged is as durable as
    /// it was promised to be.
    async fn first(mut self) {
        let name = self.next().await;
        info!(signal = name, "asked to end; once more ends at once");
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
