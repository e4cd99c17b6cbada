//! One use case: bring the APIs of a document in, or say what that would do.

use std::collections::BTreeSet;

use gate::id::ApiUid;
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use serde_json::json;

use super::document::{Document, Format};
use super::model::{Options, Reading, Refused};
use super::operations;
use super::plan::{Change, Step, plan};
use super::report::{Report, ReportedConflict};
use crate::app::App;
use crate::catalog::apis;
use crate::catalog::apis::actions::{change, record, taken, view};
use crate::catalog::apis::model::{Api, ApiName};
use crate::catalog::apis::place::Place;
use crate::catalog::apis::store::ApiFilter;
use crate::catalog::error::CatalogError;
use crate::catalog::groups;
use crate::catalog::held::{Held, hold};
use crate::db::{Conn, DbError};
use crate::{audit, changes};

/// Keys, operations or conflicts that a refusal names one by one; a dry run lists all.
const MAX_NAMED: usize = 5;
/// APIs of a module that are read at a time.
const READ_PAGE: i64 = 500;

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The document or an option.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It describes what cannot be held.
    #[error("{0}")]
    Unsupported(String),
    /// It does not go together with what the catalogue holds.
    #[error("{0}")]
    Conflict(String),
    /// Reading the document broke off.
    #[error("reading the document broke off: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    /// The catalogue.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

pub(super) async fn import(
    app: &App,
    by: &str,
    text: Vec<u8>,
    format: Format,
    options: Options,
    dry_run: bool,
) -> Result<Report, ImportError> {
    // Reading takes a while, and nothing else should wait for it.
    let (reading, options) = tokio::task::spawn_blocking(move || {
        let document = Document::read(&text, format).map_err(Refused::from)?;
        operations::read(&document, &options).map(|reading| (reading, options))
    })
    .await??;
    let now = app.now();
    let mut tx = app.db.write("catalog.import_apis").await?;
    let mut held = hold(&mut tx).await?;
    let present = of_module(&mut tx, &reading.module).await?;
    let mut steps = plan(&reading, present, &options, now, || ApiUid(app.random.id("api")));
    let conflicts = conflicts(&mut tx, &mut held, &steps, options.prune).await?;
    let refused = refusal(&reading, &conflicts, &options);
    if refused.is_none() {
        let left_out: BTreeSet<_> = conflicts.iter().map(|conflict| &conflict.uid).collect();
        steps.retain(|step| !left_out.contains(&step.change.api().uid));
    }
    let reported = conflicts.into_iter().map(|conflict| conflict.reported).collect();
    let mut report = Report::new(reading, &steps, reported, dry_run);
    match refused {
        Some(refused) if dry_run => report.refused = Some(refused.to_string()),
        Some(refused) => return Err(refused),
        None if dry_run || !report.changes() => {}
        None => {
            carry_out(&mut tx, by, &steps, &report, now).await?;
            tx.commit().await?;
        }
    }
    Ok(report)
}

async fn of_module(conn: &mut Conn, module: &ApiName) -> Result<Vec<Api>, DbError> {
    let filter = ApiFilter { module: Some(module.to_string()), ..ApiFilter::default() };
    let mut all: Vec<Api> = Vec::new();
    loop {
        let after = all.last().map(Api::title).unwrap_or_default();
        let mut page = apis::store::apis(conn, &filter, &after, READ_PAGE).await?;
        // One more than asked for tells that there are more.
        let more = i64::try_from(page.len()).is_ok_and(|read| read > READ_PAGE);
        page.truncate(usize::try_from(READ_PAGE).unwrap_or(usize::MAX));
        all.append(&mut page);
        if !more {
            return Ok(all);
        }
    }
}

/// A step that others stand in the way of.
struct Conflict {
    uid: ApiUid,
    /// It would be a new API, without which the rest can be imported.
    can_be_left_out: bool,
    reported: ReportedConflict,
}

/// Goes through the steps in the order in which they can be taken: what goes makes room, what is
/// there may change places with one another, what is new finds its own.
async fn conflicts(
    conn: &mut Conn,
    held: &mut Held,
    steps: &[Step],
    prune: bool,
) -> Result<Vec<Conflict>, DbError> {
    let mut conflicts = Vec::new();
    let going: Vec<_> = steps.iter().filter(|step| matches!(step.change, Change::Remove(_))).collect();
    let uids: Vec<_> = going.iter().map(|step| step.change.api().uid.clone()).collect();
    let mut listed = apis::store::keys_listing(conn, &uids).await?;
    for step in going {
        let api = step.change.api();
        if let Some(keys) = listed.remove(&api.uid) {
            let reason = format!(
                "{} is not in the document, and keys list it: {}. Change or revoke them first, or import without \
                 prune",
                api.title(),
                some_of(&keys)
            );
            conflicts.push(Conflict::of(step, reason));
        }
    }
    // Places are known from the first question on.
    held.load(conn).await?;
    for step in steps {
        match &step.change {
            Change::Remove(api) => held.deleted(&api.uid),
            Change::Update { before, .. } if step.change.moves() => held.deleted(&before.uid),
            _ => {}
        }
    }
    let missing: BTreeSet<_> = steps
        .iter()
        .filter(|step| matches!(step.change, Change::Missing(_)))
        .map(|step| &step.change.api().uid)
        .collect();
    let moved = steps.iter().filter(|step| step.change.moves());
    for step in moved.chain(steps.iter().filter(|step| step.change.is_new())) {
        let api = step.change.api();
        let place = Place::of(api);
        match held.clash(conn, &place).await? {
            None => held.saved(place),
            Some(clash) => {
                let removable = !prune && missing.contains(&clash.rival);
                let rival = clash.rival_title.clone();
                let mut reason =
                    CatalogError::Clash { title: api.title(), clash: Box::new(clash) }.to_string();
                if removable {
                    reason.push_str(&format!(". {rival} is not in the document: prune=true removes it"));
                }
                conflicts.push(Conflict::of(step, reason));
            }
        }
    }
    Ok(conflicts)
}

impl Conflict {
    fn of(step: &Step, reason: String) -> Self {
        let api = step.change.api();
        Self {
            uid: api.uid.clone(),
            can_be_left_out: step.change.is_new(),
            reported: ReportedConflict { id: api.id.to_string(), operation: step.operation.clone(), reason },
        }
    }
}

/// Why nothing can be imported.
fn refusal(reading: &Reading, conflicts: &[Conflict], options: &Options) -> Option<ImportError> {
    let reason = |conflict: &Conflict| conflict.reported.reason.clone();
    let firm: Vec<_> = conflicts.iter().filter(|conflict| !conflict.can_be_left_out).map(reason).collect();
    if !firm.is_empty() {
        return Some(ImportError::Conflict(some_of(&firm)));
    }
    if options.skip_unsupported {
        return None;
    }
    const LEAVE_OUT: &str = "skip_unsupported=true leaves out what cannot be imported";
    if !conflicts.is_empty() {
        let all: Vec<_> = conflicts.iter().map(reason).collect();
        return Some(ImportError::Conflict(format!("{}. {LEAVE_OUT}", some_of(&all))));
    }
    if !reading.unsupported.is_empty() {
        let all: Vec<_> =
            reading.unsupported.iter().map(|one| format!("{}: {}", one.operation, one.reason)).collect();
        return Some(ImportError::Unsupported(format!("{}. {LEAVE_OUT}", some_of(&all))));
    }
    None
}

fn some_of(all: &[String]) -> String {
    let some = all.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    match all.len().saturating_sub(MAX_NAMED) {
        0 => some,
        more => format!("{some}; and {more} more, which a dry run lists"),
    }
}

/// Does what the steps say: rows, then one change of the directory, then the trail.
async fn carry_out(
    conn: &mut Conn,
    by: &str,
    steps: &[Step],
    report: &Report,
    now: UnixMillis,
) -> Result<(), CatalogError> {
    let (mut altered, mut removed) = (Vec::new(), Vec::new());
    for step in steps {
        match &step.change {
            Change::Remove(api) => {
                groups::forget_api(conn, &api.uid).await?;
                apis::store::delete_api(conn, &api.uid).await?;
                removed.push(api.uid.clone());
            }
            Change::Update { before, .. } if step.change.moves() => {
                apis::store::delete_routes(conn, &before.uid).await?;
            }
            _ => {}
        }
    }
    for step in steps {
        if let Change::Update { before, after } = &step.change {
            if !apis::store::update_api(conn, after, before.version, step.change.moves()).await? {
                let (expected, present) = (before.version, before.version + 1);
                return Err(CatalogError::Version { expected, present });
            }
            if before.entry() != after.entry() {
                altered.push(after.uid.clone());
            }
        }
    }
    for step in steps {
        if let Change::Create(api) = &step.change {
            apis::store::insert_api(conn, api).await.map_err(|error| taken(error, api))?;
            altered.push(api.uid.clone());
        }
    }
    if !altered.is_empty() || !removed.is_empty() {
        let revision = changes::record(conn, &Subject::Directory, now).await?;
        apis::store::stamp(conn, &altered, revision).await?;
        for uid in &removed {
            apis::store::bury_api(conn, uid, revision).await?;
        }
    }
    for step in steps {
        match &step.change {
            Change::Create(api) => record(conn, by, "catalog.create_api", api, view(api), now).await?,
            Change::Update { before, after } => {
                record(conn, by, "catalog.update_api", after, change(before, after), now).await?;
            }
            Change::Remove(api) => record(conn, by, "catalog.delete_api", api, view(api), now).await?,
            Change::Unchanged(_) | Change::Missing(_) => {}
        }
    }
    let detail = json!({
        "title": report.title,
        "version": report.version,
        "created": report.created,
        "updated": report.updated,
        "removed": report.removed,
        "unsupported": report.unsupported.len(),
        "conflicts": report.conflicts.len(),
    });
    let subject = format!("module:{}", report.module);
    let entry = audit::Entry { actor: by.into(), action: "catalog.import_apis", subject, detail };
    Ok(audit::record(conn, entry, now).await?)
}
