//! Schemas of types of `gate`, which knows nothing of OpenAPI: `#[schema(value_type = wire::Audience)]`.
//! The names are those that serde writes, and the compiler finds a variant that is missing here.

use gate::request::CredentialKind as Kind;
use gate::wire::{directory, exchange};

use super::schema::schema_of;

/// From where calls may come: [`directory::Audience`].
pub enum Audience {}

/// A kind of credential: [`gate::request::CredentialKind`].
pub enum CredentialKind {}

/// State of a client: [`exchange::ClientStatus`].
pub enum ClientStatus {}

schema_of! { Audience: {
    use directory::Audience::{Both, External, Internal};
    let _whole = |audience| match audience {
        Both | Internal | External => {}
    };
    as_written([Both, Internal, External])
} }

schema_of! { CredentialKind: {
    use Kind::{Basic, Bearer, Dgrk, XApiKey};
    let _whole = |kind| match kind {
        Dgrk | XApiKey | Bearer | Basic => {}
    };
    as_written([Dgrk, XApiKey, Bearer, Basic])
} }

schema_of! { ClientStatus: {
    use exchange::ClientStatus::{Active, Disabled, Locked};
    let _whole = |status| match status {
        Active | Disabled | Locked => {}
    };
    as_written([Active, Disabled, Locked])
} }
