//! Counted limits, exact over the whole fleet: meters, and the leases handed out from them.
//!
//! Owners (clients, keys, tokens) set a limit with [`set_limit`] in their own transaction;
//! gateways take units with [`renew`]. What a renewal does is decided by `gate::quota::issuer`;
//! here it is made durable, before it is told.

mod actions;
mod http;
mod ledger;
mod model;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod warnings;

pub use http::routes;
pub use ledger::{Step, announce, renew};
pub use model::{
    LeaseHorizon, LeaseTerms, Limit, MAX_LIMIT_UNITS, MaxLeasePercent, Meter, Period, Window, Zone,
};
pub use store::{Outstanding, hold, lift_limit, meter_of, outstanding, outstanding_in_all, reset, set_limit};
pub use view::LeasesView;
pub use warnings::{
    LEAST_PERCENT, candidates, hold_all_of, meter_by_id, put_off, tell, told, unwatch, watch_all_of,
};
