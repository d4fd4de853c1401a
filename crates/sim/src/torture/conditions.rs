//! The network conditions of a connection, and the faults that change them.

use crate::Random;
use crate::history::Direction;
use std::time::Duration;

/// The conditions of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    /// From the client to the server.
    pub(super) up: Impairment,
    /// From the server to the client.
    pub(super) down: Impairment,
    /// How the connection must be cut, if it must.
    pub(super) cut: Option<Cut>,
}

/// What impairs one direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Impairment {
    /// Nothing: bytes pass at once.
    #[default]
    None,
    /// A pause before each chunk of at most so many bytes.
    Slow { pause: Duration, chunk: usize },
    /// The proxy does not read.
    Stalled,
    /// The proxy reads and discards all bytes.
    Blackhole,
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// By a close.
    Close,
    /// By a reset.
    Reset,
}

/// A fault that a connection will have.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedFault {
    /// The name of its count.
    pub(super) name: &'static str,
    pub(super) after: Duration,
    pub(super) conditions: Conditions,
    pub(super) duration: Duration,
    /// Whether and how the connection is cut afterwards.
    pub(super) then: Option<Cut>,
}

impl Conditions {
    /// Returns the impairment of one direction.
    pub(super) const fn impairment(&self, direction: Direction) -> Impairment {
        match direction {
            Direction::Sent => self.up,
            Direction::Received => self.down,
        }
    }

    /// Ends all impairments. A connection that has lost bytes is reset.
    pub(super) fn heal(&mut self) {
        if self.up == Impairment::Blackhole || self.down == Impairment::Blackhole {
            self.cut = self.cut.or(Some(Cut::Reset));
        }
        (self.up, self.down) = (Impairment::None, Impairment::None);
    }
}

impl Impairment {
    /// Returns the maximum of bytes to write at once.
    pub(super) const fn chunk(self) -> usize {
        match self {
            Self::Slow { chunk, .. } => chunk,
            _ => usize::MAX,
        }
    }

    /// Returns the pause before each write.
    pub(super) const fn pause(self) -> Option<Duration> {
        match self {
            Self::Slow { pause, .. } => Some(pause),
            _ => None,
        }
    }
}

/// Returns a random fault.
pub(super) fn next_fault(random: &mut Random) -> PlannedFault {
    let millis = |random: &mut Random, least, most| Duration::from_millis(random.spread(least, most));
    let after = millis(random, 100, 10_000);
    let either = |random: &mut Random, impairment| match random.below(3) {
        0 => Conditions { up: impairment, ..Conditions::default() },
        1 => Conditions { down: impairment, ..Conditions::default() },
        _ => Conditions { up: impairment, down: impairment, cut: None },
    };
    let end = |random: &mut Random| Some(if random.chance(50) { Cut::Close } else { Cut::Reset });
    let (name, conditions, duration, then) = match random.weighted(&[30, 15, 15, 15, 10, 15]) {
        0 => {
            let impairment = Impairment::Slow { pause: millis(random, 1, 50), chunk: usize::MAX };
            ("connections delayed", either(random, impairment), millis(random, 200, 3000), None)
        }
        1 => {
            let impairment = Impairment::Slow { pause: millis(random, 1, 10), chunk: 400 };
            ("connections trickled", either(random, impairment), millis(random, 200, 2000), None)
        }
        2 => ("connections stalled", either(random, Impairment::Stalled), millis(random, 100, 3000), None),
        3 => (
            "connections half open",
            either(random, Impairment::Blackhole),
            millis(random, 300, 3000),
            Some(Cut::Reset),
        ),
        4 => ("connections cut", Conditions::default(), Duration::ZERO, end(random)),
        _ => {
            // Small chunks make a cut within a frame likely.
            let impairment = Impairment::Slow { pause: Duration::from_millis(2), chunk: 7 };
            ("connections cut", either(random, impairment), millis(random, 20, 200), end(random))
        }
    };
    PlannedFault { name, after, conditions, duration, then }
}
