//! Group commit: exchanges that wait at the same time are written in one transaction. A commit
//! costs a flush to the disk whatever is in it; with one flush per exchange the disk would be
//! the bound of all renewals together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use gate::id::{Epoch, HolderId};
use gate::wire::exchange::{Renewal, RenewalAnswer, RenewalOutcome, UsageReport, UsageRow};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use crate::app::App;
use crate::changes;
use crate::db::DbError;
use crate::keys;
use crate::quotas::{self, LeaseTerms, Step};
use crate::usage::{self, Reported};
use crate::x_api_keys;

/// Steps in one transaction at most: as many as keep it below some tens of milliseconds.
const MAX_STEPS_TOGETHER: usize = 2_048;
/// Last uses are noted by the minute.
const LAST_USED_GRAIN_MS: i64 = 60_000;

/// Where writes wait for their common commit. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Committer(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Vec<Job>>,
    turn: AsyncMutex<()>,
}

/// What an exchange writes.
#[derive(Clone, Debug)]
pub struct Work {
    /// The Envoy process.
    pub holder: HolderId,
    /// The VM within it.
    pub slot: u32,
    /// Steps of its lease streams.
    pub renewals: Vec<Renewal>,
    /// What it counted.
    pub usage: Option<UsageReport>,
}

/// What it got, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// One per renewal.
    pub renewed: Vec<RenewalAnswer>,
    /// The report that is counted.
    pub usage_seq: Option<u64>,
}

#[derive(Debug)]
struct Job {
    work: Work,
    reply: oneshot::Sender<Result<Done, DbError>>,
}

impl Committer {
    /// Writes `work`, together with what others wait to write. Returns after the commit; a caller
    /// that goes away meanwhile stops nothing.
    pub async fn commit(&self, app: &App, work: Work) -> Result<Done, DbError> {
        let (reply, done) = oneshot::channel();
        self.waiting().push(Job { work, reply });
        let (app, committer) = (app.clone(), self.clone());
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

    /// Those whose turn it is: the first, and as many more as fit. One task runs per job, so
    /// what is left over is taken by the next.
    fn take(&self) -> Vec<Job> {
        let mut waiting = self.waiting();
        let mut steps = 0;
        let fits = |job: &Job| {
            // A bucket of a histogram is a statement.
            let of_row = |row: &UsageRow| row.latency.len().max(1);
            let usage = job.work.usage.iter().flat_map(|usage| &usage.rows).map(of_row).sum::<usize>();
            steps += job.work.renewals.len() + usage;
            steps <= MAX_STEPS_TOGETHER
        };
        let count = waiting.iter().map(fits).take_while(|fits| *fits).count().max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Job>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(app: &App, jobs: Vec<Job>) {
    let (works, replies): (Vec<Work>, Vec<_>) = jobs.into_iter().map(|job| (job.work, job.reply)).unzip();
    let answers: Vec<Result<Done, DbError>> = match write(app, &works).await {
        Ok(done) => done.into_iter().map(Ok).collect(),
        Err(error) if works.len() == 1 => vec![Err(error)],
        Err(error) => {
            // One of them may be at fault; nothing was written, so each is tried by itself.
            tracing::warn!(%error, "A common commit of {} exchanges failed; each is tried alone", works.len());
            let mut answers = Vec::with_capacity(works.len());
            for work in &works {
                let alone = write(app, std::slice::from_ref(work)).await;
                answers.push(alone.map(|mut done| done.remove(0)));
            }
            answers
        }
    };
    for (reply, answer) in replies.into_iter().zip(answers) {
        // A caller that is gone gets the same answer when it repeats its steps.
        let _ = reply.send(answer);
    }
}

/// All of `works` in one transaction.
async fn write(app: &App, works: &[Work]) -> Result<Vec<Done>, DbError> {
    let now = app.now();
    let mut steps: Vec<Step> = Vec::new();
    let mut reports = Vec::new();
    for work in works {
        steps.extend(work.renewals.iter().map(|renewal| Step {
            holder: work.holder,
            renewal: *renewal,
            outcome: None,
        }));
        reports.extend(work.usage.clone().map(|report| Reported {
            holder: work.holder,
            slot: work.slot,
            report,
        }));
    }
    let mut write = app.db.write("feed.exchange").await?;
    let epoch: Epoch = changes::head(&mut write).await?.epoch;
    let announcements =
        quotas::renew(&mut write, epoch, LeaseTerms::of(&app.config), &mut steps, now).await?;
    let counted = usage::count(&mut write, &reports, now).await?;
    write.commit().await?;
    app.metrics.add("keygate_usage_rows_total", &[], counted.rows);
    app.metrics.add("keygate_usage_reports_repeated_total", &[], counted.repeated);

    count_answers(app, &steps);

    // What follows is lost in a crash without harm: a waiting renewal asks for its recall again.
    if let Err(error) = quotas::announce(&app.db, &announcements, now).await {
        tracing::warn!(%error, "{} announcements of the ledger are late", announcements.len());
    }
    if let Err(error) = note_last_uses(app, &reports).await {
        tracing::warn!(%error, "The last use of secrets and X-Api-Keys could not be noted");
    }

    let mut outcomes = steps.into_iter().map(|step| RenewalAnswer {
        meter: step.renewal.meter,
        rec: step.renewal.rec,
        seq: step.renewal.seq,
        outcome: step.outcome.expect("renew answers every step"),
    });
    Ok(works
        .iter()
        .map(|work| Done {
            renewed: outcomes.by_ref().take(work.renewals.len()).collect(),
            usage_seq: work.usage.as_ref().map(|usage| usage.seq),
        })
        .collect())
}

/// Counts what renewals were answered.
fn count_answers(app: &App, steps: &[Step]) {
    let mut answers = BTreeMap::new();
    for step in steps {
        let answer = match step.outcome {
            Some(RenewalOutcome::Granted { .. }) => "granted",
            Some(RenewalOutcome::Pending { .. }) => "pending",
            Some(RenewalOutcome::Exhausted { .. }) => "exhausted",
            Some(RenewalOutcome::Closed) => "closed",
            Some(RenewalOutcome::Refused) => "refused",
            Some(RenewalOutcome::Gone) | None => "gone",
        };
        *answers.entry(answer).or_insert(0) += 1;
    }
    for (answer, count) in answers {
        app.metrics.add("keygate_lease_answers_total", &[("answer", answer)], count);
    }
}

/// When the secrets of keys and the X-Api-Keys in these reports last let somebody in.
async fn note_last_uses(app: &App, reports: &[Reported]) -> Result<(), DbError> {
    let rows = reports.iter().flat_map(|reported| &reported.report.rows);
    let (mut secrets, mut x_api_keys) = (BTreeSet::new(), BTreeSet::new());
    for row in rows.filter(|row| row.result == ADMITTED) {
        secrets.extend(row.secret.as_deref());
        x_api_keys.extend(row.credential.as_ref().filter(|id| x_api_keys::is_x_api_key(id)));
    }
    if secrets.is_empty() && x_api_keys.is_empty() {
        return Ok(());
    }
    let now = app.now();
    let minute = gate::time::UnixMillis(now.0 - now.0.rem_euclid(LAST_USED_GRAIN_MS));
    let mut write = app.db.write("feed.note_last_uses").await?;
    for secret in secrets {
        keys::note_secret_used(&mut write, secret, minute).await?;
    }
    for id in x_api_keys {
        x_api_keys::note_used(&mut write, id, minute).await?;
    }
    write.commit().await
}

/// The result of a call that was let in.
const ADMITTED: &str = "admitted";
