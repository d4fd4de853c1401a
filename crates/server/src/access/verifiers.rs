//! The threads that verify passwords.
//!
//! They are as many as verify at once, and each keeps the memory that a verification needs for the next one: taken and
//! freed many times a second, by whoever guesses, it grew a server to hundreds of megabytes.

use super::hash::Workspace;
use parking_lot::Mutex;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(&mut Workspace) + Send>;

/// The threads that verify passwords. They end when it is dropped.
#[derive(Debug)]
pub(super) struct Verifiers {
    /// Bounded by the turns there are (`turns.rs`): who has none asks for nothing.
    jobs: mpsc::Sender<Job>,
}

impl Verifiers {
    /// Starts so many.
    ///
    /// # Errors
    /// What the system says where it gives no thread.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads.max(1) {
            let waiting = waiting.clone();
            let verify = move || {
                let mut workspace = Workspace::default();
                loop {
                    // A statement of its own: the lock is held while this one waits, and not while it works.
                    let job = waiting.lock().recv();
                    let Ok(job) = job else { return };
                    // Whoever waits for it hears of it: what would tell the outcome is dropped.
                    let _ = catch_unwind(AssertUnwindSafe(|| job(&mut workspace)));
                }
            };
            thread::Builder::new().name("verifier".into()).spawn(verify)?;
        }
        Ok(Self { jobs })
    }

    /// Has something done; nothing is told where it panics.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Workspace) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, outcome) = oneshot::channel();
        let job = Box::new(move |workspace: &mut Workspace| {
            // Whoever has asked may be gone.
            let _ = done.send(work(workspace));
        });
        // The threads are there as long as this is.
        let _ = self.jobs.send(job);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn many_verifications_use_as_many_threads_as_verify_at_once() {
        let verifiers = Verifiers::start(2).unwrap();
        let ran: Vec<_> = (0..100).map(|_| verifiers.run(|_| format!("{:?}", thread::current().id()))).collect();
        let threads: BTreeSet<_> = ran.into_iter().map(|outcome| outcome.blocking_recv().unwrap()).collect();
        assert!(threads.len() <= 2, "{threads:?}");
    }

    #[test]
    fn one_that_panics_is_told_of_and_others_go_on() {
        let verifiers = Verifiers::start(1).unwrap();
        assert!(verifiers.run(|_| panic!("as a test")).blocking_recv().is_err());
        assert_eq!(verifiers.run(|_| 7).blocking_recv(), Ok(7));
    }
}
