//! Codes: issued when a user has allowed it, turned into tokens once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gate::time::UnixMillis;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::model::Pending;
use super::store;
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::users::{self, User, UserStatus};
use crate::{audit, bearer};

/// How long a code serves.
pub const CODE_TTL_MS: i64 = 60_000;
/// How long it is remembered that there was one.
const REMEMBERED_MS: i64 = 86_400_000;
/// What the text of a code begins with.
const PREFIX: &str = "kgac";

/// A code as stored.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub id: String,
    pub client: String,
    pub user: String,
    pub redirect_uri: String,
    pub scope: Vec<String>,
    pub code_challenge: Option<String>,
    /// Of the user's tokens, at its issue.
    pub user_epoch: i64,
    pub created_at: UnixMillis,
    pub expires_at: UnixMillis,
}

/// What a code was turned into.
#[derive(Debug)]
pub struct Redeemed {
    /// `ac_…`: what comes of it is revoked when the code comes again.
    pub code: String,
    /// Who has allowed it, and is active.
    pub user: User,
    /// Ids of groups and scopes, fixed from now on.
    pub scope: Vec<String>,
}

/// What became of a code.
#[derive(Debug)]
pub enum Redemption {
    /// Tokens may be issued.
    Redeemed(Box<Redeemed>),
    /// No code of this client, or it ran out, or redirect URI or proof are not those it was issued
    /// for, or its user was switched off, or signed out: `invalid_grant`. It serves no more; commit that.
    Refused,
    /// It was used before, and comes with the redirect URI and the proof that it was issued for: what was
    /// issued for it is to be revoked, and `invalid_grant` answered (RFC 6749, section 4.1.2). Commit that.
    /// (A client without a password is anybody: who has read a used code, and nothing else, ends nobody's
    /// session by it.)
    Replayed {
        /// `ac_…`
        code: String,
    },
}

/// Issues a code. The last act of the transaction.
pub(super) async fn issue(
    conn: &mut Conn,
    app: &App,
    pending: &Pending,
    user: &User,
    now: UnixMillis,
) -> Result<Zeroizing<String>, DbError> {
    let text = bearer::draw(&app.random, PREFIX);
    let code = Code {
        id: app.random.id("ac"),
        client: pending.client.clone(),
        user: user.id.clone(),
        redirect_uri: pending.redirect_uri.clone(),
        scope: pending.scope.clone(),
        code_challenge: pending.code_challenge.clone(),
        // Who was signed out since the page has signed in gets a code that serves nothing.
        user_epoch: pending.user_epoch.unwrap_or_default(),
        created_at: now,
        expires_at: UnixMillis(now.0.saturating_add(CODE_TTL_MS)),
    };
    store::insert_code(conn, &code, &bearer::sha256_hex(&text)).await?;
    let entry = audit::Entry {
        actor: format!("user:{}", user.id),
        action: "authorization.issue_code",
        subject: format!("client:{}", code.client),
        detail: json!({ "code_id": code.id, "scope": code.scope, "redirect_uri": code.redirect_uri }),
    };
    audit::record(conn, entry, now).await?;
    Ok(text)
}

/// Uses a code up, within the transaction in which tokens are issued for it. `client` is the one that
/// presents it, authenticated.
pub async fn redeem(
    conn: &mut Conn,
    client: &str,
    unverified_code: &str,
    redirect_uri: &str,
    code_verifier: Option<&str>,
    now: UnixMillis,
) -> Result<Redemption, DbError> {
    let sha256 = bearer::sha256_hex(unverified_code);
    let Some(code) = store::use_code(conn, &sha256, client, now).await? else {
        let used = store::used_code(conn, &sha256, client).await?;
        return Ok(match used.filter(|code| code.is_proven(redirect_uri, code_verifier)) {
            Some(code) => Redemption::Replayed { code: code.id },
            None => Redemption::Refused,
        });
    };
    if !code.is_proven(redirect_uri, code_verifier) {
        return Ok(Redemption::Refused);
    }
    let Some(user) = users::find(conn, &code.user).await? else { return Ok(Redemption::Refused) };
    if user.status != UserStatus::Active || user.token_epoch != code.user_epoch {
        return Ok(Redemption::Refused);
    }
    Ok(Redemption::Redeemed(Box::new(Redeemed { code: code.id, user, scope: code.scope })))
}

/// Whether there is such a code of the client, used or not: for who would not have others wait for nothing.
pub async fn is_code(conn: &mut Conn, client: &str, unverified_code: &str) -> Result<bool, DbError> {
    store::is_code(conn, &bearer::sha256_hex(unverified_code), client).await
}

impl Code {
    fn is_proven(&self, redirect_uri: &str, code_verifier: Option<&str>) -> bool {
        self.redirect_uri == redirect_uri && proves(self.code_challenge.as_deref(), code_verifier)
    }
}

/// Before when codes ran out that are forgotten.
pub(super) fn forgotten_before(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(REMEMBERED_MS))
}

/// Whether the verifier is that of the challenge (RFC 7636, section 4.6). A verifier without a
/// challenge proves nothing: the request may have been another's (RFC 9700, section 2.1.1).
fn proves(challenge: Option<&str>, verifier: Option<&str>) -> bool {
    match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) => {
            let fits = (43..=128).contains(&verifier.len())
                && verifier.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
            let made = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
            fits && bool::from(made.as_bytes().ct_eq(challenge.as_bytes()))
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_verifier_proves_its_challenge_alone() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        for (challenge, verifier, right) in [
            (Some(challenge), Some(verifier), true),
            (Some(challenge), None, false),
            (None, Some(verifier), false),
            (None, None, true),
            (Some(challenge), Some(challenge), false),
            (Some(verifier), Some(verifier), false),
            (Some(challenge), Some("short"), false),
            (Some(challenge), Some(""), false),
        ] {
            assert_eq!(proves(challenge, verifier), right, "{challenge:?} {verifier:?}");
        }
    }
}
