//! Reports of what was called and how that was answered: one shape, of which both are.

mod actions;
pub mod cli;
mod csv;
pub mod http;
mod model;
mod store;
mod view;
