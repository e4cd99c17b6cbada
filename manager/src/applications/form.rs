//! What a form says: its fields and the rules they obey.
//!
//! Rules that a form can be asked alone are held by its types ([`Form::parse`]); rules about the
//! world around it are asked again whenever it moves on ([`Form::check`]).

use std::collections::BTreeSet;

use gate::id::{ApiUid, ClientId, CredentialId};
use jiff::civil::Date;
use thiserror::Error;

use crate::approvals::FormKind;
use crate::openapi::schema::schema_of;

/// Characters of a key's name at most.
pub const MAX_NAME_CHARS: usize = 255;
/// Characters of a description at most.
pub const MAX_DESCRIPTION_CHARS: usize = 500;
/// The highest use quota: what digiRunner keeps in a signed 32-bit number.
pub const MAX_QUOTA: i64 = i32::MAX as i64;
/// APIs of one form at most. A key's grant lists them all; 1,000 keep it within one answer.
pub const MAX_APIS: usize = 1_000;

/// What a new key is to be called.
pub enum Name {}

/// Why it is asked for; may have lines.
pub enum Description {}

/// Uses; −1 = unlimited.
pub enum Quota {}

/// The uids of the APIs that it is to open, none twice.
pub enum Apis {}

schema_of! { Name as FormKeyName: line(MAX_NAME_CHARS) }
schema_of! { Description as FormDescription: lines(MAX_DESCRIPTION_CHARS) }
schema_of! { Quota as FormQuota: either([number(-1, -1), number(1, MAX_QUOTA)]) }
schema_of! { Apis as FormApis: list::<String>(1, MAX_APIS).unique_items(true) }

/// What a form asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A new key for a client.
    Apply {
        /// Whose key it becomes.
        client: ClientId,
        /// The key's terms.
        terms: Terms,
    },
    /// Other terms for a key that exists.
    Change {
        /// Whose key it is.
        client: ClientId,
        /// Which key.
        key: CredentialId,
        /// The terms from the effective date on.
        terms: Terms,
        /// Uses so far no longer count; otherwise what was used stays used.
        reset_usage: bool,
    },
    /// The end of a key.
    Revoke {
        /// Whose key it is.
        client: ClientId,
        /// Which key.
        key: CredentialId,
        /// The day from which it is refused.
        effective_date: Date,
        /// Why.
        description: String,
    },
}

/// What a key may do and for how long, and why it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What people call the key.
    pub name: String,
    /// First day: of the key (apply) or of the change. Inclusive.
    pub effective_date: Date,
    /// Last day on which the key is accepted. Inclusive.
    pub expiry_date: Date,
    /// How often the key may be used; none: as often as it likes.
    pub quota: Option<u32>,
    /// Why it is wanted.
    pub description: String,
    /// What it may call: at least one, sorted.
    pub apis: BTreeSet<ApiUid>,
}

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
}

/// When a form is checked against the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The applicant saves, submits or re-submits it, and can still change it: no date may lie
    /// in the past.
    Filing,
    /// A reviewer signs it: an effective date may have passed while it waited, an expiry not.
    Signing,
}

/// What the rules want to know of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// The day it is in the installation's zone.
    pub today: Date,
    /// The client named by the form; none: there is no such client.
    pub client: Option<ClientFacts>,
    /// The key named by the form; none: there is no such key.
    pub key: Option<KeyFacts>,
    /// Those of the form's APIs that exist.
    pub known_apis: BTreeSet<ApiUid>,
    /// Whether credentials are mailed to the client, who then needs an address.
    pub client_gets_credentials: bool,
    /// Credentials are mailed to the applicant, who has no address.
    pub applicant_out_of_reach: bool,
}

/// What the rules want to know of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFacts {
    /// Whether it may call at all.
    pub active: bool,
    /// Its status in words, for the message.
    pub status: &'static str,
    /// Whether an e-mail address is on file.
    pub has_email: bool,
}

/// What the rules want to know of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// Whether it has been revoked.
    pub revoked: bool,
    /// The number of another change or revoke form for it that is under way.
    pub open_form: Option<String>,
}

impl Form {
    /// A form of `kind` from its fields. `key_owner` is the client of the key that the fields
    /// name, if there is one; forms about a key take their client from it.
    pub fn parse(kind: FormKind, fields: Fields, key_owner: Option<ClientId>) -> Result<Self, FieldFault> {
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
        }
    }

    /// Whether the form may be kept, or move on, in the world as it is.
    pub fn check(&self, world: &World, moment: Moment) -> Result<(), FieldFault> {
        let client = world.client.as_ref().ok_or_else(|| FieldFault::UnknownClient(self.client().clone()))?;
        if let Some(key) = self.key() {
            check_key(key, world)?;
        }
        let (effective, today) = (self.effective_date(), world.today);
        if moment == Moment::Filing && effective < today {
            return Err(FieldFault::EffectiveInThePast { effective, today });
        }
        let Some(terms) = self.terms() else {
            return Ok(());
        };
        if !client.active {
            return Err(FieldFault::ClientNotActive { client: self.client().clone(), status: client.status });
        }
        if terms.expiry_date < today {
            return Err(FieldFault::Expired { expiry: terms.expiry_date, today });
        }
        if let Some(unknown) = terms.apis.difference(&world.known_apis).next() {
            return Err(FieldFault::UnknownApi(unknown.clone()));
        }
        let issues = matches!(self, Self::Apply { .. });
        if issues && world.client_gets_credentials && !client.has_email {
            return Err(FieldFault::NoAddress(self.client().clone()));
        }
        if issues && world.applicant_out_of_reach {
            return Err(FieldFault::NoApplicantAddress);
        }
        Ok(())
    }

    /// Which kind it is.
    pub fn kind(&self) -> FormKind {
        match self {
            Self::Apply { .. } => FormKind::Apply,
            Self::Change { .. } => FormKind::Change,
            Self::Revoke { .. } => FormKind::Revoke,
        }
    }

    /// Whose key it is about.
    pub fn client(&self) -> &ClientId {
        match self {
            Self::Apply { client, .. } | Self::Change { client, .. } | Self::Revoke { client, .. } => client,
        }
    }

    /// The key that it changes or revokes.
    pub fn key(&self) -> Option<&CredentialId> {
        match self {
            Self::Apply { .. } => None,
            Self::Change { key, .. } | Self::Revoke { key, .. } => Some(key),
        }
    }

    /// The terms it asks for; a revocation asks for none.
    pub fn terms(&self) -> Option<&Terms> {
        match self {
            Self::Apply { terms, .. } | Self::Change { terms, .. } => Some(terms),
            Self::Revoke { .. } => None,
        }
    }

    /// The day from which what it asks for holds.
    pub fn effective_date(&self) -> Date {
        match self {
            Self::Apply { terms, .. } | Self::Change { terms, .. } => terms.effective_date,
            Self::Revoke { effective_date, .. } => *effective_date,
        }
    }

    /// Why it is asked for.
    pub fn description(&self) -> &str {
        match self {
            Self::Apply { terms, .. } | Self::Change { terms, .. } => &terms.description,
            Self::Revoke { description, .. } => description,
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

/// Why a form cannot be kept or cannot move on; [`FieldFault::field`] names the field at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FieldFault {
    /// A required field is missing or blank.
    #[error("`{0}` is missing: it is required and must not be blank")]
    Missing(&'static str),
    /// A field that this kind of form does not have.
    #[error("`{field}` does not belong on a {kind} form ({}): leave it out", kind.label())]
    NotOnThisForm {
        /// Which field.
        field: &'static str,
        /// The form's kind.
        kind: FormKind,
    },
    /// A text is too long.
    #[error("`{field}` has {chars} characters; at most {max} are allowed")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// How many were given.
        chars: usize,
        /// How many may be.
        max: usize,
    },
    /// Characters that have no place in a text that is shown and mailed.
    #[error("`{0}` contains a control character; only printable text is allowed")]
    ControlCharacter(&'static str),
    /// Not a day of the calendar.
    #[error("`{field}` is `{given}`, which is not a date: write it as yyyy-MM-dd, for example 2026-07-14")]
    NotADate {
        /// Which field.
        field: &'static str,
        /// What was given.
        given: String,
    },
    /// The expiry lies before the effective date.
    #[error("`expiry_date` {expiry} lies before `effective_date` {effective}: it must be that day or later")]
    ExpiryBeforeEffective {
        /// As given.
        effective: Date,
        /// As given.
        expiry: Date,
    },
    /// The effective date lies in the past.
    #[error("`effective_date` {effective} lies in the past: today is {today}; choose today or later")]
    EffectiveInThePast {
        /// As given.
        effective: Date,
        /// In the installation's zone.
        today: Date,
    },
    /// The expiry lies in the past.
    #[error("`expiry_date` {expiry} has passed: today is {today}, so the key would never be accepted")]
    Expired {
        /// As given.
        expiry: Date,
        /// In the installation's zone.
        today: Date,
    },
    /// Neither -1 nor within the bounds.
    #[error("`quota` is {0}: it must be -1 (unlimited) or from 1 to {MAX_QUOTA}")]
    QuotaOutOfRange(i64),
    /// No API chosen.
    #[error("`apis` is empty: choose at least one API")]
    NoApis,
    /// More than [`MAX_APIS`].
    #[error("`apis` lists {0} APIs; at most {MAX_APIS} are allowed")]
    TooManyApis(usize),
    /// The same API twice.
    #[error("`apis` lists `{0}` twice")]
    ApiTwice(ApiUid),
    /// No such API.
    #[error("`apis` lists `{0}`, which is not registered: look it up under /api/v1/apis")]
    UnknownApi(ApiUid),
    /// No such client.
    #[error("`client` is `{0}`, which does not exist: look it up under /api/v1/clients")]
    UnknownClient(ClientId),
    /// The client may not call, so a key would be of no use.
    #[error("the client `{client}` is {status}: only an active client can have a key; activate it first")]
    ClientNotActive {
        /// Which client.
        client: ClientId,
        /// Its status in words.
        status: &'static str,
    },
    /// The credentials could not be delivered.
    #[error(
        "the client `{0}` has no e-mail address, and credentials are mailed to the client: \
         add an address to the client, or set `credential_recipients` otherwise"
    )]
    NoAddress(ClientId),
    /// The credentials could not be delivered.
    #[error(
        "the applicant has no e-mail address, and credentials are mailed to the applicant: \
         have an address entered for the operator, or set `credential_recipients` otherwise"
    )]
    NoApplicantAddress,
    /// No such key.
    #[error("`key` is `{0}`, which does not exist: look it up under /api/v1/keys")]
    UnknownKey(CredentialId),
    /// The key has been revoked.
    #[error(
        "the key `{0}` has been revoked: it can be neither changed nor revoked again; apply for a new one"
    )]
    KeyRevoked(CredentialId),
    /// Another change or revoke form for the key is under way.
    #[error("the form {form} for the key `{key}` is still under way: wait for its end or withdraw it first")]
    KeyHasOpenForm {
        /// Which key.
        key: CredentialId,
        /// The other form's number.
        form: String,
    },
}

impl FieldFault {
    /// The field at fault, as the API names it.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Missing(field) | Self::ControlCharacter(field) => field,
            Self::NotOnThisForm { field, .. }
            | Self::TooLong { field, .. }
            | Self::NotADate { field, .. } => field,
            Self::ExpiryBeforeEffective { .. } | Self::Expired { .. } => "expiry_date",
            Self::EffectiveInThePast { .. } => "effective_date",
            Self::QuotaOutOfRange(_) => "quota",
            Self::NoApis | Self::TooManyApis(_) | Self::ApiTwice(_) | Self::UnknownApi(_) => "apis",
            Self::UnknownClient(_) | Self::ClientNotActive { .. } | Self::NoAddress(_) => "client",
            Self::NoApplicantAddress => "applicant",
            Self::UnknownKey(_) | Self::KeyRevoked(_) | Self::KeyHasOpenForm { .. } => "key",
        }
    }
}

fn check_key(key: &CredentialId, world: &World) -> Result<(), FieldFault> {
    let facts = world.key.as_ref().ok_or_else(|| FieldFault::UnknownKey(key.clone()))?;
    if facts.revoked {
        return Err(FieldFault::KeyRevoked(key.clone()));
    }
    match &facts.open_form {
        Some(form) => Err(FieldFault::KeyHasOpenForm { key: key.clone(), form: form.clone() }),
        None => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date as day;

    fn apply() -> Fields {
        Fields {
            client: Some("acme".into()),
            name: Some("orders".into()),
            effective_date: Some("2026-07-14".into()),
            expiry_date: Some("2026-07-14".into()),
            quota: Some(-1),
            description: Some("to order".into()),
            apis: Some(vec!["api_1".into()]),
            ..Fields::default()
        }
    }

    fn change() -> Fields {
        Fields { client: None, key: Some("key_1".into()), ..apply() }
    }

    fn revoke() -> Fields {
        Fields {
            key: Some("key_1".into()),
            effective_date: Some("2026-07-14".into()),
            description: Some("no longer needed".into()),
            ..Fields::default()
        }
    }

    fn parse(kind: FormKind, fields: Fields) -> Result<Form, FieldFault> {
        let owner = fields.key.as_ref().filter(|key| *key == "key_1").map(|_| ClientId::from("acme"));
        Form::parse(kind, fields, owner)
    }

    fn world() -> World {
        World {
            today: day(2026, 7, 14),
            client: Some(ClientFacts { active: true, status: "active", has_email: true }),
            key: Some(KeyFacts { revoked: false, open_form: None }),
            known_apis: BTreeSet::from([ApiUid::from("api_1")]),
            client_gets_credentials: true,
            applicant_out_of_reach: false,
        }
    }

    #[test]
    fn both_sides_of_every_edge_of_the_fields() {
        fn check(what: &str, expected: Result<(), &str>, edit: impl FnOnce(&mut Fields)) {
            let mut fields = apply();
            edit(&mut fields);
            let found = parse(FormKind::Apply, fields);
            assert_eq!(found.as_ref().map(|_| ()).map_err(FieldFault::field), expected, "{what}: {found:?}");
        }
        check("as it should be", Ok(()), |_| ());
        check("no client", Err("client"), |f| f.client = None);
        check("blank client", Err("client"), |f| f.client = Some("  ".into()));
        check("a key", Err("key"), |f| f.key = Some("key_1".into()));
        check("reset of nothing", Err("reset_usage"), |f| f.reset_usage = Some(false));
        check("no name", Err("name"), |f| f.name = None);
        check("blank name", Err("name"), |f| f.name = Some(" \t".into()));
        check("255 characters", Ok(()), |f| f.name = Some("ü".repeat(255)));
        check("256 characters", Err("name"), |f| f.name = Some("ü".repeat(256)));
        check("a line break in the name", Err("name"), |f| f.name = Some("a\nb".into()));
        check("no description", Err("description"), |f| f.description = None);
        check("empty description", Err("description"), |f| f.description = Some(String::new()));
        check("one character", Ok(()), |f| f.description = Some("x".into()));
        check("500 characters", Ok(()), |f| f.description = Some("x".repeat(500)));
        check("501 characters", Err("description"), |f| f.description = Some("x".repeat(501)));
        check("lines", Ok(()), |f| f.description = Some("a\nb".into()));
        check("a NUL", Err("description"), |f| f.description = Some("a\0b".into()));
        check("no effective date", Err("effective_date"), |f| f.effective_date = None);
        for wrong in ["2026-02-30", "2026/07/14", "20260714", "2026-7-14", "2026-07-14T00:00", "today"] {
            check(wrong, Err("effective_date"), |f| f.effective_date = Some(wrong.into()));
        }
        check("no expiry", Err("expiry_date"), |f| f.expiry_date = None);
        check("expiry before", Err("expiry_date"), |f| f.expiry_date = Some("2026-07-13".into()));
        check("no quota", Err("quota"), |f| f.quota = None);
        for (quota, expected) in [
            (i64::MIN, Err("quota")),
            (-2, Err("quota")),
            (-1, Ok(())),
            (0, Err("quota")),
            (1, Ok(())),
            (2_147_483_647, Ok(())),
            (2_147_483_648, Err("quota")),
        ] {
            check(&format!("quota {quota}"), expected, |f| f.quota = Some(quota));
        }
        check("no apis", Err("apis"), |f| f.apis = None);
        check("empty apis", Err("apis"), |f| f.apis = Some(vec![]));
        check("an api twice", Err("apis"), |f| f.apis = Some(vec!["a".into(), "a".into()]));
        let many = |count: usize| Some((0..count).map(|n| format!("api_{n}")).collect::<Vec<_>>());
        check("1,000 apis", Ok(()), |f| f.apis = many(MAX_APIS));
        check("1,001 apis", Err("apis"), |f| f.apis = many(MAX_APIS + 1));
    }

    #[test]
    fn forms_about_a_key_take_their_client_from_it() {
        let form = parse(FormKind::Change, change()).expect("a change");
        assert_eq!(form.client(), &ClientId::from("acme"));
        let form = parse(FormKind::Revoke, revoke()).expect("a revocation");
        assert_eq!((form.client(), form.terms()), (&ClientId::from("acme"), None));
        for kind in [FormKind::Change, FormKind::Revoke] {
            let fields = if kind == FormKind::Change { change() } else { revoke() };
            let no_key = Fields { key: None, ..fields.clone() };
            assert_eq!(parse(kind, no_key), Err(FieldFault::Missing("key")));
            let unknown = Fields { key: Some("key_2".into()), ..fields.clone() };
            assert_eq!(parse(kind, unknown), Err(FieldFault::UnknownKey("key_2".into())));
            let client = Fields { client: Some("acme".into()), ..fields };
            assert_eq!(parse(kind, client), Err(FieldFault::NotOnThisForm { field: "client", kind }));
        }
        let with_quota = Fields { quota: Some(5), ..revoke() };
        let fault = parse(FormKind::Revoke, with_quota).expect_err("a revocation has no quota");
        assert_eq!(
            fault.to_string(),
            "`quota` does not belong on a KR form (API key revocation): leave it out"
        );
    }

    #[test]
    fn the_world_is_asked_at_each_step() {
        fn check(
            what: &str,
            form: &Form,
            moment: Moment,
            expected: Result<(), &str>,
            edit: impl FnOnce(&mut World),
        ) {
            let mut world = world();
            edit(&mut world);
            let found = form.check(&world, moment);
            assert_eq!(found.clone().map_err(|fault| fault.field()), expected, "{what}: {found:?}");
        }
        use Moment::{Filing, Signing};
        let apply = parse(FormKind::Apply, apply()).expect("an application");
        let change = parse(FormKind::Change, change()).expect("a change");
        let revoke = parse(FormKind::Revoke, revoke()).expect("a revocation");
        let longer = {
            let Form::Apply { client, terms } = apply.clone() else { panic!("an application") };
            Form::Apply { client, terms: Terms { expiry_date: day(2026, 7, 20), ..terms } }
        };
        for form in [&apply, &change, &revoke] {
            for moment in [Filing, Signing] {
                check("fine", form, moment, Ok(()), |_| ());
                check("client gone", form, moment, Err("client"), |w| w.client = None);
            }
            check("yesterday's", form, Filing, Err("effective_date"), |w| w.today = day(2026, 7, 15));
        }
        check("effective passed in review", &longer, Signing, Ok(()), |w| w.today = day(2026, 7, 15));
        check("last day", &longer, Signing, Ok(()), |w| w.today = day(2026, 7, 20));
        check("expired in review", &longer, Signing, Err("expiry_date"), |w| w.today = day(2026, 7, 21));
        check("late revocation", &revoke, Signing, Ok(()), |w| w.today = day(2027, 1, 1));
        let idle = |w: &mut World| w.client.as_mut().expect("a client").active = false;
        check("inactive client", &apply, Filing, Err("client"), idle);
        check("inactive client", &change, Signing, Err("client"), idle);
        check("an inactive client's key can be revoked", &revoke, Signing, Ok(()), idle);
        let silent = |w: &mut World| w.client.as_mut().expect("a client").has_email = false;
        check("no address", &apply, Filing, Err("client"), silent);
        check("no secret to send", &change, Filing, Ok(()), silent);
        check("sent elsewhere", &apply, Filing, Ok(()), |w| {
            silent(w);
            w.client_gets_credentials = false;
        });
        let lonely = |w: &mut World| w.applicant_out_of_reach = true;
        check("applicant without address", &apply, Filing, Err("applicant"), lonely);
        check("no secret to send", &revoke, Filing, Ok(()), lonely);
        check("unknown api", &apply, Filing, Err("apis"), |w| w.known_apis.clear());
        check("api removed in review", &change, Signing, Err("apis"), |w| w.known_apis.clear());
        for form in [&change, &revoke] {
            check("no key", form, Filing, Err("key"), |w| w.key = None);
            check("revoked", form, Signing, Err("key"), |w| w.key.as_mut().expect("a key").revoked = true);
            check("other form", form, Filing, Err("key"), |w| {
                w.key.as_mut().expect("a key").open_form = Some("KU-20260714-0001".into());
            });
        }
    }
}
