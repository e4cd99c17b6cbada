//! Tables `host_names` and `client_hosts`.

use std::net::IpAddr;

use gate::id::ClientId;
use gate::time::UnixMillis;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::model::{Host, HostName};
use crate::db::{Conn, DbError};

const COLUMNS: &str = "h.name, h.addresses, h.resolved_at, h.tried_at, h.refused, h.last_error";

/// A name that is due, and whether a client is bound to it still.
pub(super) struct Due {
    pub host: Host,
    pub due_at: UnixMillis,
    pub bound: bool,
}

/// The client is bound to these names and no others. A name's row is locked even where it is there
/// already: whoever settles it meanwhile either sees this client or is seen by it. What was never
/// resolved is asked for at once.
pub(super) async fn bind(
    conn: &mut Conn,
    client: &str,
    names: &[HostName],
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- clients.hosts.bind
         DELETE FROM client_hosts
          WHERE client_id = $1",
    )
    .bind(client)
    .execute(&mut *conn)
    .await?;
    for name in names {
        take(conn, name, now).await?;
        sqlx::query(
            "-- clients.hosts.bind
             INSERT INTO client_hosts (client_id, name)
             VALUES ($1, $2)",
        )
        .bind(client)
        .bind(name.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// The name's row, locked until the transaction ends; due at once if it is new.
pub(super) async fn take(conn: &mut Conn, name: &HostName, now: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- clients.hosts.take
         INSERT INTO host_names (name, addresses, refused, due_at)
         VALUES ($1, '', '', $2)
         ON CONFLICT (name) DO UPDATE
            SET due_at = CASE WHEN host_names.resolved_at IS NULL THEN excluded.due_at ELSE host_names.due_at END",
    )
    .bind(name.as_str())
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// The names that a client is bound to, sorted.
pub(super) async fn of_client(conn: &mut Conn, client: &str) -> Result<Vec<Host>, DbError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- clients.hosts.of_client
         SELECT {COLUMNS}
           FROM host_names h
           JOIN client_hosts c ON c.name = h.name
          WHERE c.client_id = $1
          ORDER BY h.name"
    )))
    .bind(client)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// The clients that are bound to a name, sorted.
pub(super) async fn clients_of(conn: &mut Conn, name: &HostName) -> Result<Vec<ClientId>, DbError> {
    let rows = sqlx::query(
        "-- clients.hosts.clients_of
         SELECT client_id
           FROM client_hosts
          WHERE name = $1
          ORDER BY client_id",
    )
    .bind(name.as_str())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(ClientId::from(row.try_get::<String, _>(0)?.as_str()))).collect()
}

/// What is due and nobody asks for, the longest due first.
pub(super) async fn due(conn: &mut Conn, now: UnixMillis, limit: usize) -> Result<Vec<Due>, DbError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- clients.hosts.due
         SELECT {COLUMNS}, h.due_at,
                CASE WHEN EXISTS (SELECT 1 FROM client_hosts c WHERE c.name = h.name) THEN 1 ELSE 0 END AS bound
           FROM host_names h
          WHERE h.due_at <= $1
            AND (h.claimed_until IS NULL OR h.claimed_until < $1)
          ORDER BY h.due_at, h.name
          LIMIT $2"
    )))
    .bind(now.0)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let (due_at, bound): (i64, i64) = (row.try_get("due_at")?, row.try_get("bound")?);
            Ok(Due { host: read(row)?, due_at: UnixMillis(due_at), bound: bound != 0 })
        })
        .collect()
}

/// Whether the name is this worker's until `until`: two replicas that saw the same row do not
/// both get it.
pub(super) async fn claim(
    conn: &mut Conn,
    due: &Due,
    claim: &str,
    until: UnixMillis,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- clients.hosts.claim
         UPDATE host_names
            SET claim = $1, claimed_until = $2
          WHERE name = $3
            AND due_at = $4
            AND (claimed_until IS NULL OR claimed_until < $5)",
    )
    .bind(claim)
    .bind(until.0)
    .bind(due.host.name.as_str())
    .bind(due.due_at.0)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Saves what was learnt. False: the claim has lapsed, and another worker asks.
pub(super) async fn settle(
    conn: &mut Conn,
    host: &Host,
    due_at: UnixMillis,
    claim: &str,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- clients.hosts.settle
         UPDATE host_names
            SET addresses = $1, resolved_at = $2, tried_at = $3, refused = $4, last_error = $5, due_at = $6,
                claim = NULL, claimed_until = NULL
          WHERE name = $7
            AND claim = $8",
    )
    .bind(write(&host.addresses))
    .bind(host.resolved_at.map(|at| at.0))
    .bind(host.tried_at.map(|at| at.0))
    .bind(write(&host.refused))
    .bind(host.last_error.as_deref())
    .bind(due_at.0)
    .bind(host.name.as_str())
    .bind(claim)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Drops a name that no client is bound to.
pub(super) async fn forget(conn: &mut Conn, name: &HostName) -> Result<(), DbError> {
    sqlx::query(
        "-- clients.hosts.forget
         DELETE FROM host_names
          WHERE name = $1
            AND NOT EXISTS (SELECT 1 FROM client_hosts c WHERE c.name = host_names.name)",
    )
    .bind(name.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

fn write(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn read(row: &AnyRow) -> Result<Host, DbError> {
    let name: String = row.try_get("name")?;
    let wrong = |column| DbError::Inconsistency { table: "host_names", column, row: name.clone() };
    let addresses = |column: &'static str| -> Result<Vec<IpAddr>, DbError> {
        let text: String = row.try_get(column)?;
        let all = text.split(',').filter(|address| !address.is_empty());
        all.map(|address| address.parse().map_err(|_| wrong(column))).collect()
    };
    let at = |column: &'static str| -> Result<Option<UnixMillis>, DbError> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(UnixMillis))
    };
    Ok(Host {
        addresses: addresses("addresses")?,
        resolved_at: at("resolved_at")?,
        tried_at: at("tried_at")?,
        refused: addresses("refused")?,
        last_error: row.try_get("last_error")?,
        name: HostName::parse(&name).map_err(|_| wrong("name"))?,
    })
}
