//! Quotas and rates: the shared record, and both halves of the lease protocol.
//!
//! Units of a meter are debited by the manager *before* they are handed out as a [lease], and
//! are spent by the node that holds it without asking anybody. So a limit is never exceeded,
//! whatever crashes, is lost, is repeated or is late (`docs/quotas.md`).
//!
//! - [`bucket`]: the record that the workers of a node share, and its bytes.
//! - [`holder`]: the node's half: spend, ask, install, give back.
//! - [`issuer`]: the manager's half: what one renewal does to the ledger.
//! - [`rate`]: requests per second.
//!
//! [lease]: bucket::Lease

pub mod bucket;
pub mod holder;
pub mod issuer;
pub mod rate;
