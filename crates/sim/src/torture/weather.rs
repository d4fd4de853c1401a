//! What befalls a connection, and how often.

use crate::Random;
use crate::history::Direction;
use std::time::Duration;

/// How it is for a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weather {
    /// From the client to the server.
    pub(super) up: Way,
    /// From the server to the client.
    pub(super) down: Way,
    /// It is to be cut.
    pub(super) end: Option<End>,
}

/// How it is one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// All goes through at once.
    #[default]
    Clear,
    /// So many bytes at once, with a pause before.
    Slow { pause: Duration, at_once: usize },
    /// Nothing is read.
    Stalled,
    /// All is taken, and nothing comes out.
    Lost,
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As if the peer had ended it.
    Close,
    /// As if the peer did not know of it.
    Reset,
}

/// What will befall a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forecast {
    /// For those who count it.
    pub(super) name: &'static str,
    pub(super) after: Duration,
    pub(super) weather: Weather,
    pub(super) lasts: Duration,
    /// Whether it is cut then.
    pub(super) then: Option<End>,
}

impl Weather {
    pub(super) const fn way(&self, direction: Direction) -> Way {
        match direction {
            Direction::Sent => self.up,
            Direction::Received => self.down,
        }
    }

    /// From now on all is fair; but where something was lost, the connection is too.
    pub(super) fn clear_up(&mut self) {
        if self.up == Way::Lost || self.down == Way::Lost {
            self.end = self.end.or(Some(End::Reset));
        }
        (self.up, self.down) = (Way::Clear, Way::Clear);
    }
}

impl Way {
    pub(super) const fn at_once(self) -> usize {
        match self {
            Self::Slow { at_once, .. } => at_once,
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
pub(super) fn forecast(random: &mut Random) -> Forecast {
    let millis = |random: &mut Random, least, most| Duration::from_millis(random.spread(least, most));
    let after = millis(random, 100, 10_000);
    let either = |random: &mut Random, way| match random.below(3) {
        0 => Weather { up: way, ..Weather::default() },
        1 => Weather { down: way, ..Weather::default() },
        _ => Weather { up: way, down: way, end: None },
    };
    let end = |random: &mut Random| Some(if random.chance(50) { End::Close } else { End::Reset });
    let (name, weather, lasts, then) = match random.weighted(&[30, 15, 15, 15, 10, 15]) {
        0 => {
            let way = Way::Slow { pause: millis(random, 1, 50), at_once: usize::MAX };
            ("connections delayed", either(random, way), millis(random, 200, 3000), None)
        }
        1 => {
            let way = Way::Slow { pause: millis(random, 1, 10), at_once: 400 };
            ("connections trickled", either(random, way), millis(random, 200, 2000), None)
        }
        2 => ("connections stalled", either(random, Way::Stalled), millis(random, 100, 3000), None),
        3 => ("connections half open", either(random, Way::Lost), millis(random, 300, 3000), Some(End::Reset)),
        4 => ("connections cut", Weather::default(), Duration::ZERO, end(random)),
        _ => {
            // Few bytes at once, so that it is likely to be within a frame.
            let way = Way::Slow { pause: Duration::from_millis(2), at_once: 7 };
            ("connections cut", either(random, way), millis(random, 20, 200), end(random))
        }
    };
    Forecast { name, after, weather, lasts, then }
}
