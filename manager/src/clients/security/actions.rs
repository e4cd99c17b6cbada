//! Status, security level, groups: one named transaction each.

use gate::wire::exchange::ClientStatus;

use crate::app::App;
use crate::clients::actions::{ClientError, load, require_version, save};
use crate::clients::form::Fields;
use crate::clients::model::Client;
use crate::clients::store;

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
