//! Group commit: tokens that are issued at the same time are written in one transaction, and none is
//! handed out before it is durable. It takes neither the head of the change feed nor that of the audit
//! trail: nobody has heard of a token before it is issued, and each is on record by itself.

use std::sync::{Arc, Mutex, PoisonError};

use gate::time::UnixMillis;
use gate::wire::exchange::MeterKind;
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use super::model::Token;
use super::refresh::{self, RefreshToken};
use super::store;
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::quotas::{self, Limit};

/// Tokens in one transaction at most: as many as keep it below some tens of milliseconds.
const MAX_TOGETHER: usize = 256;

/// Where tokens wait for their common commit. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Committer(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Vec<Job>>,
    turn: AsyncMutex<()>,
}

/// What is put on record.
#[derive(Clone, Debug)]
pub(super) struct New {
    /// The access token.
    pub token: Arc<Token>,
    /// The refresh token that is handed out with it.
    pub refresh: Option<Arc<RefreshToken>>,
}

#[derive(Debug)]
struct Job {
    new: New,
    reply: oneshot::Sender<Result<(), DbError>>,
}

impl Committer {
    /// Puts a token on record. Returns after the commit.
    pub(super) async fn commit(&self, app: &App, new: New) -> Result<(), DbError> {
        let (reply, done) = oneshot::channel();
        self.waiting().push(Job { new, reply });
        let (app, committer) = (app.clone(), self.clone());
        // A task of its own: a caller that goes away stops nobody else's token.
        tokio::spawn(async move {
            let _turn = committer.0.turn.lock().await;
            let jobs = committer.take();
            if !jobs.is_empty() {
                run(&app, jobs).await;
            }
        });
        // The sender is dropped unanswered only if that task died.
        done.await.unwrap_or(Err(DbError::Sqlx(sqlx::Error::WorkerCrashed)))
    }

    /// One task runs per job, so what is left over is taken by the next.
    fn take(&self) -> Vec<Job> {
        let mut waiting = self.waiting();
        let count = waiting.len().min(MAX_TOGETHER);
        waiting.drain(..count).collect()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Job>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(app: &App, jobs: Vec<Job>) {
    // Who has gone meanwhile will never present its token.
    let mut jobs: Vec<Job> = jobs.into_iter().filter(|job| !job.reply.is_closed()).collect();
    let new: Vec<New> = jobs.iter().map(|job| job.new.clone()).collect();
    match (write(app, &new).await, jobs.len()) {
        (Ok(()), _) => jobs.into_iter().for_each(|job| job.answer(Ok(()))),
        (Err(error), 0 | 1) => {
            if let Some(job) = jobs.pop() {
                job.answer(Err(error));
            }
        }
        (Err(error), count) => {
            // One of them may be at fault; nothing was written, so each is tried by itself.
            tracing::warn!(%error, "A common commit of {count} tokens failed; each is tried alone");
            for job in jobs {
                let alone = write(app, std::slice::from_ref(&job.new)).await;
                job.answer(alone);
            }
        }
    }
}

impl Job {
    fn answer(self, result: Result<(), DbError>) {
        // A caller that is gone has no token: nobody else knows its text.
        let _ = self.reply.send(result);
    }
}

async fn write(app: &App, tokens: &[New]) -> Result<(), DbError> {
    if tokens.is_empty() {
        return Ok(());
    }
    let now = app.now();
    let mut tx = app.db.write_aside("tokens.issue").await?;
    for New { token, refresh } in tokens {
        if let Some(refresh) = refresh {
            refresh::store::insert(&mut tx, refresh, None).await?;
        }
        store::insert(&mut tx, token, None).await?;
    }
    for New { token, .. } in tokens {
        count_uses(&mut tx, token, now).await?;
    }
    tx.commit().await?;
    app.metrics.add("keygate_tokens_issued_total", &[], tokens.len() as u64);
    Ok(())
}

/// The meter of a token whose uses are counted.
pub(super) async fn count_uses(conn: &mut Conn, token: &Token, now: UnixMillis) -> Result<(), DbError> {
    if token.uses > 0 {
        let limit = Limit::total(u64::from(token.uses));
        quotas::set_limit(conn, MeterKind::TokenUses, &token.id, limit, now).await?;
    }
    Ok(())
}
