//! The signals of `serve`: which ones end the server, which one reloads files, and which ones have no effect.
//!
//! | signals | effect |
//! |---|---|
//! | TERM, INT | end the server in order; the second one ends it at once |
//! | HUP | reads certificates and users again |
//! | KILL, STOP, CONT, TSTP, TTIN, TTOU | as the system defines; no program can change the first two |
//! | ABRT, BUS, FPE, ILL, SEGV, SYS, TRAP | end the process, because they report a fault of the program |
//! | all others of `signal(7)`, also QUIT | none, except a line in the log |
//!
//! The handlers are installed before anything else happens. A program that the process starts does not inherit them: it
//! gets the system's defaults.

use crate::failure::Failure;
use libc::c_int;
use std::borrow::Cow;
use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::thread;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

/// The exit code after a second signal.
const EXIT_CODE_AT_ONCE: i32 = 130;

/// The signals without effect that exist on every Unix.
///
/// The system ignores CHLD, URG and WINCH by default, and the Rust runtime ignores PIPE.
const WITHOUT_EFFECT: &[(c_int, &str)] = &[
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
];

/// The signals without effect that exist on Linux only, except the real-time signals.
#[cfg(target_os = "linux")]
const WITHOUT_EFFECT_ON_LINUX: &[(c_int, &str)] = &[(libc::SIGPWR, "SIGPWR"), (libc::SIGSTKFLT, "SIGSTKFLT")];

/// Installs the handlers of all signals. Must be called in a runtime.
///
/// # Errors
/// The operating system's error.
pub(crate) fn install() -> io::Result<(Stop, Signal)> {
    let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let hangup = signal(SignalKind::hangup())?;
    let ignored = without_effect().map(|(number, name)| Ok((signal(SignalKind::from_raw(number))?, name)));
    let ignored = ignored.collect::<io::Result<Vec<_>>>()?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(stop_at_signal(interrupt, terminate, sender));
    tokio::spawn(log_ignored(ignored));
    Ok((Stop(receiver), hangup))
}

fn without_effect() -> impl Iterator<Item = (c_int, Cow<'static, str>)> {
    let named = WITHOUT_EFFECT.iter();
    #[cfg(target_os = "linux")]
    let named = named.chain(WITHOUT_EFFECT_ON_LINUX);
    let signals = named.map(|(number, name)| (*number, Cow::from(*name)));
    #[cfg(target_os = "linux")]
    let signals = {
        let first = libc::SIGRTMIN();
        signals.chain((first..=libc::SIGRTMAX()).map(move |n| (n, format!("SIGRTMIN+{}", n - first).into())))
    };
    signals
}

/// Whether a signal has asked the server to end.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Returns when the server must end.
    pub(crate) async fn requested(&mut self) {
        if self.0.wait_for(|is_requested| *is_requested).await.is_err() {
            // The sender lives as long as the runtime.
            std::future::pending::<()>().await;
        }
    }

    /// Returns the output of a future, or `None` if the server must end before.
    pub(crate) async fn unless_requested<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            output = future => Some(output),
            () = self.requested() => {
                info!("ended before the server was ready");
                None
            }
        }
    }

    /// Runs a function that may block for long, on a thread where it delays nothing else. Returns its result, or `None` if
    /// the server must end before. The function then continues until the process ends.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] if the function panics, or if the system has no thread for it.
    pub(crate) async fn unless_requested_blocking<T: Send + 'static>(
        &mut self,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Failure> {
        let failed = |reason: &dyn Display| Failure::Unavailable(format!("the server failed: {reason}"));
        let (sender, receiver) = oneshot::channel();
        // Nothing receives the result if the server ends before.
        let run = move || drop(sender.send(function()));
        // Not a thread of the runtime: those stay for a while, and have the name of the threads that serve connections.
        thread::Builder::new().name("opening".into()).spawn(run).map_err(|error| failed(&error))?;
        let result = self.unless_requested(receiver).await;
        result.transpose().map_err(|_| failed(&"a thread panicked; the log says where"))
    }
}

/// Requests the end of the server at the first signal, and ends the process at the second one. This loses no acknowledged
/// write, because an acknowledged write is already as durable as `--durability` says.
async fn stop_at_signal(mut interrupt: Signal, mut terminate: Signal, stop: watch::Sender<bool>) {
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    };
    let name = next().await;
    info!(signal = name, "shutting down after a signal; a second signal ends the process at once");
    stop.send_replace(true);
    next().await;
    std::process::exit(EXIT_CODE_AT_ONCE);
}

/// Logs each signal that has no effect.
async fn log_ignored(mut signals: Vec<(Signal, Cow<'static, str>)>) {
    loop {
        let name = poll_fn(|context| {
            let received =
                signals.iter_mut().find_map(|(signal, name)| signal.poll_recv(context).is_ready().then_some(name));
            received.map_or(Poll::Pending, |name| Poll::Ready(name.clone()))
        });
        match &*name.await {
            "SIGXFSZ" => warn!("a file has reached the largest size that this process may write (ulimit -f)"),
            "SIGXCPU" => warn!("the process has used all processor time that it may use (ulimit -t)"),
            name => {
                warn!("{name} has no effect; SIGTERM ends the server, and SIGHUP reads certificates and users again");
            }
        }
    }
}
