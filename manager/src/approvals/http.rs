//! `/api/v1/approval-flows`

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::actions::{self, ApprovalError};
use super::model::{FlowFault, FormKind, Roles};
use super::store::{self, KeptFlow};
use crate::app::App;
use crate::http::{Actor, IfMatch, Json, Page, Path, Permission, Versioned};
use crate::problem::Problem;

/// Everything about approval flows.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/approval-flows", get(list))
        .route("/api/v1/approval-flows/{type}", get(show).put(configure))
}

#[derive(Serialize)]
struct FlowView {
    /// `KA`, `KU` or `KR`.
    r#type: &'static str,
    /// The type in words.
    label: &'static str,
    /// Level after level the roles that sign it; empty = not configured.
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Levels {
    levels: Vec<Vec<String>>,
}

async fn list(State(app): State<App>, actor: Actor) -> Result<Json<Page<FlowView>>, Problem> {
    may_read(&actor)?;
    let mut read = app.db.snapshot().await?;
    let mut items = Vec::new();
    for kind in FormKind::ALL {
        items.push(FlowView::of(kind, store::find(&mut read, kind).await?));
    }
    Ok(Json(Page { items, next: None }))
}

async fn show(
    State(app): State<App>,
    actor: Actor,
    Path(kind): Path<String>,
) -> Result<Versioned<FlowView>, Problem> {
    may_read(&actor)?;
    let kind = kind_of(&kind)?;
    let view = FlowView::of(kind, store::find(&mut *app.db.snapshot().await?, kind).await?);
    Ok(Versioned(view.version, view))
}

async fn configure(
    State(app): State<App>,
    actor: Actor,
    Path(kind): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Levels>,
) -> Result<Versioned<FlowView>, Problem> {
    actor.require(Permission::ApprovalsConfigure)?;
    let kind = kind_of(&kind)?;
    let kept = actions::configure(&app, &actor.operator, kind, body.levels, seen).await?;
    Ok(Versioned(kept.version, FlowView::of(kind, Some(kept))))
}

/// Whoever has to do with forms may know who signs them.
fn may_read(actor: &Actor) -> Result<(), Problem> {
    let concerned =
        [Permission::ApplicationsApply, Permission::ApplicationsReview, Permission::ApplicationsRead];
    if concerned.into_iter().any(|permission| actor.may(permission)) {
        return Ok(());
    }
    actor.require(Permission::ApprovalsConfigure)
}

fn kind_of(code: &str) -> Result<FormKind, Problem> {
    FormKind::parse(code).ok_or_else(|| {
        Problem::not_found(format!("there is no form type `{code}`: the types are KA, KU and KR"))
    })
}

impl From<ApprovalError> for Problem {
    fn from(error: ApprovalError) -> Self {
        let detail = error.to_string();
        match error {
            ApprovalError::Fault(fault) => Self::invalid(field_of(&fault), detail),
            ApprovalError::Changed { seen, present, .. } => Self::version_mismatch(seen, present),
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
