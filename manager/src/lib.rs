//! The manager: control plane of Keygate. Operators describe clients, APIs, keys and limits
//! here; gates ask it for what they do not hold.
//!
//! A capability is one folder: `mod.rs` (what it is for), `model.rs` (types and rules),
//! `actions.rs` (one function per use case, one named transaction each), `store.rs` (SQL),
//! `http.rs` (JSON), `tests.rs` (through the router, as actors, on both databases).
//! Imports between capabilities go downwards only; see `ARCHITECTURE.md`.

// First of all: its `print!` and `println!` are everybody's.
#[macro_use]
pub mod stdout;

// What all capabilities stand on.
pub mod app;
pub mod attempts;
pub mod bearer;
pub mod caller_address;
pub mod clock;
pub mod config;
pub mod db;
pub mod error_description;
pub mod expiry;
pub mod http;
pub mod jobs;
pub mod openapi;
pub mod password;
pub mod problem;
pub mod question;
pub mod remote;
pub mod right_passwords;
pub mod search;
pub mod serve;
pub mod telemetry;
pub mod validity;
pub mod vault;
pub mod wrong_passwords;

#[cfg(test)]
pub mod testing;

// The capabilities, sorted.
pub mod applications;
pub mod approvals;
pub mod audit;
pub mod authorization;
pub mod catalog;
pub mod changes;
pub mod client_portal;
pub mod clients;
pub mod credential_links;
pub mod decisions;
pub mod definitions;
pub mod feed;
pub mod gateways;
pub mod idempotency;
pub mod identity_provider;
pub mod keys;
pub mod mail;
pub mod offboarding;
pub mod operators;
pub mod quota_warnings;
pub mod quotas;
pub mod reports;
pub mod schedule;
pub mod tokens;
pub mod usage;
pub mod users;
pub mod x_api_keys;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;

use app::App;
use openapi::Routes;

/// The management API, without the gateway API.
fn management() -> Routes {
    openapi::routes()
        .merge(applications::routes())
        .merge(approvals::routes())
        .merge(audit::routes())
        .merge(authorization::consents::routes())
        .merge(catalog::routes())
        .merge(client_portal::routes())
        .merge(clients::routes())
        .merge(clients::scopes::routes())
        .merge(clients::token_settings::routes())
        .merge(decisions::routes())
        .merge(definitions::routes())
        .merge(gateways::routes())
        .merge(keys::routes())
        .merge(mail::routes())
        .merge(mail::templates::routes())
        .merge(offboarding::routes())
        .merge(operators::routes())
        .merge(quota_warnings::routes())
        .merge(quotas::routes())
        .merge(reports::routes())
        .merge(schedule::routes())
        .merge(tokens::routes())
        .merge(usage::routes())
        .merge(users::routes())
        .merge(x_api_keys::routes())
}

/// The gateway API: what filters call.
fn gateway() -> Router<App> {
    Router::new().merge(feed::routes()).merge(decisions::gateway_routes())
}

/// The management API, with the probes and the page that mails link to.
fn people_and_programs(app: &App) -> Router<App> {
    management()
        .into_router(app)
        .merge(authorization::routes())
        .merge(credential_links::routes())
        .merge(serve::routes())
}

/// Everything on one port.
pub fn router(app: App) -> Router {
    finish(people_and_programs(&app).merge(gateway()), app)
}

/// The management API alone, where the gateway API has a port of its own.
pub fn management_router(app: App) -> Router {
    finish(people_and_programs(&app), app)
}

/// The gateway API alone, with the probes.
pub fn gateway_router(app: App) -> Router {
    finish(gateway().merge(serve::routes()), app)
}

/// What every call goes through: request id, counters, body limit, problem documents for paths
/// and methods that nobody serves.
fn finish(routes: Router<App>, app: App) -> Router {
    routes
        .fallback(http::no_route)
        .layer(DefaultBodyLimit::max(http::MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(app.clone(), http::observe))
        .with_state(app)
}

/// The background jobs of every replica.
pub fn start_jobs(jobs: &mut jobs::Jobs) {
    applications::start_jobs(jobs);
    catalog::start_jobs(jobs);
    clients::start_jobs(jobs);
    mail::start_jobs(jobs);
    quota_warnings::start_jobs(jobs);
    tokens::start_jobs(jobs);
    let executors = executors(&jobs.app().config);
    schedule::start_jobs(jobs, executors);
}

/// Who does which kind of scheduled work.
pub fn executors(config: &config::Config) -> schedule::Executors {
    let mut executors = schedule::Executors::default();
    authorization::executors(&mut executors);
    client_portal::executors(&mut executors);
    credential_links::executors(&mut executors);
    decisions::executors(&mut executors);
    idempotency::executors(&mut executors);
    applications::executors(&mut executors);
    keys::executors(config, &mut executors);
    mail::executors(&mut executors);
    operators::executors(&mut executors);
    schedule::executors(&mut executors);
    tokens::executors(&mut executors);
    usage::executors(&mut executors);
    x_api_keys::executors(config, &mut executors);
    executors
}
