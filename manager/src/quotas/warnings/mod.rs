//! Which meters are so far used that somebody may be to be told, and what was told already.

mod store;

pub use store::{candidates, hold_all_of, meter_by_id, put_off, tell, told, unwatch, watch_all_of};
pub(super) use store::{forget, rearm, watch};

use super::model::Meter;
use super::store::Outstanding;

/// The least part of a limit, in percent, that somebody can be told of: meters below it are not watched.
pub const LEAST_PERCENT: u8 = 50;

impl Meter {
    /// Units that requests have taken, as far as is known: what is handed out without what gateways
    /// hold and can still spend or give back. Withheld units are among them, because nobody can use
    /// them any more.
    pub fn used(&self, out: Outstanding) -> u64 {
        self.debited.saturating_sub(out.leased)
    }

    /// Whether `units` are so many percent of the limit.
    pub fn reaches(&self, units: u64, percent: u8) -> bool {
        u128::from(units) * 100 >= u128::from(self.in_force()) * u128::from(percent)
    }
}
