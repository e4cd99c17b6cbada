//! Delegations: a reviewer hands the own signing to another operator for a while. The delegate needs
//! no role, signs on behalf of the reviewer alone, and cannot pass it on.

mod actions;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub(super) use http::routes;
pub(super) use store::begun;
