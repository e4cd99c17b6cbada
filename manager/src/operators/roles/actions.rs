//! What is done with roles.

use std::collections::BTreeSet;

use gate::time::UnixMillis;
use serde_json::{Value, json};

use super::store::{self, RoleRow};
use crate::app::App;
use crate::audit;
use crate::db::{Conn, DbError};
use crate::operators::actor::By;
use crate::operators::error::OperatorError;
use crate::operators::model::{MAX_DISPLAY_NAME, RoleName};
use crate::operators::permission::{Permission, names};
use crate::operators::store as accounts;

/// What the stored text of a role, or of a new one, says for everything.
const EVERYTHING: &str = "*";

/// The names of all roles, sorted.
pub async fn role_names(conn: &mut Conn) -> Result<Vec<String>, DbError> {
    Ok(store::all(conn).await?.into_iter().map(|role| role.name).collect())
}

pub(super) async fn list(app: &App) -> Result<Vec<RoleRow>, OperatorError> {
    Ok(store::all(&mut *app.db.read().await?).await?)
}

/// Makes or changes a role. `description`: None leaves it as it is.
pub(super) async fn put(
    app: &App,
    by: By<'_>,
    name: &RoleName,
    description: Option<&str>,
    permissions: &[String],
) -> Result<RoleRow, OperatorError> {
    let permissions = checked_permissions(permissions)?;
    if description.is_some_and(|text| text.chars().count() > MAX_DISPLAY_NAME) {
        let reason = format!("must be {MAX_DISPLAY_NAME} characters at most");
        return Err(OperatorError::Invalid { field: "description", reason });
    }
    let now = app.now();
    let mut tx = app.db.write("roles.put").await?;
    // Held from here on: what another one makes of it meanwhile is not overwritten unseen.
    let before = store::hold_or_make(&mut tx, name.as_str(), now).await?;
    let was = before.as_ref().map(permissions_in).transpose()?.unwrap_or_default();
    let role = RoleRow {
        name: name.to_string(),
        description: match (description, &before) {
            (Some(text), _) => text.to_string(),
            (None, Some(before)) => before.description.clone(),
            (None, None) => String::new(),
        },
        permissions,
    };
    let worth: BTreeSet<_> = was.union(&permissions_in(&role)?).copied().collect();
    by.covers(&worth, || format!("role {name}"))?;
    store::save(&mut tx, &role).await?;
    let detail = match &before {
        Some(before) => json!({ "changed": audit::changed(&view(before), &view(&role)) }),
        None => view(&role),
    };
    record(&mut tx, by, "roles.put", name, detail, now).await?;
    // Behind the audit entry, whose lock puts transactions in order.
    require_manager(&mut tx).await?;
    tx.commit().await?;
    Ok(role)
}

/// Deletes a role that no operator has. Whoever is above and names roles opens the transaction,
/// and looks behind this whether it does, since the audit entry's lock puts transactions in order.
pub async fn delete_role(
    conn: &mut Conn,
    by: By<'_>,
    name: &RoleName,
    now: UnixMillis,
) -> Result<(), OperatorError> {
    let Some(role) = store::hold(conn, name.as_str()).await? else {
        return Err(OperatorError::NotFound { what: format!("role {name}") });
    };
    by.covers(&permissions_in(&role)?, || format!("role {name}"))?;
    store::delete(conn, name.as_str()).await?;
    record(conn, by, "roles.delete", name, view(&role), now).await?;
    let holders = accounts::names_with_role(conn, name.as_str()).await?;
    if !holders.is_empty() {
        return Err(OperatorError::RoleHeld { role: name.to_string(), holders });
    }
    Ok(())
}

/// What these roles permit together.
pub(in crate::operators) async fn permissions_of(
    conn: &mut Conn,
    roles: &[RoleName],
) -> Result<BTreeSet<Permission>, DbError> {
    let mut permissions = BTreeSet::new();
    for role in store::all(conn).await? {
        if roles.iter().any(|own| own.as_str() == role.name) {
            permissions.extend(permissions_in(&role)?);
        }
    }
    Ok(permissions)
}

/// Err: one of them does not exist.
pub(in crate::operators) async fn require_known(
    conn: &mut Conn,
    roles: &[RoleName],
) -> Result<(), OperatorError> {
    let known = store::all(conn).await?;
    match roles.iter().find(|role| known.iter().all(|row| row.name != role.as_str())) {
        Some(role) => Err(OperatorError::UnknownRole { role: role.to_string() }),
        None => Ok(()),
    }
}

/// Somebody must be left who can undo what is being done.
pub(in crate::operators) async fn require_manager(conn: &mut Conn) -> Result<(), OperatorError> {
    for role in store::all(conn).await? {
        let manages = permissions_in(&role)?.contains(&Permission::OperatorsManage);
        if manages && !accounts::active_with_role(conn, &role.name).await?.is_empty() {
            return Ok(());
        }
    }
    Err(OperatorError::LastManager)
}

fn permissions_in(role: &RoleRow) -> Result<BTreeSet<Permission>, DbError> {
    Permission::parse_set(&role.permissions).ok_or_else(|| DbError::Inconsistency {
        table: "roles",
        column: "permissions",
        row: role.name.clone(),
    })
}

/// As stored: each once, in their order.
fn checked_permissions(permissions: &[String]) -> Result<String, OperatorError> {
    if permissions.iter().any(|permission| permission == EVERYTHING) && permissions.len() == 1 {
        return Ok(EVERYTHING.into());
    }
    let mut set = BTreeSet::new();
    for permission in permissions {
        if permission == EVERYTHING {
            let reason = "has * and others: * alone is everything".into();
            return Err(OperatorError::Invalid { field: "permissions", reason });
        }
        match Permission::parse(permission) {
            Some(known) => set.insert(known),
            None => {
                let reason = format!("has {permission:?}, which is none of: *, {}", names(Permission::ALL));
                return Err(OperatorError::Invalid { field: "permissions", reason });
            }
        };
    }
    Ok(Permission::text_of(&set))
}

fn view(role: &RoleRow) -> Value {
    json!({
        "description": role.description,
        "permissions": role.permissions.split_ascii_whitespace().collect::<Vec<_>>(),
    })
}

async fn record(
    conn: &mut Conn,
    by: By<'_>,
    action: &'static str,
    name: &RoleName,
    detail: Value,
    now: UnixMillis,
) -> Result<(), DbError> {
    let entry = audit::Entry { actor: by.audit_name(), action, subject: format!("role:{name}"), detail };
    audit::record(conn, entry, now).await
}
