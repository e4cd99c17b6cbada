//! Definitions: clients, users, APIs, groups, scopes and approval flows written in files, kept under
//! version control, and applied (`keygate apply`, `keygate export`).
//!
//! A file says what shall be; what it leaves out is not managed. Names are the identity: a client
//! is its id, an API its `module/id`, a group or scope its name, a flow its type. Everything is
//! done by the actions of the capabilities, in one transaction, as if somebody had made the calls.

mod actions;
pub mod cli;
mod document;
mod files;
mod http;
mod kinds;
mod model;
mod plan;
mod show;
mod taking;
#[cfg(test)]
mod tests;
mod tree;
mod work;

pub use http::routes;
