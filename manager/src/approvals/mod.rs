//! Approval flows: for each kind of form, which levels sign it and which roles a level has.

pub mod model;

pub use model::{Flow, FlowFault, FormKind};
