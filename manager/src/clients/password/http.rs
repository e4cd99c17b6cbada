//! `/api/v1/clients/{id}/password` for operators, `/client/v1/password` for the client itself.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions::{self, NewPassword};
use crate::app::App;
use crate::caller_address::CallerAddress;
use crate::clients::actions::{ClientError, details};
use crate::clients::http::{confirmed, shown};
use crate::clients::model::Fault;
use crate::clients::view::DetailsView;
use crate::http::{Actor, IfMatch, Json, NoContent, Path, Permission, Routes, Versioned};
use crate::password::{ImportedHash, MAX_CHARS, Password};
use crate::problem::Problem;

/// Set, reset, replace.
pub fn routes() -> Routes {
    Routes::of("clients")
        .permitted(&[Permission::ClientsWrite], routes!(set_password))
        .permitted(&[Permission::ClientsWrite], routes!(reset_password))
        .permitted(&[Permission::ClientsWrite], routes!(import_password))
        .open(routes!(replace_password))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientPasswordSet)]
struct Set {
    #[schema(value_type = Password)]
    password: String,
    /// The same once more.
    #[schema(value_type = Password)]
    password_confirmation: String,
}

/// Set a client's password.
///
/// The count of wrong ones begins again; one that was mailed serves no more.
#[utoipa::path(put, path = "/api/v1/clients/{id}/password", params(IfMatch))]
async fn set_password(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<Set>,
) -> Result<Versioned<DetailsView>, Problem> {
    let password = confirmed("password", &body.password, &body.password_confirmation)?;
    let password = NewPassword::new(&app, password).await;
    let client = actions::set(&app, &actor.audit_name(), &id, expected.0, &password).await?;
    Ok(shown(details(&app, client).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientPasswordImport)]
struct Import {
    /// bcrypt of the password's Base64 text, as digiRunner has it (`oauth_client_details.client_secret`).
    #[schema(value_type = ImportedHash)]
    password_hash: String,
}

/// Bring a client's password along from digiRunner, by its hash.
///
/// The first right password is hashed anew. The count of wrong ones begins again; one that was mailed serves no
/// more.
#[utoipa::path(put, path = "/api/v1/clients/{id}/password/imported", params(IfMatch))]
async fn import_password(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<Import>,
) -> Result<Versioned<DetailsView>, Problem> {
    let hash = ImportedHash::parse(&body.password_hash)
        .map_err(|reason| Fault::new("password_hash", format!("Password hash: {reason}")))?;
    let client = actions::import(&app, &actor.audit_name(), &id, expected.0, &hash).await?;
    Ok(shown(details(&app, client).await?))
}

/// Reset a client's password by mail.
///
/// The present one ends at once. The mailed one serves for 24 hours to set a new one
/// (`POST /client/v1/password`), and for nothing else.
#[utoipa::path(post, path = "/api/v1/clients/{id}/password/reset", params(IfMatch), responses(
    (status = 409, description = "`client_without_address`: there is nowhere to mail it to"),
))]
async fn reset_password(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
) -> Result<Versioned<DetailsView>, Problem> {
    let client = actions::reset(&app, &actor.audit_name(), &id, expected.0).await?;
    Ok(shown(details(&app, client).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientPasswordReplace)]
struct Replace {
    /// The client's id.
    client: String,
    /// The present password, or the one that was mailed.
    #[schema(max_length = 128)]
    password: String,
    #[schema(value_type = Password)]
    new_password: String,
    /// The new one once more.
    #[schema(value_type = Password)]
    password_confirmation: String,
}

/// Set one's own password, as a client.
///
/// With the present one, or with one that was mailed. Wrong ones count, and close password
/// credentials after as many as the client is allowed.
#[utoipa::path(post, path = "/client/v1/password", responses(
    (
        status = 403,
        description = "`wrong_password`: it is wrong, or there is no such client, or its password credentials \
            are closed; `forbidden`: the client is not active"
    ),
    (status = 429, description = "`too_many_wrong_passwords`: from the caller's address, within 10 minutes"),
))]
async fn replace_password(
    State(app): State<App>,
    from: CallerAddress,
    Json(body): Json<Replace>,
) -> Result<NoContent, Problem> {
    // Nobody has a password of that length: refused before anybody is looked up, so that the time
    // it takes tells nothing.
    if body.password.chars().count() > MAX_CHARS {
        let reason = format!("Password: has more than {MAX_CHARS} characters, which no password has");
        return Err(Fault::new("password", reason).into());
    }
    let _place = app.passwords.enter()?;
    // What is wrong with the new password is found out before the old one counts as an attempt.
    let password = confirmed("new_password", &body.new_password, &body.password_confirmation)?;
    let tried = app.wrong_passwords.begin(&from, app.now())?;
    let replaced = actions::replace(&app, &body.client, &body.password, password).await;
    if !matches!(replaced, Err(ClientError::WrongPassword)) {
        tried.was_not_wrong();
    }
    replaced?;
    Ok(NoContent)
}
