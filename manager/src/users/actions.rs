//! What is done with accounts: one function per use case, one named transaction each.

use gate::id::ClientId;
use gate::wire::changes::Subject;
use serde_json::json;

use super::model::{MAX_DISPLAY_NAME, OrgId, User, UserName, UserStatus};
use super::store::{self, UserFilter};
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::operators::Email;
use crate::password::Password;
use crate::{audit, changes};

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
    /// At an OpenID provider: its issuer, and its name for the user.
    pub identity: Option<(String, String)>,
}

/// What an update changes; None leaves as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub display_name: Option<String>,
    pub email: Option<Option<Email>>,
    pub org_id: Option<Option<OrgId>>,
    pub password: Option<Option<Password>>,
    pub status: Option<UserStatus>,
    pub identity: Option<Option<(String, String)>>,
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
    let hash = match &new.password {
        Some(password) => Some(password.hash(&app.random).await),
        None => None,
    };
    let mut tx = app.db.write("users.create").await?;
    let user = create_in(&mut tx, app, by, new, hash.as_deref()).await?;
    tx.commit().await?;
    Ok(user)
}

/// [`create`] within the caller's transaction; `hash` is that of the password.
async fn create_in(
    conn: &mut Conn,
    app: &App,
    by: &str,
    new: NewUser,
    hash: Option<&str>,
) -> Result<User, UserError> {
    let now = app.now();
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

pub(super) async fn list(
    app: &App,
    filter: &UserFilter,
    after: &str,
    limit: i64,
) -> Result<Vec<User>, DbError> {
    store::list(&mut *app.db.read().await?, filter, after, limit).await
}

/// Changes an account. A new password lets it try again.
pub(super) async fn update(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    changes: Changes,
) -> Result<User, UserError> {
    let hash = match &changes.password {
        Some(Some(password)) => Some(Some(password.hash(&app.random).await)),
        Some(None) => Some(None),
        None => None,
    };
    let now = app.now();
    let mut tx = app.db.write("users.update").await?;
    let before = load(&mut tx, id).await?;
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
    let saved = store::update(&mut tx, &after, before.version).await.map_err(|error| {
        if error.violates(IDENTITY_KEY) { UserError::IdentityTaken } else { error.into() }
    })?;
    if !saved {
        return Err(UserError::Version { expected: before.version, present: before.version + 1 });
    }
    if unlock {
        store::unlock(&mut tx, id).await?;
    }
    if let Some(hash) = &hash {
        store::set_password(&mut tx, id, hash.as_deref()).await?;
    }
    if (before.status == UserStatus::Active) != (after.status == UserStatus::Active) {
        // Gateways hold whether its tokens are let in.
        for client in store::clients_with_tokens_of(&mut tx, &after.name, now).await? {
            changes::record(&mut tx, &Subject::Client { client: ClientId::from(client.as_str()) }, now)
                .await?;
        }
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
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(after)
}

async fn load(conn: &mut Conn, id: &str) -> Result<User, UserError> {
    store::by_id(conn, id).await?.ok_or_else(|| UserError::NotFound { id: id.into() })
}

fn checked_display_name(name: &str) -> Result<String, UserError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_DISPLAY_NAME || name.chars().any(char::is_control) {
        let reason = format!("must be 1 to {MAX_DISPLAY_NAME} characters without control characters");
        return Err(UserError::Invalid { field: "display_name", reason });
    }
    Ok(name.to_owned())
}
