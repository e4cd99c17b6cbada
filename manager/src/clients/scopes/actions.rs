//! Shown, offered, set, taken.

use std::collections::BTreeSet;

use gate::id::GroupId;
use gate::time::UnixMillis;
use serde_json::{Value, json};

use super::store;
use crate::app::App;
use crate::catalog::groups::{Group, GroupFilter, GroupKind, groups};
use crate::catalog::{self, GroupSummary, SecurityLevel};
use crate::clients::actions::{ClientError, load, require_version};
use crate::clients::form::check_group_count;
use crate::clients::model::{Client, Fault};
use crate::db::{Conn, DbError};
use crate::{audit, clients};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ScopesError {
    /// No such scope.
    #[error("Scope [{scope}] does not exist")]
    Unknown {
        /// As given.
        scope: GroupId,
    },
    /// Above the client's level.
    #[error(
        "scope {scope} has the security level {}, above the client's {}: raise the client's level first",
        level.as_str(), client_level.as_str()
    )]
    AboveLevel {
        /// Its name.
        scope: String,
        /// The scope's.
        level: SecurityLevel,
        /// The client's.
        client_level: SecurityLevel,
    },
    /// Too many, with the client's groups.
    #[error(transparent)]
    TooMany(Fault),
    /// What goes wrong with clients.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl From<DbError> for ScopesError {
    fn from(error: DbError) -> Self {
        Self::Client(error.into())
    }
}

/// The client and its scopes.
pub(super) async fn get(app: &App, client: &str) -> Result<(Client, Vec<GroupSummary>), ScopesError> {
    let mut conn = app.db.snapshot().await?;
    let client = load(&mut conn, client).await?;
    let scopes = of_client(&mut conn, client.id.as_str()).await?;
    Ok((client, scopes))
}

/// The scopes that the client may be given, by name: none above its level. Of each, whether it has
/// it already.
pub(super) async fn offered(
    app: &App,
    client: &str,
    keyword: Option<String>,
    after: &str,
    limit: i64,
) -> Result<Vec<(Group, bool)>, ScopesError> {
    let mut conn = app.db.snapshot().await?;
    let client = load(&mut conn, client).await?;
    let filter = GroupFilter { keyword, offered_to: Some(client.security_level), ..GroupFilter::default() };
    let given = store::of_client(&mut conn, client.id.as_str()).await?;
    let scopes = groups(&mut conn, GroupKind::Scope, &filter, after, limit).await?;
    Ok(scopes
        .into_iter()
        .map(|scope| {
            let has = given.contains(&scope.id);
            (scope, has)
        })
        .collect())
}

pub(super) async fn set(
    app: &App,
    by: &str,
    client: &str,
    expected: Option<i64>,
    scopes: Vec<GroupId>,
) -> Result<(Client, Vec<GroupSummary>), ScopesError> {
    let now = app.now();
    let mut tx = app.db.write("clients.set_scopes").await?;
    let set = set_in(&mut tx, by, client, expected, scopes, now).await?;
    tx.commit().await?;
    Ok(set)
}

/// Replaces a client's scopes within the caller's transaction. `expected` is the version of the
/// client. What changes nothing leaves no trace.
pub async fn set_in(
    conn: &mut Conn,
    by: &str,
    client: &str,
    expected: Option<i64>,
    scopes: Vec<GroupId>,
    now: UnixMillis,
) -> Result<(Client, Vec<GroupSummary>), ScopesError> {
    // Held, so that it is not deleted before the scopes are there.
    let client = clients::hold(conn, client).await?;
    require_version(&client, expected)?;
    let before: BTreeSet<GroupId> = store::of_client(conn, client.id.as_str()).await?.into_iter().collect();
    let after: BTreeSet<GroupId> = scopes.into_iter().collect();
    if before == after {
        let scopes = of_client(conn, client.id.as_str()).await?;
        return Ok((client, scopes));
    }
    check_group_count(client.groups.len() + after.len()).map_err(ScopesError::TooMany)?;
    // A scope whose level was raised meanwhile must not keep an operator from giving another one.
    let new: Vec<GroupId> = after.difference(&before).cloned().collect();
    require(conn, &client, &new).await?;
    // The client's version tells it to whoever changes its groups at the same time.
    let read_version = client.version;
    if !clients::store::touch(conn, client.id.as_str(), read_version, now).await? {
        let error = ClientError::Version { expected: read_version, present: read_version + 1 };
        return Err(error.into());
    }
    let client = Client { version: read_version + 1, updated_at: now, ..client };
    for scope in before.difference(&after) {
        store::delete(conn, client.id.as_str(), scope).await?;
    }
    for scope in &new {
        store::insert(conn, client.id.as_str(), scope).await.map_err(|error| {
            // Deleted at this very moment.
            if error.violates_reference() {
                ScopesError::Unknown { scope: scope.clone() }
            } else {
                error.into()
            }
        })?;
    }
    let scopes = of_client(conn, client.id.as_str()).await?;
    record(conn, by, client.id.as_str(), &before, &after, now).await?;
    Ok((client, scopes))
}

/// The client's scopes, in order of their ids.
pub async fn of_client(conn: &mut Conn, client: &str) -> Result<Vec<GroupSummary>, DbError> {
    let ids = store::of_client(conn, client).await?;
    catalog::known_scopes(conn, &ids).await
}

/// How many scopes the client has.
pub async fn count(conn: &mut Conn, client: &str) -> Result<usize, DbError> {
    Ok(store::of_client(conn, client).await?.len())
}

/// Scopes that were taken from a client, not yet on record.
#[must_use = "the audit trail tells of it too"]
pub struct Taken {
    before: BTreeSet<GroupId>,
    after: BTreeSet<GroupId>,
}

/// Takes these scopes from a client within the caller's transaction, who has the client's version
/// raised: for a client whose level becomes lower.
pub async fn take(conn: &mut Conn, client: &str, scopes: &[GroupSummary]) -> Result<Taken, DbError> {
    let before: BTreeSet<GroupId> = store::of_client(conn, client).await?.into_iter().collect();
    let mut after = before.clone();
    for scope in scopes {
        store::delete(conn, client, &scope.id).await?;
        after.remove(&scope.id);
    }
    Ok(Taken { before, after })
}

impl Taken {
    /// Puts on record what was taken, if anything was: after the change of the client itself.
    pub async fn record(
        self,
        conn: &mut Conn,
        by: &str,
        client: &str,
        now: UnixMillis,
    ) -> Result<(), DbError> {
        if self.before == self.after {
            return Ok(());
        }
        record(conn, by, client, &self.before, &self.after, now).await
    }
}

async fn record(
    conn: &mut Conn,
    by: &str,
    client: &str,
    before: &BTreeSet<GroupId>,
    after: &BTreeSet<GroupId>,
    now: UnixMillis,
) -> Result<(), DbError> {
    let entry = audit::Entry {
        actor: by.into(),
        action: "clients.set_scopes",
        subject: format!("client:{client}"),
        detail: json!({ "changed": audit::changed(&view(before), &view(after)) }),
    };
    audit::record(conn, entry, now).await
}

/// Every scope exists, and none is above the client's level.
async fn require(conn: &mut Conn, client: &Client, scopes: &[GroupId]) -> Result<(), ScopesError> {
    let known = catalog::known_scopes(conn, scopes).await?;
    if let Some(scope) = scopes.iter().find(|id| known.iter().all(|scope| scope.id != **id)) {
        return Err(ScopesError::Unknown { scope: scope.clone() });
    }
    match known.into_iter().find(|scope| !client.security_level.covers(scope.security_level)) {
        Some(above) => Err(ScopesError::AboveLevel {
            scope: above.name,
            level: above.security_level,
            client_level: client.security_level,
        }),
        None => Ok(()),
    }
}

/// As the audit trail compares them.
fn view(scopes: &BTreeSet<GroupId>) -> Value {
    json!({ "scopes": scopes })
}
