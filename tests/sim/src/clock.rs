//! Clocks that start anywhere and run at their own rate.

use gate::time::UnixMillis;

/// True time, in milliseconds since the simulation began.
pub type True = u64;

/// A clock: what it shows at a true time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What it shows at true time 0.
    pub offset_ms: u64,
    /// How much faster than true time it runs, in millionths; at most 1,000 either way, half of
    /// what the protocol allows between two clocks.
    pub ppm: i64,
}

impl Clock {
    /// What it shows.
    pub fn at(&self, now: True) -> u64 {
        let drift = now as i64 * self.ppm / 1_000_000;
        self.offset_ms.saturating_add_signed(now as i64 + drift)
    }

    /// What it shows, as a wall clock.
    pub fn unix(&self, now: True) -> UnixMillis {
        UnixMillis(self.at(now) as i64)
    }

    /// The first true time at which it shows `unix`, to the millisecond.
    pub fn when(&self, unix: UnixMillis) -> True {
        let shown = (unix.0 - self.offset_ms as i64).max(0);
        (shown - shown * self.ppm / 1_000_000) as True
    }
}
