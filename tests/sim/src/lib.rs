//! Simulation of the lease protocol: nodes of several workers against a real issuer, over a
//! network that loses, repeats, delays and reorders, with clocks that run at different rates,
//! crashes, VM traps, partitions, windows that turn and limits that change.
//!
//! Everything is drawn from one seed, so that a failure is a number. The halves of the protocol
//! are the product's ([`gate::quota`]); this crate is what surrounds them, and a [`reference`]
//! that keeps its own books and compares them after every event. [`faults`] breaks the
//! surroundings on purpose: each fault must be noticed, or the checks check nothing.
//!
//! ```text
//! scenario ─► world ─► node  ─ shared ─► gate::quota::holder
//!               │       │ calls (network)
//!               │       ▼
//!               └───► ledger ──────────► gate::quota::issuer
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
