//! Tables `applications`, `application_apis`, `application_history` and `application_numbers`.

use std::collections::BTreeSet;
use std::fmt;

use gate::id::{ApiUid, ClientId, CredentialId};
use gate::time::UnixMillis;
use jiff::civil::Date;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::form::{Form, Terms};
use super::model::{Application, Effect, State, Step};
use super::number::FormNumber;
use crate::approvals::FormKind;
use crate::db::{Conn, DbError};

/// The index that lets one form at a time hold a key.
pub const ONE_OPEN_FORM_PER_KEY: &str = "applications_open_key_key";

/// Keeps a new form; its version is 1.
pub async fn insert(conn: &mut Conn, application: &Application) -> Result<(), DbError> {
    let columns = Columns::of(application);
    sqlx::query(
        "-- applications.insert
         INSERT INTO applications
            (id, kind, number, applicant, version, created_at, submitted_at, updated_at,
             client, key_id, name, effective_date, expiry_date, quota, reset_usage, description, search,
             state, level, levels, ended_at, effect, effect_at, effect_key, effect_failure, open_key)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                 $18, $19, $20, $21, $22, $23, $24, $25, $26)",
    )
    .bind(&application.id)
    .bind(application.form.kind().code())
    .bind(columns.number)
    .bind(&application.applicant)
    .bind(application.version)
    .bind(application.created_at.0)
    .bind(application.submitted_at.map(|at| at.0))
    .bind(application.updated_at.0)
    .bind(application.form.client().as_str())
    .bind(application.form.key().map(|key| key.0.clone()))
    .bind(columns.name)
    .bind(columns.effective_date)
    .bind(columns.expiry_date)
    .bind(columns.quota)
    .bind(columns.reset_usage)
    .bind(application.form.description())
    .bind(columns.search)
    .bind(application.state.name())
    .bind(columns.level)
    .bind(columns.levels)
    .bind(columns.ended_at)
    .bind(columns.effect)
    .bind(columns.effect_at)
    .bind(columns.effect_key)
    .bind(columns.effect_failure)
    .bind(columns.open_key)
    .execute(&mut *conn)
    .await?;
    insert_apis(conn, application).await
}

/// Keeps everything of a form that can change, in place of the version before
/// `application.version`, which must stand at `before`. False: it does not, nothing was written.
pub async fn update(conn: &mut Conn, application: &Application, before: &State) -> Result<bool, DbError> {
    let columns = Columns::of(application);
    let updated = sqlx::query(
        "-- applications.update
         UPDATE applications
            SET number         = $1,
                version        = $2,
                submitted_at   = $3,
                updated_at     = $4,
                client         = $5,
                key_id         = $6,
                name           = $7,
                effective_date = $8,
                expiry_date    = $9,
                quota          = $10,
                reset_usage    = $11,
                description    = $12,
                search         = $13,
                state          = $14,
                level          = $15,
                levels         = $16,
                ended_at       = $17,
                effect         = $18,
                effect_at      = $19,
                effect_key     = $20,
                effect_failure = $21,
                open_key       = $22
          WHERE id = $23 AND version = $2 - 1 AND state = $24",
    )
    .bind(columns.number)
    .bind(application.version)
    .bind(application.submitted_at.map(|at| at.0))
    .bind(application.updated_at.0)
    .bind(application.form.client().as_str())
    .bind(application.form.key().map(|key| key.0.clone()))
    .bind(columns.name)
    .bind(columns.effective_date)
    .bind(columns.expiry_date)
    .bind(columns.quota)
    .bind(columns.reset_usage)
    .bind(application.form.description())
    .bind(columns.search)
    .bind(application.state.name())
    .bind(columns.level)
    .bind(columns.levels)
    .bind(columns.ended_at)
    .bind(columns.effect)
    .bind(columns.effect_at)
    .bind(columns.effect_key)
    .bind(columns.effect_failure)
    .bind(columns.open_key)
    .bind(&application.id)
    .bind(before.name())
    .execute(&mut *conn)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Replaces the APIs that a form chooses.
pub async fn replace_apis(conn: &mut Conn, application: &Application) -> Result<(), DbError> {
    delete_apis(conn, &application.id).await?;
    insert_apis(conn, application).await
}

/// Throws a draft away with all that belongs to it. False: it is no longer a draft of that version.
pub async fn delete_draft(conn: &mut Conn, id: &str, version: i64) -> Result<bool, DbError> {
    let deleted = sqlx::query(
        "-- applications.delete_draft
         DELETE FROM applications WHERE id = $1 AND version = $2 AND state = 'draft'",
    )
    .bind(id)
    .bind(version)
    .execute(&mut *conn)
    .await?;
    if deleted.rows_affected() != 1 {
        return Ok(false);
    }
    delete_apis(conn, id).await?;
    sqlx::query(
        "-- applications.delete_history
         DELETE FROM application_history WHERE application_id = $1",
    )
    .bind(id)
    .execute(&mut *conn)
    .await?;
    Ok(true)
}

/// Keeps others from the form until the transaction ends, so that what [`find`] then reads stays
/// true. False: there is no such form.
pub async fn lock(conn: &mut Conn, id: &str) -> Result<bool, DbError> {
    let locked = sqlx::query(
        "-- applications.lock
         UPDATE applications SET version = version WHERE id = $1",
    )
    .bind(id)
    .execute(&mut *conn)
    .await?;
    Ok(locked.rows_affected() == 1)
}

/// The form of that id.
pub async fn find(conn: &mut Conn, id: &str) -> Result<Option<Application>, DbError> {
    let row = sqlx::query(
        "-- applications.find
         SELECT * FROM applications WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => {
            let apis = apis_of(conn, id).await?;
            application(&row, apis).map(Some)
        }
        None => Ok(None),
    }
}

/// The form that holds `key` now, other than `except`: its number, or its id while it has none.
pub async fn holder_of_key(
    conn: &mut Conn,
    key: &CredentialId,
    except: Option<&str>,
) -> Result<Option<String>, DbError> {
    let row = sqlx::query(
        "-- applications.holder_of_key
         SELECT COALESCE(number, id) AS number FROM applications WHERE open_key = $1 AND id <> $2",
    )
    .bind(key.as_str())
    .bind(except.unwrap_or_default())
    .fetch_optional(&mut *conn)
    .await?;
    Ok(row.map(|row| row.try_get("number")).transpose()?)
}

/// Draws the next number of `kind` on `day`. The counter is locked until the transaction ends.
pub async fn draw_number(conn: &mut Conn, kind: FormKind, day: Date) -> Result<FormNumber, DbError> {
    let day_text = FormNumber::day_text(day);
    let row = sqlx::query(
        "-- applications.draw_number
         INSERT INTO application_numbers (kind, day, last)
         VALUES ($1, $2, 1)
         ON CONFLICT (kind, day) DO UPDATE SET last = application_numbers.last + 1
         RETURNING last",
    )
    .bind(kind.code())
    .bind(&day_text)
    .fetch_one(&mut *conn)
    .await?;
    let last: i64 = row.try_get("last")?;
    let sequence = u32::try_from(last).map_err(|_| DbError::Inconsistency {
        table: "application_numbers",
        column: "last",
        row: format!("{kind} {day_text}"),
    })?;
    Ok(FormNumber { kind, day, sequence })
}

/// Adds to what happened to a form.
pub async fn record_step(conn: &mut Conn, application_id: &str, step: &Step) -> Result<(), DbError> {
    sqlx::query(
        "-- applications.record_step
         INSERT INTO application_history (application_id, version, at, actor, action, level, comment, state)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(application_id)
    .bind(step.version)
    .bind(step.at.0)
    .bind(&step.actor)
    .bind(&step.action)
    .bind(step.level.map(i64::from))
    .bind(&step.comment)
    .bind(&step.state)
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// What happened to a form, oldest first.
pub async fn history(conn: &mut Conn, application_id: &str) -> Result<Vec<Step>, DbError> {
    let rows = sqlx::query(
        "-- applications.history
         SELECT version, at, actor, action, level, comment, state
           FROM application_history
          WHERE application_id = $1
          ORDER BY version",
    )
    .bind(application_id)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Step {
                version: row.try_get("version")?,
                at: UnixMillis(row.try_get("at")?),
                actor: row.try_get("actor")?,
                action: row.try_get("action")?,
                level: optional_level(row, "application_history", application_id)?,
                comment: row.try_get("comment")?,
                state: row.try_get("state")?,
            })
        })
        .collect()
}

/// Whether somebody has signed, returned or refused a form.
pub async fn has_reviewed(conn: &mut Conn, application_id: &str, operator: &str) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- applications.has_reviewed
         SELECT version FROM application_history
          WHERE application_id = $1 AND actor = $2 AND action IN ('approve', 'return', 'reject')
          LIMIT 1",
    )
    .bind(application_id)
    .bind(operator)
    .fetch_optional(&mut *conn)
    .await?;
    Ok(row.is_some())
}

/// Which forms a list shows. Empty or none: no such condition.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// What one operator may see and wants to see.
    pub scope: Scope,
    /// State's name.
    pub state: Option<String>,
    /// Kind's code.
    pub kind: Option<FormKind>,
    /// Whose key.
    pub client: Option<String>,
    /// Stands, in whatever case, in number, client, name or description.
    pub keyword: Option<String>,
}

/// Whose forms a list shows. The texts of `signable` are `,KA:1,KA:2,`: the kinds and levels that
/// the operator signs now.
#[derive(Clone, Debug, Default)]
pub enum Scope {
    /// Everybody's.
    #[default]
    All,
    /// Those that the operator filed, may sign now or has reviewed.
    Visible {
        /// Which operator.
        operator: String,
        /// What the operator signs.
        signable: String,
    },
    /// Those that the operator filed.
    Mine {
        /// Which operator.
        operator: String,
    },
    /// Those that wait for the operator's signature.
    WaitingFor {
        /// Which operator.
        operator: String,
        /// What the operator signs.
        signable: String,
        /// Own forms count too.
        own: bool,
    },
    /// Those that the operator has approved, returned or rejected.
    ReviewedBy {
        /// Which operator.
        operator: String,
    },
}

/// A place in the order of age, by which lists page: ids alone do not sort by age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    created_at: UnixMillis,
    id: String,
}

impl Place {
    /// Before the newest form there can be.
    pub fn newest() -> Self {
        Self { created_at: UnixMillis(i64::MAX), id: String::new() }
    }

    /// Where a form stands.
    pub fn of(application: &Application) -> Self {
        Self { created_at: application.created_at, id: application.id.clone() }
    }

    /// The place that `text` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (created_at, id) = text.split_once(' ')?;
        Some(Self { created_at: UnixMillis(created_at.parse().ok()?), id: id.to_owned() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.created_at.0, self.id)
    }
}

/// Up to `limit` forms, the newest first, that come after `place`.
pub async fn list(
    conn: &mut Conn,
    filter: &Filter,
    place: &Place,
    limit: i64,
) -> Result<Vec<Application>, DbError> {
    let (which, operator, signable) = match &filter.scope {
        Scope::All => ("all", "", ""),
        Scope::Visible { operator, signable } => ("visible", operator.as_str(), signable.as_str()),
        Scope::Mine { operator } => ("mine", operator.as_str(), ""),
        Scope::WaitingFor { operator, signable, own: true } => {
            ("waiting", operator.as_str(), signable.as_str())
        }
        Scope::WaitingFor { operator, signable, own: false } => {
            ("waiting_others", operator.as_str(), signable.as_str())
        }
        Scope::ReviewedBy { operator } => ("reviewed", operator.as_str(), ""),
    };
    let rows = sqlx::query(
        "-- applications.list
         SELECT * FROM applications a
          WHERE ($1 = 'all'
                 OR ($1 IN ('mine', 'visible') AND a.applicant = $2)
                 OR ($1 IN ('waiting', 'waiting_others', 'visible')
                     AND a.state = 'pending_order'
                     AND ($1 <> 'waiting_others' OR a.applicant <> $2)
                     AND $3 LIKE '%,' || a.kind || ':' || CAST(a.level AS TEXT) || ',%')
                 OR ($1 IN ('reviewed', 'visible')
                     AND EXISTS (SELECT 1 FROM application_history h
                                  WHERE h.application_id = a.id
                                    AND h.actor = $2
                                    AND h.action IN ('approve', 'return', 'reject'))))
            AND ($4 = '' OR a.state = $4)
            AND ($5 = '' OR a.kind = $5)
            AND ($6 = '' OR a.client = $6)
            AND ($7 = '' OR a.search LIKE $7 ESCAPE '!')
            AND (a.created_at < $8 OR (a.created_at = $8 AND a.id < $9))
          ORDER BY a.created_at DESC, a.id DESC
          LIMIT $10",
    )
    .bind(which)
    .bind(operator)
    .bind(signable)
    .bind(filter.state.clone().unwrap_or_default())
    .bind(filter.kind.map(FormKind::code).unwrap_or_default())
    .bind(filter.client.clone().unwrap_or_default())
    .bind(filter.keyword.as_deref().map(containing).unwrap_or_default())
    .bind(place.created_at.0)
    .bind(&place.id)
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let id: String = row.try_get("id")?;
        let apis = apis_of(conn, &id).await?;
        found.push(application(&row, apis)?);
    }
    Ok(found)
}

/// Ids of forms whose scheduled effect is due, the longest overdue first.
pub async fn due(conn: &mut Conn, now: UnixMillis, limit: i64) -> Result<Vec<String>, DbError> {
    let rows = sqlx::query(
        "-- applications.due
         SELECT id FROM applications
          WHERE effect = 'scheduled' AND effect_at <= $1
          ORDER BY effect_at, id
          LIMIT $2",
    )
    .bind(now.0)
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// How many forms about a client can still go on.
pub async fn count_open_of(conn: &mut Conn, client: &ClientId) -> Result<i64, DbError> {
    let row = sqlx::query(
        "-- applications.count_open_of
         SELECT COUNT(*)
           FROM applications
          WHERE client = $1
            AND (state IN ('draft', 'pending_order', 'returned') OR effect = 'scheduled')",
    )
    .bind(client.as_str())
    .fetch_one(conn)
    .await?;
    Ok(row.try_get(0)?)
}

/// The forms about a client that can still go on, the oldest first: `limit` of them.
pub async fn open_of(conn: &mut Conn, client: &ClientId, limit: i64) -> Result<Vec<Application>, DbError> {
    let rows = sqlx::query(
        "-- applications.open_of
         SELECT * FROM applications
          WHERE client = $1
            AND (state IN ('draft', 'pending_order', 'returned') OR effect = 'scheduled')
          ORDER BY created_at, id
          LIMIT $2",
    )
    .bind(client.as_str())
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let id: String = row.try_get("id")?;
        let apis = apis_of(conn, &id).await?;
        found.push(application(&row, apis)?);
    }
    Ok(found)
}

/// Keeps others from the forms about a client until the transaction ends.
pub async fn lock_all_of(conn: &mut Conn, client: &ClientId) -> Result<(), DbError> {
    sqlx::query(
        "-- applications.lock_all_of
         UPDATE applications SET version = version WHERE client = $1",
    )
    .bind(client.as_str())
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// Those columns that do not stand in the form as they are kept.
#[derive(Default)]
struct Columns {
    number: Option<String>,
    name: Option<String>,
    effective_date: String,
    expiry_date: Option<String>,
    quota: Option<i64>,
    reset_usage: Option<i64>,
    search: String,
    level: Option<i64>,
    levels: Option<i64>,
    ended_at: Option<i64>,
    effect: Option<&'static str>,
    effect_at: Option<i64>,
    effect_key: Option<String>,
    effect_failure: Option<String>,
    open_key: Option<String>,
}

impl Columns {
    fn of(application: &Application) -> Self {
        let form = &application.form;
        let terms = form.terms();
        let number = application.number.map(|number| number.to_string());
        let name = terms.map(|terms| terms.name.clone());
        let words = [
            number.as_deref().unwrap_or_default(),
            form.client().as_str(),
            name.as_deref().unwrap_or_default(),
            form.description(),
        ];
        let mut columns = Self {
            search: words.join("\n").to_lowercase(),
            number,
            name,
            effective_date: form.effective_date().to_string(),
            expiry_date: terms.map(|terms| terms.expiry_date.to_string()),
            quota: terms.map(|terms| terms.quota.map_or(-1, i64::from)),
            reset_usage: match form {
                Form::Change { reset_usage, .. } => Some(i64::from(*reset_usage)),
                Form::Apply { .. } | Form::Revoke { .. } => None,
            },
            open_key: form.key().filter(|_| application.state.holds_key()).map(|key| key.0.clone()),
            ..Self::default()
        };
        columns.stand(&application.state);
        columns
    }

    fn stand(&mut self, state: &State) {
        match state {
            State::Draft => {}
            State::PendingOrder { level, levels } | State::Returned { level, levels } => {
                self.level = Some(i64::from(*level));
                self.levels = Some(i64::from(*levels));
            }
            State::Approved { at, effect } => {
                self.ended_at = Some(at.0);
                let (name, effect_at) = match effect {
                    Effect::Done { at, key } => {
                        self.effect_key = Some(key.0.clone());
                        ("done", at)
                    }
                    Effect::Scheduled { due } => ("scheduled", due),
                    Effect::Stopped { at } => ("stopped", at),
                    Effect::Failed { at, reason } => {
                        self.effect_failure = Some(reason.clone());
                        ("failed", at)
                    }
                };
                self.effect = Some(name);
                self.effect_at = Some(effect_at.0);
            }
            State::Rejected { at, level } => {
                self.ended_at = Some(at.0);
                self.level = Some(i64::from(*level));
            }
            State::Cancelled { at } => self.ended_at = Some(at.0),
        }
    }
}

fn application(row: &AnyRow, apis: BTreeSet<ApiUid>) -> Result<Application, DbError> {
    let id: String = row.try_get("id")?;
    let number: Option<String> = row.try_get("number")?;
    let number = match number {
        Some(text) => Some(FormNumber::parse(&text).ok_or_else(|| senseless("number", &id))?),
        None => None,
    };
    Ok(Application {
        number,
        form: form(row, apis, &id)?,
        applicant: row.try_get("applicant")?,
        state: state(row, &id)?,
        version: row.try_get("version")?,
        created_at: UnixMillis(row.try_get("created_at")?),
        submitted_at: row.try_get::<Option<i64>, _>("submitted_at")?.map(UnixMillis),
        updated_at: UnixMillis(row.try_get("updated_at")?),
        id,
    })
}

fn form(row: &AnyRow, apis: BTreeSet<ApiUid>, id: &str) -> Result<Form, DbError> {
    let kind: String = row.try_get("kind")?;
    let kind = FormKind::parse(&kind).ok_or_else(|| senseless("kind", id))?;
    let client = ClientId(row.try_get("client")?);
    let key = row.try_get::<Option<String>, _>("key_id")?.map(CredentialId);
    let key = key.ok_or_else(|| senseless("key_id", id));
    match kind {
        FormKind::Apply => Ok(Form::Apply { client, terms: terms(row, apis, id)? }),
        FormKind::Change => {
            let reset: Option<i64> = row.try_get("reset_usage")?;
            let reset_usage = reset.ok_or_else(|| senseless("reset_usage", id))? == 1;
            Ok(Form::Change { client, key: key?, terms: terms(row, apis, id)?, reset_usage })
        }
        FormKind::Revoke => Ok(Form::Revoke {
            client,
            key: key?,
            effective_date: day(row.try_get("effective_date")?, "effective_date", id)?,
            description: row.try_get("description")?,
        }),
    }
}

fn terms(row: &AnyRow, apis: BTreeSet<ApiUid>, id: &str) -> Result<Terms, DbError> {
    let quota: Option<i64> = row.try_get("quota")?;
    let quota = match quota.ok_or_else(|| senseless("quota", id))? {
        -1 => None,
        uses => Some(u32::try_from(uses).map_err(|_| senseless("quota", id))?),
    };
    let name: Option<String> = row.try_get("name")?;
    Ok(Terms {
        name: name.ok_or_else(|| senseless("name", id))?,
        effective_date: day(row.try_get("effective_date")?, "effective_date", id)?,
        expiry_date: day(row.try_get("expiry_date")?, "expiry_date", id)?,
        quota,
        description: row.try_get("description")?,
        apis,
    })
}

fn state(row: &AnyRow, id: &str) -> Result<State, DbError> {
    let name: String = row.try_get("state")?;
    let level = || optional_level(row, "applications", id)?.ok_or_else(|| senseless("level", id));
    let levels = || {
        let levels: Option<i64> = row.try_get("levels")?;
        levels.and_then(|levels| u32::try_from(levels).ok()).ok_or_else(|| senseless("levels", id))
    };
    let ended_at = || instant(row, "ended_at", id);
    match name.as_str() {
        "draft" => Ok(State::Draft),
        "pending_order" => Ok(State::PendingOrder { level: level()?, levels: levels()? }),
        "returned" => Ok(State::Returned { level: level()?, levels: levels()? }),
        "approved" => Ok(State::Approved { at: ended_at()?, effect: effect(row, id)? }),
        "rejected" => Ok(State::Rejected { at: ended_at()?, level: level()? }),
        "cancelled" => Ok(State::Cancelled { at: ended_at()? }),
        _ => Err(senseless("state", id)),
    }
}

fn effect(row: &AnyRow, id: &str) -> Result<Effect, DbError> {
    let at = instant(row, "effect_at", id)?;
    let name: Option<String> = row.try_get("effect")?;
    match name.as_deref() {
        Some("done") => {
            let key: Option<String> = row.try_get("effect_key")?;
            Ok(Effect::Done { at, key: CredentialId(key.ok_or_else(|| senseless("effect_key", id))?) })
        }
        Some("scheduled") => Ok(Effect::Scheduled { due: at }),
        Some("stopped") => Ok(Effect::Stopped { at }),
        Some("failed") => {
            let reason: Option<String> = row.try_get("effect_failure")?;
            Ok(Effect::Failed { at, reason: reason.ok_or_else(|| senseless("effect_failure", id))? })
        }
        Some(_) | None => Err(senseless("effect", id)),
    }
}

fn instant(row: &AnyRow, column: &'static str, id: &str) -> Result<UnixMillis, DbError> {
    let at: Option<i64> = row.try_get(column)?;
    at.map(UnixMillis).ok_or_else(|| senseless(column, id))
}

fn day(text: Option<String>, column: &'static str, id: &str) -> Result<Date, DbError> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| senseless(column, id))
}

fn optional_level(row: &AnyRow, table: &'static str, id: &str) -> Result<Option<u32>, DbError> {
    let level: Option<i64> = row.try_get("level")?;
    level.map(u32::try_from).transpose().map_err(|_| DbError::Inconsistency {
        table,
        column: "level",
        row: id.to_owned(),
    })
}

fn senseless(column: &'static str, id: &str) -> DbError {
    DbError::Inconsistency { table: "applications", column, row: id.to_owned() }
}

/// A LIKE pattern for what contains `keyword` in whatever case; `!` escapes.
fn containing(keyword: &str) -> String {
    let mut pattern = String::from("%");
    for letter in keyword.to_lowercase().chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

async fn apis_of(conn: &mut Conn, id: &str) -> Result<BTreeSet<ApiUid>, DbError> {
    let rows = sqlx::query(
        "-- applications.apis_of
         SELECT api_uid FROM application_apis WHERE application_id = $1",
    )
    .bind(id)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter().map(|row| Ok(ApiUid(row.try_get("api_uid")?))).collect()
}

async fn insert_apis(conn: &mut Conn, application: &Application) -> Result<(), DbError> {
    for api in application.form.terms().into_iter().flat_map(|terms| &terms.apis) {
        sqlx::query(
            "-- applications.insert_api
             INSERT INTO application_apis (application_id, api_uid) VALUES ($1, $2)",
        )
        .bind(&application.id)
        .bind(api.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn delete_apis(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- applications.delete_apis
         DELETE FROM application_apis WHERE application_id = $1",
    )
    .bind(id)
    .execute(&mut *conn)
    .await?;
    Ok(())
}
