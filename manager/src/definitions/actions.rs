//! Applying definitions and writing them down.

use sha2::{Digest as _, Sha256};

use super::document::{Definition, Document};
use super::model::{Fault, Kind, MAX_DEFINITIONS, MAX_FAULTS, Wanted};
use super::plan::plan;
use super::work::{Action, Change, Work};
use crate::app::App;
use crate::db::DbError;

/// How to apply.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Nothing is kept.
    pub dry_run: bool,
    /// What is there of a kind that is defined, and is not defined itself, goes.
    pub prune: bool,
    /// The digest of what somebody has agreed to: anything else is refused.
    pub agreed: Option<String>,
}

/// What was done, or with a dry run would be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// In the order in which it is done.
    pub changes: Vec<Change>,
    /// Definitions of what is as they say.
    pub unchanged: usize,
    /// What pruning leaves: clients and flows that no definition names.
    pub spared: Vec<(Kind, String)>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Definitions cannot be kept.
    #[error("{}", told(.0))]
    Refused(Vec<Fault>),
    /// What is to be done is not what was agreed to.
    #[error("what is to be done has changed since it was shown: nothing was done, apply again")]
    NotAgreed,
    /// More than can be written at once.
    #[error("there are more than {MAX_DEFINITIONS} definitions: name the kinds to export one by one")]
    TooMany,
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Each fault in a line of its own.
fn told(faults: &[Fault]) -> String {
    let mut lines: Vec<String> = faults.iter().take(MAX_FAULTS).map(Fault::to_string).collect();
    if let Some(more) = faults.len().checked_sub(MAX_FAULTS).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

/// Makes what is there what `wanted` says: planned and done in one transaction. `faults` are what
/// reading has found; with any, nothing is kept, but everything else that is wrong is found too.
pub async fn apply(
    app: &App,
    by: &str,
    wanted: &Wanted,
    mut faults: Vec<Fault>,
    manner: Manner,
) -> Result<Outcome, ApplyError> {
    let now = app.now();
    let mut tx = app.db.write("definitions.apply").await?;
    let mut work = Work::begin(&mut tx, app, by, now).await?;
    let mut present = work.read(&mut tx, &wanted.kinds()).await?;
    let first = plan(wanted, &present, manner.prune);
    work.take(&mut tx, wanted, &mut present, &first).await?;
    let mut plan = plan(wanted, &present, manner.prune);
    faults.append(&mut plan.faults);
    let mut done = work.perform(&mut tx, wanted, &mut present, &plan).await?;
    faults.append(&mut done.faults);
    if !faults.is_empty() {
        return Err(ApplyError::Refused(faults));
    }
    let outcome =
        Outcome { changes: done.changes, unchanged: plan.unchanged + done.unchanged, spared: plan.spared };
    if manner.agreed.is_some_and(|agreed| agreed != outcome.digest()) {
        return Err(ApplyError::NotAgreed);
    }
    if !manner.dry_run && !outcome.changes.is_empty() {
        tx.commit().await?;
    }
    Ok(outcome)
}

/// Everything there is of `kinds`, as definitions: without passwords, keys and tokens.
pub async fn export(app: &App, kinds: &[Kind]) -> Result<Vec<Document>, ApplyError> {
    let mut read = app.db.snapshot().await?;
    let present = Work::reading(app).read(&mut read, kinds).await?;
    let mut documents: Vec<Document> = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kinds.contains(kind)) {
        match kind {
            Kind::Api => documents.extend(
                present.apis.values().map(|kept| Definition::Api(Box::new(kept.spec.clone())).into()),
            ),
            Kind::Group => documents
                .extend(present.groups.values().map(|kept| Definition::Group(kept.spec.clone()).into())),
            Kind::Scope => documents
                .extend(present.scopes.values().map(|kept| Definition::Scope(kept.spec.clone()).into())),
            Kind::Client => documents.extend(
                present.clients.values().map(|kept| Definition::Client(Box::new(kept.spec.clone())).into()),
            ),
            Kind::User => documents
                .extend(present.users.values().map(|kept| Definition::User(kept.spec.clone()).into())),
            Kind::ApprovalFlow => documents.extend(
                present.flows.values().map(|kept| Definition::ApprovalFlow(kept.spec.clone()).into()),
            ),
        }
    }
    if documents.len() > MAX_DEFINITIONS {
        return Err(ApplyError::TooMany);
    }
    Ok(documents)
}

impl Outcome {
    /// How many of one action.
    pub fn count(&self, action: Action) -> usize {
        self.changes.iter().filter(|change| change.action == action).count()
    }

    /// Tells these changes from all others.
    pub fn digest(&self) -> String {
        let text = serde_json::to_vec(&self.changes).unwrap_or_default();
        Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Clients and users that are made: they have no password.
    pub fn without_password(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let made = move |change: &&Change| change.kind == kind && change.action == Action::Create;
        self.changes.iter().filter(made).map(|change| change.id.as_str())
    }
}
