//! The signals that end a command: INT and TERM.
//!
//! Their default actions do that for every process, except for the first process of a container: the system discards a
//! signal for which that process has no handler. [`end_as_first_process`] handles them there.

use crate::failure::Failure;
use std::io;
use std::process;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is added to the number of a signal for the exit code, as shells do.
const EXIT_CODE: i32 = 128;

/// Waits for the signals that end a command.
pub(crate) struct Ending {
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    /// Handles the signals from now on: they no longer end the process by themselves.
    pub(crate) fn new() -> Result<Self, Failure> {
        let handle = || {
            Ok::<_, io::Error>(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
            })
        };
        handle().map_err(|error| Failure::Unavailable(format!("can't handle signals: {error}")))
    }

    /// Waits for one of the signals, and returns it.
    ///
    /// Cancellation safe: if the future is dropped, no signal is lost.
    pub(crate) async fn wait(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}

/// Returns the exit code of a command that a signal has ended.
pub(crate) const fn exit_code(signal: SignalKind) -> i32 {
    EXIT_CODE + signal.as_raw_value()
}

/// Returns whether this is the first process of a container.
pub(crate) fn is_first_process() -> bool {
    process::id() == 1
}

/// Ends the process at a signal, if it is the first one of a container. This works although the command is blocked.
pub(crate) fn end_as_first_process() -> Result<(), Failure> {
    if !is_first_process() {
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Unavailable(format!("can't handle signals: {error}")))?;
    let mut ending = {
        let _context = runtime.enter();
        Ending::new()?
    };
    std::thread::spawn(move || process::exit(exit_code(runtime.block_on(ending.wait()))));
    Ok(())
}
