//! A database of our own on the PostgreSQL server that `cargo xtask test` starts.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use sqlx::Connection;

/// Where the server is; `cargo xtask test` and `cargo xtask postgres` name it.
pub const URL_VARIABLE: &str = "KEYGATE_TEST_POSTGRES_URL";

/// Makes an empty database and returns its URL. The server is a throw-away: nobody drops it.
pub async fn create_database(name: &str) -> Result<String> {
    let url = std::env::var(URL_VARIABLE)
        .with_context(|| format!("{URL_VARIABLE} is not set: run `cargo xtask test --only end-to-end`"))?;
    let unique = format!("e2e_{name}_{}", std::process::id());
    let mut connection = sqlx::PgConnection::connect(&url).await.context("connect to PostgreSQL")?;
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {unique}")))
        .execute(&mut connection)
        .await
        .context("create a database")?;
    connection.close().await.context("close the connection")?;
    let server = url.rsplit_once('/').map_or(url.as_str(), |(server, _)| server);
    Ok(format!("{server}/{unique}"))
}

/// `host:port` of a database's URL.
pub fn server_of(url: &str) -> Result<String> {
    Ok(parts(url)?.1.to_owned())
}

/// The URL of the same database by way of `address`, which forwards to its server.
pub fn through(url: &str, address: SocketAddr) -> Result<String> {
    let (user, _, database) = parts(url)?;
    Ok(format!("{user}@{address}/{database}"))
}

fn parts(url: &str) -> Result<(&str, &str, &str)> {
    let (user, place) = url.split_once('@').context("postgres://user@host:port/database")?;
    let (server, database) = place.split_once('/').context("postgres://user@host:port/database")?;
    Ok((user, server, database))
}
