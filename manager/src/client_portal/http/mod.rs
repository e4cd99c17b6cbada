//! `/client/v1`: what a client sees and does. Each file is a noun of it.

use super::sessions;
use crate::http::Routes;

/// Everything that a client may call.
pub fn routes() -> Routes {
    sessions::routes()
}
