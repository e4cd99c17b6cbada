//! Which tokens a client may obtain: by which grants, how long and how often they serve, and
//! where a browser may be sent back to. What is set here counts for tokens issued from then on.
//! `client_credentials` also decides whether the client may present its password to APIs (Basic).

mod actions;
mod form;
mod http;
mod model;
mod redirect_url;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{TokenSettingsError, set_in};
pub use form::{TokenSettingsForm, TokenTermsForm};
pub use http::routes;
pub use model::{GrantType, TokenSettings, TokenSettingsFault, TokenTerms, Unit, Validity};
pub use redirect_url::RedirectUrl;
pub use store::{Saved, of_client};
