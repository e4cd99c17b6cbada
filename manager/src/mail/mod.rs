//! Mails: an outbox that a business action writes into within its own transaction, a worker that
//! sends, and the log of what became of each mail.
//!
//! A row holds the template's name and the sealed context, which are erased once a server has
//! accepted the mail or it was given up; the log keeps subject and text with secrets masked.
//! This capability knows no other one.

pub mod contexts;
pub mod model;
pub mod render;
pub mod settings;
pub mod transport;
