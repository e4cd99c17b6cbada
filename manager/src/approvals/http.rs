//! `/api/v1/approval-flows`, and deleting a role, which a flow may name.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions::{self, ApprovalError};
use super::delegations;
use super::model::{FlowFault, FormKind, Levels, Roles};
use super::store::{self, KeptFlow};
use crate::app::App;
use crate::http::{Actor, IfMatch, Json, NoContent, Page, Path, Permission, Routes, Versioned};
use crate::operators::RoleName;
use crate::problem::Problem;

/// Everything about approval flows.
pub fn routes() -> Routes {
    /// Whoever has to do with forms may know who signs them.
    const CONCERNED: &[Permission] = &[
        Permission::ApplicationsApply,
        Permission::ApplicationsReview,
        Permission::ApplicationsRead,
        Permission::ApprovalsConfigure,
    ];
    Routes::of("approvals")
        .permitted(CONCERNED, routes!(list))
        .permitted(CONCERNED, routes!(show))
        .permitted(&[Permission::ApprovalsConfigure], routes!(configure))
        .permitted(&[Permission::OperatorsManage], routes!(delete_role))
        .merge(delegations::routes())
}

/// Who signs forms of a type.
#[derive(Serialize, ToSchema)]
#[schema(as = ApprovalFlow)]
struct FlowView {
    #[schema(value_type = FormKind)]
    r#type: &'static str,
    /// The type in words.
    label: &'static str,
    /// Level after level the roles that sign it; empty = not configured.
    #[schema(value_type = Vec<Vec<String>>)]
    levels: Vec<Roles>,
    /// 0 = not configured.
    version: i64,
    /// UTC ms; null = not configured.
    updated_at: Option<i64>,
    /// Operator; null = not configured.
    updated_by: Option<String>,
}

impl FlowView {
    fn of(kind: FormKind, kept: Option<KeptFlow>) -> Self {
        Self {
            r#type: kind.code(),
            label: kind.label(),
            levels: kept.as_ref().map(|kept| kept.flow.levels().to_vec()).unwrap_or_default(),
            version: kept.as_ref().map_or(0, |kept| kept.version),
            updated_at: kept.as_ref().map(|kept| kept.updated_at.0),
            updated_by: kept.map(|kept| kept.updated_by),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApprovalFlowUpdate)]
struct Configure {
    /// Level after level the roles of which one signs it.
    #[schema(value_type = Levels)]
    levels: Vec<Vec<String>>,
}

/// Show the flows of all form types.
#[utoipa::path(get, path = "/api/v1/approval-flows")]
async fn list(State(app): State<App>) -> Result<Json<Page<FlowView>>, Problem> {
    let mut read = app.db.snapshot().await?;
    let mut items = Vec::new();
    for kind in FormKind::ALL {
        items.push(FlowView::of(kind, store::find(&mut read, kind).await?));
    }
    Ok(Json(Page { items, next: None }))
}

/// Show the flow of a form type.
#[utoipa::path(get, path = "/api/v1/approval-flows/{type}")]
async fn show(State(app): State<App>, Path(kind): Path<String>) -> Result<Versioned<FlowView>, Problem> {
    let kind = kind_of(&kind)?;
    let view = FlowView::of(kind, store::find(&mut *app.db.snapshot().await?, kind).await?);
    Ok(Versioned(view.version, view))
}

/// Configure who signs forms of a type.
///
/// Every level needs an active signer, and so many of them that nobody must sign two levels, also for
/// the forms that are under way.
#[utoipa::path(put, path = "/api/v1/approval-flows/{type}", params(IfMatch), responses(
    (status = 409, description = "`no_signer`: `detail` names the level, and the form if one would be left without"),
))]
async fn configure(
    State(app): State<App>,
    actor: Actor,
    Path(kind): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Configure>,
) -> Result<Versioned<FlowView>, Problem> {
    let kind = kind_of(&kind)?;
    let kept = actions::configure(&app, &actor.operator, kind, body.levels, seen).await?;
    Ok(Versioned(kept.version, FlowView::of(kind, Some(kept))))
}

/// Delete a role that nobody has and no approval flow names.
///
/// Nobody deletes a role that is worth more than they hold.
#[utoipa::path(delete, path = "/api/v1/roles/{name}", responses(
    (status = 409, description = "`role_in_use`: `detail` says by which operators or flows"),
))]
async fn delete_role(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<NoContent, Problem> {
    let name =
        RoleName::parse(&name).map_err(|_| Problem::not_found(format!("role {name} does not exist")))?;
    actions::delete_role(&app, &actor, &name).await?;
    Ok(NoContent)
}

fn kind_of(code: &str) -> Result<FormKind, Problem> {
    FormKind::parse(code).ok_or_else(|| {
        Problem::not_found(format!("there is no form type `{code}`: the types are KA, KU, KR and CR"))
    })
}

impl From<ApprovalError> for Problem {
    fn from(error: ApprovalError) -> Self {
        let detail = error.to_string();
        match error {
            ApprovalError::Fault(fault) => Self::invalid(field_of(&fault), detail),
            ApprovalError::Changed { seen, present, .. } => Self::version_mismatch(seen, present),
            ApprovalError::NoSigner(_) | ApprovalError::FormLeft { .. } => {
                Self::conflict("no_signer", detail)
            }
            ApprovalError::RoleNamed { .. } => Self::conflict("role_in_use", detail),
            ApprovalError::Operator(error) => error.into(),
            ApprovalError::Db(error) => error.into(),
        }
    }
}

/// `levels`, or the place within it: `levels[1]`, counted from 0 as JSON does.
fn field_of(fault: &FlowFault) -> String {
    match fault {
        FlowFault::NoLevels | FlowFault::TooManyLevels { .. } => "levels".to_owned(),
        FlowFault::NoRoles { level }
        | FlowFault::TooManyRoles { level, .. }
        | FlowFault::UnknownRole { level, .. }
        | FlowFault::RoleTwice { level, .. } => format!("levels[{}]", level.saturating_sub(1)),
    }
}
