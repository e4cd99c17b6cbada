//! Status, security level, groups: one named transaction each.

use gate::id::GroupId;
use gate::wire::exchange::ClientStatus;

use crate::app::App;
use crate::catalog::groups::{Group, GroupFilter, GroupKind, groups};
use crate::catalog::{self, GroupSummary, SecurityLevel};
use crate::clients::actions::{ClientError, load, require_version, save};
use crate::clients::form::Fields;
use crate::clients::model::Client;
use crate::clients::{scopes, store};
use crate::db::{Conn, DbError};

/// What the status page sets; what is absent stays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StatusChange {
    pub status: Option<ClientStatus>,
    /// At so many wrong passwords, password credentials are closed.
    pub allowed_attempts: Option<u32>,
    /// Wrong passwords so far no longer count: password credentials are open again.
    pub reset_failed_attempts: bool,
}

/// Sets the status, and lets a client that was locked out try again.
pub(super) async fn set_status(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    change: StatusChange,
) -> Result<Client, ClientError> {
    let now = app.now();
    let StatusChange { status, allowed_attempts, reset_failed_attempts } = change;
    let mut tx = app.db.write("clients.set_status").await?;
    let before = load(&mut tx, id).await?;
    require_version(&before, expected)?;
    let fields = Fields { status, allowed_attempts, ..Fields::default() };
    let mut after = fields.change(before.clone())?;
    if reset_failed_attempts {
        store::forget_failures(&mut tx, id).await?;
        after.failed_attempts = 0;
    }
    if after == before {
        return Ok(before);
    }
    let client = save(&mut tx, by, "clients.set_status", &before, after, now).await?;
    tx.commit().await?;
    Ok(client)
}

/// What a client has that is above a security level.
#[derive(Clone, Debug, Default)]
pub struct Above {
    /// Groups.
    pub groups: Vec<GroupSummary>,
    /// Scopes.
    pub scopes: Vec<GroupSummary>,
}

impl Above {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.scopes.is_empty()
    }
}

/// Sets the security level. Groups and scopes above a lower one are taken from the client, once
/// that is `confirmed`.
pub(super) async fn set_level(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    level: SecurityLevel,
    confirmed: bool,
) -> Result<Client, ClientError> {
    let now = app.now();
    let mut tx = app.db.write("clients.set_security_level").await?;
    let before = load(&mut tx, id).await?;
    require_version(&before, expected)?;
    if level == before.security_level {
        return Ok(before);
    }
    let above = above(&mut tx, &before, level).await?;
    if !above.is_empty() && !confirmed {
        return Err(ClientError::ConfirmLowerLevel { from: before.security_level, to: level, above });
    }
    let stays = |group: &GroupId| above.groups.iter().all(|above| above.id != *group);
    let groups = before.groups.iter().filter(|group| stays(group)).cloned().collect();
    let fields = Fields { security_level: Some(level), groups: Some(groups), ..Fields::default() };
    let after = fields.change(before.clone())?;
    let taken = scopes::take(&mut tx, id, &above.scopes).await?;
    let client = save(&mut tx, by, "clients.set_security_level", &before, after, now).await?;
    taken.record(&mut tx, by, id, now).await?;
    tx.commit().await?;
    Ok(client)
}

/// What of the client's is above `level`.
async fn above(conn: &mut Conn, client: &Client, level: SecurityLevel) -> Result<Above, DbError> {
    let above = |known: Vec<GroupSummary>| -> Vec<GroupSummary> {
        known.into_iter().filter(|group| !level.covers(group.security_level)).collect()
    };
    Ok(Above {
        groups: above(catalog::known_groups(conn, &client.groups).await?),
        scopes: above(scopes::of_client(conn, client.id.as_str()).await?),
    })
}

/// Gives a client further groups, none of them above its level.
pub(super) async fn add_groups(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    more: Vec<GroupId>,
) -> Result<Client, ClientError> {
    let now = app.now();
    let mut tx = app.db.write("clients.add_groups").await?;
    let before = load(&mut tx, id).await?;
    require_version(&before, expected)?;
    let groups = before.groups.iter().cloned().chain(more).collect();
    let after = Fields { groups: Some(groups), ..Fields::default() }.change(before.clone())?;
    if after == before {
        return Ok(before);
    }
    let client = save(&mut tx, by, "clients.add_groups", &before, after, now).await?;
    tx.commit().await?;
    Ok(client)
}

/// Takes a group from a client: its credentials no longer open it.
pub(super) async fn remove_group(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    group: &GroupId,
) -> Result<Client, ClientError> {
    let now = app.now();
    let mut tx = app.db.write("clients.remove_group").await?;
    let before = load(&mut tx, id).await?;
    require_version(&before, expected)?;
    if !before.groups.contains(group) {
        return Err(ClientError::NotGiven { id: id.into(), group: group.clone() });
    }
    let groups = before.groups.iter().filter(|own| *own != group).cloned().collect();
    let after = Fields { groups: Some(groups), ..Fields::default() }.change(before.clone())?;
    let client = save(&mut tx, by, "clients.remove_group", &before, after, now).await?;
    tx.commit().await?;
    Ok(client)
}

/// The groups that a client may be given, by name: none above its level. Those that it has are
/// among them. The client comes first.
pub(super) async fn offered_groups(
    app: &App,
    id: &str,
    keyword: Option<String>,
    after: &str,
    limit: i64,
) -> Result<(Client, Vec<Group>), ClientError> {
    let mut read = app.db.snapshot().await?;
    let client = load(&mut read, id).await?;
    let filter = GroupFilter { keyword, offered_to: Some(client.security_level), ..GroupFilter::default() };
    let offered = groups(&mut read, GroupKind::Group, &filter, after, limit).await?;
    Ok((client, offered))
}
