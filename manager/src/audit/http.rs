//! `/api/v1/audit`: searched, verified, anchored.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, AnchorError};
use super::chain::{Anchor, MAX_FAULTS, Verification};
use super::model::{Recorded, Search};
use super::store;
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::http::{
    Json, Page, Permission, Query, Routes, foreign_cursor, operator_id, operator_names, page_cursor,
    page_limit,
};
use crate::problem::Problem;

/// What an operator's id follows in an actor.
const OPERATOR: &str = "operator:";

/// `/api/v1/audit` and below.
pub fn routes() -> Routes {
    Routes::of("audit")
        .permitted(&[Permission::AuditRead], routes!(list))
        .permitted(&[Permission::AuditRead], routes!(verify))
        .permitted(&[Permission::AuditRead], routes!(anchor))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// Who: an operator's name or id, `client:<id>`, `system` or `cli`.
    actor: Option<String>,
    /// What: an action (`clients.update`), or all that begin like this (`clients.`).
    action: Option<String>,
    /// On what: `<kind>:<id>`, such as `client:acme`.
    subject: Option<String>,
    /// First instant, UTC ms.
    from: Option<i64>,
    /// Last instant, UTC ms.
    to: Option<i64>,
    /// In the detail; a to z in whatever case.
    keyword: Option<String>,
}

/// An entry of the audit trail.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct EntryView {
    /// Its place in the chain, from 1.
    seq: i64,
    /// UTC ms.
    at: i64,
    /// `operator:<id>`, `client:<id>`, `system` or `cli`.
    actor: String,
    /// What the operator signs in with; null where it was no operator.
    actor_name: Option<String>,
    /// `<capability>.<action>`
    action: String,
    /// `<kind>:<id>` of what was acted on.
    subject: String,
    /// More about it; of an update also `changed`: `{"<field>": {"before", "after"}}`.
    #[schema(value_type = Object)]
    detail: Value,
    /// Lower-case hex SHA-256 over the hash before and all of the above but `actor_name`.
    hash: String,
}

impl EntryView {
    fn new(entry: Recorded, names: &BTreeMap<String, String>) -> Self {
        let name = entry.actor.strip_prefix(OPERATOR).and_then(|id| names.get(id)).cloned();
        Self {
            seq: entry.seq,
            at: entry.at,
            actor: entry.actor,
            actor_name: name,
            action: entry.action,
            subject: entry.subject,
            detail: entry.detail,
            hash: entry.hash,
        }
    }
}

/// Search the audit trail, newest first.
#[utoipa::path(get, path = "/api/v1/audit", params(ListQuery))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<EntryView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = match page_cursor(query.cursor.as_deref())?.as_str() {
        "" => None,
        seq => Some(seq.parse().map_err(|_| foreign_cursor())?),
    };
    if let (Some(from), Some(to)) = (query.from, query.to)
        && to < from
    {
        return Err(Problem::invalid_query("to", "to is before from: name the first instant in from"));
    }
    let mut conn = app.db.snapshot().await?;
    let search = Search {
        actors: match query.actor {
            Some(actor) => actors(&mut conn, actor).await?,
            None => Vec::new(),
        },
        action: query.action,
        subject: query.subject,
        from: query.from,
        to: query.to,
        keyword: query.keyword,
        before,
    };
    let entries = store::search(&mut conn, &search, limit).await?;
    let ids = entries.iter().filter_map(|entry| entry.actor.strip_prefix(OPERATOR)).collect();
    let names = operator_names(&mut conn, &ids).await?;
    let page = Page::new(entries, limit, |entry| entry.seq.to_string());
    Ok(Json(page.map(|entry| EntryView::new(entry, &names))))
}

/// Whom `named` may mean: itself, the operator of that id, the operator of that name.
async fn actors(conn: &mut Conn, named: String) -> Result<Vec<String>, DbError> {
    let of_name = operator_id(conn, &named).await?;
    let ids = std::iter::once(named.clone()).chain(of_name);
    Ok(ids.map(|id| format!("{OPERATOR}{id}")).chain([named]).collect())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct VerifyQuery {
    /// With `hash`: an anchor that the trail must still contain.
    #[param(minimum = 1)]
    seq: Option<i64>,
    /// With `seq`.
    #[param(min_length = 64, max_length = 64)]
    hash: Option<String>,
}

/// What following the whole trail has shown.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditVerification)]
struct VerificationView {
    /// Whether nothing is wrong.
    whole: bool,
    /// Entries on record.
    entries: i64,
    /// What is wrong, in the order of the trail; each names its entry. 100 at most.
    #[schema(max_items = 100)]
    faults: Vec<String>,
}

const _: () = assert!(MAX_FAULTS == 100, "as the schema says");

impl From<Verification> for VerificationView {
    fn from(found: Verification) -> Self {
        Self {
            whole: found.is_whole(),
            entries: found.entries,
            faults: found.faults.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Verify the audit trail: follow its chain of hashes from the first entry to the last.
///
/// One call at a time: 503 `busy` while another one does.
#[utoipa::path(get, path = "/api/v1/audit/verification", params(VerifyQuery))]
async fn verify(
    State(app): State<App>,
    Query(query): Query<VerifyQuery>,
) -> Result<Json<VerificationView>, Problem> {
    let anchor = match (query.seq, query.hash) {
        (None, None) => None,
        (Some(seq), Some(hash)) if seq >= 1 && hash.len() == 64 => {
            Some(Anchor { installation: app.config.base_url(), seq, hash, at: 0 })
        }
        (seq, _) => {
            let field = if seq.is_some_and(|seq| seq >= 1) { "hash" } else { "seq" };
            return Err(Problem::invalid_query(
                field,
                format!(
                    "{field} is not that of an anchor: name both seq (1 or more) and hash (64 characters), or neither"
                ),
            ));
        }
    };
    let Some(_turn) = app.verifying.take() else {
        return Err(
            Problem::busy("the trail is being verified for another call, one at a time").retry_after(5)
        );
    };
    Ok(Json(actions::verify(&app, anchor.as_ref()).await?.into()))
}

/// Take an anchor of the audit trail: its end as it is now, to be kept elsewhere.
#[utoipa::path(get, path = "/api/v1/audit/anchor", responses(
    (status = 409, description = "`empty_trail`: there is no entry yet"),
))]
async fn anchor(State(app): State<App>) -> Result<Json<Anchor>, Problem> {
    Ok(Json(actions::anchor(&app).await?))
}

impl From<AnchorError> for Problem {
    fn from(error: AnchorError) -> Self {
        let detail = error.to_string();
        match error {
            AnchorError::Empty => Self::conflict("empty_trail", detail),
            AnchorError::Db(error) => error.into(),
        }
    }
}
