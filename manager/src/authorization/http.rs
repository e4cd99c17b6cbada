//! `/oauth/authorize`: pages for people, and the redirects to clients. No part of the API.

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::actions::{self, Failure, SignInProblem, Step};
use super::elsewhere;
use super::model::{MAX_BYTES, PENDING_MS, Parameters};
use super::page::{self, Shown};
use crate::app::App;
use crate::caller_address::CallerAddress;
use crate::credential_links::PageLanguage;
use crate::db::DbError;
use crate::identity_provider;

/// Where it is served.
pub(super) const PATH: &str = "/oauth/authorize";

/// The endpoint.
pub fn routes() -> Router<App> {
    Router::new().route(PATH, get(begin).post(go_on)).route(elsewhere::BACK, get(back))
}

async fn begin(State(app): State<App>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let query = query.unwrap_or_default();
    let step = if query.len() > MAX_BYTES {
        Ok(Step::Failed(Failure::Request("The request is too long".into())))
    } else {
        actions::begin(&app, &Parameters::parse(query.as_bytes())).await
    };
    answer(&app, &headers, step).await
}

async fn go_on(State(app): State<App>, from: CallerAddress, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let step = match axum::body::to_bytes(body, MAX_BYTES).await {
        Ok(form) => next(&app, &headers, &from, &Parameters::parse(&form)).await,
        Err(_) => Ok(Step::Failed(Failure::Ended)),
    };
    answer(&app, &headers, step).await
}

/// What follows from a form: it must come from a page of ours, and from the browser that got it.
async fn next(
    app: &App,
    headers: &HeaderMap,
    from: &CallerAddress,
    form: &Parameters,
) -> Result<Step, DbError> {
    let ended = Ok(Step::Failed(Failure::Ended));
    // Browsers tell it, and pages cannot; others leave it out.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return ended;
    }
    let opened = form
        .get("request")
        .and_then(|sealed| actions::opened(app, sealed, |tab| cookie(headers, &cookie_name(app, tab))));
    let (Some(asked), None) = (opened, form.twice()) else { return ended };
    match (form.get("action"), &asked.pending.user) {
        (Some("sign_in"), None) => {
            let (name, password) = (form.get("username"), form.get("password"));
            let (name, password) = (name.unwrap_or_default().trim(), password.unwrap_or_default());
            actions::sign_in(app, asked, from, name, password).await
        }
        (Some("elsewhere"), None) => elsewhere::go(app, asked).await,
        (Some("cancel"), _) => actions::decide(app, asked, false).await,
        (Some("allow"), Some(_)) => actions::decide(app, asked, true).await,
        _ => ended,
    }
}

/// The browser comes from the OpenID provider.
async fn back(
    State(app): State<App>,
    from: CallerAddress,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let step = if query.len() > MAX_BYTES {
        Ok(Step::Failed(Failure::Ended))
    } else {
        let cookie_of = |tab: &str| cookie(&headers, &cookie_name(&app, tab));
        let kept_of = |tab: &str| cookie(&headers, &kept_name(&app, tab));
        elsewhere::come_back(&app, &from, &Parameters::parse(query.as_bytes()), cookie_of, kept_of).await
    };
    answer(&app, &headers, step).await
}

async fn answer(app: &App, headers: &HeaderMap, step: Result<Step, DbError>) -> Response {
    let provider = match &step {
        Ok(Step::SignIn { .. }) => identity_provider::available(app).await,
        Ok(_) | Err(_) => None,
    };
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let language = PageLanguage::preferred(accepted.unwrap_or_default());
    let show = |status, shown: &Shown<'_>| {
        let mut response = match page::render(&app.config.product_name, language, shown) {
            Ok(page) => (status, page).into_response(),
            Err(error) => {
                tracing::error!(%error, "The page of the authorization endpoint does not print");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        };
        set(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8");
        set(&mut response, header::CONTENT_LANGUAGE, language.tag());
        set(&mut response, header::VARY, "Accept-Language");
        set(&mut response, header::CONTENT_SECURITY_POLICY, &page::content_security_policy());
        response
    };
    let mut response = match step {
        Ok(Step::SignIn { asked, tried }) => {
            let problem = tried.as_ref().map(|(_, problem)| *problem);
            let status = match problem {
                None => StatusCode::OK,
                Some(SignInProblem::TooMany(_)) => StatusCode::TOO_MANY_REQUESTS,
                Some(SignInProblem::Busy) => StatusCode::SERVICE_UNAVAILABLE,
                Some(
                    SignInProblem::Wrong
                    | SignInProblem::Disabled
                    | SignInProblem::Locked
                    | SignInProblem::Elsewhere
                    | SignInProblem::Unknown,
                ) => StatusCode::FORBIDDEN,
            };
            let shown = Shown::SignIn {
                request: &actions::sealed(app, &asked.pending),
                client: &asked.client_name,
                name: tried.as_ref().map_or("", |(name, _)| name),
                problem,
                provider: provider.as_ref().map(|_| app.config.oidc_name.as_str()),
            };
            let mut response = show(status, &shown);
            match problem {
                Some(SignInProblem::TooMany(refusal)) => {
                    set(&mut response, header::RETRY_AFTER, &refusal.retry_after_s.to_string());
                }
                Some(SignInProblem::Busy) => set(&mut response, header::RETRY_AFTER, "1"),
                Some(
                    SignInProblem::Wrong
                    | SignInProblem::Disabled
                    | SignInProblem::Locked
                    | SignInProblem::Elsewhere
                    | SignInProblem::Unknown,
                )
                | None => {}
            }
            give_cookie(app, &mut response, &asked.pending.tab, &asked.cookie, PENDING_MS / 1_000);
            response
        }
        Ok(Step::Consent { asked, user, scope }) => {
            let names: Vec<&str> = scope.iter().map(|offer| offer.name.as_str()).collect();
            let shown = Shown::Consent {
                request: &actions::sealed(app, &asked.pending),
                client: &asked.client_name,
                user: &user.display_name,
                name: user.name.as_str(),
                scope: &names,
            };
            let mut response = show(StatusCode::OK, &shown);
            give_cookie(app, &mut response, &asked.pending.tab, &asked.cookie, PENDING_MS / 1_000);
            response
        }
        Ok(Step::Elsewhere { to, asked, kept }) => {
            let mut response = StatusCode::SEE_OTHER.into_response();
            set(&mut response, header::LOCATION, &to);
            let tab = &asked.pending.tab;
            give(app, &mut response, &kept_name(app, tab), &kept, PENDING_MS / 1_000);
            response
        }
        Ok(Step::Go { to, tab }) => {
            let mut response = StatusCode::SEE_OTHER.into_response();
            set(&mut response, header::LOCATION, &to);
            if let Some(tab) = tab {
                give_cookie(app, &mut response, &tab, "", 0);
            }
            response
        }
        Ok(Step::Failed(failure)) => {
            let (status, shown) = match &failure {
                Failure::Request(reason) => (StatusCode::BAD_REQUEST, Shown::Refusal(reason)),
                Failure::Client => (StatusCode::FORBIDDEN, Shown::Barred),
                Failure::Ended => (StatusCode::BAD_REQUEST, Shown::Ended),
            };
            show(status, &shown)
        }
        Err(error) if error.is_busy() => {
            tracing::warn!(%error, "The database is busy");
            show(StatusCode::SERVICE_UNAVAILABLE, &Shown::Busy)
        }
        Err(error) => {
            tracing::error!(%error, "The authorization endpoint could not answer");
            show(StatusCode::INTERNAL_SERVER_ERROR, &Shown::Busy)
        }
    };
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ] {
        set(&mut response, name, value);
    }
    response
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// A name of its own for each tab, so that two do not end each other's sign-in.
fn cookie_name(app: &App, tab: &str) -> String {
    // A browser takes the prefix from who serves TLS alone, and from no sibling domain.
    let prefix = if is_secure(app) { "__Host-" } else { "" };
    format!("{prefix}keygate-authorize-{tab}")
}

fn is_secure(app: &App) -> bool {
    app.config.issuer().starts_with("https://")
}

/// Of what the browser keeps while it is at the OpenID provider.
fn kept_name(app: &App, tab: &str) -> String {
    format!("{}-openid", cookie_name(app, tab))
}

fn give_cookie(app: &App, response: &mut Response, tab: &str, value: &str, max_age_s: i64) {
    give(app, response, &cookie_name(app, tab), value, max_age_s);
}

fn give(app: &App, response: &mut Response, name: &str, value: &str, max_age_s: i64) {
    let secure = if is_secure(app) { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}");
    set(response, header::SET_COOKIE, &cookie);
}

fn cookie(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
}
