//! Forms: to obtain a key (`KA`), to change one (`KU`), to revoke one (`KR`), and their way
//! through the levels of approval.

pub mod form;
pub mod model;
pub mod number;
pub mod store;
