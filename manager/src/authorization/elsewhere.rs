//! Signing in at the OpenID provider, in the middle of a request.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::actions::{self, Asked, Failure, SignInProblem, Step};
use super::model::{Parameters, Pending};
use crate::app::App;
use crate::bearer;
use crate::caller_address::CallerAddress;
use crate::db::DbError;
use crate::identity_provider::{self, ProviderError, Started};
use crate::users::{self, IdentityCheck, UserStatus};

/// Where the provider sends the browser back to.
pub(super) const BACK: &str = "/oauth/authorize/openid";
/// For what it is sealed.
const PURPOSE: &str = "authorization.elsewhere";
/// Bytes that browsers keep in a cookie for certain, with its name (RFC 6265, section 6.1).
const MAX_KEPT: usize = 3_800;

/// What the browser keeps while it is there.
#[derive(Serialize, Deserialize)]
struct Kept {
    pending: Pending,
    started: Started,
}

/// Where the provider shall send browsers back to.
fn back(app: &App) -> String {
    format!("{}{BACK}", app.config.issuer())
}

/// The browser is sent there.
pub(super) async fn go(app: &App, asked: Asked) -> Result<Step, DbError> {
    let Some(metadata) = identity_provider::available(app).await else {
        return again(app, asked, SignInProblem::Elsewhere).await;
    };
    let (to, started) = identity_provider::begin(app, &metadata, &back(app), &asked.pending.tab);
    let kept = Kept { pending: asked.pending.clone(), started };
    let kept = Zeroizing::new(serde_json::to_vec(&kept).unwrap_or_default());
    let kept = app.vault.seal(PURPOSE, &kept);
    if kept.len() > MAX_KEPT {
        tracing::warn!("A request names more than a sign-in at the OpenID provider can take along");
        return again(app, asked, SignInProblem::Elsewhere).await;
    }
    Ok(Step::Elsewhere { to: to.into(), asked, kept })
}

/// The browser is back. `cookie_of` and `kept_of` are its cookies of a tab.
///
/// A stranger can come back as often as he likes with codes that he makes up, and each has the manager call
/// the provider: what it refuses counts like a wrong password.
pub(super) async fn come_back(
    app: &App,
    from: &CallerAddress,
    answer: &Parameters,
    cookie_of: impl Fn(&str) -> Option<String>,
    kept_of: impl Fn(&str) -> Option<String>,
) -> Result<Step, DbError> {
    let ended = Ok(Step::Failed(Failure::Ended));
    let (Some(state), None) = (answer.get("state"), answer.twice()) else { return ended };
    let tab = state.split('.').next().unwrap_or_default();
    let opened = kept_of(tab).and_then(|kept| app.vault.open(PURPOSE, &kept).ok());
    let kept: Option<Kept> = opened.and_then(|clear| serde_json::from_slice(&clear).ok());
    let (Some(Kept { pending, started }), Some(cookie)) = (kept, cookie_of(tab)) else { return ended };
    let same = bool::from(started.state.as_bytes().ct_eq(state.as_bytes()))
        && bearer::sha256_hex(&cookie) == pending.cookie_sha256;
    if !same || !pending.is_live(app.now()) {
        return ended;
    }
    let asked = Asked { pending, cookie: Zeroizing::new(cookie), client_name: String::new() };
    let Some(code) = answer.get("code") else {
        let error: String = answer.get("error").unwrap_or("no code").chars().take(60).collect();
        tracing::info!(
            error = error.escape_debug().to_string(),
            "The OpenID provider did not sign a user in"
        );
        return again(app, asked, SignInProblem::Elsewhere).await;
    };
    let tried = match app.wrong_passwords.begin(from, app.now()) {
        Ok(tried) => tried,
        Err(refusal) => return again(app, asked, SignInProblem::TooMany(refusal)).await,
    };
    let completed = identity_provider::complete(app, &started, &back(app), code, answer.get("iss")).await;
    if !completed.as_ref().is_err_and(ProviderError::is_of_the_caller) {
        tried.was_not_wrong();
    }
    let identity = match completed {
        Ok(identity) => identity,
        Err(ProviderError::Busy) => return again(app, asked, SignInProblem::Busy).await,
        Err(error) => {
            tracing::warn!(%error, "A sign-in at the OpenID provider came to nothing");
            return again(app, asked, SignInProblem::Elsewhere).await;
        }
    };
    match users::by_identity(app, &identity).await? {
        IdentityCheck::Known(user) => actions::signed_in(app, asked, user).await,
        IdentityCheck::Unknown => {
            tracing::info!("Somebody has signed in at the OpenID provider who is no user here");
            again(app, asked, SignInProblem::Unknown).await
        }
        IdentityCheck::Stopped(UserStatus::Locked) => again(app, asked, SignInProblem::Locked).await,
        IdentityCheck::Stopped(_) => again(app, asked, SignInProblem::Disabled).await,
    }
}

async fn again(app: &App, asked: Asked, problem: SignInProblem) -> Result<Step, DbError> {
    actions::ask_again(app, asked, problem).await
}
