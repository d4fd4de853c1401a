//! What happens when, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual time, in microseconds since the run began.
pub(super) type Time = u64;

pub(super) const MILLISECOND: Time = 1000;
pub(super) const SECOND: Time = 1000 * MILLISECOND;

/// Which of two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Client,
    Server,
}

/// Something that happens to one part of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// Bytes or an end of a connection arrive.
    Arrive { socket: u64, at: Side },
    /// Nothing was heard of a connection for so long that its ends give it up.
    TimeOut { socket: u64 },
    /// The server's task of a connection runs.
    Serve { socket: u64 },
    /// Half a heartbeat has passed on a connection.
    Beat { socket: u64 },
    /// The committer of a front takes what waits.
    Commit { front: usize },
    /// The engine has synced a batch, or tried to.
    Synced { batch: u64 },
    /// A front starts.
    Start { front: usize, incarnation: u64 },
    /// A client's task runs.
    Client { client: usize },
    /// The next fault.
    Fault,
    /// What has gone wrong for a while is well again.
    Heal { fault: u64 },
}

/// What happens when. What is due at the same time happens in the order in which it was put down.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    now: Time,
    put_down: u64,
    due: BinaryHeap<Reverse<(Time, u64, Event)>>,
}

impl Agenda {
    /// What time it is.
    pub(super) const fn now(&self) -> Time {
        self.now
    }

    /// Has something happen so much later.
    pub(super) fn after(&mut self, delay: Time, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Has something happen then, or now where that is over.
    pub(super) fn at(&mut self, time: Time, event: Event) {
        self.due.push(Reverse((time.max(self.now), self.put_down, event)));
        self.put_down += 1;
    }

    /// What happens next; the time is then when it does.
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
    fn things_happen_in_their_order_and_time_never_goes_back() {
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
