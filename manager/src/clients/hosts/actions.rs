//! Follow a client's bindings; ask for what is due and tell gateways what has changed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use gate::id::ClientId;
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use tokio::task::JoinSet;

use super::model::{Host, HostName, Terms};
use super::resolver::Resolver;
use super::store::{self, Due};
use crate::app::App;
use crate::changes;
use crate::clients::Binding;
use crate::config::Config;
use crate::db::{Conn, DbError};

/// Names that one process asks for at the same time.
const MAX_ASKED: usize = 64;
/// For how long a worker may have a name before another takes it: six times what a lookup takes.
const CLAIM_MS: i64 = 30_000;

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Names that were asked for.
    pub asked: usize,
    /// Of them, those that mean other addresses than before.
    pub changed: usize,
    /// Names that no client is bound to any more.
    pub forgotten: usize,
}

impl Terms {
    /// The installation's.
    pub fn of(config: &Config) -> Self {
        let ms = |seconds: u32| i64::from(seconds) * 1_000;
        Self {
            refresh_ms: ms(config.host_refresh_s),
            keep_ms: ms(config.host_keep_s),
            allow_private: config.host_allow_private,
        }
    }
}

/// The client is bound to the names in `bindings` from now on, within the caller's transaction
/// and after the client itself is written. Returns what is known of them.
pub(in crate::clients) async fn follow(
    conn: &mut Conn,
    client: &str,
    bindings: &[Binding],
    now: UnixMillis,
) -> Result<Vec<Host>, DbError> {
    // Sorted: two clients that bring the same names at once must not wait for each other.
    let names: BTreeSet<HostName> = bindings.iter().filter_map(Binding::host).collect();
    let names: Vec<HostName> = names.into_iter().collect();
    store::bind(conn, client, &names, now).await?;
    store::of_client(conn, client).await
}

/// Keeps others from these names until the caller's transaction ends, who will bind clients to them
/// and records changes in between.
pub async fn hold(conn: &mut Conn, names: &BTreeSet<HostName>, now: UnixMillis) -> Result<(), DbError> {
    for name in names {
        store::take(conn, name, now).await?;
    }
    Ok(())
}

/// What is known of the names that a client is bound to.
pub(in crate::clients) async fn of_client(conn: &mut Conn, client: &str) -> Result<Vec<Host>, DbError> {
    store::of_client(conn, client).await
}

/// Whether there is anything to ask for.
pub(super) async fn is_any_due(app: &App) -> Result<bool, DbError> {
    Ok(!store::due(&mut *app.db.read().await?, app.now(), 1).await?.is_empty())
}

/// Asks for every name that is due now. Run by the job `host_names`; any number of processes may
/// run it at once.
pub async fn resolve_due(app: &App, resolver: &Resolver) -> Result<Answered, DbError> {
    let claim = app.random.id("hc");
    let mut did = Answered::default();
    let mut asking: JoinSet<Answer> = JoinSet::new();
    loop {
        // A slow name does not hold up the others: as answers come, further names are asked for.
        for host in claim_due(app, &claim, MAX_ASKED - asking.len(), &mut did).await? {
            let resolver = resolver.clone();
            asking.spawn(async move {
                let answer = resolver.addresses(&host.name).await;
                (host, answer)
            });
        }
        let Some(first) = asking.join_next().await else { return Ok(did) };
        let mut answers = vec![first];
        while let Some(next) = asking.try_join_next() {
            answers.push(next);
        }
        let answers = answers.into_iter().map(|a| a.expect("a lookup neither panics nor is cancelled"));
        settle(app, &claim, answers.collect(), &mut did).await?;
    }
}

/// What came of a question.
type Answer = (Host, Result<Vec<IpAddr>, String>);

/// Up to `limit` names that are due, for this worker alone.
async fn claim_due(app: &App, claim: &str, limit: usize, did: &mut Answered) -> Result<Vec<Host>, DbError> {
    if limit == 0 {
        return Ok(vec![]);
    }
    let now = app.now();
    let due = store::due(&mut *app.db.read().await?, now, limit).await?;
    let (mut bound, left): (Vec<Due>, Vec<Due>) = due.into_iter().partition(|due| due.bound);
    for due in left {
        did.forgotten += usize::from(forget(app, &due.host.name).await?);
    }
    if bound.is_empty() {
        return Ok(vec![]);
    }
    // In one order in every replica, or two could wait for each other.
    bound.sort_by(|a, b| a.host.name.cmp(&b.host.name));
    let until = UnixMillis(now.0.saturating_add(CLAIM_MS));
    let mut claimed = Vec::with_capacity(bound.len());
    let mut tx = app.db.write("clients.hosts.claim").await?;
    for due in bound {
        if store::claim(&mut tx, &due, claim, until, now).await? {
            claimed.push(due.host);
        }
    }
    tx.commit().await?;
    did.asked += claimed.len();
    Ok(claimed)
}

async fn forget(app: &App, name: &HostName) -> Result<bool, DbError> {
    let mut tx = app.db.write("clients.hosts.forget").await?;
    match store::forget(&mut tx, name).await {
        Ok(()) => tx.commit().await.map(|()| true),
        // A client was bound to it meanwhile.
        Err(error) if error.violates_reference() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Saves what was answered; for names that mean something else than before, the change of every
/// client that is bound to them, which gateways follow.
async fn settle(app: &App, claim: &str, mut answers: Vec<Answer>, did: &mut Answered) -> Result<(), DbError> {
    let (now, terms) = (app.now(), Terms::of(&app.config));
    answers.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let mut changed: BTreeSet<ClientId> = BTreeSet::new();
    let mut tx = app.db.write("clients.hosts.settle").await?;
    for (before, answer) in answers {
        let after = before.after(answer, &terms, now);
        if !store::settle(&mut tx, &after, after.due_at(&terms, now), claim).await? {
            tracing::warn!(host.name = before.name.as_str(), "A look-up took longer than its claim");
            continue;
        }
        // What had lapsed is told too when it comes back as it was: grants were made without it.
        if after.addresses != before.addresses || after.addresses != before.in_force(now, terms.keep_ms) {
            tracing::info!(
                host.name = before.name.as_str(),
                "{} means {} addresses now, {} before{}",
                before.name.as_str(),
                after.addresses.len(),
                before.addresses.len(),
                after.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default()
            );
            did.changed += 1;
            changed.extend(store::clients_of(&mut tx, &after.name).await?);
        }
    }
    for client in changed {
        changes::record(&mut tx, &Subject::Client { client }, now).await?;
    }
    tx.commit().await
}
