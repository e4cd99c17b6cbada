//! What is done with accounts: one function per use case, one named transaction each.

use std::collections::{BTreeMap, BTreeSet};

use gate::time::UnixMillis;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::actor::By;
use super::error::OperatorError;
use super::model::{
    ActiveOperator, Email, MAX_ROLES, Operator, OperatorName, OperatorStatus, RoleName, display_name,
};
use super::roles::{permissions_of, require_known, require_manager};
use super::store;
use super::tokens::store as tokens;
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
    /// None: signs in by API token only. Otherwise it serves only to set an own one.
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
    /// A new password leaves the API tokens alive, which it ends otherwise.
    pub keep_tokens: bool,
}

/// Creates an operator.
pub async fn create(app: &App, by: By<'_>, new: NewOperator) -> Result<Operator, OperatorError> {
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
        must_change_password: hash.is_some(),
        failed_attempts: 0,
        roles: distinct(new.roles)?,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    let mut tx = app.db.write("operators.create").await?;
    require_known(&mut tx, &operator.roles).await?;
    let worth = permissions_of(&mut tx, &operator.roles).await?;
    by.covers(&worth, || roles_named(&operator.roles))?;
    store::insert(&mut tx, &operator, hash.as_deref()).await.map_err(|error| {
        if error.violates("operators_name_key") {
            OperatorError::NameTaken { name: operator.name.to_string() }
        } else {
            error.into()
        }
    })?;
    record(&mut tx, by, "operators.create", &operator.id, operator.view(), now).await?;
    // Behind the audit entry, whose lock puts transactions in order: a role may have been deleted.
    require_known(&mut tx, &operator.roles).await?;
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
    match create(app, By::Machine("system"), new).await {
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

/// Every active operator with all that its roles are worth, in no order: whoever could sign a form.
pub async fn active(conn: &mut Conn) -> Result<Vec<ActiveOperator>, DbError> {
    store::active(conn).await
}

/// The operator of that id, whatever its status.
pub async fn find(conn: &mut Conn, id: &str) -> Result<Option<Operator>, DbError> {
    store::by_id(conn, id).await
}

/// What the operators of these ids sign in with, by id.
pub async fn names(conn: &mut Conn, ids: &BTreeSet<&str>) -> Result<BTreeMap<String, String>, DbError> {
    store::names(conn, ids).await
}

/// What people call the operators of these ids, by id.
pub async fn display_names(
    conn: &mut Conn,
    ids: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, DbError> {
    store::display_names(conn, ids).await
}

/// The id of the operator who signs in with `name`, if there is one.
pub async fn id_of(conn: &mut Conn, name: &str) -> Result<Option<String>, DbError> {
    match OperatorName::parse(name) {
        Ok(name) => store::id_of(conn, &name).await,
        Err(_) => Ok(None),
    }
}

/// Changes an account. A new password, which only its owner changes in
/// [`super::sessions`] otherwise, and a disabled account end the sessions; a new password ends the
/// API tokens too, since whoever had the account may have made one.
pub(super) async fn update(
    app: &App,
    by: By<'_>,
    id: &str,
    expected: Option<i64>,
    changes: Changes,
) -> Result<Operator, OperatorError> {
    if changes.password.is_some() && by.is(id) {
        let reason = "is changed at PUT /api/v1/session/password where it is one's own".into();
        return Err(OperatorError::Invalid { field: "password", reason });
    }
    let hash = match &changes.password {
        Some(password) => Some(password.hash(&app.random).await),
        None => None,
    };
    let now = app.now();
    let mut tx = app.db.write("operators.update").await?;
    let before = load(&mut tx, id).await?;
    if let Some(expected) = expected
        && expected != before.version
    {
        return Err(OperatorError::Version { expected, present: before.version });
    }
    let held = permissions_of(&mut tx, &before.roles).await?;
    by.covers(&held, || format!("operator {}", before.name))?;
    let mut after = Operator { updated_at: now, version: before.version + 1, ..before.clone() };
    if let Some(name) = changes.display_name {
        after.display_name = checked_display_name(&name)?;
    }
    if let Some(email) = changes.email {
        after.email = email;
    }
    if let Some(status) = changes.status {
        after.status = status;
    }
    if let Some(roles) = changes.roles {
        after.roles = distinct(roles)?;
        require_known(&mut tx, &after.roles).await?;
        let worth = permissions_of(&mut tx, &after.roles).await?;
        by.covers(&worth, || roles_named(&after.roles))?;
    }
    let unlock = changes.unlock || hash.is_some();
    if unlock {
        after.failed_attempts = 0;
    }
    if hash.is_some() {
        after.must_change_password = true;
    }
    if !store::update(&mut tx, &after, before.version).await? {
        return Err(OperatorError::Version { expected: before.version, present: before.version + 1 });
    }
    if unlock {
        store::unlock(&mut tx, id).await?;
    }
    if let Some(hash) = &hash {
        store::set_password(&mut tx, id, hash).await?;
    }
    if hash.is_some() || changes.status == Some(OperatorStatus::Disabled) {
        tokens::revoke_sessions(&mut tx, id, "", now).await?;
    }
    let tokens_ended = match &hash {
        Some(_) if !changes.keep_tokens => tokens::revoke_api_tokens(&mut tx, id, now).await?,
        Some(_) | None => 0,
    };
    let mut detail = json!({
        "name": after.name,
        "changed": audit::changed(&before.view(), &after.view()),
    });
    if hash.is_some() {
        detail["password_reset"] = true.into();
        detail["tokens_ended"] = tokens_ended.into();
    }
    record(&mut tx, by, "operators.update", id, detail, now).await?;
    // Behind the audit entry, whose lock puts transactions in order: of two managers who disable
    // each other the second sees the first, and a role may have been deleted.
    require_known(&mut tx, &after.roles).await?;
    require_manager(&mut tx).await?;
    tx.commit().await?;
    Ok(after)
}

pub(super) async fn load(conn: &mut Conn, id: &str) -> Result<Operator, OperatorError> {
    store::by_id(conn, id).await?.ok_or_else(|| OperatorError::NotFound { what: format!("operator {id}") })
}

fn checked_display_name(name: &str) -> Result<String, OperatorError> {
    display_name(name).map_err(|reason| OperatorError::Invalid { field: "display_name", reason })
}

fn distinct(mut roles: Vec<RoleName>) -> Result<Vec<RoleName>, OperatorError> {
    roles.sort();
    roles.dedup();
    if roles.len() > MAX_ROLES {
        return Err(OperatorError::Invalid { field: "roles", reason: format!("has more than {MAX_ROLES}") });
    }
    Ok(roles)
}

fn roles_named(roles: &[RoleName]) -> String {
    let names: Vec<_> = roles.iter().map(RoleName::as_str).collect();
    format!("having the roles {}", names.join(", "))
}

async fn record(
    conn: &mut Conn,
    by: By<'_>,
    action: &'static str,
    operator: &str,
    detail: Value,
    now: UnixMillis,
) -> Result<(), DbError> {
    let subject = format!("operator:{operator}");
    audit::record(conn, audit::Entry { actor: by.audit_name(), action, subject, detail }, now).await
}
