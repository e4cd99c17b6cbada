//! manager
pub mod applications;
pub mod approvals;
