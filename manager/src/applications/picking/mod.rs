//! What an applicant picks from: clients, and APIs for one. Slim answers: whoever may apply finds
//! what to name on a form, without the permission to see all there is about it.

mod http;
mod store;

pub(super) use http::routes;
