//! Tables `audit_entries` and `audit_head`.

use gate::time::UnixMillis;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::chain::{Link, chain_hash};
use super::change::masked;
use super::model::{Entry, Recorded, Search};
use crate::db::{Conditions, Conn, DbError, like_pattern};

/// Entries that the verification reads at a time.
const VERIFY_PAGE: i64 = 1_000;

/// Appends an entry. Locks the end of the chain until the transaction ends: call it last.
pub async fn record(conn: &mut Conn, entry: Entry, now: UnixMillis) -> Result<(), DbError> {
    let head = sqlx::query(
        "-- audit.record
         UPDATE audit_head
            SET seq = seq + 1
          WHERE id = 1
         RETURNING seq, hash",
    )
    .fetch_one(&mut *conn)
    .await?;
    let (seq, before): (i64, String) = (head.try_get("seq")?, head.try_get("hash")?);
    let detail = masked(entry.detail).to_string();
    let hash = chain_hash(&before, seq, now.0, [&entry.actor, entry.action, &entry.subject, &detail]);
    sqlx::query(
        "-- audit.record
         INSERT INTO audit_entries (seq, at, actor, action, subject, detail, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(seq)
    .bind(now.0)
    .bind(&entry.actor)
    .bind(entry.action)
    .bind(&entry.subject)
    .bind(&detail)
    .bind(&hash)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "-- audit.record
         UPDATE audit_head
            SET hash = $1
          WHERE id = 1",
    )
    .bind(&hash)
    .execute(conn)
    .await?;
    Ok(())
}

/// Entries that `search` asks for, newest first: `limit` and one more, by which the caller sees
/// that there are more.
pub async fn search(conn: &mut Conn, search: &Search, limit: i64) -> Result<Vec<Recorded>, DbError> {
    let mut wanted = Conditions::default();
    if !search.actors.is_empty() {
        wanted.any_of("actor IN (#)", &search.actors);
    }
    match search.action.as_deref() {
        Some(action) if action.ends_with('.') => {
            let pattern = like_pattern(Some(action));
            wanted.text("action LIKE # ESCAPE '\\'", pattern.trim_start_matches('%'));
        }
        Some(action) => wanted.text("action = #", action),
        None => {}
    }
    if let Some(subject) = &search.subject {
        wanted.text("subject = #", subject);
    }
    if let Some(keyword) = &search.keyword {
        wanted.text("LOWER(detail) LIKE # ESCAPE '\\'", &like_pattern(Some(keyword)));
    }
    for (condition, bound) in [("at >= #", search.from), ("at <= #", search.to), ("seq < #", search.before)] {
        if let Some(bound) = bound {
            wanted.number(condition, bound);
        }
    }
    // Only what is asked for stands in the statement, so that the index for it is taken.
    let sql = format!(
        "-- audit.search
         SELECT seq, at, actor, action, subject, detail, hash
           FROM audit_entries
          WHERE {}
          ORDER BY seq DESC
          LIMIT ${}",
        wanted.sql(),
        wanted.next()
    );
    let rows = wanted.bind(sqlx::query(AssertSqlSafe(sql))).bind(limit + 1).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let link = read(row)?;
            Ok(Recorded {
                seq: link.seq,
                at: link.at,
                actor: link.actor,
                action: link.action,
                subject: link.subject,
                // Shown as it is where it is no JSON: the verification, not the list, speaks of tampering.
                detail: serde_json::from_str(&link.detail).unwrap_or_else(|_| link.detail.into()),
                hash: link.hash,
            })
        })
        .collect()
}

/// Number of the last entry on record, whatever the head says; 0 = none.
pub async fn last(conn: &mut Conn) -> Result<i64, DbError> {
    let row = sqlx::query(
        "-- audit.last
         SELECT COALESCE(MAX(seq), 0) AS seq
           FROM audit_entries",
    )
    .fetch_one(conn)
    .await?;
    Ok(row.try_get("seq")?)
}

/// The next entries behind `after`, up to `last`, in order; none: that was all.
pub async fn page(conn: &mut Conn, after: i64, last: i64) -> Result<Vec<Link>, DbError> {
    sqlx::query(
        "-- audit.verify
         SELECT seq, at, actor, action, subject, detail, hash
           FROM audit_entries
          WHERE seq > $1
            AND seq <= $2
          ORDER BY seq
          LIMIT $3",
    )
    .bind(after)
    .bind(last)
    .bind(VERIFY_PAGE)
    .fetch_all(conn)
    .await?
    .iter()
    .map(read)
    .collect()
}

/// Number and hash of the last entry, as the head remembers them; 0 = none yet.
pub async fn head(conn: &mut Conn) -> Result<(i64, String), DbError> {
    let head = sqlx::query(
        "-- audit.head
         SELECT seq, hash
           FROM audit_head
          WHERE id = 1",
    )
    .fetch_one(conn)
    .await?;
    Ok((head.try_get("seq")?, head.try_get("hash")?))
}

fn read(row: &AnyRow) -> Result<Link, DbError> {
    Ok(Link {
        seq: row.try_get("seq")?,
        at: row.try_get("at")?,
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        subject: row.try_get("subject")?,
        detail: row.try_get("detail")?,
        hash: row.try_get("hash")?,
    })
}
