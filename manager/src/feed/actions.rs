//! The answers to a gateway's questions.

use std::sync::Arc;
use std::time::Duration;

use gate::id::{Epoch, Revision};
use gate::wire::WIRE_VERSION;
use gate::wire::changes::{Change, ChangesAnswer, MAX_CHANGES, Subject};
use gate::wire::directory::{DirectoryAnswer, Settings};
use gate::wire::exchange::{ExchangeAnswer, ExchangeRequest, Presented, Resolved};
use tokio::sync::OnceCell;

use super::commit::{Committer, Done, Work};
use super::gauges::Gauges;
use super::{grant, model, store};
use crate::app::App;
use crate::catalog;
use crate::changes::{self, Head, Page, Watch};
use crate::clients::{self, PasswordCheck, Verified};
use crate::config::Config;
use crate::db::DbError;
use crate::tokens;

/// What the calls of one process share. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    watch: Watch,
    committer: Committer,
    prepared: Arc<OnceCell<()>>,
    pub(super) gauges: Gauges,
}

/// What a directory call gets.
#[derive(Debug)]
pub enum Directory {
    /// The caller has it already.
    Unchanged,
    /// A snapshot or a delta.
    Answer(Box<DirectoryAnswer>),
}

/// The snapshot, or what has changed since `known`.
pub async fn directory(
    app: &App,
    epoch: Option<Epoch>,
    known: Option<Revision>,
) -> Result<Directory, DbError> {
    prepare(app).await?;
    directory_as_given(app, epoch, known).await
}

/// As [`directory`], without telling filters of this process's settings: for whoever only looks.
pub async fn directory_as_given(
    app: &App,
    epoch: Option<Epoch>,
    known: Option<Revision>,
) -> Result<Directory, DbError> {
    let mut read = app.db.snapshot().await?;
    let head = changes::head(&mut read).await?;
    let stored = store::settings(&mut read).await?;
    let (settings, announced_at) = stored.unwrap_or((settings(&app.config), head.revision));
    let (token_keys, keys_at) = tokens::keys::of_directory(&mut read).await?;
    let same_life = epoch.is_none_or(|epoch| epoch == head.epoch);
    // Revision 0 is before everything: whoever has nothing gets everything.
    let since = known.filter(|known| same_life && known.0 > 0 && *known <= head.revision);
    let entries = catalog::entries(&mut read, since).await?;
    if let Some(since) = since
        && entries.apis.is_empty()
        && entries.removed.is_empty()
        && announced_at.max(keys_at) <= since
    {
        return Ok(Directory::Unchanged);
    }
    Ok(Directory::Answer(Box::new(DirectoryAnswer {
        version: WIRE_VERSION,
        epoch: head.epoch,
        revision: head.revision,
        since,
        settings,
        apis: entries.apis,
        token_keys,
        removed: entries.removed,
    })))
}

/// What has changed after `since`; waits up to `wait` for something.
pub async fn changes_after(
    app: &App,
    epoch: Option<Epoch>,
    since: Revision,
    wait: Duration,
) -> Result<ChangesAnswer, DbError> {
    prepare(app).await?;
    let known = app.feed.watch.head(&app.db).await?;
    let is_ours = epoch.is_none_or(|epoch| epoch == known.epoch) && since <= known.revision;
    if !is_ours {
        return Ok(reset(known));
    }
    let head = app.feed.watch.beyond(&app.db, since, wait).await?;
    if head.epoch != known.epoch {
        return Ok(reset(head));
    }
    if head.revision == since {
        return Ok(answer(head.epoch, since, Vec::new()));
    }
    let mut read = app.db.read().await?;
    Ok(match changes::page(&mut read, since, head.revision, MAX_CHANGES).await? {
        Page::TooOld => reset(head),
        Page::Changes(changes) => {
            // A full page covers no more than its last change.
            let revision = changes.last().map_or(since, |change| change.revision);
            answer(head.epoch, revision, changes)
        }
    })
}

fn answer(epoch: Epoch, revision: Revision, changes: Vec<Change>) -> ChangesAnswer {
    ChangesAnswer { version: WIRE_VERSION, epoch, revision, reset: false, changes }
}

fn reset(head: Head) -> ChangesAnswer {
    ChangesAnswer {
        version: WIRE_VERSION,
        epoch: head.epoch,
        revision: head.revision,
        reset: true,
        changes: Vec::new(),
    }
}

/// Resolves, renews and counts. The request has been checked.
pub async fn exchange(app: &App, request: ExchangeRequest) -> Result<ExchangeAnswer, DbError> {
    prepare(app).await?;
    let (head, resolved) = resolve_all(app, &request.resolve).await?;
    let done = if request.renew.is_empty() && request.usage.is_none() {
        Done { renewed: Vec::new(), usage_seq: None }
    } else {
        let work = Work {
            holder: request.holder,
            slot: request.slot,
            renewals: request.renew,
            usage: request.usage,
        };
        app.feed.committer.commit(app, work).await?
    };
    Ok(ExchangeAnswer {
        version: WIRE_VERSION,
        epoch: head.epoch,
        as_of: head.revision,
        resolved,
        renewed: done.renewed,
        usage_seq: done.usage_seq,
    })
}

async fn resolve_all(app: &App, presented: &[Presented]) -> Result<(Head, Vec<Resolved>), DbError> {
    // A password takes long to check, and may count a wrong one: before the snapshot.
    let mut checked = Vec::with_capacity(presented.len());
    for one in presented {
        checked.push(checked_password(app, one).await?);
    }
    let mut read = app.db.snapshot().await?;
    let head = changes::head(&mut read).await?;
    let now = app.now();
    let mut resolved = Vec::with_capacity(presented.len());
    for (one, verified) in presented.iter().zip(&checked) {
        resolved.push(if model::is_plausible(one) {
            grant::resolve(&mut read, app, one, verified.as_ref(), now).await?
        } else {
            Resolved::Unknown
        });
    }
    drop(read);
    let known = resolved.iter().filter(|one| matches!(one, Resolved::Known { .. })).count();
    for (answer, count) in [("known", known), ("unknown", resolved.len() - known)] {
        if count > 0 {
            app.metrics.add("keygate_resolves_total", &[("answer", answer)], count as u64);
        }
    }
    Ok((head, resolved))
}

async fn checked_password(app: &App, presented: &Presented) -> Result<Option<Verified>, DbError> {
    match presented {
        Presented::Basic { client, password } if model::is_plausible(presented) => {
            match clients::check_password(app, client, password).await? {
                PasswordCheck::Right(verified) => Ok(Some(verified)),
                PasswordCheck::Wrong => Ok(None),
            }
        }
        Presented::Basic { .. }
        | Presented::Dgrk { .. }
        | Presented::XApiKey { .. }
        | Presented::Bearer { .. } => Ok(None),
    }
}

/// Once per process, before its first answer: draws the epoch of a new database, and announces
/// this process's settings where they differ from what filters were given.
async fn prepare(app: &App) -> Result<(), DbError> {
    let prepared = app.feed.prepared.get_or_try_init(async || -> Result<(), DbError> {
        let now = app.now();
        let mut write = app.db.write("feed.prepare").await?;
        changes::renew_epoch(&mut write, Epoch(0), Epoch(app.random.number())).await?;
        let own = settings(&app.config);
        let given = store::settings(&mut write).await?.map(|(settings, _)| settings);
        if given.as_ref() != Some(&own) {
            let revision = changes::record(&mut write, &Subject::Directory, now).await?;
            store::put_settings(&mut write, &own, revision).await?;
        }
        write.commit().await
    });
    prepared.await.copied()
}

fn settings(config: &Config) -> Settings {
    Settings {
        unregistered: config.unregistered,
        denial_format: config.denial_format,
        max_staleness_s: config.max_staleness_s,
        quota_wait_ms: config.quota_wait_ms,
        lookup_wait_ms: config.lookup_wait_ms,
        max_signed_body_bytes: config.max_signed_body_bytes,
        cors_preflight: config.cors_preflight,
        strip_credential: config.strip_credential,
        capacity: config.worker_capacity,
        ratelimit_on_success: config.ratelimit_on_success,
    }
}
