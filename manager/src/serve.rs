//! The running server: listeners, probes, start and end.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::routing::get;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};

use crate::app::App;
use crate::applications;
use crate::db::DbError;
use crate::feed;
use crate::http::Json;
use crate::jobs::Jobs;
use crate::mail;
use crate::operators;
use crate::problem::Problem;

/// `/healthz`, `/readyz` and `/metrics`.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/healthz", get(async || Json(serde_json::json!({ "status": "ok" }))))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Serves until SIGTERM or Ctrl-C, then lets calls in flight end.
pub async fn serve(app: App) -> anyhow::Result<()> {
    let config = app.config.clone();
    for address in config.plaintext_exposed() {
        tracing::warn!(
            %address,
            "Serving plain HTTP on {address} (allow_plaintext = true): tokens and secrets cross the network in clear \
             unless something in front ends TLS"
        );
    }
    if config.callers_may_look_alike() {
        tracing::warn!(
            "client_address_header is not set: all who come through one proxy (Envoy) count as one caller, and the \
             wrong passwords of a stranger among them refuse everybody's. Set it with client_address_proxies"
        );
    }
    let tls = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => {
            // Err: one is installed already, which serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let tls = RustlsConfig::from_pem_file(cert, key).await.with_context(|| {
                format!("tls_cert {} and tls_key {} cannot be used", cert.display(), key.display())
            })?;
            Some(tls)
        }
        _ => None,
    };
    if let Some((operator, password)) = operators::ensure_first(&app).await? {
        // To standard error and not to the log, which is kept: this is the only time it is shown.
        eprintln!(
            "\nFirst start: created operator {:?} with password {}\n\
             Sign in with POST /api/v1/session and set your own with PUT /api/v1/session/password: it serves for\n\
             nothing else, and is not shown again. Then give it an e-mail address with PATCH /api/v1/operators/{{id}}:\n\
             administrators are told there of forms that nobody can sign.\n",
            operator.name.as_str(),
            password.as_str()
        );
    }

    let mut jobs = Jobs::new(app.clone());
    crate::start_jobs(&mut jobs);

    let handle = Handle::new();
    let mut listeners = tokio::task::JoinSet::new();
    let mut listen = |what: &'static str, address: SocketAddr, router: Router| -> anyhow::Result<()> {
        let listener = std::net::TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address} ({what}); is it in use?"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        tracing::info!(%address, tls = tls.is_some(), "Listening on {address} for the {what}");
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let (handle, tls) = (handle.clone(), tls.clone());
        listeners.spawn(async move {
            // An answer is sent when it is there. Waiting for the other side to acknowledge what came before
            // holds it back for 40 ms, and with it every first request with a credential.
            let server = axum_server::from_tcp(listener)?.acceptor(NoDelayAcceptor::new()).handle(handle);
            match tls {
                Some(tls) => {
                    let acceptor = RustlsAcceptor::new(tls).acceptor(NoDelayAcceptor::new());
                    server.acceptor(acceptor).serve(service).await
                }
                None => server.serve(service).await,
            }
        });
        Ok(())
    };
    match config.gateway_listen {
        None => listen("management and gateway API", config.listen, crate::router(app.clone()))?,
        Some(gateway) => {
            listen("management API", config.listen, crate::management_router(app.clone()))?;
            listen("gateway API", gateway, crate::gateway_router(app.clone()))?;
        }
    }

    let grace = Duration::from_secs(config.shutdown_grace_s);
    let failed = tokio::select! {
        signal = stop_signal() => {
            tracing::info!("Stopping on {}: calls in flight have {} s to end", signal?, config.shutdown_grace_s);
            None
        }
        ended = listeners.join_next() => ended,
    };
    handle.graceful_shutdown(Some(grace));
    while listeners.join_next().await.is_some() {}
    jobs.stop(grace).await;
    app.db.close().await;
    match failed {
        Some(ended) => Err(anyhow::anyhow!("a listener ended: {ended:?}")),
        None => Ok(()),
    }
}

async fn ready(State(app): State<App>) -> Result<Json<serde_json::Value>, Problem> {
    let unready = || {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not_ready",
            "Not ready",
            "the database does not answer",
        )
        .retry_after(1)
    };
    app.db.ping().await.map_err(|_| unready())?;
    // A manager that cannot mail does everything else: told, but no reason to take calls from it.
    let mail = mails(&app).await.map_err(|_| unready())?;
    let reviews = reviews(&app).await.map_err(|_| unready())?;
    Ok(Json(serde_json::json!({ "status": "ready", "mail": mail, "reviews": { "warnings": reviews } })))
}

async fn metrics(State(app): State<App>) -> ([(header::HeaderName, &'static str); 1], String) {
    let mut text = app.metrics.render();
    // Without the database the counters of this process are all there is to tell.
    text.push_str(&mails(&app).await.map_or_else(|_| String::new(), |mail| mail.gauges()));
    text.push_str(&feed::gauges(&app).await);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn mails(app: &App) -> Result<mail::Health, DbError> {
    mail::health(&mut *app.db.read().await?, app).await
}

async fn reviews(app: &App) -> Result<Vec<mail::Warning>, DbError> {
    applications::warnings(&mut *app.db.read().await?, app).await
}

#[cfg(unix)]
async fn stop_signal() -> std::io::Result<&'static str> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| "Ctrl-C"),
    }
}

#[cfg(not(unix))]
async fn stop_signal() -> std::io::Result<&'static str> {
    tokio::signal::ctrl_c().await.map(|()| "Ctrl-C")
}
