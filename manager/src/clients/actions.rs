//! What is done with clients as a whole: one function per use case, one named transaction each.
//! Those that end in `_in` do all of it but begin and commit.

use gate::id::{ClientId, GroupId};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::MeterKind;
use serde_json::{Value, json};

use super::form::{Fields, check_group_count, installation_zone};
use super::model::{Client, ClientName, Fault, PasswordState};
use super::password::NewPassword;
use super::security::Above;
use super::view::ClientView;
use super::{hosts, mails, scopes, store};
use crate::app::App;
use crate::catalog::{self, GroupSummary, SecurityLevel};
use crate::db::{Conn, DbError};
use crate::mail::MailError;
use crate::quotas::{self, LeaseTerms, Meter, Outstanding};
use crate::usage::{self, Forecast};
use crate::{audit, changes};

/// A client to be made.
#[derive(Clone, Debug, Default)]
pub struct NewClient {
    /// Without one, it is made of the name: see [`ClientName::id_of_name`].
    pub id: Option<ClientName>,
    /// What is entered.
    pub fields: Fields,
    /// Without one, password credentials are closed until one is set.
    pub password: Option<NewPassword>,
}

/// Why an action was refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The id is taken.
    #[error("Client account duplicated: a client with the id {id} exists")]
    IdTaken {
        /// The id.
        id: String,
    },
    /// The name is taken.
    #[error("Client code duplicated: a client named {name} exists")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The display name is taken.
    #[error("Client name duplicated: a client with the display name {name} exists")]
    DisplayNameTaken {
        /// The display name.
        name: String,
    },
    /// The id was taken.
    #[error("Client account duplicated: a client with the id {id} existed, and no id is given twice")]
    IdBuried {
        /// The id.
        id: String,
    },
    /// A field cannot be taken.
    #[error(transparent)]
    Invalid(#[from] Fault),
    /// A group does not exist.
    #[error("Group {group} does not exist")]
    UnknownGroup {
        /// Which.
        group: GroupId,
    },
    /// A group is above the client's level.
    #[error("group {group} has the security level {level}, above the client's {client_level}")]
    GroupAboveLevel {
        /// Which, by name.
        group: String,
        /// The group's.
        level: &'static str,
        /// The client's.
        client_level: &'static str,
    },
    /// A scope of the client's is above the level that it is to have.
    #[error(
        "the client has the scope {scope} of the security level {level}, above {client_level}: take it first"
    )]
    ScopeAboveLevel {
        /// Which, by name.
        scope: String,
        /// The scope's.
        level: &'static str,
        /// The client's.
        client_level: &'static str,
    },
    /// Something that the client has is above its new level.
    #[error(
        "with the level {} in place of {} the client loses {}: repeat it with \"confirm\": true to do so",
        to.as_str(), from.as_str(), named(above)
    )]
    ConfirmLowerLevel {
        /// The client's.
        from: SecurityLevel,
        /// The one that was asked for.
        to: SecurityLevel,
        /// What the client would lose.
        above: Above,
    },
    /// The client does not have the group.
    #[error("Client {id} does not have the group {group}")]
    NotGiven {
        /// Which client.
        id: String,
        /// Which group.
        group: GroupId,
    },
    /// No such client.
    #[error("Client does not exist: {id}")]
    NotFound {
        /// Which.
        id: String,
    },
    /// A password would be mailed, and there is nowhere to mail it to.
    #[error("the client {id} has no e-mail address, to which the password would be sent: enter one first")]
    NoAddress {
        /// Which.
        id: String,
    },
    /// Not the client's password, or there is no such client, or its password credentials are
    /// closed.
    #[error(
        "Original password is incorrect; after too many wrong ones only an operator can open the account again"
    )]
    WrongPassword,
    /// An operator has set its status.
    #[error("the client {id} is not active: ask an operator")]
    NotActive {
        /// Which.
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
    /// A mail could not be written.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Makes a client.
pub async fn create(app: &App, by: &str, new: NewClient) -> Result<Client, ClientError> {
    let now = app.now();
    let mut tx = app.db.write("clients.create").await?;
    let client = create_in(&mut tx, app, by, new, now).await?;
    tx.commit().await?;
    Ok(client)
}

/// Makes a client within the caller's transaction. With a password it is told to its addresses.
pub async fn create_in(
    conn: &mut Conn,
    app: &App,
    by: &str,
    new: NewClient,
    now: UnixMillis,
) -> Result<Client, ClientError> {
    let NewClient { id, fields, password } = new;
    let of_name = id.is_none();
    let id = match id {
        Some(id) => id,
        None => free_id(conn, app, &fields.code()?).await?,
    };
    let mut client = fields.create(id, &installation_zone(&app.config)?, now)?;
    require_groups(conn, &client, &client.groups).await?;
    let set_by = password.as_ref().and_then(|password| password.set_by(by));
    let inserted = store::insert(conn, &client, password.as_ref().map(NewPassword::hash), set_by).await;
    inserted.map_err(|error| match taken(error, &client) {
        // Made of the name: whoever has the id was given the name a moment ago.
        ClientError::IdTaken { .. } if of_name => {
            ClientError::NameTaken { name: client.name.as_str().into() }
        }
        error => error,
    })?;
    // Asked after the row is there: whoever deletes a client of this id at the moment has finished.
    if store::is_buried(conn, client.id.as_str()).await? {
        return Err(ClientError::IdBuried { id: client.id.as_str().into() });
    }
    client.hosts = hosts::follow(conn, client.id.as_str(), &client.bindings, now).await?;
    if let Some(password) = &password {
        client.password = PasswordState::Set;
        mails::created(conn, app, &client, password, now).await?;
    }
    save_limit(conn, &client, now).await?;
    record(conn, by, "clients.create", None, &client, now).await?;
    Ok(client)
}

/// A client with the state of its quota.
pub(super) struct Details {
    pub client: Client,
    /// As it stands now; none: unlimited.
    pub meter: Option<(Meter, Outstanding, Forecast)>,
    /// How large leases are where the client has no word on that.
    pub installation: LeaseTerms<u32>,
}

/// The client of that id.
pub(super) async fn get(app: &App, id: &str) -> Result<Details, ClientError> {
    let mut read = app.db.snapshot().await?;
    let client = load(&mut read, id).await?;
    Ok(details_in(app, &mut read, client).await?)
}

/// A client that was just saved.
pub(super) async fn details(app: &App, client: Client) -> Result<Details, ClientError> {
    Ok(details_in(app, &mut *app.db.snapshot().await?, client).await?)
}

async fn details_in(app: &App, conn: &mut Conn, client: Client) -> Result<Details, DbError> {
    let now = app.now();
    let meter = quotas::meter_of(conn, MeterKind::ClientQuota, client.id.as_str()).await?;
    let meter = match meter.map(|meter| meter.at(now)) {
        Some(meter) => {
            let out = quotas::outstanding(conn, &meter, now).await?;
            let forecast = usage::forecast(app, conn, &meter, out, now).await?;
            Some((meter, out, forecast))
        }
        None => None,
    };
    Ok(Details { client, meter, installation: LeaseTerms::of(&app.config) })
}

/// A page of clients, by id.
pub(super) async fn list(
    app: &App,
    filter: &store::Filter<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<Client>, ClientError> {
    Ok(store::list(&mut *app.db.snapshot().await?, filter, after, limit).await?)
}

/// Changes what is named. `expected` is the version that the caller has read.
pub async fn update(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    fields: Fields,
) -> Result<Client, ClientError> {
    let now = app.now();
    let mut tx = app.db.write("clients.update").await?;
    let client = update_in(&mut tx, by, id, expected, fields, now).await?;
    tx.commit().await?;
    Ok(client)
}

/// Changes what is named within the caller's transaction. What changes nothing leaves no trace:
/// the version stays.
pub async fn update_in(
    conn: &mut Conn,
    by: &str,
    id: &str,
    expected: Option<i64>,
    fields: Fields,
    now: UnixMillis,
) -> Result<Client, ClientError> {
    let before = load(conn, id).await?;
    require_version(&before, expected)?;
    let after = fields.change(before.clone())?;
    if after == before {
        return Ok(before);
    }
    save(conn, by, "clients.update", &before, after, now).await
}

/// Keeps `after` in place of `before`, which was read in this transaction.
pub(super) async fn save(
    conn: &mut Conn,
    by: &str,
    action: &'static str,
    before: &Client,
    after: Client,
    now: UnixMillis,
) -> Result<Client, ClientError> {
    let mut client = Client { updated_at: now, version: before.version + 1, ..after };
    if client.groups.len() > before.groups.len() {
        check_group_count(client.groups.len() + scopes::count(conn, client.id.as_str()).await?)?;
    }
    // A group whose level was raised meanwhile must not keep an operator from disabling its clients,
    // nor from taking another group.
    let new =
        |group: &&GroupId| client.security_level != before.security_level || !before.groups.contains(group);
    let groups: Vec<GroupId> = client.groups.iter().filter(new).cloned().collect();
    require_groups(conn, &client, &groups).await?;
    if client.security_level < before.security_level {
        require_scopes(conn, &client).await?;
    }
    if !store::update(conn, &client, before.version).await.map_err(|error| taken(error, &client))? {
        return Err(ClientError::Version { expected: before.version, present: before.version + 1 });
    }
    client.hosts = hosts::follow(conn, client.id.as_str(), &client.bindings, now).await?;
    if client.limit() != before.limit() {
        save_limit(conn, &client, now).await?;
    }
    record(conn, by, action, Some(before), &client, now).await?;
    Ok(client)
}

/// The client of that id, kept from others until the caller's transaction ends: nothing that hangs
/// on a client is added while it is being deleted.
pub async fn hold(conn: &mut Conn, id: &str) -> Result<Client, ClientError> {
    if ClientName::parse_id(id).is_ok() {
        store::lock(conn, id).await?;
    }
    load(conn, id).await
}

/// Takes a client out within the caller's transaction, who has seen to its credentials and forms
/// and holds it. Its names are free again, its id is never given again, and what is on record
/// about it stays. It has no quota any more: leases of it are not renewed.
pub async fn delete_in(
    conn: &mut Conn,
    by: &str,
    client: &Client,
    detail: Value,
    now: UnixMillis,
) -> Result<(), ClientError> {
    if !store::delete(conn, client, by, now).await? {
        return Err(ClientError::Version { expected: client.version, present: client.version + 1 });
    }
    let id = client.id.as_str();
    mails::withdraw_passwords(conn, id, "the client was deleted", now).await?;
    quotas::lift_limit(conn, MeterKind::ClientQuota, id).await?;
    changes::record(conn, &Subject::Client { client: ClientId::from(id) }, now).await?;
    let mut view = json!(ClientView::from(client));
    view["with"] = detail;
    let entry = audit::Entry {
        actor: by.into(),
        action: "clients.delete",
        subject: format!("client:{id}"),
        detail: view,
    };
    audit::record(conn, entry, now).await?;
    Ok(())
}

/// The client of that id, in the caller's transaction.
pub(super) async fn load(conn: &mut Conn, id: &str) -> Result<Client, ClientError> {
    // What is no id is nobody's, and a database need not be asked about it.
    let known = match ClientName::parse_id(id) {
        Ok(id) => store::by_id(conn, id.as_str()).await?,
        Err(_) => None,
    };
    known.ok_or_else(|| ClientError::NotFound { id: id.into() })
}

/// Refuses a change that was made from an older version.
pub(super) fn require_version(client: &Client, expected: Option<i64>) -> Result<(), ClientError> {
    match expected {
        Some(expected) if expected != client.version => {
            Err(ClientError::Version { expected, present: client.version })
        }
        Some(_) | None => Ok(()),
    }
}

/// The name in Base64; where that is too long or was given to another client, one that is drawn.
async fn free_id(conn: &mut Conn, app: &App, name: &ClientName) -> Result<ClientName, DbError> {
    if let Some(id) = ClientName::id_of_name(name)
        && store::by_id(conn, id.as_str()).await?.is_none()
        && !store::is_buried(conn, id.as_str()).await?
    {
        return Ok(id);
    }
    Ok(ClientName::parse_id(&app.random.id("cl")).expect("29 letters, digits and `_`"))
}

/// Every group exists, and none is above the client's level.
async fn require_groups(conn: &mut Conn, client: &Client, groups: &[GroupId]) -> Result<(), ClientError> {
    let known = catalog::known_groups(conn, groups).await?;
    if let Some(group) = groups.iter().find(|id| known.iter().all(|group| group.id != **id)) {
        return Err(ClientError::UnknownGroup { group: group.clone() });
    }
    match known.into_iter().find(|group| !client.security_level.covers(group.security_level)) {
        Some(above) => Err(ClientError::GroupAboveLevel {
            group: above.name,
            level: above.security_level.as_str(),
            client_level: client.security_level.as_str(),
        }),
        None => Ok(()),
    }
}

/// No scope is above the client's level.
async fn require_scopes(conn: &mut Conn, client: &Client) -> Result<(), ClientError> {
    let scopes = scopes::of_client(conn, client.id.as_str()).await?;
    match scopes.into_iter().find(|scope| !client.security_level.covers(scope.security_level)) {
        Some(above) => Err(ClientError::ScopeAboveLevel {
            scope: above.name,
            level: above.security_level.as_str(),
            client_level: client.security_level.as_str(),
        }),
        None => Ok(()),
    }
}

/// `the groups retail (B), vip (A) and the scope read (A)`
fn named(above: &Above) -> String {
    let list = |kind: &str, things: &[GroupSummary]| {
        let names: Vec<_> = things
            .iter()
            .map(|thing| format!("{} ({})", thing.name, thing.security_level.as_str()))
            .collect();
        match names.len() {
            0 => None,
            1 => Some(format!("the {kind} {}", names.concat())),
            _ => Some(format!("the {kind}s {}", names.join(", "))),
        }
    };
    let parts: Vec<_> =
        [list("group", &above.groups), list("scope", &above.scopes)].into_iter().flatten().collect();
    parts.join(" and ")
}

async fn save_limit(conn: &mut Conn, client: &Client, now: UnixMillis) -> Result<(), DbError> {
    match client.limit() {
        Some(limit) => {
            quotas::set_limit(conn, MeterKind::ClientQuota, client.id.as_str(), limit, now).await.map(drop)
        }
        None => quotas::lift_limit(conn, MeterKind::ClientQuota, client.id.as_str()).await,
    }
}

fn taken(error: DbError, client: &Client) -> ClientError {
    if error.violates("clients_pkey") {
        ClientError::IdTaken { id: client.id.as_str().into() }
    } else if error.violates("clients_name_key") {
        ClientError::NameTaken { name: client.name.as_str().into() }
    } else if error.violates("clients_display_name_key") {
        ClientError::DisplayNameTaken { name: client.display_name.clone() }
    } else {
        error.into()
    }
}

/// The change that gateways follow, then who did it: both come last.
pub(super) async fn record(
    conn: &mut Conn,
    by: &str,
    action: &'static str,
    before: Option<&Client>,
    after: &Client,
    now: UnixMillis,
) -> Result<(), DbError> {
    let id = after.id.as_str();
    changes::record(conn, &Subject::Client { client: ClientId::from(id) }, now).await?;
    let view = json!(ClientView::from(after));
    let detail = match before {
        None => view,
        Some(before) => json!({
            "name": after.name,
            "changed": audit::changed(&json!(ClientView::from(before)), &view),
        }),
    };
    let entry = audit::Entry { actor: by.into(), action, subject: format!("client:{id}"), detail };
    audit::record(conn, entry, now).await
}
