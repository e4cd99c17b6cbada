//! The routes of the catalogue, and its refusals as problem documents.

use axum::Router;

use super::error::CatalogError;
use super::{apis, groups};
use crate::app::App;
use crate::problem::Problem;

/// Everything about APIs and groups.
pub fn routes() -> Router<App> {
    apis::routes().merge(groups::routes())
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let detail = error.to_string();
        match error {
            CatalogError::Invalid { field, .. } => Self::invalid(field, detail),
            CatalogError::ApiExists { .. } => Self::conflict("api_exists", detail).field("id"),
            CatalogError::SamePlace { .. } => Self::conflict("same_place", detail).field("path"),
            CatalogError::GroupExists { field, .. } => Self::conflict("group_exists", detail).field(field),
            CatalogError::UnknownApi { .. } => Self::invalid("apis", detail),
            CatalogError::GroupInUse => Self::conflict("group_in_use", detail),
            CatalogError::NotFound { .. } => Self::not_found(detail),
            CatalogError::Version { expected, present } => Self::version_mismatch(expected, present),
            CatalogError::Db(error) => error.into(),
        }
    }
}
