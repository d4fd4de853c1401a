//! How far something has come that takes long: a bar on stderr, where that is a terminal, and where it takes longer than a
//! second. It is gone before anything else is printed.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use syncline_store::{Progress, Report, Stage};

/// What ends earlier is not worth a bar.
const DELAY: Duration = Duration::from_secs(1);

/// What a bar looks like: `reading [====>    ] 12 MiB of 40 MiB, 3s left`.
const STYLE: &str = "{msg} [{wide_bar}] {binary_bytes} of {binary_total_bytes}, {eta} left";

/// Does something that tells how far it has come, and shows that.
pub(crate) fn shown_while<T>(work: impl FnOnce(&Report) -> T) -> T {
    let bar = Arc::new(bar());
    let told = bar.clone();
    let report: Report = Arc::new(move |Progress { stage, done, total }| {
        let name = match stage {
            Stage::Reading => "reading",
            Stage::Writing => "writing",
        };
        told.show(Instant::now(), name, done, total);
    });
    let done = work(&report);
    bar.clear();
    done
}

/// A bar on stderr.
pub(crate) fn bar() -> Bar<fn() -> ProgressDrawTarget> {
    Bar::new(Instant::now(), ProgressDrawTarget::stderr)
}

/// Shows how far something has come, and is gone when it is dropped.
pub(crate) struct Bar<T> {
    bar: ProgressBar,
    started: Instant,
    /// Where it is drawn. A target that is no terminal shows nothing.
    target: T,
    drawn: OnceLock<()>,
}

impl<T: Fn() -> ProgressDrawTarget> Bar<T> {
    fn new(started: Instant, target: T) -> Self {
        // The template is right: a test shows it.
        let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style.progress_chars("=> "));
        Self { bar, started, target, drawn: OnceLock::new() }
    }

    /// Shows how far it has come, where that takes long.
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

    /// A terminal that keeps what it was sent.
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

    /// A bar on a screen, and when it was made.
    fn bar() -> (Bar<impl Fn() -> ProgressDrawTarget>, Screen, Instant) {
        let (screen, started) = (Screen::default(), Instant::now());
        let of_bar = screen.clone();
        (Bar::new(started, move || ProgressDrawTarget::term_like(Box::new(of_bar.clone()))), screen, started)
    }

    #[test]
    fn what_ends_within_a_second_shows_nothing() {
        let (bar, screen, started) = bar();
        for millis in [0, 500, 999] {
            bar.show(started + Duration::from_millis(millis), "reading", millis, 1000);
            bar.bar.force_draw();
            assert_eq!(*screen.0.lock().unwrap(), "", "after {millis} ms");
        }
    }

    #[test]
    fn what_takes_longer_shows_how_far_it_has_come_and_leaves_nothing_behind() {
        let (bar, screen, started) = bar();
        bar.show(started + DELAY, "reading", 3 << 20, 6 << 20);
        let said = || screen.0.lock().unwrap().clone();
        bar.bar.force_draw();
        assert!(said().starts_with("reading [==") && said().contains("] 3.00 MiB of 6.00 MiB, "), "{}", said());
        bar.show(started + DELAY, "writing", 1 << 20, 4 << 20);
        bar.bar.force_draw();
        assert!(said().starts_with("writing [==") && said().contains("] 1.00 MiB of 4.00 MiB, "), "{}", said());
        bar.bar.finish_and_clear();
        assert_eq!(said().trim(), "");
    }
}
