//! What an external authorization service costs at the least: it finds the key in a map, or debits
//! SQLite too. A process of its own (`bench authz`), so that its CPU can be told from ours.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use clap::Args;
use e2e::process::Process;
use e2e::wait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Executor, SqlitePool};
use std::time::Duration;

/// How long it may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Keys that it knows besides the one that is presented: as many as fit any map without effort.
const OTHER_KEYS: usize = 1_000;

/// `bench authz`
#[derive(Args)]
pub struct Settings {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// The key that it lets in.
    #[arg(long)]
    key: String,
    /// A database to debit a unit in for each call.
    #[arg(long)]
    debit: Option<PathBuf>,
}

#[derive(Clone)]
struct Service {
    clients: Arc<HashMap<String, &'static str>>,
    ledger: Option<SqlitePool>,
}

/// Serves until it is killed.
pub async fn serve(settings: Settings) -> Result<()> {
    let mut clients: HashMap<String, &'static str> =
        (0..OTHER_KEYS).map(|n| (format!("other-key-{n}"), "other")).collect();
    clients.insert(settings.key, "acme");
    let ledger = match settings.debit {
        Some(file) => Some(ledger(&file).await?),
        None => None,
    };
    let service = Service { clients: Arc::new(clients), ledger };
    let router = Router::new().fallback(routing::any(check)).with_state(service);
    let listener = tokio::net::TcpListener::bind(settings.listen).await?;
    axum::serve(listener, router).await.context("serve")
}

async fn ledger(file: &Path) -> Result<SqlitePool> {
    // As durable as the manager's ledger.
    let options = SqliteConnectOptions::from_str(&format!("sqlite:{}", file.display()))?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let ledger = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    ledger
        .execute(
            "CREATE TABLE meters (client TEXT PRIMARY KEY, used BIGINT NOT NULL, quota BIGINT NOT NULL);
             INSERT INTO meters VALUES ('acme', 0, 1000000000);",
        )
        .await?;
    Ok(ledger)
}

async fn check(State(service): State<Service>, headers: HeaderMap) -> Response {
    let presented = headers.get("x-api-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let Some(client) = service.clients.get(presented).copied() else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    if let Some(ledger) = &service.ledger {
        let debit = "UPDATE meters SET used = used + 1 WHERE client = $1 AND used < quota";
        match sqlx::query(debit).bind(client).execute(ledger).await {
            Ok(done) if done.rows_affected() == 1 => {}
            Ok(_) => return StatusCode::TOO_MANY_REQUESTS.into_response(),
            Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    }
    (StatusCode::OK, [("x-client-id", client)]).into_response()
}

/// Starts one in `folder`, which must be there.
pub async fn start(folder: &Path, address: SocketAddr, key: &str, debits: bool) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe().context("find our own program")?);
    command.args(["authz", "--listen", &address.to_string(), "--key", key]);
    if debits {
        command.arg("--debit").arg(folder.join("meters.db"));
    }
    let mut process = Process::spawn("the authorization service", &mut command, &folder.join("authz.log"))?;
    let started = wait::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        process.check()?;
        if started.elapsed() > START_LIMIT {
            bail!("the authorization service is not ready:\n{}", process.log_tail());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(process)
}
