//! The log of `serve`: lines on stderr that never make the server wait.
//!
//! Every line goes into a bounded queue ([`queue`]), and a thread of its own writes the queue to stderr. If stderr accepts
//! no lines, the queue fills up, and further lines are dropped and counted. Warnings and errors that repeat are limited
//! ([`limiter`]). Panics are logged the same way. Other commands write their few lines directly.

mod limiter;
mod queue;

use crate::failure::Failure;
use limiter::Limiter;
use queue::Queue;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// How long the process waits at its end for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The log of a server.
#[derive(Clone)]
pub(crate) struct Log {
    queue: Arc<Queue>,
    limiter: Arc<Limiter<Identifier>>,
}

impl Log {
    /// Sends all events that `filter` accepts, and all panics, to stderr from now on.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] if the system has no thread for the log.
    pub(crate) fn start(filter: EnvFilter) -> Result<Self, Failure> {
        let log = Self { queue: Arc::default(), limiter: Arc::default() };
        let (queue, limiter) = (log.queue.clone(), log.limiter.clone());
        let write = move || {
            let mut stderr = io::stderr();
            loop {
                queue.write_next(&mut stderr, limiter.next_end());
                push_summaries(&queue, limiter.take_ended(Instant::now()));
            }
        };
        std::thread::Builder::new()
            .name("log".into())
            .spawn(write)
            .map_err(|error| Failure::Unavailable(format!("can't start the thread of the log: {error}")))?;

        let lines = tracing_subscriber::fmt::layer()
            .with_writer(Lines(log.queue.clone()))
            .with_ansi(io::stderr().is_terminal())
            .log_internal_errors(false);
        tracing_subscriber::registry().with(filter).with(LimitRepeats(log.limiter.clone())).with(lines).init();

        let queue = log.queue.clone();
        std::panic::set_hook(Box::new(move |panic| queue.push(panic_line(&panic.to_string()).as_bytes())));
        Ok(log)
    }

    /// Returns the counter of the lines that were dropped.
    pub(crate) fn dropped(&self) -> Arc<AtomicU64> {
        self.queue.dropped()
    }

    /// Adds a line that is no event, such as the reason why the process ends.
    pub(crate) fn print(&self, text: &str) {
        self.queue.push(format!("{text}\n").as_bytes());
    }

    /// Waits until every line is written, for at most [`FLUSH_TIMEOUT`].
    pub(crate) fn flush(&self) {
        push_summaries(&self.queue, self.limiter.take_all());
        self.queue.flush(FLUSH_TIMEOUT);
    }
}

fn push_summaries(queue: &Queue, summaries: Vec<limiter::Suppressed>) {
    for limiter::Suppressed { level, target, count, example } in summaries {
        let lines = if count == 1 { "1 similar line was" } else { &*format!("{count} similar lines were") };
        queue.push(line(level, target, &format!("{lines} suppressed: {example}")).as_bytes());
    }
}

/// Returns a line in the format of the others.
fn line(level: Level, target: &str, text: &str) -> String {
    let mut line = String::new();
    // If the time cannot be formatted, the line is complete without it.
    let _ = SystemTime.format_time(&mut Writer::new(&mut line));
    let _ = writeln!(line, " {level:>5} {target}: {text}");
    line
}

/// Returns the line for a panic, with a backtrace if RUST_BACKTRACE asks for one.
fn panic_line(panic: &str) -> String {
    let backtrace = Backtrace::capture();
    let mut text = line(Level::ERROR, "syncline::panic", panic);
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = writeln!(text, "{backtrace}");
    }
    text
}

/// Makes writers that add their lines to the queue.
struct Lines(Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(&self.0)
    }
}

/// A writer that takes each line as a whole, which is how the subscriber writes them.
struct LineWriter<'a>(&'a Queue);

impl io::Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The layer that limits warnings and errors. Lines of lower levels have causes that an operator controls.
struct LimitRepeats(Arc<Limiter<Identifier>>);

impl<S: Subscriber> Layer<S> for LimitRepeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let (level, target) = (*metadata.level(), metadata.target());
        let callsite = metadata.callsite();
        level > Level::WARN || self.0.admit(callsite, level, target, Instant::now(), || text(event))
    }
}

/// Returns the message and the fields of an event, as a line shows them.
fn text(event: &Event<'_>) -> String {
    fn formatted(fields: impl RecordFields) -> String {
        let mut text = String::new();
        // A field that cannot be formatted is missing in the summary.
        let _ = DefaultFields::new().format_fields(Writer::new(&mut text), fields);
        text
    }
    formatted(event)
}
