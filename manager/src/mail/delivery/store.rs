//! The only writer of `mail_servers` and `mail_attempts`.

use gate::time::UnixMillis;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::super::model::shortened;
use super::super::transport::Refusal;
use super::model::{Attempt, Outcome, Server, Tried, outcome_name};
use super::without_addresses;
use crate::db::{Conn, DbError, placeholders};

/// A server as it is on record; one that was never asked is well.
pub(in crate::mail) async fn server(conn: &mut Conn, address: &str) -> Result<Server, DbError> {
    let mut servers = servers(conn, &[address]).await?;
    Ok(servers.pop().unwrap_or_else(|| Server::never_asked(address)))
}

/// The servers of these addresses, in their order and all as of one instant: between two statements
/// another conversation may end, and one of them would be known as resting and the other not yet.
pub(in crate::mail) async fn servers(conn: &mut Conn, addresses: &[&str]) -> Result<Vec<Server>, DbError> {
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "-- mail.servers
         SELECT address, failures, paused_until
           FROM mail_servers
          WHERE address IN ({})",
        placeholders(1, addresses.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for address in addresses {
        query = query.bind(*address);
    }
    let rows = query.fetch_all(conn).await?;
    let mut known = rows.iter().map(of_row).collect::<Result<Vec<_>, _>>()?;
    let of = |address: &&str| {
        let at = known.iter().position(|server| server.address == *address);
        at.map_or_else(|| Server::never_asked(address), |at| known.swap_remove(at))
    };
    Ok(addresses.iter().map(of).collect())
}

fn of_row(row: &AnyRow) -> Result<Server, DbError> {
    let address: String = row.try_get("address")?;
    let paused_until: Option<i64> = row.try_get("paused_until")?;
    let failures: i64 = row.try_get("failures")?;
    Ok(Server {
        failures: u32::try_from(failures).map_err(|_| DbError::Inconsistency {
            table: "mail_servers",
            column: "failures",
            row: address.clone(),
        })?,
        paused_until: paused_until.map(UnixMillis),
        address,
    })
}

/// Takes the one conversation that tries a server which has rested; false: somebody else has.
pub(super) async fn take_probe(
    conn: &mut Conn,
    server: &Server,
    until: UnixMillis,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- mail.take_probe
         UPDATE mail_servers
            SET paused_until = $2
          WHERE address = $1 AND paused_until <= $3",
    )
    .bind(&server.address)
    .bind(until.0)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives back a probe that was not needed: another conversation may try.
pub(super) async fn leave_probe(
    conn: &mut Conn,
    server: &Server,
    taken_until: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- mail.leave_probe
         UPDATE mail_servers
            SET paused_until = $3
          WHERE address = $1 AND paused_until = $2",
    )
    .bind(&server.address)
    .bind(taken_until.0)
    .bind(server.paused_until.map(|until| until.0))
    .execute(conn)
    .await?;
    Ok(())
}

/// How a server fared in a conversation.
pub(in crate::mail) async fn fared(conn: &mut Conn, tried: &Tried, now: UnixMillis) -> Result<(), DbError> {
    let Tried { server, result, .. } = tried;
    match result {
        Ok(_) => well(conn, &server.address, Some(now), None).await,
        Err(refusal) => {
            let told = shortened(&without_addresses(refusal.error.text()));
            match refusal {
                Refusal { of_the_server: true, .. } => unwell(conn, server, &told, now).await,
                // It answers; but the last mail did not go, and whoever causes the next one is told.
                Refusal { .. } => well(conn, &server.address, None, Some((&told, now))).await,
            }
        }
    }
}

/// It answers: it took a mail at `success_at`, or refused one with `refused`.
async fn well(
    conn: &mut Conn,
    address: &str,
    success_at: Option<UnixMillis>,
    refused: Option<(&str, UnixMillis)>,
) -> Result<(), DbError> {
    sqlx::query(
        "-- mail.server_well
         INSERT INTO mail_servers (address, last_success_at, last_failure_at, last_error)
         VALUES ($1, $2, $3, $4)
             ON CONFLICT (address) DO UPDATE
            SET failures = 0,
                paused_until = NULL,
                last_success_at = COALESCE(excluded.last_success_at, mail_servers.last_success_at),
                last_failure_at = COALESCE(excluded.last_failure_at, mail_servers.last_failure_at),
                last_error = COALESCE(excluded.last_error, mail_servers.last_error)",
    )
    .bind(address)
    .bind(success_at.map(|at| at.0))
    .bind(refused.map(|(_, at)| at.0))
    .bind(refused.map(|(told, _)| told))
    .execute(conn)
    .await?;
    Ok(())
}

/// It rests. Several conversations that end badly at once count as one failure: those that had not
/// known of it leave the rest as it is.
async fn unwell(conn: &mut Conn, server: &Server, error: &str, now: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- mail.server_unwell
         INSERT INTO mail_servers (address, failures, paused_until, last_failure_at, last_error)
         VALUES ($1, $2 + 1, $3, $4, $5)
             ON CONFLICT (address) DO UPDATE
            SET paused_until = CASE WHEN mail_servers.failures = $2 THEN excluded.paused_until
                                    ELSE mail_servers.paused_until END,
                failures = CASE WHEN mail_servers.failures = $2 THEN excluded.failures
                                ELSE mail_servers.failures END,
                last_failure_at = excluded.last_failure_at,
                last_error = excluded.last_error",
    )
    .bind(&server.address)
    .bind(i64::from(server.failures))
    .bind(now.0.saturating_add(server.next_pause_ms()))
    .bind(now.0)
    .bind(error)
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts an attempt at a mail on record.
pub(super) async fn attempted(
    conn: &mut Conn,
    mail: &str,
    attempt: u32,
    what: &Attempt,
    now: UnixMillis,
) -> Result<(), DbError> {
    if let ([], Outcome::Failed(error)) = (what.tried.as_slice(), &what.outcome) {
        let row = Row {
            turn: 1,
            server: "",
            outcome: outcome_name(error),
            answer: error.text(),
            times: (now, now),
        };
        return insert(conn, mail, attempt, row).await;
    }
    for (turn, tried) in (1..).zip(&what.tried) {
        let (server, outcome, answer) = (tried.server.address.as_str(), tried.outcome(), tried.told());
        let row = Row { turn, server, outcome, answer: &answer, times: (tried.started_at, tried.ended_at) };
        insert(conn, mail, attempt, row).await?;
    }
    Ok(())
}

/// The process that made this attempt never said how it ended.
pub(super) async fn no_word(
    conn: &mut Conn,
    mail: &str,
    attempt: u32,
    now: UnixMillis,
) -> Result<(), DbError> {
    let answer = "the process that tried ended before it could say how: the mail may have arrived";
    insert(conn, mail, attempt, Row { turn: 1, server: "", outcome: "no_word", answer, times: (now, now) })
        .await
}

struct Row<'a> {
    turn: i64,
    server: &'a str,
    outcome: &'static str,
    answer: &'a str,
    /// Begun and ended.
    times: (UnixMillis, UnixMillis),
}

/// One that is there already stays: a process that was taken for dead may still report.
async fn insert(conn: &mut Conn, mail: &str, attempt: u32, row: Row<'_>) -> Result<(), DbError> {
    sqlx::query(
        "-- mail.attempt
         INSERT INTO mail_attempts (mail, attempt, turn, server, outcome, answer, started_at, ended_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (mail, attempt, turn) DO NOTHING",
    )
    .bind(mail)
    .bind(i64::from(attempt))
    .bind(row.turn)
    .bind(row.server)
    .bind(row.outcome)
    .bind(shortened(row.answer))
    .bind(row.times.0.0)
    .bind(row.times.1.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes what is on record of the attempts at these mails.
pub(in crate::mail) async fn forget(conn: &mut Conn, mails: &[String]) -> Result<(), DbError> {
    for some in mails.chunks(crate::db::MAX_IN) {
        let sql = format!(
            "-- mail.forget_attempts
             DELETE FROM mail_attempts WHERE mail IN ({})",
            crate::db::placeholders(1, some.len())
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for mail in some {
            query = query.bind(mail);
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}
