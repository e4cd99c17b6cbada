//! Schemas of types of `gate`, which knows nothing of OpenAPI: `#[schema(value_type = wire::Audience)]`.
//! The names are those that serde writes, and the compiler finds a variant that is missing here.

use gate::request::CredentialKind as Kind;
use gate::wire::{directory, exchange};
use serde::Serialize;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::schema;

/// From where calls may come: [`directory::Audience`].
pub enum Audience {}

/// A kind of credential: [`gate::request::CredentialKind`].
pub enum CredentialKind {}

/// State of a client: [`exchange::ClientStatus`].
pub enum ClientStatus {}

impl PartialSchema for Audience {
    fn schema() -> RefOr<Schema> {
        use directory::Audience::{Both, External, Internal};
        let _whole = |audience| match audience {
            Both | Internal | External => {}
        };
        names(&[Both, Internal, External])
    }
}

impl PartialSchema for CredentialKind {
    fn schema() -> RefOr<Schema> {
        use Kind::{Basic, Bearer, Dgrk, XApiKey};
        let _whole = |kind| match kind {
            Dgrk | XApiKey | Bearer | Basic => {}
        };
        names(&[Dgrk, XApiKey, Bearer, Basic])
    }
}

impl PartialSchema for ClientStatus {
    fn schema() -> RefOr<Schema> {
        use exchange::ClientStatus::{Active, Disabled, Locked};
        let _whole = |status| match status {
            Active | Disabled | Locked => {}
        };
        names(&[Active, Disabled, Locked])
    }
}

impl ToSchema for Audience {}
impl ToSchema for CredentialKind {}
impl ToSchema for ClientStatus {}

/// The texts that serde writes for these.
fn names<T: Serialize>(values: &[T]) -> RefOr<Schema> {
    let names: Vec<_> = values.iter().filter_map(|value| serde_json::to_value(value).ok()).collect();
    schema::one_of(names.iter().filter_map(|name| name.as_str())).into()
}
