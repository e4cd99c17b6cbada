//! What an import did, or a dry run says it would do.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::model::Reading;
use super::plan::{Change, Step};
use crate::audit;
use crate::catalog::apis::actions::view;
use crate::catalog::apis::model::Api;

/// What an import did, or a dry run says it would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ApiImport)]
pub struct Report {
    /// true: nothing was changed.
    pub dry_run: bool,
    /// Module of the APIs.
    pub module: String,
    /// The document's title.
    pub title: String,
    /// The document's own version.
    pub version: String,
    /// How many APIs were created.
    pub created: usize,
    /// How many were brought up to date.
    pub updated: usize,
    /// How many were removed.
    pub removed: usize,
    /// How many are as the document says.
    pub unchanged: usize,
    /// Each API of the document, then those that it does not have.
    pub apis: Vec<ReportedApi>,
    /// Operations that cannot be held: left out with `skip_unsupported`, else nothing is imported.
    pub unsupported: Vec<ReportedOperation>,
    /// APIs that cannot be as the document says because of others. New ones are left out with
    /// `skip_unsupported`; else nothing is imported.
    pub conflicts: Vec<ReportedConflict>,
    /// What concerns the document as a whole.
    pub warnings: Vec<String>,
    /// Why nothing is imported; null: nothing stands in the way.
    pub refused: Option<String>,
}

/// What becomes of one API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ApiImportStep)]
pub struct ReportedApi {
    /// `create`, `update`, `unchanged`, `missing` (came by an earlier import, not in the document;
    /// stays), `remove` (the same, and goes).
    pub change: ReportedChange,
    /// Its id within the module.
    pub id: String,
    /// Its uid; null for one that a dry run would create.
    pub uid: Option<String>,
    /// Method and path as in the document; null where it is not there.
    pub operation: Option<String>,
    /// What changes: `{"<field>": {"before": …, "after": …}}`.
    #[schema(value_type = Object)]
    pub fields: Value,
    /// Where it is not, or is more than, what the document says.
    pub warnings: Vec<String>,
}

/// What becomes of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ApiImportChange)]
#[serde(rename_all = "snake_case")]
pub enum ReportedChange {
    /// It is new.
    Create,
    /// It is brought up to date.
    Update,
    /// It is as the document says.
    Unchanged,
    /// It is not in the document, and stays.
    Missing,
    /// It is not in the document, and goes.
    Remove,
}

/// An operation that cannot be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ApiImportUnsupported)]
pub struct ReportedOperation {
    /// Method and path as in the document.
    pub operation: String,
    /// Why, and what to do.
    pub reason: String,
}

/// An API that cannot be as the document says because of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ApiImportConflict)]
pub struct ReportedConflict {
    /// Its id within the module.
    pub id: String,
    /// Method and path as in the document; null where it is not there.
    pub operation: Option<String>,
    /// With whom, and what to do.
    pub reason: String,
}

impl ReportedChange {
    /// As people and programs read it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Unchanged => "unchanged",
            Self::Missing => "missing",
            Self::Remove => "remove",
        }
    }
}

impl ReportedApi {
    /// The step as people and programs read it.
    pub(super) fn of(step: &Step, dry_run: bool) -> Self {
        let (change, api, fields) = match &step.change {
            Change::Create(api) => (ReportedChange::Create, api, differences(None, api)),
            Change::Update { before, after } => {
                (ReportedChange::Update, after, differences(Some(before), after))
            }
            Change::Unchanged(api) => (ReportedChange::Unchanged, api, Value::Object(Default::default())),
            Change::Missing(api) => (ReportedChange::Missing, api, Value::Object(Default::default())),
            Change::Remove(api) => (ReportedChange::Remove, api, Value::Object(Default::default())),
        };
        let drawn = change == ReportedChange::Create && dry_run;
        Self {
            change,
            id: api.id.to_string(),
            uid: (!drawn).then(|| api.uid.to_string()),
            operation: step.operation.clone(),
            fields,
            warnings: step.warnings.clone(),
        }
    }
}

impl Report {
    /// A report of these steps.
    pub(super) fn new(
        reading: Reading,
        steps: &[Step],
        conflicts: Vec<ReportedConflict>,
        dry_run: bool,
    ) -> Self {
        let count = |kind: fn(&Change) -> bool| steps.iter().filter(|step| kind(&step.change)).count();
        Self {
            dry_run,
            module: reading.module.to_string(),
            title: reading.title,
            version: reading.version,
            created: count(|change| matches!(change, Change::Create(_))),
            updated: count(|change| matches!(change, Change::Update { .. })),
            removed: count(|change| matches!(change, Change::Remove(_))),
            unchanged: count(|change| matches!(change, Change::Unchanged(_))),
            apis: steps.iter().map(|step| ReportedApi::of(step, dry_run)).collect(),
            unsupported: reading
                .unsupported
                .into_iter()
                .map(|one| ReportedOperation { operation: one.operation, reason: one.reason })
                .collect(),
            conflicts,
            warnings: reading.warnings.into_iter().collect(),
            refused: None,
        }
    }

    /// Whether anything would change.
    pub(super) fn changes(&self) -> bool {
        self.created + self.updated + self.removed > 0
    }
}

fn differences(before: Option<&Api>, after: &Api) -> Value {
    audit::changed(&before.map_or(Value::Null, view), &view(after))
}
