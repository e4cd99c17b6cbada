//! The texts of mails: every template in every language, printed from a context; files of the
//! installation in their place (setting `mail_templates_dir`); previews with examples.

mod actions;
pub mod cli;
mod files;
mod http;
mod model;
mod render;
#[cfg(test)]
mod tests;
mod wrap;

pub use files::{Fault, check};
pub use http::routes;
pub use model::{Language, Template};
pub use render::{Rendered, render};
