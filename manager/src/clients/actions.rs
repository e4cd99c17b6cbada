//! What is done with clients: one function per use case, one named transaction each.

use std::collections::BTreeSet;

use gate::id::{ClientId, GroupId};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::directory::Audience;
use gate::wire::exchange::{ClientStatus, MeterKind};
use serde_json::json;

use super::model::{
    Binding, Client, ClientName, Dates, MAX_APPLICATION_NUMBER, MAX_BINDINGS, MAX_GROUPS, MAX_NAME, MAX_NOTE,
    MAX_REMARK, Quota, ServiceTime,
};
use super::{hosts, store};
use crate::app::App;
use crate::catalog::{self, SecurityLevel};
use crate::db::{Conn, DbError};
use crate::operators::Email;
use crate::password::{self, Password};
use crate::quotas::{self, MAX_LIMIT_UNITS, Zone};
use crate::{audit, changes};

/// What a client is made from, or becomes: every field but those that calls change.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub name: ClientName,
    pub display_name: String,
    pub application_number: Option<String>,
    pub status: ClientStatus,
    pub bindings: Vec<Binding>,
    pub dates: Option<Dates>,
    pub service_time: Option<ServiceTime>,
    pub zone: Zone,
    pub quota: Option<Quota>,
    pub tps: u32,
    pub priority: u8,
    pub audience: Audience,
    pub security_level: SecurityLevel,
    pub groups: Vec<GroupId>,
    pub note: String,
    pub emails: Vec<Email>,
    pub remark: String,
    pub allowed_attempts: u32,
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
    /// A field cannot be taken.
    #[error("{field} {reason}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is expected.
        reason: String,
    },
    /// A group does not exist.
    #[error("Group {group} does not exist")]
    UnknownGroup {
        /// Which.
        group: GroupId,
    },
    /// A group is above the client's level.
    #[error("group {group} has the security level {level}, above the client's {client_level}")]
    GroupAboveLevel {
        /// Which.
        group: GroupId,
        /// The group's.
        level: &'static str,
        /// The client's.
        client_level: &'static str,
    },
    /// No such client.
    #[error("Client {id} does not exist")]
    NotFound {
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
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Creates a client. Without an id one is generated.
pub(super) async fn create(
    app: &App,
    by: &str,
    id: Option<ClientName>,
    profile: Profile,
    password: &Password,
) -> Result<Client, ClientError> {
    check(&profile)?;
    let hash = password.hash(&app.random).await;
    let now = app.now();
    let id = match id {
        Some(id) => id,
        None => ClientName::parse_id(&app.random.id("cl")).expect("29 letters, digits and `_`"),
    };
    let mut client = profile.into_client(id, 0, now, now, 1);
    let mut tx = app.db.write("clients.create").await?;
    require_groups(&mut tx, &client).await?;
    store::insert(&mut tx, &client, &hash).await.map_err(|error| taken(error, &client))?;
    client.hosts = hosts::follow(&mut tx, client.id.as_str(), &client.bindings, now).await?;
    save_limit(&mut tx, &client, now).await?;
    record(&mut tx, by, "clients.create", &client, now).await?;
    tx.commit().await?;
    Ok(client)
}

pub(super) async fn get(app: &App, id: &str) -> Result<Client, ClientError> {
    load(&mut *app.db.snapshot().await?, id).await
}

pub(super) async fn list(
    app: &App,
    filter: &store::Filter<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<Client>, ClientError> {
    Ok(store::list(&mut *app.db.snapshot().await?, filter, after, limit).await?)
}

/// What an update asks for beside the profile.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub password: Option<Password>,
    pub reset_failed_attempts: bool,
}

/// Changes a client; `change` makes the new profile from the present one.
pub(super) async fn update(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    account: Account,
    change: impl FnOnce(Profile) -> Result<Profile, ClientError>,
) -> Result<Client, ClientError> {
    let hash = match &account.password {
        Some(password) => Some(password.hash(&app.random).await),
        None => None,
    };
    let now = app.now();
    let mut tx = app.db.write("clients.update").await?;
    let before = load(&mut tx, id).await?;
    if let Some(expected) = expected
        && expected != before.version
    {
        return Err(ClientError::Version { expected, present: before.version });
    }
    let profile = change(Profile::of(&before))?;
    check(&profile)?;
    let failed_attempts = if account.reset_failed_attempts { 0 } else { before.failed_attempts };
    let mut client =
        profile.into_client(before.id.clone(), failed_attempts, before.created_at, now, before.version + 1);
    // A group whose level was raised meanwhile must not keep an operator from disabling its clients.
    if client.groups != before.groups || client.security_level != before.security_level {
        require_groups(&mut tx, &client).await?;
    }
    if !store::update(&mut tx, &client, before.version).await.map_err(|error| taken(error, &client))? {
        return Err(ClientError::Version { expected: before.version, present: before.version + 1 });
    }
    client.hosts = hosts::follow(&mut tx, id, &client.bindings, now).await?;
    if let Some(hash) = hash {
        store::set_password(&mut tx, id, &hash).await?;
    }
    if client.limit() != before.limit() {
        save_limit(&mut tx, &client, now).await?;
    }
    record(&mut tx, by, "clients.update", &client, now).await?;
    tx.commit().await?;
    Ok(client)
}

/// Result of a password check.
#[derive(Debug)]
pub enum PasswordCheck {
    /// It is the client's.
    Right(Box<Client>),
    /// It is not, or there is no such client, or its password credentials are closed after too
    /// many wrong ones: the caller is told the same.
    Wrong,
}

/// Checks a client's password, counting what is wrong. After `allowed_attempts` wrong ones the
/// password credentials are closed, nothing else: a stranger who knows a client id must not
/// stop its keys.
pub async fn check_password(app: &App, id: &str, unverified: &str) -> Result<PasswordCheck, DbError> {
    let known = store::with_password_hash(&mut *app.db.snapshot().await?, id).await?;
    let right = password::verify(unverified, known.as_ref().map(|(_, hash)| hash.as_str())).await;
    let Some((client, _)) = known else { return Ok(PasswordCheck::Wrong) };
    if client.password_locked() {
        return Ok(PasswordCheck::Wrong);
    }
    if right {
        // The count that was read may be old: guesses in parallel must not pass the lock.
        let Some(client) = store::by_id(&mut *app.db.read().await?, id).await? else {
            return Ok(PasswordCheck::Wrong);
        };
        if client.password_locked() {
            return Ok(PasswordCheck::Wrong);
        }
        if client.failed_attempts > 0 {
            let mut tx = app.db.write("clients.password_right").await?;
            store::reset_failures(&mut tx, id).await?;
            tx.commit().await?;
        }
        return Ok(PasswordCheck::Right(Box::new(client)));
    }
    let now = app.now();
    let mut tx = app.db.write("clients.password_wrong").await?;
    if store::count_failure(&mut tx, id).await? == Some(i64::from(client.allowed_attempts)) {
        // Grants that a password opened are held at gateways.
        changes::record(&mut tx, &Subject::Client { client: ClientId::from(id) }, now).await?;
        let entry = audit::Entry {
            actor: "system".into(),
            action: "clients.lock_password",
            subject: format!("client:{id}"),
            detail: json!({ "failed_attempts": client.allowed_attempts }),
        };
        audit::record(&mut tx, entry, now).await?;
    }
    tx.commit().await?;
    Ok(PasswordCheck::Wrong)
}

impl Profile {
    fn of(client: &Client) -> Self {
        let client = client.clone();
        Self {
            name: client.name,
            display_name: client.display_name,
            application_number: client.application_number,
            status: client.status,
            bindings: client.bindings,
            dates: client.dates,
            service_time: client.service_time,
            zone: client.zone,
            quota: client.quota,
            tps: client.tps,
            priority: client.priority,
            audience: client.audience,
            security_level: client.security_level,
            groups: client.groups,
            note: client.note,
            emails: client.emails,
            remark: client.remark,
            allowed_attempts: client.allowed_attempts,
        }
    }

    fn into_client(
        self,
        id: ClientName,
        failed_attempts: u32,
        created_at: UnixMillis,
        updated_at: UnixMillis,
        version: i64,
    ) -> Client {
        let groups: BTreeSet<GroupId> = self.groups.into_iter().collect();
        Client {
            id,
            name: self.name,
            display_name: self.display_name,
            application_number: self.application_number,
            status: self.status,
            bindings: self.bindings,
            // Read back once the bindings are saved.
            hosts: vec![],
            dates: self.dates,
            service_time: self.service_time,
            zone: self.zone,
            quota: self.quota,
            tps: self.tps,
            priority: self.priority,
            audience: self.audience,
            security_level: self.security_level,
            groups: groups.into_iter().collect(),
            note: self.note,
            emails: self.emails,
            remark: self.remark,
            failed_attempts,
            allowed_attempts: self.allowed_attempts,
            created_at,
            updated_at,
            version,
        }
    }
}

/// What one field alone cannot tell.
fn check(profile: &Profile) -> Result<(), ClientError> {
    let invalid = |field, reason: String| Err(ClientError::Invalid { field, reason });
    let length = |field, text: &str, least: usize, most: usize| {
        let characters = text.chars().count();
        if (least..=most).contains(&characters) && text.trim().len() == text.len() {
            return Ok(());
        }
        let reason = format!("must be {least} to {most} characters without blanks around, has {characters}");
        Err(ClientError::Invalid { field, reason })
    };
    length("display_name", &profile.display_name, 1, MAX_NAME)?;
    length("note", &profile.note, 1, MAX_NOTE)?;
    length("remark", &profile.remark, 0, MAX_REMARK)?;
    if let Some(number) = &profile.application_number {
        length("application_number", number, 1, MAX_APPLICATION_NUMBER)?;
    }
    if profile.priority > gate::grant::LOWEST_PRIORITY {
        return invalid("priority", "must be 0 (best) to 9".into());
    }
    if profile.allowed_attempts == 0 {
        return invalid("allowed_attempts", "must be at least 1".into());
    }
    if profile.quota.is_some_and(|quota| quota.calls > MAX_LIMIT_UNITS) {
        return invalid("quota", format!("must be 0 (unlimited) to {MAX_LIMIT_UNITS}"));
    }
    if profile.groups.len() > MAX_GROUPS {
        return invalid(
            "groups",
            format!("Upper limit of {MAX_GROUPS} groups, has {}", profile.groups.len()),
        );
    }
    if profile.bindings.len() > MAX_BINDINGS {
        return invalid(
            "bindings",
            format!("must be {MAX_BINDINGS} at most, has {}", profile.bindings.len()),
        );
    }
    let names = profile.bindings.iter().filter(|binding| binding.host().is_some()).count();
    if names > hosts::MAX_NAMES {
        return invalid("bindings", format!("must be {} host names at most, has {names}", hosts::MAX_NAMES));
    }
    let mut seen = BTreeSet::new();
    for binding in &profile.bindings {
        binding.check().map_err(|reason| ClientError::Invalid { field: "bindings", reason })?;
        for duplicate in [("name", &binding.name), ("address", &binding.address)] {
            if !seen.insert((duplicate.0, duplicate.1.to_lowercase())) {
                return invalid("bindings", format!("has the {} {} twice", duplicate.0, duplicate.1));
            }
        }
    }
    Ok(())
}

/// Every group exists, and none is above the client's level.
async fn require_groups(conn: &mut Conn, client: &Client) -> Result<(), ClientError> {
    let known = catalog::known_groups(conn, &client.groups).await?;
    if let Some(group) = client.groups.iter().find(|id| known.iter().all(|group| group.id != **id)) {
        return Err(ClientError::UnknownGroup { group: group.clone() });
    }
    match known.into_iter().find(|group| !client.security_level.covers(group.security_level)) {
        Some(above) => Err(ClientError::GroupAboveLevel {
            group: above.id,
            level: above.security_level.as_str(),
            client_level: client.security_level.as_str(),
        }),
        None => Ok(()),
    }
}

async fn save_limit(conn: &mut Conn, client: &Client, now: UnixMillis) -> Result<(), DbError> {
    match client.limit() {
        Some(limit) => {
            quotas::set_limit(conn, MeterKind::ClientQuota, client.id.as_str(), limit, now).await.map(drop)
        }
        None => quotas::lift_limit(conn, MeterKind::ClientQuota, client.id.as_str()).await,
    }
}

async fn load(conn: &mut Conn, id: &str) -> Result<Client, ClientError> {
    store::by_id(conn, id).await?.ok_or_else(|| ClientError::NotFound { id: id.into() })
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

/// The change that gateways follow, and the audit entry; both come last.
async fn record(
    conn: &mut Conn,
    by: &str,
    action: &'static str,
    client: &Client,
    now: UnixMillis,
) -> Result<(), DbError> {
    let id = client.id.as_str();
    changes::record(conn, &Subject::Client { client: ClientId::from(id) }, now).await?;
    let entry = audit::Entry {
        actor: by.into(),
        action,
        subject: format!("client:{id}"),
        detail: json!({
            "name": client.name,
            "status": super::model::status_text(client.status),
            "groups": client.groups,
            "security_level": client.security_level,
            "quota": client.quota.map_or(0, |quota| quota.calls),
            "tps": client.tps,
            "priority": client.priority,
            "version": client.version,
        }),
    };
    audit::record(conn, entry, now).await
}
