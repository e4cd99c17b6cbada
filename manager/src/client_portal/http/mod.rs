//! `/client/v1`: what a client sees and does. Each file is a noun of it.

mod apis;
pub(super) mod applications;
mod keys;
mod meters;
mod profile;
mod tokens;
mod usage;
mod x_api_keys;

use super::{registrations, sessions};
use crate::http::Routes;

/// Everything that a client may call.
pub fn routes() -> Routes {
    sessions::routes()
        .merge(profile::routes())
        .merge(apis::routes())
        .merge(applications::routes())
        .merge(keys::routes())
        .merge(x_api_keys::routes())
        .merge(tokens::routes())
        .merge(meters::routes())
        .merge(usage::routes())
        .merge(registrations::routes())
}
