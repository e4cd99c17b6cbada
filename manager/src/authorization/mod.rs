//! The authorization endpoint (RFC 6749, section 3.1): a user signs in on a page, allows a client to
//! act, and the browser brings the client a code, which it turns into tokens ([`redeem`]).
//!
//! What a browser is in the middle of stands sealed in the page's form, bound to a cookie: strangers
//! write no row, and any replica goes on.

mod actions;
mod codes;
pub mod consents;
mod elsewhere;
mod http;
mod model;
mod page;
mod store;
#[cfg(test)]
mod tests;

pub use codes::{Redeemed, Redemption, is_code, redeem};
pub use http::routes;

use crate::schedule::{BATCH, Every, Executors, forgotten};

/// Codes that ran out are forgotten, a day later: until then a second use of one is told apart.
pub fn executors(executors: &mut Executors) {
    executors.recurring("authorization.forget_codes", Every::Hour, |app, conn, task| {
        Box::pin(async move {
            let deleted = store::forget_codes(conn, codes::forgotten_before(app.now()), BATCH).await?;
            Ok(forgotten(task, deleted, BATCH, "authorization codes"))
        })
    });
}
