//! Which API a request means, explained: what gates would choose, by the code with which they choose
//! it, and what nearly fits.

mod actions;
pub mod cli;
mod http;
mod model;
#[cfg(test)]
mod tests;

pub(super) use http::routes;
