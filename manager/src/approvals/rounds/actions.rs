//! What a form's transaction tells of its round.

use gate::time::UnixMillis;

use super::model::{Author, Round, Signature};
use super::store;
use crate::approvals::FormKind;
use crate::approvals::signers::{Grounds, Right};
use crate::db::{Conn, DbError};

/// The form was submitted with that many levels: the first one waits, and nobody has signed.
pub async fn begin(
    conn: &mut Conn,
    (form, kind, number): (&str, FormKind, &str),
    author: &Author,
    levels: u32,
    now: UnixMillis,
) -> Result<Round, DbError> {
    let round = store::begin(conn, form, kind, number, author, levels, now).await?;
    let (form, number, author) = (form.to_owned(), number.to_owned(), author.clone());
    Ok(Round { form, number, author, round, since: now, ..Round::imagined(kind, levels) })
}

/// `signer` approved the level that waits, by that right. Returns the round at its next level; None:
/// that was the last one.
pub async fn sign(
    conn: &mut Conn,
    round: &Round,
    signer: &str,
    right: &Right,
    now: UnixMillis,
) -> Result<Option<Round>, DbError> {
    let signature = Signature {
        level: round.level,
        signer: signer.to_owned(),
        on_behalf_of: right.on_behalf_of.clone(),
        escalated: right.grounds == Grounds::Escalation,
    };
    store::sign(conn, round, &signature, now).await?;
    if round.level >= round.levels {
        store::end(conn, &round.form, now).await?;
        return Ok(None);
    }
    let level = round.level + 1;
    store::go_on(conn, &round.form, level, now).await?;
    let next = Round {
        level,
        since: now,
        reminded_at: None,
        escalated_at: None,
        reported_at: None,
        ..round.with(signature)
    };
    Ok(Some(next))
}

/// No level of the form waits any more: it was returned, rejected, withdrawn or cancelled.
pub async fn end(conn: &mut Conn, form: &str, now: UnixMillis) -> Result<(), DbError> {
    store::end(conn, form, now).await
}
