//! Who may ask for grants and leases: gateways and their tokens, and what is known of the
//! Envoys behind them.
//!
//! A gateway is added with [`add`], which shows its token once; the token opens `/gateway/v1`
//! ([`FromGateway`]). Two tokens may be live, so that one can be exchanged without a gap.

mod actions;
pub mod cli;
mod http;
mod model;
mod sightings;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{GatewayError, Issued, Stranger, add, after_restore, overview, own, revoke, rotate};
pub use http::{FromGateway, routes};
pub use model::{Envoy, Gateway, GatewayToken, MAX_LIVE_TOKENS, Sighting};
pub use sightings::{Sightings, note_waiting, see};
pub use store::{Seen, seen_since};
