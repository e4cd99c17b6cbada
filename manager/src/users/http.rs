//! `/api/v1/users`.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, Changes, NewUser, UserError};
use super::model::{OrgId, User, UserName, UserStatus};
use super::store::UserFilter;
use crate::app::App;
use crate::caller_address::CallerAddress;
use crate::http::{
    Actor, Created, IfMatch, Json, NoContent, Page, Path, Permission, Query, Routes, Versioned, nullable,
    page_cursor, page_limit,
};
use crate::identity_provider::{MAX_SUBJECT, Subject};
use crate::operators::Email;
use crate::password::{ImportedHash, MAX_CHARS, Password};
use crate::problem::Problem;
use crate::search::{Keyword, Words};

/// Everything about users.
pub fn routes() -> Routes {
    Routes::of("users")
        .permitted(&[Permission::UsersRead], routes!(list))
        .permitted(&[Permission::UsersWrite], routes!(create))
        .permitted(&[Permission::UsersRead], routes!(show))
        .permitted(&[Permission::UsersWrite], routes!(update))
        .open(routes!(replace_password))
}

impl From<UserError> for Problem {
    fn from(error: UserError) -> Self {
        let detail = error.to_string();
        match error {
            UserError::NameTaken { .. } => Self::conflict("user_exists", detail).field("name"),
            UserError::IdentityTaken => Self::conflict("identity_taken", detail).field("subject"),
            UserError::Invalid { field, .. } => Self::invalid(field, detail),
            UserError::NotFound { .. } => Self::not_found(detail),
            UserError::WrongPassword => {
                Self::new(StatusCode::FORBIDDEN, "wrong_password", "Present password is incorrect", detail)
            }
            UserError::NotActive { .. } => Self::forbidden(detail),
            UserError::Version { expected, present } => Self::version_mismatch(expected, present),
            UserError::Db(error) => error.into(),
        }
    }
}

/// Somebody on whose behalf clients obtain tokens. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
struct UserView {
    id: String,
    #[schema(value_type = UserName)]
    name: String,
    display_name: String,
    email: Option<String>,
    org_id: Option<String>,
    /// The OpenID provider at which the user signs in too.
    issuer: Option<String>,
    /// Its name for the user.
    subject: Option<String>,
    status: UserStatus,
    /// Without one nobody signs in with it here.
    has_password: bool,
    /// Wrong passwords since the last right one.
    failed_attempts: i64,
    /// After `lockout_attempts` wrong passwords in a row it takes none until it is unlocked.
    password_locked: bool,
    created_at: i64,
    updated_at: i64,
    version: i64,
}

impl UserView {
    fn of(app: &App, user: User) -> Self {
        let (issuer, subject) = user.identity.clone().unzip();
        Self {
            issuer,
            subject,
            password_locked: user.password_locked(app.config.lockout_attempts),
            id: user.id,
            name: user.name.to_string(),
            display_name: user.display_name,
            email: user.email.map(|email| email.as_str().to_owned()),
            org_id: user.org_id.map(|org| org.as_str().to_owned()),
            status: user.status,
            has_password: user.has_password,
            failed_attempts: user.failed_attempts,
            created_at: user.created_at.0,
            updated_at: user.updated_at.0,
            version: user.version,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserCreate)]
struct Create {
    #[schema(value_type = UserName)]
    name: String,
    /// Default: the name.
    #[serde(default)]
    display_name: String,
    #[schema(value_type = Option<Email>)]
    email: Option<String>,
    /// Goes into tokens as `org_id`.
    #[schema(value_type = Option<OrgId>)]
    org_id: Option<String>,
    /// By which the OpenID provider of the settings knows the user.
    #[schema(value_type = Option<Subject>)]
    subject: Option<String>,
    /// Without one the user signs in elsewhere, or not at all.
    #[schema(value_type = Option<Password>)]
    password: Option<String>,
    /// Instead of a password: the hash that digiRunner has of it, bcrypt of its Base64 text. The first right
    /// password is hashed anew.
    #[schema(value_type = Option<ImportedHash>)]
    password_hash: Option<String>,
}

/// Create a user.
#[utoipa::path(post, path = "/api/v1/users", responses(
    (status = 409, description = "`user_exists`; `identity_taken`: another user is linked to the subject"),
))]
async fn create(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<Create>,
) -> Result<Created<Versioned<UserView>>, Problem> {
    if body.password.is_some() && body.password_hash.is_some() {
        return Err(both_given());
    }
    let new = NewUser {
        name: UserName::parse(&body.name).map_err(field("name"))?,
        display_name: body.display_name,
        email: body.email.as_deref().map(Email::parse).transpose().map_err(field("email"))?,
        org_id: body.org_id.as_deref().map(OrgId::parse).transpose().map_err(field("org_id"))?,
        password: body.password.as_deref().map(parse_password).transpose()?,
        imported_hash: body.password_hash.as_deref().map(parse_hash).transpose()?,
        identity: body.subject.as_deref().map(|subject| identity(&app, subject)).transpose()?,
    };
    let user = actions::create(&app, &actor.audit_name(), new).await?;
    let location = format!("/api/v1/users/{}", user.id);
    Ok(Created(location, Versioned(user.version, UserView::of(&app, user))))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// In name, display name or address; words must all occur, in whatever case.
    #[param(inline, value_type = Option<Keyword>)]
    keyword: Option<String>,
    #[param(inline)]
    status: Option<UserStatus>,
}

/// List users by name.
#[utoipa::path(get, path = "/api/v1/users", params(ListQuery))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<UserView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let filter = UserFilter { words: Words::parse(query.keyword.as_deref())?, status: query.status };
    let users = actions::list(&app, &filter, &after, limit).await?;
    Ok(Json(Page::new(users, limit, |user| user.name.to_string()).map(|user| UserView::of(&app, user))))
}

/// Show a user.
#[utoipa::path(get, path = "/api/v1/users/{id}")]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Versioned<UserView>, Problem> {
    let user = actions::get(&app, &id).await?;
    Ok(Versioned(user.version, UserView::of(&app, user)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserUpdate)]
struct Update {
    display_name: Option<String>,
    /// null removes it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Email>)]
    email: Option<Option<String>>,
    /// null removes it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<OrgId>)]
    org_id: Option<Option<String>>,
    /// By which the OpenID provider of the settings knows the user; null: signs in here alone.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Subject>)]
    subject: Option<Option<String>>,
    /// null takes it away: the user signs in elsewhere, or not at all.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Password>)]
    password: Option<Option<String>>,
    /// Instead of a password: the hash that digiRunner has of it, bcrypt of its Base64 text.
    #[schema(value_type = Option<ImportedHash>)]
    password_hash: Option<String>,
    status: Option<UserStatus>,
    /// Wrong passwords so far no longer count. So it is with a new password.
    #[serde(default)]
    unlock: bool,
}

/// Change a user; what is absent stays.
#[utoipa::path(patch, path = "/api/v1/users/{id}", params(IfMatch), responses(
    (status = 409, description = "`identity_taken`: another user is linked to the subject"),
))]
async fn update(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<Update>,
) -> Result<Versioned<UserView>, Problem> {
    if body.password.is_some() && body.password_hash.is_some() {
        return Err(both_given());
    }
    let changes = Changes {
        display_name: body.display_name,
        email: parse_nullable(body.email, |text| Email::parse(text).map_err(field("email")))?,
        org_id: parse_nullable(body.org_id, |text| OrgId::parse(text).map_err(field("org_id")))?,
        password: parse_nullable(body.password, parse_password)?,
        imported_hash: body.password_hash.as_deref().map(parse_hash).transpose()?,
        identity: parse_nullable(body.subject, |subject| identity(&app, subject))?,
        status: body.status,
        unlock: body.unlock,
    };
    let user = actions::update(&app, &actor.audit_name(), &id, expected.0, changes).await?;
    Ok(Versioned(user.version, UserView::of(&app, user)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserPasswordReplace)]
struct Replace {
    /// The user's name.
    user: String,
    /// The present password.
    #[schema(max_length = 128)]
    password: String,
    #[schema(value_type = Password)]
    new_password: String,
    /// The new one once more.
    #[schema(value_type = Password)]
    password_confirmation: String,
}

/// Set one's own password, as a user.
///
/// With the present one. Wrong ones count, and close the account's password after `lockout_attempts`. It stands
/// below `/oauth`, where users reach the manager through Envoy.
#[utoipa::path(post, path = "/oauth/user/password", responses(
    (
        status = 403,
        description = "`wrong_password`: it is wrong, or there is no such user, or too many were wrong before; \
            `forbidden`: the account is disabled or locked, told only to who knows the password"
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
        let reason = format!("password has more than {MAX_CHARS} characters, which no password has");
        return Err(Problem::invalid("password", reason));
    }
    // What is wrong with the new one is found out before the old one counts as an attempt.
    let new = Password::parse(&body.new_password)
        .map_err(|error| Problem::invalid("new_password", format!("new_password {error}")))?;
    if body.new_password != body.password_confirmation {
        let reason = "password_confirmation must be the new password once more";
        return Err(Problem::invalid("password_confirmation", reason));
    }
    let _place = app.passwords.enter()?;
    let tried = app.wrong_passwords.begin(&from, app.now())?;
    let replaced = actions::replace_password(&app, &body.user, &body.password, new).await;
    if !matches!(replaced, Err(UserError::WrongPassword)) {
        tried.was_not_wrong();
    }
    replaced?;
    Ok(NoContent)
}

/// A subject of the provider that is set.
fn identity(app: &App, subject: &str) -> Result<(String, String), Problem> {
    let Some(issuer) = &app.config.oidc_issuer else {
        return Err(Problem::invalid("subject", "subject is of an OpenID provider: set oidc_issuer first"));
    };
    let chars = subject.chars().count();
    if chars == 0 || chars > MAX_SUBJECT || subject.chars().any(char::is_control) {
        let reason = format!("subject must be 1 to {MAX_SUBJECT} characters without control characters");
        return Err(Problem::invalid("subject", reason));
    }
    Ok((issuer.clone(), subject.to_owned()))
}

/// Absent stays absent, null stays null.
fn parse_nullable<T>(
    given: Option<Option<String>>,
    parse: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Option<Option<T>>, Problem> {
    given.map(|given| given.as_deref().map(parse).transpose()).transpose()
}

fn parse_password(text: &str) -> Result<Password, Problem> {
    Password::parse(text).map_err(|error| Problem::invalid("password", format!("password {error}")))
}

fn parse_hash(text: &str) -> Result<ImportedHash, Problem> {
    ImportedHash::parse(text).map_err(field("password_hash"))
}

fn both_given() -> Problem {
    Problem::invalid("password_hash", "password_hash stands instead of password: give one of them")
}

/// The refusal of a field whose rule says what it must be.
fn field(name: &'static str) -> impl Fn(String) -> Problem {
    move |reason| Problem::invalid(name, format!("{name} {reason}"))
}
