//! What a request presents, read from its headers.

use crate::credential::basic::Basic;
use crate::credential::bearer::UnverifiedToken;
use crate::credential::dgrk::Dgrk;
use crate::credential::x_api_key::XApiKey;
use crate::credential::{Scheme, basic, bearer, dgrk, x_api_key};
use crate::decide::decide_kind;
use crate::denial::Denial;
use crate::gate::presented::CacheKey;
use crate::request::{CredentialHeader, CredentialKind, RequestHead, credential_header};
use crate::wire::directory::ApiEntry;
use crate::wire::exchange::Presented;

/// What a request presents, parsed.
pub(super) enum Presentation<'h> {
    Dgrk(Dgrk<'h>),
    XApiKey(XApiKey<'h>),
    Bearer(UnverifiedToken<'h>),
    Basic(Basic),
}

impl Presentation<'_> {
    pub(super) fn kind(&self) -> CredentialKind {
        match self {
            Self::Dgrk(_) => CredentialKind::Dgrk,
            Self::XApiKey(_) => CredentialKind::XApiKey,
            Self::Bearer(_) => CredentialKind::Bearer,
            Self::Basic(_) => CredentialKind::Basic,
        }
    }

    pub(super) fn key(&self, password_key: &[u8; 32]) -> CacheKey {
        match self {
            Self::Dgrk(dgrk) => CacheKey::dgrk(dgrk.api_key),
            Self::XApiKey(key) => CacheKey::hashed(CredentialKind::XApiKey, key.fingerprint().0),
            Self::Bearer(token) => CacheKey::hashed(CredentialKind::Bearer, token.fingerprint().0),
            Self::Basic(basic) => CacheKey::hashed(CredentialKind::Basic, basic.fingerprint(password_key).0),
        }
    }

    pub(super) fn presented(&self) -> Presented {
        match self {
            Self::Dgrk(dgrk) => Presented::Dgrk { api_key: dgrk.api_key.into() },
            Self::XApiKey(key) => Presented::XApiKey { sha256: key.fingerprint().to_hex() },
            Self::Bearer(token) => Presented::Bearer { sha256: token.fingerprint().to_hex() },
            Self::Basic(basic) => {
                Presented::Basic { client: basic.id.clone(), password: basic.password.clone() }
            }
        }
    }
}

/// Reads the credential, and the name of the header it came in.
pub(super) fn present<'h>(
    head: &RequestHead<'h>,
    api: &ApiEntry,
) -> Result<(&'static str, Presentation<'h>), Denial> {
    let accepted = |kind| decide_kind(api, kind);
    let malformed = |kind| Denial::CredentialMalformed { kind: Some(kind) };
    match credential_header(head, api)? {
        CredentialHeader::Authorization(value) => {
            let presentation = match Scheme::of(value) {
                Scheme::Dgrk => {
                    accepted(CredentialKind::Dgrk)?;
                    let dgrk = dgrk::parse(value).map_err(|_| malformed(CredentialKind::Dgrk))?;
                    Presentation::Dgrk(dgrk)
                }
                Scheme::Bearer => {
                    accepted(CredentialKind::Bearer)?;
                    let token = bearer::parse(value).map_err(|_| malformed(CredentialKind::Bearer))?;
                    Presentation::Bearer(token)
                }
                Scheme::Basic => {
                    accepted(CredentialKind::Basic)?;
                    let basic = basic::parse(value).map_err(|_| malformed(CredentialKind::Basic))?;
                    Presentation::Basic(basic)
                }
                Scheme::Other => return Err(Denial::CredentialMalformed { kind: None }),
            };
            Ok(("authorization", presentation))
        }
        CredentialHeader::XApiKey(value) => {
            accepted(CredentialKind::XApiKey)?;
            let key = x_api_key::parse(value).map_err(|_| malformed(CredentialKind::XApiKey))?;
            Ok(("x-api-key", Presentation::XApiKey(key)))
        }
    }
}
