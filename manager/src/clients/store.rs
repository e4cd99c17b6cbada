//! Tables `clients`, `client_bindings`, `client_groups` and `deleted_clients`.

use gate::id::GroupId;
use gate::time::UnixMillis;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::hosts;
use super::model::{
    self, Binding, Client, ClientName, Dates, PasswordState, Quota, ServiceTime, audience_text,
    parse_audience, parse_status, status_text,
};
use super::password::{PasswordHash, Purpose};
use crate::catalog::SecurityLevel;
use crate::db::{Conn, DbError, like_pattern};
use crate::quotas::{LeaseTerms, Period, Zone};

const COLUMNS: &str = "id, name, display_name, application_number,
                CAST(CASE WHEN password_hash = '' THEN 0 ELSE 1 END AS BIGINT) AS has_password, reset_expires_at,
                failed_attempts, allowed_attempts, status, start_date, expiry_date, service_from, service_until, time_zone, quota, quota_period, tps,
                priority, audience, security_level, note, emails, remark, created_at, updated_at, version, lease_horizon_s, max_lease_percent";

/// What a list is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// Must occur, in whatever case, in id, names or application number, or in the name of one
    /// of its groups.
    pub keyword: Option<&'a str>,
    /// `active`, `disabled` or `locked`, by an operator or after too many wrong passwords.
    pub status: Option<&'a str>,
}

/// Keeps a new client. Without a password hash it has no password.
pub(super) async fn insert(
    conn: &mut Conn,
    client: &Client,
    password_hash: Option<&PasswordHash>,
    password_set_by: Option<&str>,
) -> Result<(), DbError> {
    let row = Row::from(client);
    sqlx::query(
        "-- clients.create
         INSERT INTO clients (id, name, display_name, application_number, password_hash, failed_attempts,
                              allowed_attempts, status, start_date, expiry_date, service_from, service_until,
                              time_zone, quota, quota_period, tps, priority, audience, security_level, note,
                              emails, remark, search, created_at, updated_at, version,
                              password_set_by, lease_horizon_s, max_lease_percent)
         VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
                 $20, $21, $22, $23, $24, $25, $26, $27, $28)",
    )
    .bind(client.id.as_str())
    .bind(client.name.as_str())
    .bind(&client.display_name)
    .bind(client.application_number.as_deref())
    .bind(password_hash.map(PasswordHash::as_str).unwrap_or_default())
    .bind(i64::from(client.allowed_attempts))
    .bind(status_text(client.status))
    .bind(row.start_date)
    .bind(row.expiry_date)
    .bind(row.service_from)
    .bind(row.service_until)
    .bind(client.zone.name())
    .bind(row.quota)
    .bind(row.quota_period)
    .bind(i64::from(client.tps))
    .bind(i64::from(client.priority))
    .bind(audience_text(client.audience))
    .bind(client.security_level.as_str())
    .bind(&client.note)
    .bind(row.emails)
    .bind(&client.remark)
    .bind(row.search)
    .bind(client.created_at.0)
    .bind(client.updated_at.0)
    .bind(client.version)
    .bind(password_set_by)
    .bind(client.leases.horizon_s.map(i64::from))
    .bind(client.leases.max_percent.map(i64::from))
    .execute(&mut *conn)
    .await?;
    replace_bindings(conn, client).await?;
    replace_groups(conn, client).await
}

/// Saves what an update may change. Wrong passwords are counted meanwhile, so that their number
/// is not among it. False: another update came first.
pub(super) async fn update(conn: &mut Conn, client: &Client, read_version: i64) -> Result<bool, DbError> {
    let row = Row::from(client);
    let done = sqlx::query(
        "-- clients.update
         UPDATE clients
            SET name = $1, display_name = $2, application_number = $3, allowed_attempts = $4, status = $5,
                start_date = $6, expiry_date = $7, service_from = $8, service_until = $9, time_zone = $10,
                quota = $11, quota_period = $12, tps = $13, priority = $14, audience = $15,
                security_level = $16, note = $17, emails = $18, remark = $19, search = $20,
                updated_at = $21, version = $22, lease_horizon_s = $25, max_lease_percent = $26
          WHERE id = $23
            AND version = $24",
    )
    .bind(client.name.as_str())
    .bind(&client.display_name)
    .bind(client.application_number.as_deref())
    .bind(i64::from(client.allowed_attempts))
    .bind(status_text(client.status))
    .bind(row.start_date)
    .bind(row.expiry_date)
    .bind(row.service_from)
    .bind(row.service_until)
    .bind(client.zone.name())
    .bind(row.quota)
    .bind(row.quota_period)
    .bind(i64::from(client.tps))
    .bind(i64::from(client.priority))
    .bind(audience_text(client.audience))
    .bind(client.security_level.as_str())
    .bind(&client.note)
    .bind(row.emails)
    .bind(&client.remark)
    .bind(row.search)
    .bind(client.updated_at.0)
    .bind(client.version)
    .bind(client.id.as_str())
    .bind(read_version)
    .bind(client.leases.horizon_s.map(i64::from))
    .bind(client.leases.max_percent.map(i64::from))
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() != 1 {
        return Ok(false);
    }
    replace_bindings(conn, client).await?;
    replace_groups(conn, client).await?;
    Ok(true)
}

/// Gives a client a password of its own, with the operator who knows it; one that was mailed serves no more. False: it is gone,
/// or was changed since that version.
pub(super) async fn set_password(
    conn: &mut Conn,
    id: &str,
    version: i64,
    (hash, set_by): (&PasswordHash, Option<&str>),
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- clients.set_password
         UPDATE clients
            SET password_hash = $1, reset_hash = NULL, reset_expires_at = NULL, failed_attempts = 0,
                password_set_by = $5, updated_at = $2, version = version + 1
          WHERE id = $3
            AND version = $4",
    )
    .bind(hash.as_str())
    .bind(now.0)
    .bind(id)
    .bind(version)
    .bind(set_by)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The operator who knows a client's password, having entered it or the one that it replaces.
pub async fn password_set_by(conn: &mut Conn, id: &str) -> Result<Option<String>, DbError> {
    let row = sqlx::query(
        "-- clients.password_set_by
         SELECT password_set_by
           FROM clients
          WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    match row {
        Some(row) => Ok(row.try_get("password_set_by")?),
        None => Ok(None),
    }
}

/// Ends a client's password in favour of one that serves only to set a new one. False: it is
/// gone, or was changed since that version.
pub(super) async fn reset_password(
    conn: &mut Conn,
    id: &str,
    version: i64,
    reset_hash: &PasswordHash,
    expires_at: UnixMillis,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- clients.reset_password
         UPDATE clients
            SET password_hash = '', reset_hash = $1, reset_expires_at = $2, failed_attempts = 0,
                updated_at = $3, version = version + 1
          WHERE id = $4
            AND version = $5",
    )
    .bind(reset_hash.as_str())
    .bind(expires_at.0)
    .bind(now.0)
    .bind(id)
    .bind(version)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// One more wrong password, if the one of `hash` is still in force and not closed: how many there are now,
/// and how many are allowed now.
pub(super) async fn count_failure(
    conn: &mut Conn,
    id: &str,
    hash: Option<&PasswordHash>,
) -> Result<Option<(i64, i64)>, DbError> {
    let row = sqlx::query(
        "-- clients.count_failure
         UPDATE clients
            SET failed_attempts = failed_attempts + 1
          WHERE id = $1
            AND (password_hash = $2 OR reset_hash = $2)
            AND failed_attempts < allowed_attempts
      RETURNING failed_attempts, allowed_attempts",
    )
    .bind(id)
    .bind(hash.map(PasswordHash::as_str))
    .fetch_optional(conn)
    .await?;
    Ok(match row {
        Some(row) => Some((row.try_get("failed_attempts")?, row.try_get("allowed_attempts")?)),
        None => None,
    })
}

/// An operator lets a client try again: wrong passwords so far no longer count.
pub(super) async fn forget_failures(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- clients.forget_failures
         UPDATE clients
            SET failed_attempts = 0
          WHERE id = $1",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// The right password: the count begins again, unless it has closed password credentials.
pub(super) async fn reset_failures(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- clients.reset_failures
         UPDATE clients
            SET failed_attempts = 0
          WHERE id = $1
            AND failed_attempts > 0
            AND failed_attempts < allowed_attempts",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// A client and the hash that its password is checked against for that purpose; none: nothing is
/// right.
pub(super) async fn with_password_hash(
    conn: &mut Conn,
    id: &str,
    purpose: Purpose,
    now: UnixMillis,
) -> Result<Option<(Client, Option<PasswordHash>)>, DbError> {
    let hash = password_hash(conn, id, purpose, true, now).await?;
    Ok(by_id(conn, id).await?.map(|client| (client, hash)))
}

/// The hash that a password is tried against; none: there is none, or its credentials are closed. One
/// statement, whether there is such a client or not.
pub(super) async fn hash_to_try(
    conn: &mut Conn,
    id: &str,
    purpose: Purpose,
    now: UnixMillis,
) -> Result<Option<PasswordHash>, DbError> {
    password_hash(conn, id, purpose, false, now).await
}

async fn password_hash(
    conn: &mut Conn,
    id: &str,
    purpose: Purpose,
    closed_too: bool,
    now: UnixMillis,
) -> Result<Option<PasswordHash>, DbError> {
    let row = sqlx::query(
        "-- clients.password_hash
         SELECT password_hash, CASE WHEN reset_expires_at > $2 THEN reset_hash END AS reset_hash
           FROM clients
          WHERE id = $1
            AND ($3 = 1 OR failed_attempts < allowed_attempts)",
    )
    .bind(id)
    .bind(now.0)
    .bind(i64::from(closed_too))
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (own, mailed): (String, Option<String>) = (row.try_get("password_hash")?, row.try_get("reset_hash")?);
    let hash = match purpose {
        Purpose::Calls => Some(own),
        // A reset has ended the client's own.
        Purpose::Replacement | Purpose::SignIn => mailed.or(Some(own)),
    };
    Ok(hash.filter(|hash| !hash.is_empty()).map(PasswordHash::from))
}

/// Puts a hash of the same password in the place of one that was brought along: nothing else changes.
/// False: that one is gone.
pub(super) async fn replace_hash(
    conn: &mut Conn,
    id: &str,
    imported: &PasswordHash,
    hash: &PasswordHash,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- clients.replace_hash
         UPDATE clients
            SET password_hash = $1
          WHERE id = $2
            AND password_hash = $3",
    )
    .bind(hash.as_str())
    .bind(id)
    .bind(imported.as_str())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether the id is that of a client that is gone.
pub(super) async fn is_buried(conn: &mut Conn, id: &str) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- clients.is_buried
         SELECT deleted_at
           FROM deleted_clients
          WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Which names of a client that is to be made others have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenNames {
    /// The code.
    pub name: bool,
    /// The one for people.
    pub display_name: bool,
}

/// Whether clients have these names.
pub async fn taken_names(conn: &mut Conn, name: &str, display_name: &str) -> Result<TakenNames, DbError> {
    let rows = sqlx::query(
        "-- clients.taken_names
         SELECT name, display_name
           FROM clients
          WHERE name = $1 OR display_name = $2",
    )
    .bind(name)
    .bind(display_name)
    .fetch_all(conn)
    .await?;
    let mut taken = TakenNames::default();
    for row in rows {
        taken.name |= row.try_get::<String, _>("name")? == name;
        taken.display_name |= row.try_get::<String, _>("display_name")? == display_name;
    }
    Ok(taken)
}

/// The client with this id.
pub async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<Client>, DbError> {
    // Strangers name clients. PostgreSQL takes no such text, not even to say that nobody has it.
    if id.contains('\0') {
        return Ok(None);
    }
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- clients.by_id
         SELECT {COLUMNS}
           FROM clients
          WHERE id = $1"
    )))
    .bind(id)
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => Ok(Some(load(conn, &row).await?)),
        None => Ok(None),
    }
}

/// Keeps others from the client until the transaction ends, so that what is then read stays true.
/// (An update that changes nothing: `FOR UPDATE` is unknown to SQLite.)
pub(super) async fn lock(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- clients.lock
         UPDATE clients
            SET version = version
          WHERE id = $1",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a client out, with what hangs on it, and keeps its id from being given again. False: it
/// is gone, or was changed since that version.
pub(super) async fn delete(
    conn: &mut Conn,
    client: &Client,
    by: &str,
    now: UnixMillis,
) -> Result<bool, DbError> {
    for statement in [
        "-- clients.delete
         DELETE FROM client_bindings
          WHERE client_id = $1",
        "-- clients.delete
         DELETE FROM client_groups
          WHERE client_id = $1",
    ] {
        sqlx::query(statement).bind(client.id.as_str()).execute(&mut *conn).await?;
    }
    let deleted = sqlx::query(
        "-- clients.delete
         DELETE FROM clients
          WHERE id = $1
            AND version = $2",
    )
    .bind(client.id.as_str())
    .bind(client.version)
    .execute(&mut *conn)
    .await?;
    if deleted.rows_affected() != 1 {
        return Ok(false);
    }
    sqlx::query(
        "-- clients.delete
         INSERT INTO deleted_clients (id, name, display_name, search, deleted_at, deleted_by)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(client.id.as_str())
    .bind(client.name.as_str())
    .bind(&client.display_name)
    .bind(Row::from(client).search)
    .bind(now.0)
    .bind(by)
    .execute(conn)
    .await?;
    Ok(true)
}

/// Clients in order of their id, after `after`.
pub async fn list(
    conn: &mut Conn,
    filter: &Filter<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<Client>, DbError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- clients.list
         SELECT {COLUMNS}
           FROM clients
          WHERE id > $1
            AND ($2 = ''
                 OR status = $2
                 OR ($2 = 'locked' AND failed_attempts >= allowed_attempts))
            AND (search LIKE $3 ESCAPE '\\'
                 OR EXISTS (SELECT 1
                              FROM client_groups
                              JOIN api_groups ON api_groups.id = client_groups.group_id
                             WHERE client_groups.client_id = clients.id
                               AND LOWER(api_groups.name) LIKE $3 ESCAPE '\\'))
          ORDER BY id
          LIMIT $4"
    )))
    .bind(after)
    .bind(filter.status.unwrap_or_default())
    .bind(like_pattern(filter.keyword))
    .bind(limit + 1)
    .fetch_all(&mut *conn)
    .await?;
    let mut clients = Vec::with_capacity(rows.len());
    for row in &rows {
        clients.push(load(conn, row).await?);
    }
    Ok(clients)
}

/// Ids of the client's groups, sorted.
pub async fn groups_of(conn: &mut Conn, client: &str) -> Result<Vec<GroupId>, DbError> {
    let rows = sqlx::query(
        "-- clients.groups_of
         SELECT group_id
           FROM client_groups
          WHERE client_id = $1
          ORDER BY group_id",
    )
    .bind(client)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(GroupId(row.try_get("group_id")?))).collect()
}

/// Notes that something was changed that hangs on the client. False: another update came first.
pub(super) async fn touch(
    conn: &mut Conn,
    id: &str,
    read_version: i64,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- clients.touch
         UPDATE clients
            SET version = version + 1, updated_at = $3
          WHERE id = $1
            AND version = $2",
    )
    .bind(id)
    .bind(read_version)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

async fn replace_bindings(conn: &mut Conn, client: &Client) -> Result<(), DbError> {
    sqlx::query(
        "-- clients.bindings
         DELETE FROM client_bindings
          WHERE client_id = $1",
    )
    .bind(client.id.as_str())
    .execute(&mut *conn)
    .await?;
    for (position, binding) in (1_i64..).zip(&client.bindings) {
        sqlx::query(
            "-- clients.bindings
             INSERT INTO client_bindings (client_id, position, name, address)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(client.id.as_str())
        .bind(position)
        .bind(&binding.name)
        .bind(&binding.address)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn replace_groups(conn: &mut Conn, client: &Client) -> Result<(), DbError> {
    sqlx::query(
        "-- clients.groups
         DELETE FROM client_groups
          WHERE client_id = $1",
    )
    .bind(client.id.as_str())
    .execute(&mut *conn)
    .await?;
    for group in &client.groups {
        sqlx::query(
            "-- clients.groups
             INSERT INTO client_groups (client_id, group_id)
             VALUES ($1, $2)",
        )
        .bind(client.id.as_str())
        .bind(group.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// The columns whose form differs from the model's.
struct Row {
    start_date: Option<String>,
    expiry_date: Option<String>,
    service_from: Option<String>,
    service_until: Option<String>,
    quota: i64,
    quota_period: &'static str,
    emails: String,
    search: String,
}

impl From<&Client> for Row {
    fn from(client: &Client) -> Self {
        let number = client.application_number.as_deref().unwrap_or_default();
        let search = [client.id.as_str(), client.name.as_str(), &client.display_name, number].join("\n");
        Self {
            start_date: client.dates.map(|dates| dates.start.to_string()),
            expiry_date: client.dates.map(|dates| dates.expiry.to_string()),
            service_from: client.service_time.map(|times| ServiceTime::clock(times.from)),
            service_until: client.service_time.map(|times| ServiceTime::clock(times.until)),
            quota: client.quota.calls as i64, // at most 2^53
            quota_period: client.quota.period.as_str(),
            emails: model::emails_text(&client.emails),
            search: search.to_lowercase(),
        }
    }
}

async fn load(conn: &mut Conn, row: &AnyRow) -> Result<Client, DbError> {
    let id: String = row.try_get("id")?;
    let wrong = |column: &'static str| DbError::Inconsistency { table: "clients", column, row: id.clone() };
    let text = |column: &'static str| -> Result<String, DbError> { Ok(row.try_get(column)?) };
    let optional = |column: &'static str| -> Result<Option<String>, DbError> { Ok(row.try_get(column)?) };
    let number = |column: &'static str| -> Result<i64, DbError> { Ok(row.try_get(column)?) };
    let small = |column: &'static str| u32::try_from(number(column)?).map_err(|_| wrong(column));
    let term = |column: &'static str| {
        let number: Option<i64> = row.try_get(column)?;
        number.map(|number| u32::try_from(number).map_err(|_| wrong(column))).transpose()
    };
    let period = Period::parse(&text("quota_period")?).ok_or_else(|| wrong("quota_period"))?;
    let calls = u64::try_from(number("quota")?).map_err(|_| wrong("quota"))?;
    let dates = Dates::parse(optional("start_date")?.as_deref(), optional("expiry_date")?.as_deref());
    let hours =
        ServiceTime::parse(optional("service_from")?.as_deref(), optional("service_until")?.as_deref());
    let bindings = bindings_of(conn, &id).await?;
    // Most clients are bound to no name, and are not to pay for those that are.
    let hosts = match bindings.iter().any(|binding| binding.host().is_some()) {
        true => hosts::of_client(conn, &id).await?,
        false => vec![],
    };
    Ok(Client {
        name: ClientName::parse_name(&text("name")?).map_err(|_| wrong("name"))?,
        display_name: text("display_name")?,
        application_number: optional("application_number")?,
        status: parse_status(&text("status")?).ok_or_else(|| wrong("status"))?,
        hosts,
        bindings,
        dates: dates.map_err(|fault| wrong(fault.field))?,
        service_time: hours.map_err(|fault| wrong(fault.field))?,
        zone: Zone::parse(&text("time_zone")?).ok_or_else(|| wrong("time_zone"))?,
        quota: Quota { calls, period },
        leases: LeaseTerms { horizon_s: term("lease_horizon_s")?, max_percent: term("max_lease_percent")? },
        tps: small("tps")?,
        priority: u8::try_from(number("priority")?).map_err(|_| wrong("priority"))?,
        audience: parse_audience(&text("audience")?).ok_or_else(|| wrong("audience"))?,
        security_level: SecurityLevel::parse(&text("security_level")?)
            .ok_or_else(|| wrong("security_level"))?,
        groups: groups_of(conn, &id).await?,
        note: text("note")?,
        emails: match text("emails")?.as_str() {
            "" => vec![],
            emails => model::parse_emails(emails).map_err(|_| wrong("emails"))?,
        },
        remark: text("remark")?,
        password: match (row.try_get("reset_expires_at")?, number("has_password")?) {
            (Some(expires_at), _) => PasswordState::Reset { expires_at: UnixMillis(expires_at) },
            (None, 0) => PasswordState::None,
            (None, _) => PasswordState::Set,
        },
        failed_attempts: small("failed_attempts")?,
        allowed_attempts: small("allowed_attempts")?,
        created_at: UnixMillis(number("created_at")?),
        updated_at: UnixMillis(number("updated_at")?),
        version: number("version")?,
        id: ClientName::parse_id(&id).map_err(|_| wrong("id"))?,
    })
}

async fn bindings_of(conn: &mut Conn, client: &str) -> Result<Vec<Binding>, DbError> {
    let rows = sqlx::query(
        "-- clients.bindings_of
         SELECT name, address
           FROM client_bindings
          WHERE client_id = $1
          ORDER BY position",
    )
    .bind(client)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| Ok(Binding { name: row.try_get("name")?, address: row.try_get("address")? }))
        .collect()
}
