//! The end of a client: everything that hangs on it ends with it, in one transaction, and what is
//! on record about it stays. It lies above the capabilities that hold what hangs on a client.

mod actions;
mod http;
#[cfg(test)]
mod tests;

pub use http::routes;
