//! The routes of the catalogue, and its refusals as problem documents.

use super::apis::ClashKind;
use super::error::CatalogError;
use super::groups::GroupKind;
use super::{apis, groups, scopes};
use crate::http::Routes;
use crate::problem::Problem;

/// Everything about APIs, groups and scopes.
pub fn routes() -> Routes {
    apis::routes().merge(groups::routes()).merge(scopes::routes())
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let detail = error.to_string();
        match error {
            CatalogError::Invalid { field, .. } => Self::invalid(field, detail),
            CatalogError::ApiExists { .. } => Self::conflict("api_exists", detail).field("id"),
            CatalogError::ApiInUse { .. } => Self::conflict("api_in_use", detail),
            CatalogError::Clash { clash, .. } => match clash.kind {
                ClashKind::SamePlace => Self::conflict("same_place", detail).field("path"),
                ClashKind::Ambiguous { .. } => Self::conflict("ambiguous_path", detail).field("path"),
            },
            CatalogError::GroupExists { field, .. } => Self::conflict("group_exists", detail).field(field),
            CatalogError::UnknownApis { field, .. } => Self::invalid(field, detail),
            CatalogError::GroupInUse { kind: GroupKind::Group, .. } => Self::conflict("group_in_use", detail),
            CatalogError::GroupInUse { kind: GroupKind::Scope, .. } => Self::conflict("scope_in_use", detail),
            CatalogError::NotFound { .. } => Self::not_found(detail),
            CatalogError::Version { expected, present } => Self::version_mismatch(expected, present),
            CatalogError::Unusable { .. } => {
                tracing::error!(error = detail, "The catalogue holds what gates cannot: {detail}");
                Self::internal()
            }
            CatalogError::Db(error) => error.into(),
        }
    }
}
