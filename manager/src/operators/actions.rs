//! What is done with operators: one function per use case, one named transaction each.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gate::time::UnixMillis;
use serde_json::json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::model::{
    Actor, Email, MAX_API_TOKENS, MAX_DISPLAY_NAME, MAX_ROLES, Operator, OperatorName, OperatorStatus,
    Permission, RoleName, TokenKind,
};
use super::store::{self, RoleRow, TokenRow};
use crate::app::App;
use crate::audit;
use crate::db::{Conn, DbError};
use crate::password::{self, Password};

/// What a new operator is made from.
#[derive(Clone, Debug)]
pub struct NewOperator {
    /// Unique.
    pub name: OperatorName,
    /// Empty: the name.
    pub display_name: String,
    /// Where mails go.
    pub email: Option<Email>,
    /// None: signs in by API token only.
    pub password: Option<Password>,
    /// Each must exist.
    pub roles: Vec<RoleName>,
}

/// What an update changes; None leaves as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub display_name: Option<String>,
    pub email: Option<Option<Email>>,
    pub password: Option<Password>,
    pub roles: Option<Vec<RoleName>>,
    pub status: Option<OperatorStatus>,
    pub unlock: bool,
}

/// Why an action was refused.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The name is taken.
    #[error("an operator named {name} exists")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A field cannot be taken.
    #[error("{field} {reason}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is expected.
        reason: String,
    },
    /// The role does not exist.
    #[error("role {role} does not exist; roles are listed at /api/v1/roles")]
    UnknownRole {
        /// Which.
        role: String,
    },
    /// No such operator, role or token.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// Name and password do not belong together.
    #[error("operator or password is wrong")]
    WrongPassword,
    /// Too many wrong passwords.
    #[error(
        "the account is locked after {attempts} wrong passwords; an operator with operators.manage unlocks it"
    )]
    Locked {
        /// How many.
        attempts: i64,
    },
    /// The account is switched off.
    #[error("the account is disabled")]
    Disabled,
    /// Nobody would be left who manages operators.
    #[error("this is the last active operator with operators.manage: give it to another one first")]
    LastManager,
    /// Changed meanwhile.
    #[error("version {expected} was named, {present} is present")]
    Version {
        /// By the caller.
        expected: i64,
        /// In the database.
        present: i64,
    },
    /// Too many API tokens.
    #[error("the operator has {MAX_API_TOKENS} live API tokens: revoke one first")]
    TooManyTokens,
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A token just issued: its text is shown this once.
pub struct IssuedToken {
    /// `ot_…`
    pub id: String,
    /// What the caller presents as Bearer.
    pub text: Zeroizing<String>,
    /// Last instant; None: until revoked.
    pub expires_at: Option<UnixMillis>,
}

/// Creates an operator. `by` is how the audit trail names who did it.
pub async fn create(app: &App, by: &str, new: NewOperator) -> Result<Operator, OperatorError> {
    let hash = match &new.password {
        Some(password) => Some(password.hash(&app.random).await),
        None => None,
    };
    let now = app.now();
    let display_name = if new.display_name.trim().is_empty() {
        new.name.to_string()
    } else {
        checked_display_name(&new.display_name)?
    };
    let operator = Operator {
        id: app.random.id("op"),
        display_name,
        name: new.name,
        email: new.email,
        status: OperatorStatus::Active,
        failed_attempts: 0,
        roles: distinct(new.roles)?,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    let mut tx = app.db.write("operators.create").await?;
    require_roles(&mut tx, &operator.roles).await?;
    store::insert(&mut tx, &operator, hash.as_deref()).await.map_err(|error| {
        if error.violates("operators_name_key") {
            OperatorError::NameTaken { name: operator.name.to_string() }
        } else {
            error.into()
        }
    })?;
    record(&mut tx, by, "operators.create", &operator, now).await?;
    tx.commit().await?;
    Ok(operator)
}

/// At the first start: an `admin` with a generated password, which is returned to be shown once.
/// None: there are operators.
pub async fn ensure_first(app: &App) -> Result<Option<(Operator, Zeroizing<String>)>, OperatorError> {
    if store::count(&mut *app.db.read().await?).await? > 0 {
        return Ok(None);
    }
    let clear = password::generate(&app.random);
    let password = Password::parse(&clear).expect("26 characters are a password");
    let role = |name| RoleName::parse(name).expect("a role of the first migration");
    let new = NewOperator {
        name: OperatorName::parse("admin").expect("a plain word"),
        display_name: "Administrator".into(),
        email: None,
        password: Some(password),
        roles: vec![role("admin")],
    };
    match create(app, "system", new).await {
        Ok(operator) => Ok(Some((operator, clear))),
        // Another replica was first.
        Err(OperatorError::NameTaken { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn get(app: &App, id: &str) -> Result<Operator, OperatorError> {
    load(&mut *app.db.read().await?, id).await
}

pub(super) async fn list(app: &App, after: &str, limit: i64) -> Result<Vec<Operator>, OperatorError> {
    Ok(store::list(&mut *app.db.snapshot().await?, after, limit).await?)
}

/// Active operators with `role`: those who may sign at a level, and get its mails.
pub async fn with_role(conn: &mut Conn, role: &str) -> Result<Vec<Operator>, DbError> {
    store::active_with_role(conn, role).await
}

/// The operator of that id, whatever its status.
pub async fn find(conn: &mut Conn, id: &str) -> Result<Option<Operator>, DbError> {
    store::by_id(conn, id).await
}

/// What the operators of these ids sign in with, by id.
pub async fn names(conn: &mut Conn, ids: &BTreeSet<&str>) -> Result<BTreeMap<String, String>, DbError> {
    store::names(conn, ids).await
}

/// The id of the operator who signs in with `name`, if there is one.
pub async fn id_of(conn: &mut Conn, name: &str) -> Result<Option<String>, DbError> {
    match OperatorName::parse(name) {
        Ok(name) => store::id_of(conn, &name).await,
        Err(_) => Ok(None),
    }
}

/// The names of all roles, sorted.
pub async fn role_names(conn: &mut Conn) -> Result<Vec<String>, DbError> {
    Ok(store::roles(conn).await?.into_iter().map(|role| role.name).collect())
}

pub(super) async fn update(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    changes: Changes,
) -> Result<Operator, OperatorError> {
    let hash = match &changes.password {
        Some(password) => Some(password.hash(&app.random).await),
        None => None,
    };
    let now = app.now();
    let mut tx = app.db.write("operators.update").await?;
    let mut operator = load(&mut tx, id).await?;
    let read_version = operator.version;
    if let Some(expected) = expected
        && expected != read_version
    {
        return Err(OperatorError::Version { expected, present: read_version });
    }
    let ends_sessions = hash.is_some() || changes.status == Some(OperatorStatus::Disabled);
    if let Some(name) = changes.display_name {
        operator.display_name = checked_display_name(&name)?;
    }
    if let Some(email) = changes.email {
        operator.email = email;
    }
    if let Some(status) = changes.status {
        operator.status = status;
    }
    if let Some(roles) = changes.roles {
        operator.roles = distinct(roles)?;
        require_roles(&mut tx, &operator.roles).await?;
    }
    if changes.unlock || hash.is_some() {
        operator.failed_attempts = 0;
    }
    operator.updated_at = now;
    operator.version += 1;
    if !store::update(&mut tx, &operator, read_version).await? {
        return Err(OperatorError::Version { expected: read_version, present: read_version + 1 });
    }
    if let Some(hash) = hash {
        store::set_password(&mut tx, id, &hash).await?;
    }
    if ends_sessions {
        store::revoke_sessions(&mut tx, id, now).await?;
    }
    record(&mut tx, by, "operators.update", &operator, now).await?;
    // Behind the audit entry, whose lock puts transactions in order: of two managers who disable
    // each other the second sees the first.
    require_manager(&mut tx).await?;
    tx.commit().await?;
    Ok(operator)
}

/// Checks name and password and opens a session.
pub(super) async fn sign_in(
    app: &App,
    name: &str,
    unverified_password: &str,
) -> Result<(Operator, IssuedToken), OperatorError> {
    let known = match OperatorName::parse(name) {
        Ok(name) => store::for_sign_in(&mut *app.db.read().await?, &name).await?,
        Err(_) => None,
    };
    let hash = known.as_ref().and_then(|(_, hash)| hash.as_deref());
    let right = password::verify(unverified_password, hash).await;
    let Some((operator, _)) = known else { return Err(OperatorError::WrongPassword) };
    let now = app.now();
    let limit = i64::from(app.config.lockout_attempts);
    // What the account's state is, only who knows its password is told.
    if !right {
        let mut tx = app.db.write("operators.sign_in_failed").await?;
        if store::count_failure(&mut tx, &operator.id).await? == Some(limit) {
            record(&mut tx, "system", "operators.lock", &operator, now).await?;
        }
        tx.commit().await?;
        return Err(OperatorError::WrongPassword);
    }
    if limit > 0 && operator.failed_attempts >= limit {
        return Err(OperatorError::Locked { attempts: operator.failed_attempts });
    }
    if operator.status == OperatorStatus::Disabled {
        return Err(OperatorError::Disabled);
    }
    let lifetime_ms = i64::try_from(app.config.session_ttl_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let expires_at = UnixMillis(now.0.saturating_add(lifetime_ms));
    let mut tx = app.db.write("operators.sign_in").await?;
    // The count that was read may be old: guesses in parallel must not pass the lock.
    if !store::let_in(&mut tx, &operator.id, limit).await? {
        return Err(OperatorError::Locked { attempts: limit });
    }
    let token = issue(app, &mut tx, &operator.id, TokenKind::Session, "", Some(expires_at), now).await?;
    record(&mut tx, &format!("operator:{}", operator.id), "operators.sign_in", &operator, now).await?;
    tx.commit().await?;
    Ok((operator, token))
}

/// Ends the session (or revokes the API token) that the actor presented.
pub(super) async fn sign_out(app: &App, actor: &Actor) -> Result<(), OperatorError> {
    let now = app.now();
    let mut tx = app.db.write("operators.sign_out").await?;
    store::revoke_token(&mut tx, &actor.operator, &actor.token, now).await?;
    let entry = audit::Entry {
        actor: actor.audit_name(),
        action: "operators.sign_out",
        subject: format!("operator:{}", actor.operator),
        detail: json!({ "token_id": actor.token }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Makes an API token for an operator.
pub async fn issue_api_token(
    app: &App,
    by: &str,
    operator: &str,
    name: &str,
) -> Result<IssuedToken, OperatorError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_DISPLAY_NAME {
        let reason = format!("must be 1 to {MAX_DISPLAY_NAME} characters that say what uses the token");
        return Err(OperatorError::Invalid { field: "name", reason });
    }
    let now = app.now();
    let mut tx = app.db.write("operators.issue_token").await?;
    let operator = load(&mut tx, operator).await?;
    let live = store::api_tokens(&mut tx, &operator.id).await?.len();
    if i64::try_from(live).is_ok_and(|live| live >= MAX_API_TOKENS) {
        return Err(OperatorError::TooManyTokens);
    }
    let token = issue(app, &mut tx, &operator.id, TokenKind::Api, name, None, now).await?;
    let entry = audit::Entry {
        actor: by.into(),
        action: "operators.issue_token",
        subject: format!("operator:{}", operator.id),
        detail: json!({ "token_id": token.id, "name": name }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(token)
}

pub(super) async fn api_tokens(app: &App, operator: &str) -> Result<Vec<TokenRow>, OperatorError> {
    let mut conn = app.db.snapshot().await?;
    load(&mut conn, operator).await?;
    Ok(store::api_tokens(&mut conn, operator).await?)
}

pub(super) async fn revoke_token(app: &App, by: &str, operator: &str, id: &str) -> Result<(), OperatorError> {
    let now = app.now();
    let mut tx = app.db.write("operators.revoke_token").await?;
    if !store::revoke_token(&mut tx, operator, id, now).await? {
        return Err(OperatorError::NotFound { what: format!("token {id} of operator {operator}") });
    }
    let entry = audit::Entry {
        actor: by.into(),
        action: "operators.revoke_token",
        subject: format!("operator:{operator}"),
        detail: json!({ "token_id": id }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Who presents this token; None: nobody that may act now.
pub(super) async fn authenticate(app: &App, unverified_token: &str) -> Result<Option<Actor>, OperatorError> {
    let mut conn = app.db.snapshot().await?;
    let Some(token) = store::token_by_hash(&mut conn, &sha256_hex(unverified_token)).await? else {
        return Ok(None);
    };
    if token.revoked_at.is_some() || token.expires_at.is_some_and(|last| last < app.now().0) {
        return Ok(None);
    }
    let Some(operator) = store::by_id(&mut conn, &token.operator_id).await? else { return Ok(None) };
    if operator.status != OperatorStatus::Active {
        return Ok(None);
    }
    let permissions = permissions_of(&mut conn, &operator.roles).await?;
    Ok(Some(Actor {
        operator: operator.id,
        name: operator.name.to_string(),
        display_name: operator.display_name,
        email: operator.email.map(|email| email.as_str().to_string()),
        roles: operator.roles.iter().map(ToString::to_string).collect(),
        permissions,
        token: token.id,
    }))
}

pub(super) async fn roles(app: &App) -> Result<Vec<RoleRow>, OperatorError> {
    Ok(store::roles(&mut *app.db.read().await?).await?)
}

pub(super) async fn put_role(
    app: &App,
    by: &str,
    name: &RoleName,
    description: &str,
    permissions: &[String],
) -> Result<RoleRow, OperatorError> {
    for permission in permissions {
        if permission != "*" && Permission::parse(permission).is_none() {
            let all: Vec<_> = Permission::ALL.iter().map(|permission| permission.as_str()).collect();
            let reason = format!("has {permission:?}, which is none of: *, {}", all.join(", "));
            return Err(OperatorError::Invalid { field: "permissions", reason });
        }
    }
    if description.chars().count() > MAX_DISPLAY_NAME {
        let reason = format!("must be {MAX_DISPLAY_NAME} characters at most");
        return Err(OperatorError::Invalid { field: "description", reason });
    }
    let now = app.now();
    let role = RoleRow {
        name: name.to_string(),
        description: description.to_string(),
        permissions: permissions.join(" "),
    };
    let mut tx = app.db.write("roles.put").await?;
    store::put_role(&mut tx, &role, now).await?;
    let entry = audit::Entry {
        actor: by.into(),
        action: "roles.put",
        subject: format!("role:{name}"),
        detail: json!({ "permissions": permissions }),
    };
    audit::record(&mut tx, entry, now).await?;
    require_manager(&mut tx).await?;
    tx.commit().await?;
    Ok(role)
}

/// Forgets sessions that ran out a day ago.
pub(super) async fn forget_expired_sessions(app: &App) -> Result<(), OperatorError> {
    const KEPT_MS: i64 = 86_400_000;
    let mut tx = app.db.write("operators.forget_sessions").await?;
    store::delete_expired(&mut tx, UnixMillis(app.now().0 - KEPT_MS)).await?;
    tx.commit().await?;
    Ok(())
}

async fn load(conn: &mut Conn, id: &str) -> Result<Operator, OperatorError> {
    store::by_id(conn, id).await?.ok_or_else(|| OperatorError::NotFound { what: format!("operator {id}") })
}

async fn issue(
    app: &App,
    conn: &mut Conn,
    operator: &str,
    kind: TokenKind,
    name: &str,
    expires_at: Option<UnixMillis>,
    now: UnixMillis,
) -> Result<IssuedToken, DbError> {
    let secret = Zeroizing::new(app.random.bytes::<32>());
    let text = Zeroizing::new(format!("{}_{}", kind.prefix(), URL_SAFE_NO_PAD.encode(*secret)));
    let row = TokenRow {
        id: app.random.id("ot"),
        operator_id: operator.into(),
        kind: kind.as_str().into(),
        name: name.into(),
        created_at: now.0,
        expires_at: expires_at.map(|at| at.0),
        revoked_at: None,
    };
    store::insert_token(conn, &row, &sha256_hex(&text)).await?;
    Ok(IssuedToken { id: row.id, text, expires_at })
}

async fn permissions_of(conn: &mut Conn, roles: &[RoleName]) -> Result<BTreeSet<Permission>, DbError> {
    let mut permissions = BTreeSet::new();
    for role in store::roles(conn).await? {
        if roles.iter().any(|own| own.as_str() == role.name) {
            permissions.extend(Permission::parse_set(&role.permissions).ok_or(DbError::Inconsistency {
                table: "roles",
                column: "permissions",
                row: role.name,
            })?);
        }
    }
    Ok(permissions)
}

async fn require_roles(conn: &mut Conn, roles: &[RoleName]) -> Result<(), OperatorError> {
    let known = store::roles(conn).await?;
    match roles.iter().find(|role| known.iter().all(|row| row.name != role.as_str())) {
        Some(role) => Err(OperatorError::UnknownRole { role: role.to_string() }),
        None => Ok(()),
    }
}

/// Somebody must be left who can undo what is being done.
async fn require_manager(conn: &mut Conn) -> Result<(), OperatorError> {
    for role in store::roles(conn).await? {
        let manages = Permission::parse_set(&role.permissions)
            .is_some_and(|set| set.contains(&Permission::OperatorsManage));
        if manages && !store::active_with_role(conn, &role.name).await?.is_empty() {
            return Ok(());
        }
    }
    Err(OperatorError::LastManager)
}

fn checked_display_name(name: &str) -> Result<String, OperatorError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_DISPLAY_NAME || name.chars().any(char::is_control) {
        let reason = format!("must be 1 to {MAX_DISPLAY_NAME} characters without control characters");
        return Err(OperatorError::Invalid { field: "display_name", reason });
    }
    Ok(name.to_string())
}

fn distinct(mut roles: Vec<RoleName>) -> Result<Vec<RoleName>, OperatorError> {
    roles.sort();
    roles.dedup();
    if roles.len() > MAX_ROLES {
        return Err(OperatorError::Invalid { field: "roles", reason: format!("has more than {MAX_ROLES}") });
    }
    Ok(roles)
}

async fn record(
    conn: &mut Conn,
    by: &str,
    action: &'static str,
    operator: &Operator,
    now: UnixMillis,
) -> Result<(), DbError> {
    let entry = audit::Entry {
        actor: by.into(),
        action,
        subject: format!("operator:{}", operator.id),
        detail: json!({
            "name": operator.name,
            "display_name": operator.display_name,
            "email": operator.email,
            "roles": operator.roles,
            "status": operator.status,
        }),
    };
    audit::record(conn, entry, now).await
}

fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
