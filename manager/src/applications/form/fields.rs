//! A form as somebody wrote it, and how it becomes a form.

use std::collections::BTreeSet;

use gate::id::{ApiUid, ClientId, CredentialId};
use jiff::civil::Date;

use super::{FieldFault, Form, MAX_APIS, MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, MAX_QUOTA, Terms};
use crate::approvals::FormKind;
use crate::clients::{Binding, Registration};

/// A form as somebody wrote it; every field may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// `client`
    pub client: Option<String>,
    /// `key`: the id of the key to change or revoke.
    pub key: Option<String>,
    /// `name`
    pub name: Option<String>,
    /// `effective_date`, `yyyy-MM-dd`
    pub effective_date: Option<String>,
    /// `expiry_date`, `yyyy-MM-dd`
    pub expiry_date: Option<String>,
    /// `quota`: -1 = unlimited.
    pub quota: Option<i64>,
    /// `description`
    pub description: Option<String>,
    /// `apis`: uids.
    pub apis: Option<Vec<String>>,
    /// `reset_usage`
    pub reset_usage: Option<bool>,
    /// `display_name`: of the client that is asked for.
    pub display_name: Option<String>,
    /// `emails`: its addresses, separated by commas.
    pub emails: Option<String>,
    /// `bindings`: from where it may call.
    pub bindings: Option<Vec<Binding>>,
}

impl Form {
    /// A form of `kind` from its fields. `key_owner` is the client of the key that the fields
    /// name, if there is one; forms about a key take their client from it.
    pub fn parse(kind: FormKind, fields: Fields, key_owner: Option<ClientId>) -> Result<Self, FieldFault> {
        if kind != FormKind::Client {
            refuse_field(kind, "display_name", fields.display_name.is_some())?;
            refuse_field(kind, "emails", fields.emails.is_some())?;
            refuse_field(kind, "bindings", fields.bindings.is_some())?;
        }
        match kind {
            FormKind::Apply => {
                refuse_field(kind, "key", fields.key.is_some())?;
                refuse_field(kind, "reset_usage", fields.reset_usage.is_some())?;
                let client = ClientId(present("client", fields.client.clone())?);
                Ok(Self::Apply { client, terms: Terms::parse(fields)? })
            }
            FormKind::Change => {
                let (key, client) = key_and_client(kind, &fields, key_owner)?;
                let reset_usage = fields.reset_usage.unwrap_or(false);
                Ok(Self::Change { client, key, terms: Terms::parse(fields)?, reset_usage })
            }
            FormKind::Revoke => {
                for (field, given) in [
                    ("name", fields.name.is_some()),
                    ("expiry_date", fields.expiry_date.is_some()),
                    ("quota", fields.quota.is_some()),
                    ("apis", fields.apis.is_some()),
                    ("reset_usage", fields.reset_usage.is_some()),
                ] {
                    refuse_field(kind, field, given)?;
                }
                let (key, client) = key_and_client(kind, &fields, key_owner)?;
                let effective_date = date("effective_date", fields.effective_date)?;
                let description = text("description", fields.description, MAX_DESCRIPTION_CHARS)?;
                Ok(Self::Revoke { client, key, effective_date, description })
            }
            FormKind::Client => {
                for (field, given) in [
                    ("client", fields.client.is_some()),
                    ("key", fields.key.is_some()),
                    ("effective_date", fields.effective_date.is_some()),
                    ("expiry_date", fields.expiry_date.is_some()),
                    ("quota", fields.quota.is_some()),
                    ("apis", fields.apis.is_some()),
                    ("reset_usage", fields.reset_usage.is_some()),
                ] {
                    refuse_field(kind, field, given)?;
                }
                let description = text("description", fields.description, MAX_DESCRIPTION_CHARS)?;
                let Fields { name, display_name, emails, bindings, .. } = fields;
                let registration = Registration::parse(name, display_name, emails, bindings)?;
                Ok(Self::Client { registration, description })
            }
        }
    }
}

impl Terms {
    fn parse(fields: Fields) -> Result<Self, FieldFault> {
        let name = text("name", fields.name, MAX_NAME_CHARS)?;
        let effective_date = date("effective_date", fields.effective_date)?;
        let expiry_date = date("expiry_date", fields.expiry_date)?;
        if expiry_date < effective_date {
            return Err(FieldFault::ExpiryBeforeEffective { effective: effective_date, expiry: expiry_date });
        }
        let quota = quota(fields.quota)?;
        let description = text("description", fields.description, MAX_DESCRIPTION_CHARS)?;
        let apis = apis(fields.apis)?;
        Ok(Self { name, effective_date, expiry_date, quota, description, apis })
    }
}

fn key_and_client(
    kind: FormKind,
    fields: &Fields,
    key_owner: Option<ClientId>,
) -> Result<(CredentialId, ClientId), FieldFault> {
    refuse_field(kind, "client", fields.client.is_some())?;
    let key = CredentialId(present("key", fields.key.clone())?);
    let client = key_owner.ok_or_else(|| FieldFault::UnknownKey(key.clone()))?;
    Ok((key, client))
}

fn refuse_field(kind: FormKind, field: &'static str, given: bool) -> Result<(), FieldFault> {
    if given { Err(FieldFault::NotOnThisForm { field, kind }) } else { Ok(()) }
}

/// The value without the white space around it; blank is missing.
fn present(field: &'static str, value: Option<String>) -> Result<String, FieldFault> {
    let value = value.unwrap_or_default();
    match value.trim() {
        "" => Err(FieldFault::Missing(field)),
        text => Ok(text.to_owned()),
    }
}

fn text(field: &'static str, value: Option<String>, max: usize) -> Result<String, FieldFault> {
    // White space around it counts too, as it does for the schema of the field.
    let chars = value.as_deref().map_or(0, |value| value.chars().count());
    let text = present(field, value)?;
    if chars > max {
        return Err(FieldFault::TooLong { field, chars, max });
    }
    // A description may have lines; nothing else here is a place for controls.
    let control = |c: char| c.is_control() && !(c == '\n' && field == "description");
    if text.contains(control) {
        return Err(FieldFault::ControlCharacter(field));
    }
    Ok(text)
}

/// `yyyy-MM-dd` and nothing else: jiff alone would also take a time or a basic-format date.
fn date(field: &'static str, value: Option<String>) -> Result<Date, FieldFault> {
    let given = present(field, value)?;
    match given.parse::<Date>() {
        Ok(date) if date.to_string() == given => Ok(date),
        Ok(_) | Err(_) => Err(FieldFault::NotADate { field, given }),
    }
}

fn quota(value: Option<i64>) -> Result<Option<u32>, FieldFault> {
    match value.ok_or(FieldFault::Missing("quota"))? {
        -1 => Ok(None),
        uses @ 1..=MAX_QUOTA => u32::try_from(uses).map(Some).map_err(|_| FieldFault::QuotaOutOfRange(uses)),
        other => Err(FieldFault::QuotaOutOfRange(other)),
    }
}

fn apis(value: Option<Vec<String>>) -> Result<BTreeSet<ApiUid>, FieldFault> {
    let uids = value.ok_or(FieldFault::Missing("apis"))?;
    if uids.is_empty() {
        return Err(FieldFault::NoApis);
    }
    if uids.len() > MAX_APIS {
        return Err(FieldFault::TooManyApis(uids.len()));
    }
    let mut chosen = BTreeSet::new();
    for uid in uids.into_iter().map(ApiUid) {
        if let Some(uid) = chosen.replace(uid) {
            return Err(FieldFault::ApiTwice(uid));
        }
    }
    Ok(chosen)
}
