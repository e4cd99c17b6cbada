//! Look up, claim, keep, give back, forget.

use gate::time::UnixMillis;
use zeroize::Zeroizing;

use super::model::{Answer, Call, KEPT_MS, MAX_KEPT_ANSWER_BYTES, Progress, SECRET_KEPT_MS};
use super::store::{self, NewAnswer, NewClaim};
use crate::app::App;
use crate::db::{Boxed, Conn, DbError, Rider};
use crate::schedule::{self, Outcome, Task};
use crate::vault::VaultError;

/// One attempt to carry a call out: it claims the key with the first transaction that commits, and
/// again, without effect, with those that follow.
#[derive(Debug)]
pub(super) struct Run {
    pub id: String,
    call: String,
    fingerprint_sealed: String,
    now: UnixMillis,
}

/// What is told to who repeats a call.
pub(super) enum Repeat {
    /// It was not carried out before.
    None,
    /// The key stands for something else.
    Another,
    /// The same answer.
    Answer(Answer),
    /// The answer will be there in a moment.
    Answering,
    /// It was carried out at this instant, and its answer cannot be shown.
    Unanswerable { carried_out_at: UnixMillis, why: Unanswerable },
}

/// Why an answer cannot be shown again.
#[derive(Clone, Copy)]
pub(super) enum Unanswerable {
    /// The process ended before it had one.
    Lost,
    /// It held a secret or was too long.
    NotKept,
}

/// What was asked of the database or the vault and not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdempotencyError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("an idempotency key: {0}")]
    Vault(#[from] VaultError),
    #[error("an idempotency key: the kept answer is not what was sealed")]
    Answer,
}

impl Run {
    pub fn new(app: &App, call: &Call) -> Self {
        Self {
            id: app.random.id("idr"),
            call: call.id.clone(),
            fingerprint_sealed: app.vault.seal(&call_purpose(&call.id), &call.fingerprint),
            now: app.now(),
        }
    }
}

impl Rider for Run {
    fn ride<'a>(&'a self, conn: &'a mut Conn) -> Boxed<'a, Result<(), DbError>> {
        Box::pin(async move {
            let claim = NewClaim {
                id: &self.call,
                run: &self.id,
                fingerprint_sealed: &self.fingerprint_sealed,
                now: self.now,
                expires_at: UnixMillis(self.now.0.saturating_add(KEPT_MS)),
            };
            if store::claim(conn, &claim).await? { Ok(()) } else { Err(DbError::Repeated) }
        })
    }
}

/// What is on record of that call, and by which run.
pub(super) async fn look_up(app: &App, call: &Call) -> Result<(Repeat, Option<String>), IdempotencyError> {
    let now = app.now();
    let Some(claim) = store::find(&mut *app.db.read().await?, &call.id, now).await? else {
        return Ok((Repeat::None, None));
    };
    let fingerprint = app.vault.open(&call_purpose(&call.id), &claim.fingerprint_sealed)?;
    let unanswerable = |why| Repeat::Unanswerable { carried_out_at: claim.claimed_at, why };
    let repeat = match claim.progress(now) {
        _ if fingerprint.as_slice() != call.fingerprint => Repeat::Another,
        Progress::Answered { sealed } => {
            let opened = app.vault.open(&answer_purpose(&call.id), sealed)?;
            Repeat::Answer(serde_json::from_slice(&opened).map_err(|_| IdempotencyError::Answer)?)
        }
        Progress::AnswerGone => unanswerable(Unanswerable::NotKept),
        Progress::Answering => Repeat::Answering,
        Progress::AnswerLost => unanswerable(Unanswerable::Lost),
    };
    Ok((repeat, Some(claim.run)))
}

/// Keeps the answer of a run, before it is sent. False: another run has carried the call out, and
/// this one has found nothing to do.
pub(super) async fn keep(
    app: &App,
    call: &Call,
    run: &Run,
    answer: Option<&Answer>,
    confidential: bool,
) -> Result<bool, IdempotencyError> {
    let now = app.now();
    let kept_ms = if confidential { SECRET_KEPT_MS } else { KEPT_MS };
    let sealed = match answer {
        Some(answer) if answer.body.len() <= MAX_KEPT_ANSWER_BYTES => {
            let json = Zeroizing::new(serde_json::to_vec(answer).map_err(|_| IdempotencyError::Answer)?);
            Some(app.vault.seal(&answer_purpose(&call.id), &json))
        }
        Some(_) | None => None,
    };
    let kept = NewAnswer { sealed: sealed.as_deref(), until: UnixMillis(now.0.saturating_add(kept_ms)) };
    let mut tx = app.db.write_aside("idempotency.keep").await?;
    // It is claimed already, unless there was nothing to write.
    match run.ride(&mut tx).await {
        Ok(()) => {}
        Err(DbError::Repeated) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    store::answered(&mut tx, &call.id, &run.id, &kept, now).await?;
    tx.commit().await?;
    Ok(true)
}

/// Gives the key back after a refusal: it may be repeated as it is.
pub(super) async fn release(app: &App, call: &Call, run: &Run) -> Result<(), IdempotencyError> {
    let mut tx = app.db.write_aside("idempotency.release").await?;
    store::release(&mut tx, &call.id, &run.id).await?;
    tx.commit().await?;
    Ok(())
}

/// House-keeping: forgets keys whose time is over, and the secrets of answers before that.
pub(super) async fn forget(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let now = app.now();
    store::forget_answers(conn, now).await?;
    let deleted = store::forget_keys(conn, now, schedule::BATCH).await?;
    Ok(schedule::forgotten(task, deleted, schedule::BATCH, "idempotency keys"))
}

fn call_purpose(id: &str) -> String {
    format!("idempotency.call:{id}")
}

fn answer_purpose(id: &str) -> String {
    format!("idempotency.answer:{id}")
}
