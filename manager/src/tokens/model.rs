//! A token on record, and what its text claims.

use gate::id::GroupId;
use gate::time::UnixMillis;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};

use super::keys::{KeySet, SigningKey};
use crate::clients::token_settings::GrantType;
use crate::openapi::schema::schema_of;

/// What the id of a token begins with.
const ID_PREFIX: &str = "tk_";
/// What digiRunner names in every token.
pub const NODE: &str = "executor1";
/// Whom digiRunner's tokens are for: `adminAPI` in Base64.
const AUDIENCE: &str = "YWRtaW5BUEk";

/// A new id.
pub fn new_id(random: &crate::clock::Random) -> String {
    random.id(ID_PREFIX.trim_end_matches('_'))
}

/// Whether an id is that of a token.
pub fn is_token(id: &str) -> bool {
    id.starts_with(ID_PREFIX)
}

/// For whom a token was issued besides the client: a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// By which the person signs in.
    pub name: String,
    /// Claimed as `authorities`.
    pub authorities: Vec<String>,
    /// None: not one that is kept here.
    pub account: Option<Account>,
}

/// A user's account, as it was before the user was known: what is issued to it ends when its epoch does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: String,
    /// `users.token_epoch`.
    pub epoch: i64,
}

/// An access token as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its `jti`, and the id of the credential.
    pub id: String,
    /// Lower-case hex of its text.
    pub sha256: String,
    /// Whose.
    pub client: String,
    /// The resource owner.
    pub user: Option<String>,
    /// The resource owner's account.
    pub account: Option<Account>,
    /// How it was obtained.
    pub grant: GrantType,
    /// The client's groups when it was issued.
    pub scope: Vec<GroupId>,
    /// The key that signed it.
    pub kid: String,
    /// The refresh token that belongs to it.
    pub family: Option<String>,
    /// When.
    pub issued_at: UnixMillis,
    /// Last instant.
    pub expires_at: UnixMillis,
    /// Calls at most; 0 = unlimited.
    pub uses: u32,
    /// When it was ended, and why.
    pub ended: Option<(UnixMillis, Ending)>,
}

/// Why a token ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client or an operator has revoked it.
    Revocation,
    /// Another one took its place.
    Refresh,
    /// Its refresh token was presented once more after it had been used.
    Reuse,
    /// What its user had allowed the client was taken back.
    Consent,
    /// Its user was stopped, or proves itself otherwise from then on.
    SignOut,
    /// The key that signed it was withdrawn.
    Key,
}

schema_of! { Ending as TokenEnding: one_of(Ending::ALL.map(Ending::as_str)) }

impl Ending {
    const ALL: [Self; 6] =
        [Self::Revocation, Self::Refresh, Self::Reuse, Self::Consent, Self::SignOut, Self::Key];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revocation => "revocation",
            Self::Refresh => "refresh",
            Self::Reuse => "reuse",
            Self::Consent => "consent_withdrawn",
            Self::SignOut => "user_signed_out",
            Self::Key => "key_withdrawn",
        }
    }

    /// What [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ending| ending.as_str() == text)
    }
}

/// A scope as it is told: separated by blanks.
pub fn scope_text(scope: &[GroupId]) -> String {
    scope.iter().map(GroupId::as_str).collect::<Vec<_>>().join(" ")
}

/// What [`scope_text`] wrote.
pub fn parse_scope(text: &str) -> Vec<GroupId> {
    text.split_ascii_whitespace().map(GroupId::from).collect()
}

/// What digiRunner's second form says of every token, beside the groups.
const SECOND_FORM_SCOPES: [&str; 3] = ["profile", "email", "system/*.cruds"];
/// Whom its second form is for.
const SECOND_FORM_AUDIENCE: &str = "digiRunner";
/// By what it is known.
const SECOND_FORM_VERSION: &str = "2.0";

/// Which of digiRunner's two forms a token has: that of `/oauth/token`, or that of `/oauth/v2/token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Of every grant.
    First,
    /// Of `client_credentials` alone.
    Second,
}

/// What the text of a token says. The members are digiRunner's, in its order; `iss` is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Of the second form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ver: Option<String>,
    /// Of the second form: the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Always [`NODE`].
    pub node: String,
    /// For whom.
    pub aud: Vec<String>,
    /// The resource owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The resource owner's organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// Group ids.
    pub scope: Vec<String>,
    /// When it was issued, in ms.
    pub stime: i64,
    /// The same in seconds.
    pub iat: i64,
    /// From when on it serves no more, in seconds.
    pub exp: i64,
    /// The owner's, or `client`.
    pub authorities: Vec<String>,
    /// Its id.
    pub jti: String,
    /// Of a refresh token: the access token that it was handed out with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ati: Option<String>,
    /// Whose.
    pub client_id: String,
    /// Who has issued it.
    pub iss: String,
}

impl Claims {
    /// Of a token that is issued now and serves for so many seconds.
    pub fn new(issuer: &str, client: &str, owner: Option<&Owner>, now: UnixMillis, seconds: u64) -> Self {
        let iat = now.0.div_euclid(1_000);
        Self {
            ver: None,
            sub: None,
            node: NODE.into(),
            aud: vec![AUDIENCE.into()],
            user_name: owner.map(|owner| owner.name.clone()),
            org_id: None,
            scope: Vec::new(),
            stime: now.0,
            iat,
            exp: iat.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)),
            authorities: owner.map_or_else(|| vec!["client".into()], |owner| owner.authorities.clone()),
            jti: String::new(),
            ati: None,
            client_id: client.into(),
            iss: issuer.into(),
        }
    }

    /// The same in that form.
    pub fn in_form(mut self, form: Form) -> Self {
        match form {
            Form::First => self,
            Form::Second => {
                self.scope.extend(SECOND_FORM_SCOPES.map(str::to_owned));
                Self {
                    ver: Some(SECOND_FORM_VERSION.into()),
                    sub: Some(self.client_id.clone()),
                    aud: vec![SECOND_FORM_AUDIENCE.into()],
                    ..self
                }
            }
        }
    }

    /// Its last instant.
    pub fn last_instant(&self) -> UnixMillis {
        last_instant(self.exp)
    }
}

/// Before that second.
pub fn last_instant(exp: i64) -> UnixMillis {
    UnixMillis(exp.saturating_mul(1_000).saturating_sub(1))
}

/// RS256, the only algorithm that there is: what a header says otherwise is nobody's choice.
const ALGORITHM: Algorithm = Algorithm::RS256;
/// What a header says that the text is.
const TYPE: &str = "JWT";

/// The text of a token: a JWS in its compact form. None: the key cannot sign.
pub fn signed(key: &SigningKey, claims: &Claims) -> Option<String> {
    let header = Header { typ: Some(TYPE.into()), kid: Some(key.kid.clone()), ..Header::new(ALGORITHM) };
    jsonwebtoken::encode(&header, claims, key.encoding()).ok()
}

/// What a text claims that one of these keys has signed; None: none has. When it ends is not asked: the library has
/// a clock of its own.
pub fn verified(keys: &KeySet, text: &str) -> Option<Claims> {
    let header = jsonwebtoken::decode_header(text).ok()?;
    // We sign no extension (RFC 7515, section 4.1.11), and nothing of another type.
    if header.crit.is_some() || header.typ.as_deref() != Some(TYPE) {
        return None;
    }
    let key = keys.by_kid(header.kid.as_deref()?)?;
    let mut validation = Validation::new(ALGORITHM);
    validation.validate_exp = false;
    validation.leeway = 0;
    validation.set_audience(&[AUDIENCE, SECOND_FORM_AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "aud", "iss"]);
    let token = jsonwebtoken::decode::<Claims>(text, key.decoding(), &validation).ok()?;
    Some(token.claims)
}

#[cfg(test)]
mod unit {
    use std::sync::Arc;

    use super::*;
    use crate::tokens::keys::key_for_tests;

    #[test]
    fn a_header_that_is_not_ours_is_not_read() {
        let key = Arc::new(key_for_tests("kid_1"));
        let keys = KeySet(vec![key.clone()]);
        let claims = Claims::new("https://keys.example", "acme", None, UnixMillis(0), 60);
        let text = signed(&key, &claims).expect("signed");
        // Its time was over long ago: told apart elsewhere, by our own clock.
        assert_eq!(verified(&keys, &text), Some(claims.clone()));
        assert_eq!(verified(&KeySet::default(), &text), None);
        let second = claims.clone().in_form(Form::Second);
        let second_text = signed(&key, &second).expect("signed");
        assert_eq!(verified(&keys, &second_text), Some(second));
        let with = |header: Header, claims: &Claims| {
            jsonwebtoken::encode(&header, claims, key.encoding()).expect("signed")
        };
        let ours = || Header { kid: Some("kid_1".into()), ..Header::new(ALGORITHM) };
        assert_eq!(verified(&keys, &with(ours(), &claims)), Some(claims.clone()));
        for (what, header) in [
            ("no type", Header { typ: None, ..ours() }),
            ("another type", Header { typ: Some("at+jwt".into()), ..ours() }),
            ("an extension", Header { crit: Some(vec!["exp".into()]), ..ours() }),
            ("no key", Header { kid: None, ..ours() }),
            ("another key", Header { kid: Some("kid_2".into()), ..ours() }),
        ] {
            let other = Claims { jti: what.into(), ..claims.clone() };
            let encoded = with(header, &other);
            assert_eq!(verified(&keys, &encoded), None, "{what}");
        }
        let (head, rest) = text.split_once('.').expect("parts");
        let other = head.replacen("JhbGciOiJSUzI1NiI", "JhbGciOiJSUzUxMiI", 1);
        assert_ne!(head, other);
        assert_eq!(verified(&keys, &format!("{other}.{rest}")), None, "another algorithm");
        let of_others = Claims { aud: vec!["another".into()], ..claims };
        assert_eq!(verified(&keys, &with(ours(), &of_others)), None, "for another audience");
    }
}
