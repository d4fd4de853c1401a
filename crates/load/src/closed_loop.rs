//! So many requests in flight, each answer checked and measured: the same loop for every server.

use crate::{Answer, Error, Event, Link, Measured, Request, Slot};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// How fast a connection asks, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many requests are in flight, at the most.
    pub depth: u16,
    /// No two requests are sent within this time.
    pub pause: Option<Duration>,
    /// When the last request is sent.
    pub until: Instant,
}

/// What a connection asks, and what it has to be answered.
pub trait Work {
    /// The next request, and the key that it is about; `None` ends the work.
    fn next(&mut self) -> Option<(usize, Request)>;

    /// Looks at the answer to a request about a key.
    ///
    /// # Errors
    /// Where it is wrong.
    fn check(&mut self, key: usize, answer: &Answer) -> Result<(), Error>;
}

/// The requests in flight: when each was sent, and about which key.
struct InFlight {
    sent: Vec<Option<(Instant, usize)>>,
    free: Vec<Slot>,
}

impl InFlight {
    fn new(depth: u16) -> Self {
        let depth = depth.max(1);
        Self { sent: vec![None; depth.into()], free: (0..depth).rev().map(Slot).collect() }
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.sent.len()
    }

    fn begin(&mut self, now: Instant, key: usize) -> Option<Slot> {
        let slot = self.free.pop()?;
        *self.sent.get_mut(usize::from(slot.0))? = Some((now, key));
        Some(slot)
    }

    fn end(&mut self, slot: Slot) -> Result<(Instant, usize), Error> {
        match self.sent.get_mut(usize::from(slot.0)).and_then(Option::take) {
            Some(sent) => {
                self.free.push(slot);
                Ok(sent)
            }
            None => Err(Error::unexpected("the answer to a request", format!("one to what was not asked: {slot:?}"))),
        }
    }
}

/// Keeps requests in flight until a time, or until there is no more work; then waits for the last answers.
///
/// # Errors
/// Where the connection is over, or an answer is wrong.
pub async fn closed_loop(link: &mut Link, pace: Pace, work: &mut impl Work) -> Result<Measured, Error> {
    let mut measured = Measured::new()?;
    let mut in_flight = InFlight::new(pace.depth);
    let mut now = Instant::now();
    let mut due = now;
    let mut is_over = false;
    loop {
        while !is_over && now >= due && !in_flight.free.is_empty() {
            let Some((key, request)) = (now < pace.until).then(|| work.next()).flatten() else {
                is_over = true;
                break;
            };
            let Some(slot) = in_flight.begin(now, key) else { break };
            link.send(slot, &request)?;
            if let Some(pause) = pace.pause {
                due += pause;
            }
        }
        if is_over && in_flight.is_empty() {
            return Ok(measured);
        }
        if due > now && !is_over {
            // Cut short where it is time for the next one.
            timeout_at(due.into(), link.turn()).await.unwrap_or(Ok(()))?;
        } else {
            link.turn().await?;
        }
        // Once for all that has come together.
        now = Instant::now();
        while let Some(event) = link.next()? {
            match event {
                Event::Answer(slot, answer) => {
                    let (sent, key) = in_flight.end(slot)?;
                    measured.record(now.duration_since(sent));
                    work.check(key, &answer)?;
                }
                Event::Change { .. } => measured.broadcasts += 1,
                Event::Ready | Event::Nothing => {}
            }
        }
    }
}
