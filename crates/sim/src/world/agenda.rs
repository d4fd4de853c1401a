//! The event queue of the simulation, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual time, in microseconds since the start of the run.
pub(super) type Time = u64;

pub(super) const MILLISECOND: Time = 1000;
pub(super) const SECOND: Time = 1000 * MILLISECOND;

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Client,
    Server,
}

/// An event in one part of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// Bytes or the end of the stream arrive at one end of a connection.
    Arrive { socket: u64, at: Side },
    /// Both ends give up a connection that has been silent for too long.
    TimeOut { socket: u64 },
    /// The server's task of a connection runs.
    Serve { socket: u64 },
    /// Half a heartbeat has passed on a connection.
    Beat { socket: u64 },
    /// The committer of a front takes the waiting transactions.
    Commit { front: usize },
    /// The sync of a batch has ended, successfully or not.
    Synced { batch: u64 },
    /// A front starts.
    Start { front: usize, incarnation: u64 },
    /// A client's task runs.
    Client { client: usize },
    /// The next fault happens.
    Fault,
    /// A fault ends.
    Heal { fault: u64 },
}

/// The scheduled events. Events at the same time happen in the order in which they were scheduled.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    now: Time,
    put_down: u64,
    due: BinaryHeap<Reverse<(Time, u64, Event)>>,
}

impl Agenda {
    /// Returns the current time.
    pub(super) const fn now(&self) -> Time {
        self.now
    }

    /// Schedules an event after a delay.
    pub(super) fn after(&mut self, delay: Time, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Schedules an event at a time, or now if that time has passed.
    pub(super) fn at(&mut self, time: Time, event: Event) {
        self.due.push(Reverse((time.max(self.now), self.put_down, event)));
        self.put_down += 1;
    }

    /// Removes the next event, and advances the time to it.
    pub(super) fn next(&mut self) -> Option<Event> {
        let Reverse((time, _, event)) = self.due.pop()?;
        self.now = time;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_happen_in_order_and_time_never_goes_back() {
        let mut agenda = Agenda::default();
        agenda.after(20, Event::Serve { socket: 1 });
        agenda.after(10, Event::Serve { socket: 9 });
        agenda.after(10, Event::Serve { socket: 2 });
        let mut next = || agenda.next().map(|event| (agenda.now(), event));
        assert_eq!(next(), Some((10, Event::Serve { socket: 9 })));
        assert_eq!(next(), Some((10, Event::Serve { socket: 2 })));
        agenda.at(5, Event::Fault);
        let mut next = || agenda.next().map(|event| (agenda.now(), event));
        assert_eq!(next(), Some((10, Event::Fault)));
        assert_eq!(next(), Some((20, Event::Serve { socket: 1 })));
        assert_eq!(next(), None);
    }
}
