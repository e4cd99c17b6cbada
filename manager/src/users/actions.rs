//! What is done with accounts: one function per use case, one named transaction each.

use gate::id::ClientId;
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use serde_json::json;

use super::model::{OrgId, User, UserName, UserStatus};
use super::password::{self, PasswordCheck, Spelling};
use super::store::{self, UserFilter};
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::operators::{self, Email};
use crate::password::{ImportedHash, Password};
use crate::{audit, changes};

/// Longer than it takes to put a token on record that is issued.
const BEING_ISSUED_MS: i64 = 60_000;

/// The index by which no two users are linked to one subject.
const IDENTITY_KEY: &str = "users_issuer_subject_key";

/// What a new user is made from.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Unique.
    pub name: UserName,
    /// Empty: the name.
    pub display_name: String,
    /// Where the user is written to.
    pub email: Option<Email>,
    /// The organisation, as tokens tell it.
    pub org_id: Option<OrgId>,
    /// None: signs in elsewhere, or not at all.
    pub password: Option<Password>,
    /// Of a password that another system knows; instead of one.
    pub imported_hash: Option<ImportedHash>,
    /// At an OpenID provider: its issuer, and its name for the user.
    pub identity: Option<(String, String)>,
}

/// What an update changes; None leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// For people.
    pub display_name: Option<String>,
    /// None takes it away.
    pub email: Option<Option<Email>>,
    /// None takes it away.
    pub org_id: Option<Option<OrgId>>,
    /// None takes it away.
    pub password: Option<Option<Password>>,
    /// Of a password that another system knows; instead of one.
    pub imported_hash: Option<ImportedHash>,
    /// Set by an operator.
    pub status: Option<UserStatus>,
    /// At an OpenID provider; None takes it away.
    pub identity: Option<Option<(String, String)>>,
    /// Wrong passwords so far count no more.
    pub unlock: bool,
}

/// Why an action was refused.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The name is taken.
    #[error("a user named {name} exists")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Another user is linked to it.
    #[error("another user is linked to this subject of the provider: take it from that one first")]
    IdentityTaken,
    /// A field cannot be taken.
    #[error("{field} {reason}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is expected.
        reason: String,
    },
    /// No such user.
    #[error("user {id} does not exist")]
    NotFound {
        /// What was looked for.
        id: String,
    },
    /// It is wrong, or there is no such user, or its password is closed after too many wrong ones.
    #[error(
        "the name or the present password is wrong, or too many wrong ones closed the account's password"
    )]
    WrongPassword,
    /// Told to who knows the password.
    #[error("user {name} is switched off: ask those who keep this installation")]
    NotActive {
        /// Its name.
        name: String,
    },
    /// Changed meanwhile.
    #[error("version {expected} was named, {present} is present")]
    Version {
        /// By the caller.
        expected: i64,
        /// In the database.
        present: i64,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Creates a user. `by` is who acts, as the audit trail names it.
pub async fn create(app: &App, by: &str, new: NewUser) -> Result<User, UserError> {
    let hash = match (&new.password, &new.imported_hash) {
        (Some(password), _) => Some(password.hash(&app.random).await),
        (None, imported) => imported.as_ref().map(|hash| hash.as_str().to_owned()),
    };
    let mut tx = app.db.write("users.create").await?;
    let user = create_in(&mut tx, app, by, new, hash.as_deref(), app.now()).await?;
    tx.commit().await?;
    Ok(user)
}

/// [`create`] within the caller's transaction; `hash` is that of the password.
pub async fn create_in(
    conn: &mut Conn,
    app: &App,
    by: &str,
    new: NewUser,
    hash: Option<&str>,
    now: UnixMillis,
) -> Result<User, UserError> {
    let display_name = match new.display_name.trim() {
        "" => new.name.to_string(),
        given => checked_display_name(given)?,
    };
    let user = User {
        id: app.random.id("us"),
        display_name,
        name: new.name,
        email: new.email,
        org_id: new.org_id,
        identity: new.identity,
        status: UserStatus::Active,
        has_password: hash.is_some(),
        failed_attempts: 0,
        created_at: now,
        updated_at: now,
        version: 1,
        token_epoch: 0,
    };
    store::insert(conn, &user, hash).await.map_err(|error| {
        if error.violates("users_name_key") {
            UserError::NameTaken { name: user.name.to_string() }
        } else if error.violates(IDENTITY_KEY) {
            UserError::IdentityTaken
        } else {
            error.into()
        }
    })?;
    let entry = audit::Entry {
        actor: by.into(),
        action: "users.create",
        subject: format!("user:{}", user.id),
        detail: user.view(),
    };
    audit::record(conn, entry, now).await?;
    Ok(user)
}

pub(super) async fn get(app: &App, id: &str) -> Result<User, UserError> {
    load(&mut *app.db.read().await?, id).await
}

/// The user of that id, whatever its status.
pub async fn find(conn: &mut Conn, id: &str) -> Result<Option<User>, DbError> {
    store::by_id(conn, id).await
}

/// The user of that name, whatever its status.
pub async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<User>, DbError> {
    match UserName::parse(name) {
        Ok(name) => Ok(store::by_name(conn, &name).await?.map(|(user, _)| user)),
        Err(_) => Ok(None),
    }
}

pub(super) async fn id_of(conn: &mut Conn, name: &str) -> Result<Option<String>, DbError> {
    Ok(by_name(conn, name).await?.map(|user| user.id))
}

/// Users behind the one of the name `after`, by name.
pub async fn page(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<User>, DbError> {
    let mut users = store::list(conn, &UserFilter::default(), after, limit).await?;
    users.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(users)
}

/// Keeps others from the user of that name until the transaction ends; as it is now, if there is one.
pub async fn hold(conn: &mut Conn, name: &str) -> Result<Option<User>, DbError> {
    let Some(user) = by_name(conn, name).await? else { return Ok(None) };
    store::lock(conn, &user.id).await?;
    store::by_id(conn, &user.id).await
}

/// A user sets another password, with the present one. It ends the user's tokens.
pub(super) async fn replace_password(
    app: &App,
    unverified_name: &str,
    unverified: &str,
    new: Password,
) -> Result<(), UserError> {
    let checked = password::check_password(app, unverified_name, unverified, Spelling::Plain).await?;
    let user = match checked {
        PasswordCheck::Right(user) => user,
        PasswordCheck::Wrong => return Err(UserError::WrongPassword),
        PasswordCheck::Disabled(user) | PasswordCheck::Locked(user) => {
            return Err(UserError::NotActive { name: user.name.to_string() });
        }
    };
    if new.reveal() == unverified {
        let reason = "must be another one than the present password".into();
        return Err(UserError::Invalid { field: "new_password", reason });
    }
    let hash = new.hash(&app.random).await;
    let now = app.now();
    let mut tx = app.db.write("users.replace_password").await?;
    store::lock(&mut tx, &user.id).await?;
    let before = load(&mut tx, &user.id).await?;
    // Whatever makes the present password worth nothing ends the tokens too.
    if before.token_epoch != user.token_epoch {
        return Err(UserError::WrongPassword);
    }
    let after = User { updated_at: now, version: before.version + 1, ..before.clone() };
    store::update(&mut tx, &after, before.version).await?;
    store::set_password(&mut tx, &user.id, Some(&hash)).await?;
    store::sign_out(&mut tx, &user.id, now).await?;
    tell_gateways(&mut tx, &after, now).await?;
    let entry = audit::Entry {
        actor: format!("user:{}", user.id),
        action: "users.replace_password",
        subject: format!("user:{}", user.id),
        detail: json!({ "name": user.name, "changed": audit::changed(&before.view(), &after.view()) }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    tell_gateways_of_the_last(app, &after, now).await?;
    Ok(())
}

pub(super) async fn list(
    app: &App,
    filter: &UserFilter,
    after: &str,
    limit: i64,
) -> Result<Vec<User>, DbError> {
    store::list(&mut *app.db.read().await?, filter, after, limit).await
}

/// Changes an account. A new password lets it try again, and ends its tokens, as a stop does.
pub(super) async fn update(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    changes: Changes,
) -> Result<User, UserError> {
    let hash = match (&changes.password, &changes.imported_hash) {
        (Some(Some(password)), _) => Some(Some(password.hash(&app.random).await)),
        (Some(None), _) => Some(None),
        (None, Some(imported)) => Some(Some(imported.as_str().to_owned())),
        (None, None) => None,
    };
    let now = app.now();
    let may_end_tokens = hash.is_some() || changes.status.is_some() || changes.identity.is_some();
    let mut tx = app.db.write("users.update").await?;
    let after = update_in(&mut tx, by, id, expected, changes, hash, now).await?;
    tx.commit().await?;
    if may_end_tokens {
        tell_gateways_of_the_last(app, &after, now).await?;
    }
    Ok(after)
}

/// [`update`] within the caller's transaction; `hash` is that of the password, where another one is set.
pub async fn update_in(
    conn: &mut Conn,
    by: &str,
    id: &str,
    expected: Option<i64>,
    changes: Changes,
    hash: Option<Option<String>>,
    now: UnixMillis,
) -> Result<User, UserError> {
    let before = load(conn, id).await?;
    if let Some(expected) = expected
        && expected != before.version
    {
        return Err(UserError::Version { expected, present: before.version });
    }
    let mut after = User { updated_at: now, version: before.version + 1, ..before.clone() };
    if let Some(name) = changes.display_name {
        after.display_name = checked_display_name(&name)?;
    }
    if let Some(email) = changes.email {
        after.email = email;
    }
    if let Some(org_id) = changes.org_id {
        after.org_id = org_id;
    }
    if let Some(status) = changes.status {
        after.status = status;
    }
    if let Some(identity) = changes.identity {
        after.identity = identity;
    }
    let unlock = changes.unlock || hash.is_some();
    if unlock {
        after.failed_attempts = 0;
    }
    if let Some(hash) = &hash {
        after.has_password = hash.is_some();
    }
    let saved = store::update(conn, &after, before.version).await.map_err(|error| {
        if error.violates(IDENTITY_KEY) { UserError::IdentityTaken } else { error.into() }
    })?;
    if !saved {
        return Err(UserError::Version { expected: before.version, present: before.version + 1 });
    }
    if unlock {
        store::unlock(conn, id).await?;
    }
    if let Some(hash) = &hash {
        store::set_password(conn, id, hash.as_deref()).await?;
    }
    let stops = before.status == UserStatus::Active && after.status != UserStatus::Active;
    let proves_otherwise = hash.is_some() || (before.identity.is_some() && before.identity != after.identity);
    if stops || proves_otherwise {
        store::sign_out(conn, id, now).await?;
    }
    if stops || proves_otherwise || before.status != after.status {
        tell_gateways(conn, &after, now).await?;
    }
    let mut detail = json!({
        "name": after.name,
        "changed": audit::changed(&before.view(), &after.view()),
    });
    if hash.is_some() {
        detail["reset"] = true.into();
    }
    let entry =
        audit::Entry { actor: by.into(), action: "users.update", subject: format!("user:{id}"), detail };
    audit::record(conn, entry, now).await?;
    Ok(after)
}

/// Of the tokens that came on record while others ended: who asked about one before the end was there holds
/// what is over, and was not told.
async fn tell_gateways_of_the_last(app: &App, user: &User, now: UnixMillis) -> Result<(), DbError> {
    let since = UnixMillis(now.0.saturating_sub(BEING_ISSUED_MS));
    let late = store::clients_with_tokens_of(&mut *app.db.read().await?, &user.name, now, since).await?;
    if late.is_empty() {
        return Ok(());
    }
    let mut tx = app.db.write("users.tell_of_the_last").await?;
    for client in late {
        changes::record(&mut tx, &Subject::Client { client: ClientId::from(client.as_str()) }, now).await?;
    }
    tx.commit().await
}

/// Gateways hold whether tokens of the user are let in.
async fn tell_gateways(conn: &mut Conn, user: &User, now: UnixMillis) -> Result<(), DbError> {
    for client in store::clients_with_tokens_of(conn, &user.name, now, UnixMillis(0)).await? {
        changes::record(conn, &Subject::Client { client: ClientId::from(client.as_str()) }, now).await?;
    }
    Ok(())
}

async fn load(conn: &mut Conn, id: &str) -> Result<User, UserError> {
    store::by_id(conn, id).await?.ok_or_else(|| UserError::NotFound { id: id.into() })
}

fn checked_display_name(name: &str) -> Result<String, UserError> {
    operators::display_name(name).map_err(|reason| UserError::Invalid { field: "display_name", reason })
}
