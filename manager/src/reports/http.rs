//! `/api/v1/reports`

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::openapi::{self, ContentBuilder, RefOr};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};
use utoipa_axum::routes;

use super::model::{Filter, FormOfKey, KeyHistory, KeyStatus, MAX_EXPORT_ROWS, Place, Signature};
use super::{actions, csv};
use crate::app::App;
use crate::approvals::FormKind;
use crate::http::{Actor, Json, Page, Permission, Query, Routes, foreign_cursor, page_cursor, page_limit};
use crate::openapi::schema::Day;
use crate::problem::Problem;
use crate::search::{Keyword, Words, days, several};

/// `/api/v1/reports` and below.
pub fn routes() -> Routes {
    Routes::of("reports").permitted(&[Permission::KeysRead], routes!(key_history))
}

/// A key and the forms that issued, changed and revoked it. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyHistory)]
struct KeyHistoryView {
    id: String,
    client: String,
    /// Its code; null: nothing is known of the client.
    client_name: Option<String>,
    client_display_name: Option<String>,
    /// The public half.
    api_key: String,
    name: String,
    created_at: i64,
    effective_at: i64,
    /// Last instant.
    expires_at: i64,
    revoked_at: Option<i64>,
    #[schema(value_type = KeyStatus)]
    status: &'static str,
    /// Its last instant has passed.
    overdue: bool,
    /// The status in words, `Active (Overdue)`.
    label: String,
    /// The pair was made elsewhere and brought in: no form issued it.
    imported: bool,
    /// Those that had their effect on it, oldest first; null without applications.read.
    forms: Option<Vec<FormView>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = KeyHistoryForm)]
struct FormView {
    id: String,
    number: String,
    /// KA issued, KU changed, KR revoked it.
    #[schema(value_type = FormKind)]
    r#type: &'static str,
    done_at: i64,
    /// Of the round that approved it, level after level.
    signatures: Vec<SignatureView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = KeyHistorySignature)]
struct SignatureView {
    level: u32,
    /// Operator.
    by: String,
    /// What the operator signs in with.
    name: Option<String>,
    /// The operator whose signing it is, where a delegate signed.
    on_behalf_of: Option<String>,
    /// What that one signs in with.
    on_behalf_of_name: Option<String>,
    at: i64,
}

impl KeyHistoryView {
    fn new(key: KeyHistory, with_forms: bool) -> Self {
        Self {
            label: key.label(),
            id: key.id,
            client: key.client.id,
            client_name: key.client.name,
            client_display_name: key.client.display_name,
            api_key: key.api_key,
            name: key.name,
            created_at: key.created_at.0,
            effective_at: key.validity.from.0,
            expires_at: key.validity.until.0,
            revoked_at: key.revoked_at.map(|at| at.0),
            status: key.status.name(),
            overdue: key.overdue,
            imported: key.imported,
            forms: with_forms.then(|| key.forms.into_iter().map(FormView::from).collect()),
        }
    }
}

impl From<FormOfKey> for FormView {
    fn from(form: FormOfKey) -> Self {
        let FormOfKey { id, number, kind, done_at, signatures } = form;
        let signatures = signatures.into_iter().map(SignatureView::from).collect();
        Self { id, number, r#type: kind.code(), done_at: done_at.0, signatures }
    }
}

impl From<Signature> for SignatureView {
    fn from(signature: Signature) -> Self {
        let Signature { level, by, name, on_behalf_of, on_behalf_of_name, at } = signature;
        Self { level, by, name, on_behalf_of, on_behalf_of_name, at: at.0 }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    /// First day on which it came on record, in the installation's zone.
    #[param(inline, value_type = Option<Day>)]
    from: Option<String>,
    /// Last day.
    #[param(inline, value_type = Option<Day>)]
    until: Option<String>,
    /// Words, each in the client's id, names or application number or in the key's API key, name or id,
    /// in whatever case.
    #[param(inline, value_type = Option<Keyword>)]
    keyword: Option<String>,
    /// Client id.
    client: Option<String>,
    /// `active`, `dormant`, `revoked`; several with commas.
    status: Option<String>,
    /// Whether its last instant has passed.
    overdue: Option<bool>,
    /// An operator's name or id who signed a form that had its effect on it, or on whose behalf a delegate
    /// did; asks for applications.read.
    signer: Option<String>,
    /// `csv`: everything at once as a table, also for `Accept: text/csv`. Default: `json`.
    #[param(inline)]
    format: Option<Format>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// How the history is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReportFormat)]
enum Format {
    Json,
    Csv,
}

/// A page, or the whole as a table.
enum History {
    Page(Json<Page<KeyHistoryView>>),
    Table(String),
}

impl IntoResponse for History {
    fn into_response(self) -> Response {
        match self {
            Self::Page(page) => page.into_response(),
            Self::Table(text) => (
                [
                    (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
                    (header::CONTENT_DISPOSITION, "attachment; filename=\"api-key-approval-history.csv\""),
                    (header::CACHE_CONTROL, "no-store"),
                ],
                text,
            )
                .into_response(),
        }
    }
}

impl IntoResponses for History {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let mut responses = Json::<Page<KeyHistoryView>>::responses();
        for response in responses.values_mut() {
            if let RefOr::T(response) = response {
                let table = ContentBuilder::new().schema(Some(String::schema())).build();
                response.content.insert("text/csv".into(), table.into());
            }
        }
        responses
    }
}

/// API Key Approval History: keys, newest first, with the forms that issued, changed and revoked them.
///
/// As a table all of them at once, 10,000 at most.
#[utoipa::path(get, path = "/api/v1/reports/api-keys", params(HistoryQuery))]
async fn key_history(
    State(app): State<App>,
    actor: Actor,
    headers: HeaderMap,
    Query(query): Query<HistoryQuery>,
) -> Result<History, Problem> {
    let zone = app.config.zone();
    let with_forms = actor.may(Permission::ApplicationsRead);
    let filter = Filter {
        created: days(query.from.as_deref(), query.until.as_deref(), &zone)?,
        words: Words::parse(query.keyword.as_deref())?,
        client: query.client,
        statuses: statuses(query.status.as_deref())?,
        overdue: query.overdue,
        signers: match query.signer {
            Some(signer) => {
                actor.require_one_of(&[Permission::ApplicationsRead])?;
                Some(actions::signers(&app, &signer).await?)
            }
            None => None,
        },
    };
    let wants_csv = || {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        accept.split(',').any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/csv"))
    };
    if query.format == Some(Format::Csv) || (query.format.is_none() && wants_csv()) {
        for (field, given) in [("limit", query.limit.is_some()), ("cursor", query.cursor.is_some())] {
            if given {
                let detail =
                    format!("{field} does not go with a table, which holds everything: leave it out");
                return Err(Problem::invalid_query(field, detail));
            }
        }
        let keys = actions::export(&app, &filter, with_forms).await?.ok_or_else(|| {
            let detail = format!("a table has {MAX_EXPORT_ROWS} keys at most: narrow it with from and until");
            Problem::invalid_query("from", detail)
        })?;
        return Ok(History::Table(csv::write(&keys, &zone)));
    }
    let limit = page_limit(query.limit)?;
    let place = match page_cursor(query.cursor.as_deref())?.as_str() {
        "" => None,
        text => Some(Place::parse(text).ok_or_else(foreign_cursor)?),
    };
    let keys = actions::key_history(&app, &filter, place.as_ref(), limit + 1, with_forms).await?;
    let page = Page::new(keys, limit, |key| Place::of(key).to_string());
    Ok(History::Page(Json(page.map(|key| KeyHistoryView::new(key, with_forms)))))
}

fn statuses(text: Option<&str>) -> Result<Vec<KeyStatus>, Problem> {
    let named = several("status", text, &KeyStatus::ALL.map(KeyStatus::name))?;
    Ok(KeyStatus::ALL.into_iter().filter(|status| named.contains(&status.name())).collect())
}
