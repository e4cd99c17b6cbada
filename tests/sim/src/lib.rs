//! Simulation of the lease protocol: nodes of several workers against real issuers, over a
//! network that loses, repeats, delays and reorders, with clocks that run at different rates,
//! crashes, VM traps, partitions, windows that turn and limits that change.
//!
//! Everything is drawn from one seed, so that a failure is a line of text ([`case`]). What is
//! played is the product's: the halves of the protocol ([`gate::quota`]) in [`world`], the whole
//! gate ([`gate::gate`]) in [`fleet`]. This crate is what surrounds them, and a [`reference`](mod@reference)
//! that keeps its own books and compares them after every event. [`faults`] breaks the
//! surroundings on purpose: each fault must be noticed, or the checks check nothing.
//!
//! ```text
//! case ─► scenario ─┬─► world ─► node ─ shared ─► gate::quota::holder
//!                   │     └───► ledger ─────────► gate::quota::issuer
//!                   └─► fleet ─► process ─ shared ─► gate::gate::Gate
//!                         └───► managers ─► ledger
//! ```

pub mod case;
pub mod clock;
pub mod faults;
pub mod fleet;
pub mod ledger;
pub mod node;
pub mod reference;
pub mod rng;
pub mod scenario;
pub mod seeds;
pub mod world;
