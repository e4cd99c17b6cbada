//! Reading the history.

use std::collections::BTreeSet;

use super::model::{Filter, KeyHistory, MAX_EXPORT_ROWS, Place, Signature};
use super::store;
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::operators;

/// Rows that an export reads at a time.
const EXPORT_PAGE: i64 = 200;

/// Up to `limit` keys after `place`, with their forms where the caller may see forms: four
/// statements, however many keys there are.
pub async fn key_history(
    app: &App,
    filter: &Filter,
    place: Option<&Place>,
    limit: i64,
    with_forms: bool,
) -> Result<Vec<KeyHistory>, DbError> {
    page(&mut *app.db.snapshot().await?, app, filter, place, limit, with_forms).await
}

/// All keys that `filter` asks for; None: there are more than [`MAX_EXPORT_ROWS`].
pub async fn export(
    app: &App,
    filter: &Filter,
    with_forms: bool,
) -> Result<Option<Vec<KeyHistory>>, DbError> {
    let mut conn = app.db.snapshot().await?;
    let mut rows: Vec<KeyHistory> = Vec::new();
    loop {
        let place = rows.last().map(Place::of);
        let found = page(&mut conn, app, filter, place.as_ref(), EXPORT_PAGE, with_forms).await?;
        let last = found.len() < usize::try_from(EXPORT_PAGE).unwrap_or(usize::MAX);
        rows.extend(found);
        if rows.len() > MAX_EXPORT_ROWS {
            return Ok(None);
        }
        if last {
            return Ok(Some(rows));
        }
    }
}

/// Ids of whom `named` may mean: itself, the operator of that name.
pub async fn signers(app: &App, named: &str) -> Result<Vec<String>, DbError> {
    let of_name = operators::id_of(&mut *app.db.read().await?, named).await?;
    Ok(std::iter::once(named.to_owned()).chain(of_name).collect())
}

async fn page(
    conn: &mut Conn,
    app: &App,
    filter: &Filter,
    place: Option<&Place>,
    limit: i64,
    with_forms: bool,
) -> Result<Vec<KeyHistory>, DbError> {
    let mut keys = store::keys(conn, filter, place, limit, app.now()).await?;
    if !with_forms {
        return Ok(keys);
    }
    let ids: Vec<&str> = keys.iter().map(|key| key.id.as_str()).collect();
    let mut forms = store::forms_of(conn, &ids).await?;
    let ids: Vec<&str> = forms.values().flatten().map(|form| form.id.as_str()).collect();
    let mut signatures = store::signatures_of(conn, &ids).await?;
    let signers: BTreeSet<&str> = signatures.values().flatten().flat_map(Signature::persons).collect();
    let names = operators::display_names(conn, &signers).await?;
    for form in forms.values_mut().flatten() {
        form.signatures = signatures.remove(&form.id).unwrap_or_default();
        for signature in &mut form.signatures {
            signature.name = names.get(&signature.by).cloned();
            signature.on_behalf_of_name =
                signature.on_behalf_of.as_ref().and_then(|id| names.get(id)).cloned();
        }
    }
    for key in &mut keys {
        key.forms = forms.remove(&key.id).unwrap_or_default();
    }
    Ok(keys)
}
