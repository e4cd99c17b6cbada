//! What a browser is led through: the request, the sign-in, the decision, the code.

use gate::id::GroupId;
use gate::wire::exchange::ClientStatus;
use serde_json::json;
use zeroize::Zeroizing;

use super::model::{self, ErrorCode, MAX_STATE, Parameters, Pending, Refusal};
use super::{codes, store};
use crate::app::App;
use crate::caller_address::CallerAddress;
use crate::catalog::{self, GroupSummary};
use crate::clients::token_settings::{self, GrantType, TokenSettings};
use crate::clients::{self, Client, PasswordState};
use crate::db::{Conn, DbError};
use crate::users::{self, PasswordCheck, Spelling, User, UserStatus};
use crate::wrong_passwords::TooManyWrong;
use crate::{audit, bearer};

/// For what requests are sealed.
const PURPOSE: &str = "authorization.pending";

/// What the browser is shown or told next.
pub(super) enum Step {
    /// To sign in.
    SignIn {
        asked: Asked,
        /// What was typed before, and what was wrong with it.
        tried: Option<(String, SignInProblem)>,
    },
    /// To allow it or not.
    Consent { asked: Asked, user: Box<User>, scope: Vec<GroupSummary> },
    /// To go to the OpenID provider; what it comes back with is compared with the second cookie.
    Elsewhere { to: String, asked: Asked, kept: String },
    /// To go back to the client. The cookie of this tab has served.
    Go { to: String, tab: Option<String> },
    /// Nothing more.
    Failed(Failure),
}

/// A request that is in order.
pub(super) struct Asked {
    pub pending: Pending,
    /// For the cookie.
    pub cookie: Zeroizing<String>,
    /// The client's name for people.
    pub client_name: String,
}

/// What was wrong with a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignInProblem {
    /// Told to everybody.
    Wrong,
    /// Told to who knows the password.
    Disabled,
    /// Told to who knows the password.
    Locked,
    /// From this address.
    TooMany(TooManyWrong),
    /// All places are taken.
    Busy,
    /// At the OpenID provider, or on the way back: the log has more of it.
    Elsewhere,
    /// Whoever signed in there is no user here.
    Unknown,
}

/// Why there is nowhere to send the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The client or the redirect URL is not proven; in words for the client's developer.
    Request(String),
    /// The client is switched off.
    Client,
    /// The page is too old, of another browser, or was left.
    Ended,
}

/// What there is to know of a client.
struct Known {
    client: Client,
    settings: TokenSettings,
    /// What users may allow it.
    offers: Vec<GroupSummary>,
}

/// Looks at a request. Until the client and the redirect URL are proven nobody is sent anywhere.
pub(super) async fn begin(app: &App, parameters: &Parameters) -> Result<Step, DbError> {
    let failed = |reason: &str| Ok(Step::Failed(Failure::Request(reason.into())));
    for name in ["client_id", "redirect_uri"] {
        if parameters.is_twice(name) {
            return failed(&format!("The parameter {name} stands twice"));
        }
    }
    let Some(client) = parameters.get("client_id") else {
        return failed("Missing required parameter: client_id");
    };
    let mut read = app.db.snapshot().await?;
    let Some(known) = known(&mut read, client).await? else {
        return failed("There is no client of this client_id");
    };
    drop(read);
    let Some(redirect_uri) = parameters.get("redirect_uri") else {
        return failed("Missing required parameter: redirect_uri");
    };
    if !known.settings.redirect_urls.iter().any(|url| url.matches(redirect_uri)) {
        return failed("The redirect_uri mismatch");
    }
    if known.client.status != ClientStatus::Active {
        return Ok(Step::Failed(Failure::Client));
    }
    let state = parameters.get("state");
    let asked = check(parameters, &known, state);
    let (scope, code_challenge) = match asked {
        Ok(asked) => asked,
        Err(refusal) => {
            // A state that is too long, or there twice, is not sent back.
            let state = state.filter(|state| state.len() <= MAX_STATE && !parameters.is_twice("state"));
            return Ok(refused(app, redirect_uri, state, &refusal, None));
        }
    };
    let cookie = bearer::draw(&app.random, "kga");
    let pending = Pending {
        client: known.client.id.as_str().to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        scope,
        state: state.map(str::to_owned),
        code_challenge,
        tab: app.random.id("t"),
        cookie_sha256: bearer::sha256_hex(&cookie),
        user: None,
        user_epoch: None,
        began_at: app.now().0,
    };
    let asked = Asked { pending, cookie, client_name: known.client.display_name };
    Ok(Step::SignIn { asked, tried: None })
}

/// What is asked for, and the challenge, if the client may have it.
fn check(
    parameters: &Parameters,
    known: &Known,
    state: Option<&str>,
) -> Result<(Vec<String>, Option<String>), Refusal> {
    // Who has no password proves nothing at the token endpoint but this.
    let needs_proof = known.client.password == PasswordState::None;
    let code_challenge = model::check(parameters, needs_proof)?;
    if !known.settings.grant_types.contains(&GrantType::AuthorizationCode) {
        let reason = "Unauthorized grant type: authorization_code";
        return Err(Refusal::new(ErrorCode::UnauthorizedClient, reason));
    }
    if state.is_some_and(|state| state.len() > MAX_STATE) {
        let reason = format!("state has more than {MAX_STATE} characters");
        return Err(Refusal::new(ErrorCode::InvalidRequest, reason));
    }
    let Some(wanted) = parameters.get("scope") else {
        return Ok((known.offers.iter().map(|offer| offer.id.0.clone()).collect(), code_challenge));
    };
    let mut scope: Vec<String> = Vec::new();
    for name in wanted.split_ascii_whitespace() {
        let offer = known.offers.iter().find(|offer| offer.id.as_str() == name || offer.name == name);
        let Some(offer) = offer else {
            let reason = "scope names what the client has not been given: groups and scopes by id or name";
            return Err(Refusal::new(ErrorCode::InvalidScope, reason));
        };
        if !scope.contains(&offer.id.0) {
            scope.push(offer.id.0.clone());
        }
    }
    Ok((scope, code_challenge))
}

/// A page's form that came back. None: not of this browser, or too late.
pub(super) fn opened(app: &App, sealed: &str, cookie_of: impl Fn(&str) -> Option<String>) -> Option<Asked> {
    let clear = app.vault.open(PURPOSE, sealed).ok()?;
    let pending: Pending = serde_json::from_slice(&clear).ok()?;
    let cookie = Zeroizing::new(cookie_of(&pending.tab)?);
    let same = bearer::sha256_hex(&cookie) == pending.cookie_sha256;
    // The name for people is read again where it is shown.
    (same && pending.is_live(app.now())).then(|| Asked { pending, cookie, client_name: String::new() })
}

/// As it stands in the form.
pub(super) fn sealed(app: &App, pending: &Pending) -> String {
    let clear = Zeroizing::new(serde_json::to_vec(pending).unwrap_or_default());
    app.vault.seal(PURPOSE, &clear)
}

/// Somebody signs in.
pub(super) async fn sign_in(
    app: &App,
    mut asked: Asked,
    from: &CallerAddress,
    name: &str,
    unverified: &str,
) -> Result<Step, DbError> {
    let Some(known) = still_known(app, &asked.pending).await? else {
        return Ok(Step::Failed(Failure::Client));
    };
    asked.client_name.clone_from(&known.client.display_name);
    let again = |asked, problem| Ok(Step::SignIn { asked, tried: Some((name.to_owned(), problem)) });
    let Ok(_place) = app.passwords.enter() else { return again(asked, SignInProblem::Busy) };
    let tried = match app.wrong_passwords.begin(from, app.now()) {
        Ok(tried) => tried,
        Err(refusal) => return again(asked, SignInProblem::TooMany(refusal)),
    };
    let checked = users::check_password(app, name, unverified, Spelling::Plain).await;
    if !matches!(checked, Ok(PasswordCheck::Wrong)) {
        tried.was_not_wrong();
    }
    let user = match checked? {
        PasswordCheck::Right(user) => user,
        PasswordCheck::Wrong => return again(asked, SignInProblem::Wrong),
        PasswordCheck::Disabled(_) => return again(asked, SignInProblem::Disabled),
        PasswordCheck::Locked(_) => return again(asked, SignInProblem::Locked),
    };
    signed_in(app, asked, user).await
}

/// The page again, with what was wrong.
pub(super) async fn ask_again(app: &App, mut asked: Asked, problem: SignInProblem) -> Result<Step, DbError> {
    let Some(known) = still_known(app, &asked.pending).await? else {
        return Ok(Step::Failed(Failure::Client));
    };
    asked.client_name = known.client.display_name;
    Ok(Step::SignIn { asked, tried: Some((String::new(), problem)) })
}

/// Somebody has signed in: what was allowed before is not asked again.
pub(super) async fn signed_in(app: &App, mut asked: Asked, user: Box<User>) -> Result<Step, DbError> {
    let Some(known) = still_known(app, &asked.pending).await? else {
        return Ok(Step::Failed(Failure::Client));
    };
    asked.client_name = known.client.display_name;
    // Whoever knew the cookie until now knows another one's.
    let cookie = bearer::draw(&app.random, "kga");
    let pending = Pending {
        user: Some(user.id.clone()),
        user_epoch: Some(user.token_epoch),
        cookie_sha256: bearer::sha256_hex(&cookie),
        ..asked.pending
    };
    let allowed = store::allowed(&mut *app.db.read().await?, &user.id, &pending.client).await?;
    if wanted(&pending).all(|scope| allowed.contains(scope))
        && let Some(step) = issue_as_allowed(app, &pending, &user).await?
    {
        return Ok(step);
    }
    let scope = known.offers.into_iter().filter(|offer| pending.scope.contains(&offer.id.0)).collect();
    let asked = Asked { pending, cookie, ..asked };
    Ok(Step::Consent { asked, user, scope })
}

/// The user has decided.
pub(super) async fn decide(app: &App, asked: Asked, allows: bool) -> Result<Step, DbError> {
    let Asked { pending, .. } = asked;
    let Some(_known) = still_known(app, &pending).await? else {
        return Ok(Step::Failed(Failure::Client));
    };
    if !allows {
        let refusal = Refusal::new(ErrorCode::AccessDenied, "The user has not allowed it");
        let state = pending.state.as_deref();
        return Ok(refused(app, &pending.redirect_uri, state, &refusal, Some(pending.tab.clone())));
    }
    let Some(id) = &pending.user else { return Ok(Step::Failed(Failure::Ended)) };
    let user = users::find(&mut *app.db.read().await?, id).await?;
    match user.filter(|user| user.status == UserStatus::Active) {
        Some(user) => issue_and_allow(app, &pending, &user).await,
        None => Ok(Step::Failed(Failure::Ended)),
    }
}

/// The code, and with it what the user has just allowed.
async fn issue_and_allow(app: &App, pending: &Pending, user: &User) -> Result<Step, DbError> {
    let now = app.now();
    let mut tx = app.db.write("authorization.issue_code").await?;
    for scope in wanted(pending) {
        store::allow(&mut tx, &user.id, &pending.client, scope, now).await?;
    }
    let code = codes::issue(&mut tx, app, pending, user, now).await?;
    let entry = audit::Entry {
        actor: format!("user:{}", user.id),
        action: "authorization.allow",
        subject: format!("client:{}", pending.client),
        detail: json!({ "scope": pending.scope }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(with_code(app, pending, &code))
}

/// The code, for what the user has allowed before. None: that was taken back meanwhile.
async fn issue_as_allowed(app: &App, pending: &Pending, user: &User) -> Result<Option<Step>, DbError> {
    let now = app.now();
    let mut tx = app.db.write("authorization.issue_code").await?;
    // Whoever takes it back waits, and finds the code.
    if !store::hold_consent(&mut tx, &user.id, &pending.client).await? {
        return Ok(None);
    }
    let code = codes::issue(&mut tx, app, pending, user, now).await?;
    tx.commit().await?;
    Ok(Some(with_code(app, pending, &code)))
}

fn with_code(app: &App, pending: &Pending, code: &str) -> Step {
    go(app, &pending.redirect_uri, pending.state.as_deref(), &[("code", code)], Some(pending.tab.clone()))
}

/// What a user is to have allowed: each group and scope, and to know who the user is.
fn wanted(pending: &Pending) -> impl Iterator<Item = &str> {
    pending.scope.iter().map(String::as_str).chain([""])
}

fn refused(
    app: &App,
    redirect_uri: &str,
    state: Option<&str>,
    refusal: &Refusal,
    tab: Option<String>,
) -> Step {
    let answers = [("error", refusal.code.as_str()), ("error_description", refusal.reason.as_str())];
    go(app, redirect_uri, state, &answers, tab)
}

/// Back to the client, which is told its state and who answers (RFC 9207).
fn go(
    app: &App,
    redirect_uri: &str,
    state: Option<&str>,
    answers: &[(&str, &str)],
    tab: Option<String>,
) -> Step {
    let issuer = app.config.issuer();
    let mut all = answers.to_vec();
    all.extend(state.map(|state| ("state", state)));
    all.push(("iss", &issuer));
    match model::target(redirect_uri, &all) {
        Some(to) => Step::Go { to, tab },
        None => Step::Failed(Failure::Request("The redirect_uri mismatch".into())),
    }
}

/// The client, unless it was switched off or changed meanwhile so that it may not have it.
async fn still_known(app: &App, pending: &Pending) -> Result<Option<Known>, DbError> {
    let known = known(&mut *app.db.snapshot().await?, &pending.client).await?;
    Ok(known.filter(|known| {
        let offered = |scope: &String| known.offers.iter().any(|offer| offer.id.0 == *scope);
        known.client.status == ClientStatus::Active
            && known.settings.grant_types.contains(&GrantType::AuthorizationCode)
            && known.settings.redirect_urls.iter().any(|url| url.matches(&pending.redirect_uri))
            && pending.scope.iter().all(offered)
    }))
}

async fn known(conn: &mut Conn, client: &str) -> Result<Option<Known>, DbError> {
    let Some(client) = clients::by_id(conn, client).await? else { return Ok(None) };
    let settings = token_settings::of_client(conn, client.id.as_str()).await?.settings;
    let groups: Vec<GroupId> = client.groups.clone();
    let mut offers = catalog::known_groups(conn, &groups).await?;
    offers.extend(clients::scopes::of_client(conn, client.id.as_str()).await?);
    Ok(Some(Known { client, settings, offers }))
}
