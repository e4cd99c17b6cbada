//! keygate
fn main() {}
