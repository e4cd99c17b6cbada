//! APIs from an OpenAPI 3 document: each operation becomes one API of a module.
//!
//! A document is read (`document.rs`), its operations become planned APIs (`operations.rs`, with
//! `servers.rs`, `paths.rs` and `access.rs`), and these are compared with what the catalogue holds
//! (`plan.rs`). A dry run ends there and says so (`report.rs`); the real import does what the plan
//! says, in one transaction.
//!
//! The document owns name, description, hosts, method, path and labels of its APIs, and a repeated
//! import brings these up to date. What opens an API (accepted credentials, status, audience,
//! unsigned forms, groups) belongs to the operators: the import decides it for a new API alone,
//! unless an option names it.

mod access;
mod actions;
pub mod cli;
mod document;
mod http;
mod model;
mod operations;
mod paths;
mod plan;
mod report;
mod servers;
mod texts;

pub use http::routes;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
