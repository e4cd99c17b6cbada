//! `DELETE /api/v1/clients/{id}`.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::actions::{self, Listed, OffboardingError};
use crate::app::App;
use crate::http::{Actor, IfMatch, NoContent, Path, Permission, Query, Routes};
use crate::problem::{Affected, AffectedThing, Problem};

/// The end of a client.
pub fn routes() -> Routes {
    Routes::of("clients").permitted(&[Permission::ClientsWrite], routes!(delete_client))
}

impl From<OffboardingError> for Problem {
    fn from(error: OffboardingError) -> Self {
        let detail = error.to_string();
        match error {
            OffboardingError::NotPermitted { .. } => Self::forbidden(detail),
            OffboardingError::Unconfirmed { listed, .. } => {
                let mut problem = Self::conflict("confirm_delete", detail).affecting(affected(*listed));
                problem.title = "Confirm Delete?";
                problem.field("confirm")
            }
            OffboardingError::Client(error) => error.into(),
            OffboardingError::Key(error) => error.into(),
            OffboardingError::XApiKey(error) => error.into(),
            OffboardingError::Form(error) => error.into(),
            OffboardingError::Db(error) => error.into(),
        }
    }
}

fn affected(listed: Listed) -> Affected {
    let thing = |id: String, name: String| AffectedThing { id, name };
    let Listed { keys, x_api_keys, tokens, forms } = listed;
    let mut affected = Affected::new();
    if let Some(keys) = keys {
        let keys = keys.into_iter().map(|key| thing(key.id.0, key.name.as_str().to_owned()));
        affected.insert("keys", keys.collect());
    }
    if let Some(keys) = x_api_keys {
        let keys = keys.into_iter().map(|key| thing(key.id.0, key.alias.as_str().to_owned()));
        affected.insert("x_api_keys", keys.collect());
    }
    if let Some(tokens) = tokens {
        // Whose they are is all the name they have.
        let tokens = tokens.into_iter().map(|token| thing(token.id, token.user.unwrap_or(token.client)));
        affected.insert("tokens", tokens.collect());
    }
    if let Some(forms) = forms {
        let forms = forms.into_iter().map(|form| {
            let name = form.number.map_or_else(|| form.state.label(), |number| number.to_string());
            thing(form.id, name)
        });
        affected.insert("forms", forms.collect());
    }
    affected
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct DeleteQuery {
    /// The client's name: yes, this one.
    confirm: Option<String>,
}

/// Delete a client.
///
/// Its keys are revoked, its X-Api-Keys deleted, its open forms cancelled; gateways refuse it within
/// a second. What is on record about it stays. Its names are free again, its id is never given again.
#[utoipa::path(delete, path = "/api/v1/clients/{id}", params(DeleteQuery, IfMatch), responses(
    (
        status = 409,
        description = "`confirm_delete`: \"Confirm Delete?\"; `affected` lists the keys, X-Api-Keys, tokens and \
            open forms that end with it, the first 100 of each kind that the caller may read"
    ),
    (status = 403, description = "`forbidden`: keys or X-Api-Keys hang on it, which takes `keys.write` too"),
))]
async fn delete_client(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Query(query): Query<DeleteQuery>,
) -> Result<NoContent, Problem> {
    actions::delete_client(&app, &actor, &id, expected.0, query.confirm.as_deref()).await?;
    Ok(NoContent)
}
