//! Explains a request against the catalogue as gates hold it.

use super::model::{Explanation, Target, explain};
use crate::app::App;
use crate::catalog::error::CatalogError;
use crate::catalog::{apis, error::invalid};

/// What a gate that holds the present directory would do with `method` and `url`.
pub(super) async fn explain_match(app: &App, method: &str, url: &str) -> Result<Explanation, CatalogError> {
    let target = Target {
        method: Target::parse_method(method).map_err(invalid("method"))?,
        ..Target::parse_url(url).map_err(invalid("url"))?
    };
    let entries = apis::entries(&mut *app.db.snapshot().await?, None).await?;
    explain(entries.apis, app.config.unregistered, target)
        .map_err(|error| CatalogError::Unusable { reason: error.to_string() })
}
