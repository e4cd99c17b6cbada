//! The gate: what stands between a request and an API, as pure values and one decision.
//!
//! No I/O, clock, randomness, async or logging lives here: time, random bytes and the shared
//! records are arguments. `filter` carries bytes between Envoy and this crate, `manager` answers
//! the questions that this crate asks.
//!
//! In reading order:
//! - [`wire`]: what filter and manager say to each other.
//! - [`directory`]: which API a request means.
//! - [`request`], [`credential`]: what a request is, what it presents, and how that is proven.
//! - [`decide`]: the only place that says yes or no, and [`denial`]: every way to say no.
//! - [`quota`]: leases, rates and the shared record they live in.
//! - [`shared`]: what the workers of one process share, as a compare-and-swap.
//! - [`json`]: how the filter reads what the manager answers.
#![no_std]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unreachable
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address;
pub mod credential;
pub mod decide;
pub mod denial;
pub mod directory;
pub mod gate;
pub mod grant;
pub mod id;
pub mod json;
pub mod quota;
pub mod request;
pub mod shared;
pub mod sorted;
pub mod time;
pub mod wire;
