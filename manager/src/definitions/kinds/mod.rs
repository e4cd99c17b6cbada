//! The kinds of definitions: the fields of each, and how the capability that has it is asked.

use super::work::Refusal;
use crate::catalog::CatalogError;

mod api;
mod client;
mod flow;
mod group;
mod switching;
mod user;

pub use api::ApiSpec;
pub use client::ClientSpec;
pub use flow::FlowSpec;
pub use group::{GroupSpec, ScopeSpec};
pub use user::UserSpec;

/// Declares the fields of a kind. All are optional; what can be taken away has the type
/// `Option<…>`, and a document takes it away with `null`.
macro_rules! spec {
    (
        $(#[$doc:meta])* pub struct $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $type:ty,)+
        }
        $(#[$impl_doc:meta])* impl Spec { $($rest:tt)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
        pub struct $name {
            $(
                $(#[$field_doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )+
        }

        impl $crate::definitions::model::Spec for $name {
            fn fields() -> Vec<&'static str> {
                vec![$(stringify!($field).trim_start_matches("r#")),+]
            }

            fn take(from: &mut $crate::definitions::document::Fields<'_, '_>) -> Self {
                Self { $($field: from.take(stringify!($field).trim_start_matches("r#")),)+ }
            }

            fn restrict(&mut self, keep: impl Fn(&str) -> bool) {
                $(if !keep(stringify!($field).trim_start_matches("r#")) {
                    self.$field = None;
                })+
            }

            $($rest)*
        }
    };
}
use spec;

/// How many of a kind are read at a time.
const PAGE: i64 = 500;

/// The names in a field, each once, in order: how sets are kept.
fn names(field: &mut Option<Vec<String>>) {
    if let Some(names) = field {
        names.sort_unstable();
        names.dedup();
    }
}

impl From<CatalogError> for Refusal {
    fn from(error: CatalogError) -> Self {
        let told = error.to_string();
        match error {
            CatalogError::Invalid { field, reason } => Self::Field(field, reason),
            CatalogError::ApiExists { .. } => Self::Field("id", told),
            CatalogError::Clash { .. } => Self::Field("path", told),
            CatalogError::GroupExists { field, .. } => Self::Field(field, told),
            CatalogError::UnknownApis { .. }
            | CatalogError::NotFound { .. }
            | CatalogError::Version { .. } => Self::changed_meanwhile(),
            CatalogError::ApiInUse { .. }
            | CatalogError::GroupInUse { .. }
            | CatalogError::Unusable { .. } => Self::Whole(told),
            CatalogError::Db(error) => Self::Db(error),
        }
    }
}
