//! What befalls a connection, and how often.

use crate::Random;
use crate::history::Direction;
use std::time::Duration;

/// How it is for a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    /// From the client to the server.
    pub(super) up: Impairment,
    /// From the server to the client.
    pub(super) down: Impairment,
    /// It is to be cut.
    pub(super) cut: Option<Cut>,
}

/// How it is one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Impairment {
    /// All goes through at once.
    #[default]
    None,
    /// So many bytes at once, with a pause before.
    Slow { pause: Duration, chunk: usize },
    /// Nothing is read.
    Stalled,
    /// All is taken, and nothing comes out.
    Blackhole,
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// As if the peer had ended it.
    Close,
    /// As if the peer did not know of it.
    Reset,
}

/// What will befall a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedFault {
    /// For those who count it.
    pub(super) name: &'static str,
    pub(super) after: Duration,
    pub(super) conditions: Conditions,
    pub(super) lasts: Duration,
    /// Whether it is cut then.
    pub(super) then: Option<Cut>,
}

impl Conditions {
    pub(super) const fn impairment(&self, direction: Direction) -> Impairment {
        match direction {
            Direction::Sent => self.up,
            Direction::Received => self.down,
        }
    }

    /// From now on all is fair; but where something was lost, the connection is too.
    pub(super) fn heal(&mut self) {
        if self.up == Impairment::Blackhole || self.down == Impairment::Blackhole {
            self.cut = self.cut.or(Some(Cut::Reset));
        }
        (self.up, self.down) = (Impairment::None, Impairment::None);
    }
}

impl Impairment {
    pub(super) const fn chunk(self) -> usize {
        match self {
            Self::Slow { chunk, .. } => chunk,
            _ => usize::MAX,
        }
    }

    pub(super) const fn pause(self) -> Option<Duration> {
        match self {
            Self::Slow { pause, .. } => Some(pause),
            _ => None,
        }
    }
}

/// What befalls a connection next.
pub(super) fn next_fault(random: &mut Random) -> PlannedFault {
    let millis = |random: &mut Random, least, most| Duration::from_millis(random.spread(least, most));
    let after = millis(random, 100, 10_000);
    let either = |random: &mut Random, impairment| match random.below(3) {
        0 => Conditions { up: impairment, ..Conditions::default() },
        1 => Conditions { down: impairment, ..Conditions::default() },
        _ => Conditions { up: impairment, down: impairment, cut: None },
    };
    let end = |random: &mut Random| Some(if random.chance(50) { Cut::Close } else { Cut::Reset });
    let (name, conditions, lasts, then) = match random.weighted(&[30, 15, 15, 15, 10, 15]) {
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
            // Few bytes at once, so that it is likely to be within a frame.
            let impairment = Impairment::Slow { pause: Duration::from_millis(2), chunk: 7 };
            ("connections cut", either(random, impairment), millis(random, 20, 200), end(random))
        }
    };
    PlannedFault { name, after, conditions, lasts, then }
}
