//! Tables `audit_entries` and `audit_head`.

use gate::time::UnixMillis;
use sqlx::Row as _;

use super::change::masked;
use super::model::{Broken, Entry, Recorded, chain_hash};
use crate::db::{Conn, DbError};

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

/// Entries, newest first, that come before `before` (None: from the end), of one subject or all.
pub async fn list(
    conn: &mut Conn,
    before: Option<i64>,
    subject: Option<&str>,
    limit: i64,
) -> Result<Vec<Recorded>, DbError> {
    sqlx::query(
        "-- audit.list
         SELECT seq, at, actor, action, subject, detail, hash
           FROM audit_entries
          WHERE seq < $1
            AND ($2 = '' OR subject = $2)
          ORDER BY seq DESC
          LIMIT $3",
    )
    .bind(before.unwrap_or(i64::MAX))
    .bind(subject.unwrap_or_default())
    .bind(limit + 1)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Ok(read(row)?.0))
    .collect()
}

/// Follows the chain from its first entry to its end. Ok: how many entries it has.
pub async fn verify(conn: &mut Conn) -> Result<Result<i64, Broken>, DbError> {
    let (mut last, mut hash) = (0, String::new());
    loop {
        let rows = sqlx::query(
            "-- audit.verify
             SELECT seq, at, actor, action, subject, detail, hash
               FROM audit_entries
              WHERE seq > $1
              ORDER BY seq
              LIMIT $2",
        )
        .bind(last)
        .bind(VERIFY_PAGE)
        .fetch_all(&mut *conn)
        .await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let (entry, detail) = read(row)?;
            if entry.seq != last + 1 {
                return Ok(Err(Broken::Missing { expected: last + 1, found: entry.seq }));
            }
            let fields = [entry.actor.as_str(), &entry.action, &entry.subject, &detail];
            if chain_hash(&hash, entry.seq, entry.at, fields) != entry.hash {
                return Ok(Err(Broken::Altered { seq: entry.seq }));
            }
            (last, hash) = (entry.seq, entry.hash);
        }
    }
    let head = sqlx::query(
        "-- audit.verify
         SELECT seq, hash
           FROM audit_head
          WHERE id = 1",
    )
    .fetch_one(conn)
    .await?;
    let (head, head_hash): (i64, String) = (head.try_get("seq")?, head.try_get("hash")?);
    Ok(if head != last {
        Err(Broken::Truncated { last, head })
    } else if head_hash != hash {
        Err(Broken::Altered { seq: last })
    } else {
        Ok(last)
    })
}

/// An entry, and its detail as it is stored (and hashed).
fn read(row: &sqlx::any::AnyRow) -> Result<(Recorded, String), DbError> {
    let seq: i64 = row.try_get("seq")?;
    let detail: String = row.try_get("detail")?;
    let entry = Recorded {
        seq,
        at: row.try_get("at")?,
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        subject: row.try_get("subject")?,
        // Shown as it is where it is no JSON: the verification, not the list, speaks of tampering.
        detail: serde_json::from_str(&detail).unwrap_or_else(|_| detail.clone().into()),
        hash: row.try_get("hash")?,
    };
    Ok((entry, detail))
}
