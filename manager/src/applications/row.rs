//! A form as its row in `applications` keeps it.

use std::collections::BTreeSet;

use gate::id::{ApiUid, ClientId, CredentialId};
use gate::time::UnixMillis;
use jiff::civil::Date;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::applicant::Applicant;
use super::form::{Form, Terms};
use super::model::{Application, Effect, State};
use super::number::FormNumber;
use crate::approvals::FormKind;
use crate::clients::{Binding, Registration};
use crate::db::DbError;

/// What a form keeps in tables beside its row.
#[derive(Default)]
pub(super) struct Lists {
    pub apis: BTreeSet<ApiUid>,
    pub bindings: Vec<Binding>,
}

/// Those columns that do not stand in the form as they are kept.
#[derive(Default)]
pub(super) struct Columns {
    pub number: Option<String>,
    pub name: Option<String>,
    pub client: Option<String>,
    pub display_name: Option<String>,
    pub emails: Option<String>,
    pub credentials_go_to: Option<String>,
    pub effective_date: Option<String>,
    pub expiry_date: Option<String>,
    pub quota: Option<i64>,
    pub reset_usage: Option<i64>,
    pub search: String,
    pub level: Option<i64>,
    pub levels: Option<i64>,
    pub ended_at: Option<i64>,
    pub effect: Option<&'static str>,
    pub effect_at: Option<i64>,
    pub effect_key: Option<String>,
    pub effect_client: Option<String>,
    pub effect_failure: Option<String>,
    pub open_key: Option<String>,
}

impl Columns {
    pub(super) fn of(application: &Application) -> Self {
        let form = &application.form;
        let terms = form.terms();
        let number = application.number.map(|number| number.to_string());
        let registration = form.registration();
        let name = terms
            .map(|terms| terms.name.clone())
            .or_else(|| registration.map(|asked| asked.name.as_str().to_owned()));
        let display_name = registration.map(|asked| asked.display_name.clone());
        let words = [
            number.as_deref().unwrap_or_default(),
            form.client().map(ClientId::as_str).unwrap_or_default(),
            name.as_deref().unwrap_or_default(),
            display_name.as_deref().unwrap_or_default(),
            form.description(),
        ];
        let mut columns = Self {
            search: words.join("\n").to_lowercase(),
            number,
            name,
            client: form.client().map(|client| client.0.clone()),
            display_name,
            emails: registration.map(Registration::emails_text),
            credentials_go_to: application.credentials_go_to.as_ref().map(|addresses| addresses.join("\n")),
            effective_date: form.effective_date().map(|date| date.to_string()),
            expiry_date: terms.map(|terms| terms.expiry_date.to_string()),
            quota: terms.map(|terms| terms.quota.map_or(-1, i64::from)),
            reset_usage: match form {
                Form::Change { reset_usage, .. } => Some(i64::from(*reset_usage)),
                Form::Apply { .. } | Form::Revoke { .. } | Form::Client { .. } => None,
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
                    Effect::Registered { at, client } => {
                        self.effect_client = Some(client.0.clone());
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

/// The form that a row keeps, with what is kept beside it.
pub(super) fn application(row: &AnyRow, lists: Lists) -> Result<Application, DbError> {
    let id: String = row.try_get("id")?;
    let number: Option<String> = row.try_get("number")?;
    let number = match number {
        Some(text) => Some(FormNumber::parse(&text).ok_or_else(|| senseless("number", &id))?),
        None => None,
    };
    Ok(Application {
        number,
        form: form(row, lists, &id)?,
        applicant: applicant(row, &id)?,
        credentials_go_to: row
            .try_get::<Option<String>, _>("credentials_go_to")?
            .map(|addresses| addresses.lines().map(str::to_owned).collect()),
        state: state(row, &id)?,
        version: row.try_get("version")?,
        created_at: UnixMillis(row.try_get("created_at")?),
        submitted_at: row.try_get::<Option<i64>, _>("submitted_at")?.map(UnixMillis),
        updated_at: UnixMillis(row.try_get("updated_at")?),
        id,
    })
}

fn applicant(row: &AnyRow, id: &str) -> Result<Applicant, DbError> {
    let (kind, who): (String, String) = (row.try_get("applicant_kind")?, row.try_get("applicant")?);
    Applicant::of(&kind, &who).ok_or_else(|| senseless("applicant", id))
}

fn form(row: &AnyRow, lists: Lists, id: &str) -> Result<Form, DbError> {
    let kind: String = row.try_get("kind")?;
    let kind = FormKind::parse(&kind).ok_or_else(|| senseless("kind", id))?;
    let Lists { apis, bindings } = lists;
    let client = row.try_get::<Option<String>, _>("client")?.map(ClientId);
    let client = client.ok_or_else(|| senseless("client", id));
    let key = row.try_get::<Option<String>, _>("key_id")?.map(CredentialId);
    let key = key.ok_or_else(|| senseless("key_id", id));
    match kind {
        FormKind::Apply => Ok(Form::Apply { client: client?, terms: terms(row, apis, id)? }),
        FormKind::Change => {
            let reset: Option<i64> = row.try_get("reset_usage")?;
            let reset_usage = reset.ok_or_else(|| senseless("reset_usage", id))? == 1;
            Ok(Form::Change { client: client?, key: key?, terms: terms(row, apis, id)?, reset_usage })
        }
        FormKind::Revoke => Ok(Form::Revoke {
            client: client?,
            key: key?,
            effective_date: day(row.try_get("effective_date")?, "effective_date", id)?,
            description: row.try_get("description")?,
        }),
        FormKind::Client => {
            let (name, display_name) = (row.try_get("name")?, row.try_get("display_name")?);
            let registration =
                Registration::parse(name, display_name, row.try_get("emails")?, Some(bindings));
            Ok(Form::Client {
                registration: registration.map_err(|fault| senseless(fault.field, id))?,
                description: row.try_get("description")?,
            })
        }
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
            let (key, client) = (row.try_get("effect_key")?, row.try_get("effect_client")?);
            match (key, client) {
                (Some(key), None) => Ok(Effect::Done { at, key: CredentialId(key) }),
                (None, Some(client)) => Ok(Effect::Registered { at, client: ClientId(client) }),
                (Some(_), Some(_)) | (None, None) => Err(senseless("effect_key", id)),
            }
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

/// A level that may be null.
pub(super) fn optional_level(row: &AnyRow, table: &'static str, id: &str) -> Result<Option<u32>, DbError> {
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
