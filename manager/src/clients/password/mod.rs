//! A client's password: set by an operator, mailed anew when it was forgotten, checked wherever a
//! password is presented, changed by the client itself. Too many wrong ones close password
//! credentials, and those alone: a stranger who knows a client id must not stop its keys.

mod actions;
mod http;
mod model;
#[cfg(test)]
mod tests;

pub use actions::{
    NewPassword, PasswordCheck, SecretRefusal, SignIn, check_password, check_secret, sign_in, still_right,
    with_mark,
};
pub(super) use http::routes;
pub(super) use model::Purpose;
pub use model::{PasswordHash, PasswordMark, Verified};
