//! `/api/v1/delegations`

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, DelegationError, NewDelegation, Shown};
use super::model::{Reason, Standing};
use crate::app::App;
use crate::http::{
    Actor, Created, Json, NoContent, Page, Path, Query, Routes, foreign_cursor, page_cursor, page_limit,
};
use crate::problem::Problem;

/// Everything about delegations.
pub(in crate::approvals) fn routes() -> Routes {
    const SET: &str =
        "Of one's own signing with applications.review, of somebody else's with operators.manage too.";
    const SEEN: &str = "Either of both operators, with a token that reaches applications.review, or with operators.manage everybody.";
    Routes::of("delegations")
        .signed_in(routes!(list))
        .decided(SET, routes!(create))
        .decided(SEEN, routes!(show, revoke))
}

/// Somebody signs on behalf of another for a while. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Delegation)]
struct DelegationView {
    id: String,
    /// Whose signing it is.
    operator: String,
    operator_name: String,
    /// Who signs on behalf.
    delegate: String,
    delegate_name: String,
    /// First instant.
    from: i64,
    /// First instant after it.
    until: i64,
    #[schema(value_type = Standing)]
    state: &'static str,
    reason: String,
    created_at: i64,
    /// Operator.
    created_by: String,
    /// Null: not.
    revoked_at: Option<i64>,
    /// Operator; null: not revoked.
    revoked_by: Option<String>,
}

impl From<Shown> for DelegationView {
    fn from(Shown { delegation, standing, names }: Shown) -> Self {
        let name = |id: &str| names.get(id).cloned().unwrap_or_else(|| id.to_owned());
        let (revoked_at, revoked_by) = delegation.revoked.map(|(at, by)| (at.0, by)).unzip();
        Self {
            operator_name: name(&delegation.principal),
            delegate_name: name(&delegation.delegate),
            id: delegation.id,
            operator: delegation.principal,
            delegate: delegation.delegate,
            from: delegation.period.from.0,
            until: delegation.period.until.0,
            state: standing.name(),
            reason: delegation.reason,
            created_at: delegation.created_at.0,
            created_by: delegation.created_by,
            revoked_at,
            revoked_by,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DelegationCreate)]
struct Create {
    /// Whose signing, an operator's id; absent: one's own.
    operator: Option<String>,
    /// Who is to sign on behalf: the id of an active operator, who needs no role.
    delegate: String,
    /// First instant, UTC ms; absent: now.
    from: Option<i64>,
    /// First instant after it, UTC ms: at most 92 days later.
    until: i64,
    #[serde(default)]
    #[schema(value_type = Reason)]
    reason: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// On either side; of others with operators.manage.
    operator: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List delegations, newest first.
///
/// One's own, on either side, with a token that reaches applications.review; with operators.manage
/// those of everybody.
#[utoipa::path(get, path = "/api/v1/delegations", params(ListQuery))]
async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<DelegationView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let cursor = page_cursor(query.cursor.as_deref())?;
    let place = match cursor.as_str() {
        "" => (i64::MAX, ""),
        text => {
            let (at, id) = text.split_once(' ').ok_or_else(foreign_cursor)?;
            (at.parse().map_err(|_| foreign_cursor())?, id)
        }
    };
    let found = actions::list(&app, &actor, query.operator, place, limit + 1).await?;
    let key = |shown: &Shown| format!("{} {}", shown.delegation.created_at.0, shown.delegation.id);
    Ok(Json(Page::new(found, limit, key).map(DelegationView::from)))
}

/// Have another operator sign on behalf of oneself, or of somebody who cannot do it.
#[utoipa::path(post, path = "/api/v1/delegations", responses(
    (status = 409, description = "`delegation_overlaps`, `too_many_delegations`"),
))]
async fn create(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<Create>,
) -> Result<Created<Json<DelegationView>>, Problem> {
    let Create { operator, delegate, from, until, reason } = body;
    let new = NewDelegation { principal: operator, delegate, from, until, reason };
    let shown = actions::create(&app, &actor, new).await?;
    let location = format!("/api/v1/delegations/{}", shown.delegation.id);
    Ok(Created(location, Json(shown.into())))
}

/// Show a delegation.
#[utoipa::path(get, path = "/api/v1/delegations/{id}")]
async fn show(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<DelegationView>, Problem> {
    Ok(Json(actions::get(&app, &actor, &id).await?.into()))
}

/// Revoke a delegation.
///
/// The delegate may give it back, too. One that has ended stays as it is.
#[utoipa::path(delete, path = "/api/v1/delegations/{id}")]
async fn revoke(State(app): State<App>, actor: Actor, Path(id): Path<String>) -> Result<NoContent, Problem> {
    actions::revoke(&app, &actor, &id).await?;
    Ok(NoContent)
}

impl From<DelegationError> for Problem {
    fn from(error: DelegationError) -> Self {
        let detail = error.to_string();
        match error {
            DelegationError::NotFound(_) => Self::not_found(detail),
            DelegationError::NotYours => Self::forbidden(detail),
            DelegationError::Period(fault) => Self::invalid(fault.field(), detail),
            DelegationError::ReasonTooLong { .. } => Self::invalid("reason", detail),
            DelegationError::NoOperator { field, .. } => Self::invalid(field, detail),
            DelegationError::SignsNothing { .. } => Self::invalid("operator", detail),
            DelegationError::Oneself => Self::invalid("delegate", detail),
            DelegationError::Overlaps { .. } => Self::conflict("delegation_overlaps", detail),
            DelegationError::TooMany => Self::conflict("too_many_delegations", detail),
            DelegationError::Db(error) => error.into(),
        }
    }
}
