//! Clocks that start anywhere and run at their own rate.

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
}
