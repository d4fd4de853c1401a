//! A progress bar for long operations.
//!
//! It appears on stderr after one second, if stderr is a terminal, and is removed before anything else is printed.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use syncline_store::{Progress, Report, Stage};

/// An operation that ends earlier shows no bar.
const DELAY: Duration = Duration::from_secs(1);

/// The style of the bar: `reading [====>    ] 12 MiB of 40 MiB, 3s left`.
const STYLE: &str = "{msg} [{wide_bar}] {binary_bytes} of {binary_total_bytes}, {eta} left";

/// Runs an operation and shows the progress that it reports.
pub(crate) fn shown_while<T>(work: impl FnOnce(&Report) -> T) -> T {
    let bar = Arc::new(bar());
    let reported = bar.clone();
    let report: Report = Arc::new(move |Progress { stage, done, total }| {
        let name = match stage {
            Stage::Reading => "reading",
            Stage::Writing => "writing",
        };
        reported.show(Instant::now(), name, done, total);
    });
    let result = work(&report);
    bar.clear();
    result
}

/// Returns a bar on stderr.
pub(crate) fn bar() -> Bar<fn() -> ProgressDrawTarget> {
    Bar::new(Instant::now(), ProgressDrawTarget::stderr)
}

/// A progress bar, which is removed when it is dropped.
pub(crate) struct Bar<T> {
    bar: ProgressBar,
    started: Instant,
    /// Where to draw the bar. A target that is not a terminal shows nothing.
    target: T,
    drawn: OnceLock<()>,
}

impl<T: Fn() -> ProgressDrawTarget> Bar<T> {
    fn new(started: Instant, target: T) -> Self {
        // The template is valid, as the tests show, so the default is never used.
        let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style.progress_chars("=> "));
        Self { bar, started, target, drawn: OnceLock::new() }
    }

    /// Updates the bar, and shows it once the operation has taken long enough.
    pub(crate) fn show(&self, now: Instant, name: &'static str, done: u64, total: u64) {
        if self.bar.message() != name {
            self.bar.set_message(name);
            self.bar.reset();
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        if now.duration_since(self.started) >= DELAY {
            self.drawn.get_or_init(|| self.bar.set_draw_target((self.target)()));
        }
    }
}

impl<T> Bar<T> {
    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl<T> Drop for Bar<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;
    use std::sync::Mutex;

    /// A terminal that records its output.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns a bar, the screen that it draws on, and the time when it was made.
    fn bar() -> (Bar<impl Fn() -> ProgressDrawTarget>, Screen, Instant) {
        let (screen, started) = (Screen::default(), Instant::now());
        let of_bar = screen.clone();
        (Bar::new(started, move || ProgressDrawTarget::term_like(Box::new(of_bar.clone()))), screen, started)
    }

    #[test]
    fn an_operation_of_less_than_a_second_shows_no_bar() {
        let (bar, screen, started) = bar();
        for millis in [0, 500, 999] {
            bar.show(started + Duration::from_millis(millis), "reading", millis, 1000);
            bar.bar.force_draw();
            assert_eq!(*screen.0.lock().unwrap(), "", "after {millis} ms");
        }
    }

    #[test]
    fn a_longer_operation_shows_a_bar_and_removes_it_at_the_end() {
        let (bar, screen, started) = bar();
        bar.show(started + DELAY, "reading", 3 << 20, 6 << 20);
        let shown = || screen.0.lock().unwrap().clone();
        bar.bar.force_draw();
        assert!(shown().starts_with("reading [==") && shown().contains("] 3.00 MiB of 6.00 MiB, "), "{}", shown());
        bar.show(started + DELAY, "writing", 1 << 20, 4 << 20);
        bar.bar.force_draw();
        assert!(shown().starts_with("writing [==") && shown().contains("] 1.00 MiB of 4.00 MiB, "), "{}", shown());
        bar.bar.finish_and_clear();
        assert_eq!(shown().trim(), "");
    }
}
