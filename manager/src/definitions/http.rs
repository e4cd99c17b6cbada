//! `/api/v1/definitions`: written down, and applied.

use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, ApplyError, Manner, Outcome};
use super::document::{Document, Reader};
use super::model::{Difference, Fault, Kind};
use super::tree::Node;
use super::work::{Action, Change};
use crate::app::App;
use crate::http::{Actor, Json, Query, Routes, read_json};
use crate::problem::Problem;

/// Bytes of definitions that are applied at once at most: some 5,000 APIs.
pub const MAX_APPLY_BYTES: usize = 4 << 20;

/// Everything about definitions.
pub fn routes() -> Routes {
    Routes::of("definitions")
        .decided("With the permission to read each of the kinds.", routes!(export))
        .decided("With the permissions to read and to write each kind that is defined.", routes!(apply))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    /// `Api`, `Group`, `Scope`, `Client` or `ApprovalFlow`; without it all of them.
    kind: Option<String>,
}

/// Clients, APIs, groups, scopes and approval flows, as they are applied.
#[derive(Serialize, ToSchema)]
struct Definitions {
    /// In an order in which nothing is named before it is defined.
    #[schema(value_type = Vec<Shown>)]
    definitions: Vec<Document>,
}

/// A definition: docs/declarative.md has the fields.
#[derive(ToSchema)]
#[schema(as = Definition)]
#[expect(dead_code, reason = "describes what is written field by field")]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// `keygate/v1`.
    #[schema(example = "keygate/v1")]
    api_version: String,
    /// `Api`, `Group`, `Scope`, `Client` or `ApprovalFlow`.
    #[schema(example = "Group")]
    kind: String,
    /// The fields of the thing, as its own call takes them; names where that has ids.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    spec: Value,
}

/// Write down what there is.
///
/// Without passwords, keys and tokens. What is answered can be applied: here it changes nothing,
/// elsewhere it makes the same.
#[utoipa::path(get, path = "/api/v1/definitions", params(ExportQuery))]
async fn export(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ExportQuery>,
) -> Result<Json<Definitions>, Problem> {
    let kinds = match query.kind.as_deref() {
        None => Kind::ALL.to_vec(),
        Some(text) => vec![Kind::parse(text).ok_or_else(|| {
            let all = Kind::ALL.map(Kind::as_str).join(", ");
            Problem::invalid_query("kind", format!("there is no kind {text:?}: the kinds are {all}"))
        })?],
    };
    for kind in &kinds {
        actor.require(kind.to_read())?;
    }
    Ok(Json(Definitions { definitions: actions::export(&app, &kinds).await? }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ApplyQuery {
    /// true: tell what would be done, and do nothing.
    dry_run: Option<bool>,
    /// true: APIs, groups and scopes that are not defined go, if any of their kind is defined.
    prune: Option<bool>,
    /// `plan` of a dry run: what is not exactly this is refused.
    plan: Option<String>,
}

/// What shall be.
#[derive(Deserialize, ToSchema)]
#[schema(as = DefinitionsApply)]
#[serde(deny_unknown_fields)]
struct Apply {
    /// All of them are applied, or none.
    #[schema(value_type = Vec<Entered>)]
    definitions: Vec<Node>,
}

/// A definition, of which fields may be left out.
#[derive(ToSchema)]
#[schema(as = DefinitionEntered)]
#[expect(dead_code, reason = "describes what is read field by field")]
#[serde(rename_all = "camelCase")]
struct Entered {
    /// `keygate/v1`.
    #[schema(example = "keygate/v1")]
    api_version: String,
    /// `Api`, `Group`, `Scope`, `Client` or `ApprovalFlow`.
    #[schema(example = "Group")]
    kind: String,
    /// The fields of the thing, as its own call takes them; names where that has ids.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    spec: Value,
}

/// What was done, or would be.
#[derive(Serialize, ToSchema)]
struct Applied {
    /// Whether it was done.
    applied: bool,
    /// Tells this plan from all others: give it back as `?plan=` to have this done and nothing else.
    plan: String,
    /// What changes, in the order in which it is done.
    changes: Vec<ChangeView>,
    /// Definitions of what is as they say.
    unchanged: usize,
    /// What pruning leaves: clients, users and flows that are not defined.
    spared: Vec<Name>,
}

/// A thing that becomes another.
#[derive(Serialize, ToSchema)]
#[schema(as = DefinitionChange)]
struct ChangeView {
    /// What it is.
    kind: &'static str,
    /// Its name.
    id: String,
    /// What becomes of it.
    action: Action,
    /// Its fields; none where it is deleted.
    fields: Vec<Difference>,
}

/// A thing by its name.
#[derive(Serialize, ToSchema)]
#[schema(as = DefinitionName)]
struct Name {
    /// What it is.
    kind: &'static str,
    /// Its name.
    id: String,
}

/// Make what there is what is defined here.
///
/// A field that is left out stays as it is; in something new it has its default. Everything is done
/// in one transaction, or nothing: then `detail` tells everything that is to be put right.
#[utoipa::path(
    post,
    path = "/api/v1/definitions/apply",
    params(ApplyQuery),
    request_body = Apply,
    responses((status = 409, description = "`plan_changed`")),
)]
async fn apply(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ApplyQuery>,
    request: Request,
) -> Result<Json<Applied>, Problem> {
    let body: Apply = read_json(request, MAX_APPLY_BYTES).await?;
    // Which permissions it needs is told by what is defined.
    if body.definitions.is_empty() {
        return Err(Problem::invalid("definitions", "name at least one definition"));
    }
    let mut reader = Reader::default();
    reader.body(&body.definitions);
    for kind in reader.wanted.kinds() {
        actor.require(kind.to_read())?;
        actor.require(kind.to_write())?;
    }
    let dry_run = query.dry_run.unwrap_or(false);
    let manner = Manner { dry_run, prune: query.prune.unwrap_or(false), agreed: query.plan };
    let outcome = actions::apply(&app, &actor.audit_name(), &reader.wanted, reader.faults, manner).await?;
    Ok(Json(Applied::of(outcome, !dry_run)))
}

impl Applied {
    fn of(outcome: Outcome, applied: bool) -> Self {
        let plan = outcome.digest();
        let view = |change: Change| ChangeView {
            kind: change.kind.as_str(),
            id: change.id,
            action: change.action,
            fields: change.fields,
        };
        let name = |(kind, id): (Kind, String)| Name { kind: kind.as_str(), id };
        Self {
            applied,
            plan,
            changes: outcome.changes.into_iter().map(view).collect(),
            unchanged: outcome.unchanged,
            spared: outcome.spared.into_iter().map(name).collect(),
        }
    }
}

impl From<ApplyError> for Problem {
    fn from(error: ApplyError) -> Self {
        let detail = error.to_string();
        match error {
            ApplyError::Refused(faults) => {
                Self::invalid(faults.first().map_or_else(String::new, field_of), detail)
            }
            ApplyError::NotAgreed => Self::conflict("plan_changed", detail).field("plan"),
            ApplyError::TooMany => Self::invalid("kind", detail),
            ApplyError::Db(error) => error.into(),
        }
    }
}

/// `definitions[3].spec.tps`.
fn field_of(fault: &Fault) -> String {
    fault.place.to_string()
}
