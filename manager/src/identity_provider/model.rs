//! What a provider publishes, what it says of a user, and when it is believed.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use url::Url;

/// By how many seconds clocks may differ.
const LEEWAY_S: i64 = 60;
/// Characters of a subject at most (OpenID Connect Core, section 2).
pub const MAX_SUBJECT: usize = 255;

/// A provider's name for a user.
pub enum Subject {}

crate::openapi::schema::schema_of! { Subject as ProviderSubject: text(1, MAX_SUBJECT) }

/// What a provider publishes about itself (OpenID Connect Discovery, section 3).
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    /// Its name, to the letter.
    pub issuer: String,
    /// Where browsers are sent.
    pub authorization_endpoint: Url,
    /// Where codes are turned into ID tokens.
    pub token_endpoint: Url,
    /// Its keys.
    pub jwks_uri: Url,
    /// How this installation proves itself; absent: by Basic.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// Whether its answers tell who gives them (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// Who has signed in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// Its name for the user, which stays.
    pub subject: String,
    /// What the user would like to be called when signing in.
    pub preferred_name: Option<String>,
    /// For people.
    pub display_name: Option<String>,
    /// The address, if the provider has verified it.
    pub email: Option<String>,
}

/// Why a sign-in there came to nothing. For the log; the page says less.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// None is set.
    #[error("no provider is set (oidc_issuer)")]
    None,
    /// All that may be asked of it at once is being asked.
    #[error("too many calls to the provider are under way")]
    Busy,
    /// It cannot be asked.
    #[error("{what} of the provider cannot be read: {reason}")]
    Fetch {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// What it publishes cannot be used.
    #[error("the metadata of the provider cannot be used: {0}")]
    Metadata(String),
    /// It refuses.
    #[error("the provider answers {0}")]
    Refused(String),
    /// Its ID token is not believed.
    #[error("the ID token is not believed: {0}")]
    Token(&'static str),
}

impl ProviderError {
    /// Whether what the browser brought was wrong, rather than that the provider cannot be asked.
    pub fn is_of_the_caller(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Token(_) => true,
            Self::None | Self::Busy | Self::Fetch { .. } | Self::Metadata(_) => false,
        }
    }
}

impl Metadata {
    /// Err: it is another's, or would have secrets travel in clear.
    pub fn check(&self, issuer: &str) -> Result<(), ProviderError> {
        let wrong = |reason: String| Err(ProviderError::Metadata(reason));
        if self.issuer != issuer {
            return wrong(format!("it is that of {:?}, oidc_issuer is {issuer:?}", self.issuer));
        }
        for (name, url) in [
            ("authorization_endpoint", &self.authorization_endpoint),
            ("token_endpoint", &self.token_endpoint),
            ("jwks_uri", &self.jwks_uri),
        ] {
            if !crate::config::is_unreadable_on_the_way(url.as_str()) {
                return wrong(format!("{name} {url} is neither https nor of this machine"));
            }
        }
        Ok(())
    }

    /// Whether the secret goes into the body, because the provider does not take it in the header.
    pub fn secret_in_body(&self) -> bool {
        let methods = &self.token_endpoint_auth_methods_supported;
        let takes = |name: &str| methods.iter().any(|method| method == name);
        !takes("client_secret_basic") && takes("client_secret_post")
    }
}

/// For whom and for what an ID token must be.
pub struct Expected<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// This installation.
    pub client_id: &'a str,
    /// This sign-in.
    pub nonce: &'a str,
    /// UTC seconds.
    pub now_s: i64,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    #[serde(default)]
    azp: Option<String>,
    exp: i64,
    iat: i64,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    preferred_username: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    email_verified: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Who an ID token speaks of, if it is to be believed (OpenID Connect Core, section 3.1.3.7).
pub fn believed(unverified: &str, keys: &JwkSet, expected: &Expected<'_>) -> Result<Identity, ProviderError> {
    let doubt = |reason| Err(ProviderError::Token(reason));
    let Ok(header) = jsonwebtoken::decode_header(unverified) else {
        return doubt("it is no JWT signed by a known algorithm");
    };
    // The algorithm is ours to choose, and the key must be made for it: an HMAC over a public key, or
    // no signature at all, is nothing.
    if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
        return doubt("it is signed by neither RS256 nor ES256");
    }
    let Some(key) = key_for(keys, header.kid.as_deref(), header.alg) else {
        return doubt("no key of the provider is that of its header");
    };
    let Ok(key) = DecodingKey::from_jwk(key) else { return doubt("the key of its header cannot be used") };
    let mut validation = Validation::new(header.alg);
    // The claims are checked below, by the clock of this program.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let Ok(token) = jsonwebtoken::decode::<Claims>(unverified, &key, &validation) else {
        return doubt("its signature is wrong, or a claim is missing");
    };
    let claims = token.claims;
    if claims.iss != expected.issuer {
        return doubt("iss is another issuer");
    }
    let (meant, several) = match &claims.aud {
        Audience::One(one) => (one == expected.client_id, false),
        Audience::Several(all) => (all.iter().any(|one| one == expected.client_id), all.len() > 1),
    };
    if !meant {
        return doubt("aud does not name this installation");
    }
    match claims.azp.as_deref() {
        Some(azp) if azp != expected.client_id => return doubt("azp is another party"),
        None if several => return doubt("aud names several, and azp none of them"),
        Some(_) | None => {}
    }
    if claims.exp.saturating_add(LEEWAY_S) <= expected.now_s {
        return doubt("exp is over");
    }
    let ahead = expected.now_s.saturating_add(LEEWAY_S);
    if claims.iat > ahead || claims.nbf.is_some_and(|nbf| nbf > ahead) {
        return doubt("iat or nbf is in the future");
    }
    if claims.nonce.as_deref() != Some(expected.nonce) {
        return doubt("nonce is that of another sign-in");
    }
    if claims.sub.is_empty() || claims.sub.chars().count() > MAX_SUBJECT {
        return doubt("sub is empty or too long");
    }
    let verified = match &claims.email_verified {
        Some(serde_json::Value::Bool(verified)) => *verified,
        Some(serde_json::Value::String(text)) => text == "true",
        Some(_) | None => false,
    };
    Ok(Identity {
        issuer: claims.iss,
        subject: claims.sub,
        preferred_name: claims.preferred_username,
        display_name: claims.name,
        email: claims.email.filter(|_| verified),
    })
}

/// Whether the set may hold the key, so that there is no need to ask again.
pub fn has_key_for(unverified: &str, keys: &JwkSet) -> bool {
    jsonwebtoken::decode_header(unverified)
        .is_ok_and(|header| key_for(keys, header.kid.as_deref(), header.alg).is_some())
}

/// The key of that id, or without an id the only one that fits.
fn key_for<'k>(keys: &'k JwkSet, kid: Option<&str>, algorithm: Algorithm) -> Option<&'k Jwk> {
    let fits = |key: &&Jwk| {
        let made = match (&key.algorithm, algorithm) {
            (AlgorithmParameters::RSA(_), Algorithm::RS256) => true,
            (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => {
                key.curve == jsonwebtoken::jwk::EllipticCurve::P256
            }
            _ => false,
        };
        let signs = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
        made && signs
    };
    let mut fitting = keys.keys.iter().filter(fits);
    match kid {
        Some(kid) => fitting.find(|key| key.common.key_id.as_deref() == Some(kid)),
        None => fitting.next().filter(|_| fitting.next().is_none()),
    }
}
