//! A form as the API takes it.

use serde::Deserialize;
use utoipa::ToSchema;

use super::form::{self, Fields};
use crate::approvals::FormKind;
use crate::clients::{Binding, ClientDisplayName, ClientEmails};
use crate::openapi::schema::Day;
use crate::problem::Problem;

/// A body with the fields of every type of form behind its own ones. Serde refuses unknown fields only
/// where all fields stand in the struct itself: that is why this is no field of both.
macro_rules! body {
    ($(#[$meta:meta])* $body:ident { $($(#[$own_meta:meta])* $own:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $body {
            $($(#[$own_meta])* $own: $type,)*
            /// Of a KA.
            client: Option<String>,
            /// Of a KU or KR.
            key: Option<String>,
            #[schema(value_type = Option<form::Name>)]
            name: Option<String>,
            #[schema(value_type = Option<Day>)]
            effective_date: Option<String>,
            #[schema(value_type = Option<Day>)]
            expiry_date: Option<String>,
            #[schema(value_type = Option<form::Quota>)]
            quota: Option<i64>,
            #[schema(value_type = Option<form::Description>)]
            description: Option<String>,
            #[schema(value_type = Option<form::Apis>)]
            apis: Option<Vec<String>>,
            /// Of a KU.
            reset_usage: Option<bool>,
            /// Of a CR.
            #[schema(value_type = Option<ClientDisplayName>)]
            display_name: Option<String>,
            /// Of a CR: where the first password goes; separated by commas.
            #[schema(value_type = Option<ClientEmails>)]
            emails: Option<String>,
            /// Of a CR: from where it may call; none: from everywhere.
            #[schema(max_items = 64)]
            bindings: Option<Vec<Binding>>,
        }

        impl $body {
            /// The form's fields.
            pub fn fields(self) -> Fields {
                Fields {
                    client: self.client,
                    key: self.key,
                    name: self.name,
                    effective_date: self.effective_date,
                    expiry_date: self.expiry_date,
                    quota: self.quota,
                    description: self.description,
                    apis: self.apis,
                    reset_usage: self.reset_usage,
                    display_name: self.display_name,
                    emails: self.emails,
                    bindings: self.bindings,
                }
            }
        }
    };
}

body! {
    /// A new form. What it asks for stands beside its type.
    NewForm {
        #[schema(value_type = FormKind)]
        r#type: String,
    }
}

body! {
    /// All fields of a form in place of those it had; its type stays.
    EditedForm {}
}

impl NewForm {
    /// What it asks for.
    pub fn kind(&self) -> Result<FormKind, Problem> {
        FormKind::parse(&self.r#type).ok_or_else(|| unknown_type(&self.r#type))
    }
}

fn unknown_type(given: &str) -> Problem {
    Problem::invalid(
        "type",
        format!(
            "`type` is `{given}`: it must be KA (apply for a key), KU (change one), KR (revoke one) or CR \
             (ask for a client)"
        ),
    )
}
