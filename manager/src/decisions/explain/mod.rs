//! What would be decided of a request that somebody describes, and what leads to it.
//!
//! The directory and the grant are those that a gate would be given; the functions that look at
//! them are the gate's own (`gate::directory`, `gate::decide`). What only a node knows (the rate of
//! this second, units it holds, how full it is) is said beside the verdict and no part of it.

mod actions;
mod http;
mod model;
#[cfg(test)]
mod tests;

pub(super) use actions::{credentials_of, explain};
pub use http::routes;
pub(super) use model::{Described, Explanation};
