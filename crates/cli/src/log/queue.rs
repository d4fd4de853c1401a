//! The bounded queue of lines between the threads that log and the one that writes.
//!
//! Adding a line never waits for the output. A line that does not fit is dropped; so is a line that the output refuses.
//! Both are counted, and a line in the log tells how many were lost as soon as the output accepts lines again.

use super::line;
use parking_lot::{Condvar, Mutex};
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::Level;

/// The size of the lines that wait, in bytes. The lines that are being written are at most as many.
const MAX_BYTES: usize = 256 * 1024;

/// The pause after which an output that would have to wait, as it does not block, is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Lines that wait to be written.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when there is something to write.
    filled: Condvar,
    /// Notified when everything is written.
    drained: Condvar,
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    is_writing: bool,
    /// The number of dropped lines that no line in the log has told about.
    unreported: u64,
    /// Whether the output has refused the last lines. It is then tried again with the next line only.
    is_refused: bool,
    /// Whether the output has accepted a part of a line, without its end.
    is_cut: bool,
}

impl State {
    fn has_work(&self) -> bool {
        !self.lines.is_empty() || (self.unreported > 0 && !self.is_refused)
    }

    fn is_drained(&self) -> bool {
        !self.is_writing && !self.has_work()
    }
}

impl Queue {
    /// Returns the counter of dropped lines.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }

    /// Adds text that ends with a newline, or drops it if the queue is full.
    pub(super) fn push(&self, text: &[u8]) {
        let mut state = self.state.lock();
        if state.lines.len().saturating_add(text.len()) > MAX_BYTES {
            self.count_dropped(&mut state, lines_in(text));
            return;
        }
        state.lines.extend_from_slice(text);
        drop(state);
        self.filled.notify_one();
    }

    fn count_dropped(&self, state: &mut State, lines: u64) {
        state.unreported = state.unreported.saturating_add(lines);
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// Waits for lines, at most until a time, and writes all that are there. Only one thread may call this.
    pub(super) fn write_next(&self, output: &mut impl Write, until: Option<Instant>) {
        let mut state = self.state.lock();
        while !state.has_work() {
            match until {
                None => self.filled.wait(&mut state),
                Some(until) if self.filled.wait_until(&mut state, until).timed_out() => return,
                Some(_) => {}
            }
        }
        state.is_writing = true;
        let (is_cut, reported) = (state.is_cut, state.unreported);
        let lines = std::mem::take(&mut state.lines);
        drop(state);

        let ended_line = if is_cut { write_all(output, b"\n") } else { Ok(()) };
        let refused = ended_line.and_then(|()| write_all(output, &lines));
        let is_reported = reported == 0 || refused.is_ok() && write_all(output, report(reported).as_bytes()).is_ok();

        let mut state = self.state.lock();
        state.is_writing = false;
        state.is_refused = refused.is_err() || !is_reported;
        if is_reported {
            state.unreported -= reported;
        }
        state.is_cut = false;
        if let Err(Refused { written }) = refused {
            let (written, rest) = lines.split_at_checked(written).unwrap_or((&[], &lines));
            state.is_cut = if written.is_empty() { is_cut } else { !written.ends_with(b"\n") };
            self.count_dropped(&mut state, lines_in(rest));
        }
        if state.is_drained() {
            self.drained.notify_all();
        }
    }

    /// Waits until everything is written, or until the time is over.
    pub(super) fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        while !state.is_drained() {
            if self.drained.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }
}

/// An error: the output has accepted only a part of a text.
struct Refused {
    written: usize,
}

/// Writes a text. Waits as long as the output makes it wait.
fn write_all(output: &mut impl Write, text: &[u8]) -> Result<(), Refused> {
    let mut written = 0;
    while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
        match output.write(rest) {
            Ok(0) => return Err(Refused { written }),
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_PAUSE),
            Err(_) => return Err(Refused { written }),
        }
    }
    Ok(())
}

fn lines_in(text: &[u8]) -> u64 {
    let newlines = text.iter().filter(|byte| **byte == b'\n').count();
    u64::try_from(newlines).unwrap_or(u64::MAX)
}

/// Returns the line that tells about dropped lines.
fn report(dropped: u64) -> String {
    let lines = if dropped == 1 { "1 log line was" } else { &*format!("{dropped} log lines were") };
    line(Level::WARN, "syncline::log", &format!("{lines} dropped, because stderr did not accept them in time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// An output that refuses everything after a number of bytes.
    #[derive(Default)]
    struct Output {
        written: Vec<u8>,
        capacity: usize,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let accepted = bytes.len().min(self.capacity - self.written.len());
            if accepted == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.written.extend_from_slice(&bytes[..accepted]);
            Ok(accepted)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        fn with(capacity: usize) -> Self {
            Self { capacity, ..Self::default() }
        }

        fn text(&self) -> &str {
            std::str::from_utf8(&self.written).unwrap()
        }
    }

    fn dropped(queue: &Queue) -> u64 {
        queue.dropped().load(Ordering::Relaxed)
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let (queue, mut output) = (Queue::default(), Output::with(100));
        queue.push(b"one\n");
        queue.push(b"two\n");
        queue.write_next(&mut output, None);
        queue.push(b"three\n");
        queue.write_next(&mut output, None);
        assert_eq!((output.text(), dropped(&queue)), ("one\ntwo\nthree\n", 0));
        queue.write_next(&mut output, Some(Instant::now()));
        queue.flush(FOREVER);
    }

    const FOREVER: Duration = Duration::from_secs(3600);

    #[test]
    fn a_full_queue_drops_lines_and_reports_how_many() {
        let (queue, mut output) = (Queue::default(), Output::with(2 * MAX_BYTES));
        let long = [vec![b'x'; MAX_BYTES / 2 - 1], b"\n".to_vec()].concat();
        (0..2).for_each(|_| queue.push(&long));
        queue.push(b"y\n");
        queue.push(b"y\ny\n");
        assert_eq!(dropped(&queue), 3);
        queue.write_next(&mut output, None);
        let (_, last) = output.text().trim_end().rsplit_once('\n').unwrap();
        let expected = " WARN syncline::log: 3 log lines were dropped, because stderr did not accept them in time";
        assert!(last.ends_with(expected), "{last}");
        queue.flush(FOREVER);
    }

    #[test]
    fn refused_lines_are_reported_when_the_output_accepts_lines_again() {
        let (queue, mut output) = (Queue::default(), Output::with(6));
        queue.push(b"one\ntwo\nthree\n");
        queue.write_next(&mut output, None);
        assert_eq!((output.text(), dropped(&queue)), ("one\ntw", 2));
        queue.write_next(&mut output, Some(Instant::now()));
        queue.push(b"four\n");
        queue.write_next(&mut output, None);
        assert_eq!((output.text(), dropped(&queue)), ("one\ntw", 3), "it still refuses");
        queue.flush(FOREVER);

        output.capacity = 1000;
        queue.push(b"five\n");
        queue.write_next(&mut output, None);
        let lines: Vec<_> = output.text().lines().collect();
        assert_eq!((&lines[..3], lines.len(), dropped(&queue)), (&["one", "tw", "five"][..], 4, 3));
        assert!(lines[3].contains("3 log lines were dropped"), "{lines:?}");
    }

    #[test]
    fn an_output_that_does_not_block_is_tried_again() {
        struct Busy(Output, u32);
        impl Write for Busy {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                match self.1 % 3 {
                    1 => Err(ErrorKind::WouldBlock.into()),
                    2 => Err(ErrorKind::Interrupted.into()),
                    _ => self.0.write(&bytes[..1]),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (queue, mut output) = (Queue::default(), Busy(Output::with(100), 0));
        queue.push(b"one\ntwo\n");
        queue.write_next(&mut output, None);
        assert_eq!((output.0.text(), dropped(&queue)), ("one\ntwo\n", 0));
    }

    #[test]
    fn a_flush_waits_for_a_stuck_output_no_longer_than_its_timeout() {
        let queue = Queue::default();
        queue.push(b"one\n");
        queue.flush(Duration::ZERO);
    }
}
