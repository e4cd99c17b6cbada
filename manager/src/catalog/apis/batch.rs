//! Switches many APIs, or what they accept, at once: all of them or none.

use gate::id::ApiUid;
use gate::request::CredentialKind;

use super::actions::{ApiFields, apply, change, directory_changed, record, save};
use super::model::Api;
use super::store::{self, ApiFilter};
use crate::app::App;
use crate::catalog::error::CatalogError;
use crate::catalog::held::hold;
use crate::db::Conn;
use crate::openapi::schema::schema_of;

/// APIs of one batch at most.
pub const MAX_BATCH: usize = 1_000;

/// The uids of a batch.
pub enum Uids {}

schema_of! { Uids as BatchUids: list::<String>(1, MAX_BATCH) }

/// What is to become of many APIs.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Those that are named; or
    pub uids: Option<Vec<ApiUid>>,
    /// those that a list narrowed like this shows.
    pub filter: Option<ApiFilter>,
    /// None: as it is.
    pub enabled: Option<bool>,
    /// None: as it is.
    pub accepts: Option<Vec<CredentialKind>>,
    /// None: as it is.
    pub no_auth: Option<bool>,
}

/// What became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOutcome {
    /// How many were meant.
    pub matched: usize,
    /// Those that were not so already, by module and id.
    pub changed: Vec<ApiUid>,
}

pub(super) async fn change_batch(app: &App, by: &str, batch: Batch) -> Result<BatchOutcome, CatalogError> {
    let now = app.now();
    let fields = ApiFields {
        enabled: batch.enabled,
        accepts: batch.accepts.clone(),
        no_auth: batch.no_auth,
        ..ApiFields::default()
    };
    if batch.enabled.is_none() && batch.accepts.is_none() && batch.no_auth.is_none() {
        return invalid("enabled", "is missing: say what to change, enabled, accepts or no_auth");
    }
    let mut tx = app.db.write("catalog.change_batch").await?;
    let mut held = hold(&mut tx).await?;
    let apis = meant(&mut tx, batch).await?;
    let (mut altered, mut changed) = (Vec::new(), Vec::new());
    for before in &apis {
        let mut api = before.clone();
        apply(app, &mut api, fields.clone(), now).map_err(|error| of(error, before))?;
        if api == *before {
            continue;
        }
        save(&mut tx, &mut held, before, &mut api, now).await?;
        if before.entry() != api.entry() {
            altered.push(api.uid.clone());
        }
        changed.push((before, api));
    }
    directory_changed(&mut tx, &altered, now).await?;
    for (before, api) in &changed {
        record(&mut tx, by, "catalog.update_api", api, change(before, api), now).await?;
    }
    tx.commit().await?;
    Ok(BatchOutcome { matched: apis.len(), changed: changed.into_iter().map(|(_, api)| api.uid).collect() })
}

/// The APIs that are meant, by module and id.
async fn meant(conn: &mut Conn, batch: Batch) -> Result<Vec<Api>, CatalogError> {
    match (batch.uids, batch.filter) {
        (Some(mut uids), None) => {
            uids.sort();
            uids.dedup();
            if uids.is_empty() || uids.len() > MAX_BATCH {
                return invalid("uids", &format!("must name 1 to {MAX_BATCH} APIs, names {}", uids.len()));
            }
            let apis = store::apis_of(conn, &uids).await?;
            uids.retain(|uid| apis.iter().all(|api| api.uid != *uid));
            if uids.is_empty() { Ok(apis) } else { Err(CatalogError::UnknownApis { field: "uids", uids }) }
        }
        (None, Some(filter)) if filter == ApiFilter::default() => {
            invalid("filter", "is empty and would mean every API: name at least one condition")
        }
        (None, Some(filter)) => {
            refuse_blank(&filter)?;
            let limit = i64::try_from(MAX_BATCH).unwrap_or(i64::MAX);
            let apis = store::apis(conn, &filter, "", limit).await?;
            if apis.len() > MAX_BATCH {
                return invalid("filter", &format!("fits more than {MAX_BATCH} APIs: narrow it"));
            }
            Ok(apis)
        }
        (Some(_), Some(_)) | (None, None) => invalid("uids", "or filter must be given, one of them"),
    }
}

/// A text that a list would not narrow by: here it would mean every API.
fn refuse_blank(filter: &ApiFilter) -> Result<(), CatalogError> {
    for (field, text) in [
        ("filter.keyword", &filter.keyword),
        ("filter.module", &filter.module),
        ("filter.group", &filter.group),
        ("filter.label", &filter.label),
    ] {
        if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return invalid(field, "is empty: name what the APIs must have, or leave it out");
        }
    }
    Ok(())
}

/// Names the API whose field it is.
fn of(error: CatalogError, api: &Api) -> CatalogError {
    match error {
        CatalogError::Invalid { field, reason } => {
            CatalogError::Invalid { field, reason: format!("of {} {reason}", api.title()) }
        }
        other => other,
    }
}

fn invalid<T>(field: &'static str, reason: &str) -> Result<T, CatalogError> {
    Err(CatalogError::Invalid { field, reason: reason.into() })
}
