//! Why a form cannot be kept or cannot move on.

use gate::id::{ApiUid, ClientId, CredentialId};
use jiff::civil::Date;
use thiserror::Error;

use super::{MAX_APIS, MAX_QUOTA};
use crate::approvals::FormKind;
use crate::clients::Fault;
use crate::operators::Email;

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
    /// The key would end before it begins.
    #[error(
        "`expiry_date` {expiry} lies before {begins}, the first day of the key: it must be that day or later; \
         a key that is not to begin at all is revoked"
    )]
    ExpiryBeforeKey {
        /// As given.
        expiry: Date,
        /// The key's effective date.
        begins: Date,
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
    #[error(
        "`expiry_date` {expiry} has passed: today is {today}, so the key would never be accepted; choose a later one"
    )]
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
    #[error("`apis` lists `{0}`, which is not registered: look it up under /api/v1/pickers/apis")]
    UnknownApi(ApiUid),
    /// No such client.
    #[error("`client` is `{0}`, which does not exist: look it up under /api/v1/pickers/clients")]
    UnknownClient(ClientId),
    /// What a new client's form would refuse too.
    #[error("`{}`: {fault}", fault.field)]
    Registration {
        /// What it says.
        fault: Fault,
    },
    /// Another client has the name.
    #[error(
        "`{field}`: Client {} duplicated: a client with the {} `{name}` exists; choose another",
        if *field == "name" { "code" } else { "name" },
        field.replace('_', " ")
    )]
    NameTaken {
        /// `name` or `display_name`.
        field: &'static str,
        /// Which name.
        name: String,
    },
    /// A visitor has shown that one address is theirs, and asks for a client of another.
    #[error(
        "`emails` does not begin with {}, the address that was confirmed: put it first; to ask with another one, \
         withdraw the form and ask anew with POST /client/v1/registrations",
        confirmed.as_str()
    )]
    NotConfirmed {
        /// The visitor's.
        confirmed: Email,
    },
    /// A form that was handed in once stays with its client, which follows it.
    #[error(
        "the form was handed in for the client `{client}` and stays with it: withdraw this one, and file another form \
         for another client"
    )]
    AnotherClient {
        /// Which field.
        field: &'static str,
        /// Whose form it is.
        client: ClientId,
    },
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
        "the key `{0}` has been revoked: it can be neither changed nor revoked again; apply for a new key if one \
         is needed"
    )]
    KeyRevoked(CredentialId),
    /// Another change or revoke form for the key is under way.
    #[error(
        "the form {form} for the key `{key}` is still under way, and one at a time may be: hand this one in after \
         its end, or after its applicant has withdrawn it"
    )]
    KeyHasOpenForm {
        /// Which key.
        key: CredentialId,
        /// The other form's number.
        form: String,
    },
}

impl From<Fault> for FieldFault {
    fn from(fault: Fault) -> Self {
        Self::Registration { fault }
    }
}

impl FieldFault {
    /// What a reviewer is told, who cannot change the form.
    pub fn to_reviewer(&self) -> String {
        match self {
            Self::UnknownApi(uid) => format!(
                "`apis` lists `{uid}`, an API that was deleted since: return the form, so that the applicant takes it \
                 off the list or chooses another"
            ),
            Self::Expired { expiry, today } => format!(
                "`expiry_date` {expiry} has passed: today is {today}; return the form, so that the applicant \
                 chooses a later one"
            ),
            Self::ExpiryBeforeKey { expiry, begins } => format!(
                "`expiry_date` {expiry} lies before {begins}, the first day of the key: return the form, so that \
                 the applicant chooses that day or a later one"
            ),
            Self::NameTaken { field, name } => format!(
                "`{field}`: a client with the {} `{name}` was made since: return the form, so that the applicant \
                 chooses another",
                field.replace('_', " ")
            ),
            Self::ClientNotActive { client, status } => format!(
                "the client `{client}` is {status}: only an active client can have a key; have it activated, or \
                 return or reject the form"
            ),
            Self::KeyRevoked(key) => format!(
                "the key `{key}` has been revoked: it can be neither changed nor revoked again; reject the form, \
                 and have a new key applied for if one is needed"
            ),
            _ => self.to_string(),
        }
    }

    /// Why what was approved could not be carried out when it was due, as the applicant is told.
    pub fn to_applicant(&self) -> String {
        match self {
            Self::UnknownApi(uid) => format!(
                "the form lists the API `{uid}`, which was deleted before the change was due: file another form \
                 without it"
            ),
            Self::Expired { expiry, today } => format!(
                "`expiry_date` {expiry} has passed: it was {today} when the change was due; file another form with \
                 a later one"
            ),
            _ => self.to_string(),
        }
    }

    /// What a client is told, who has no way to operators' pages. None: the same as everybody.
    pub fn to_client(&self) -> Option<String> {
        Some(match self {
            Self::UnknownApi(uid) => {
                format!("`apis` lists `{uid}`, which is not open to you: choose from GET /client/v1/apis")
            }
            Self::UnknownClient(client) => {
                format!("`client` is `{client}`, which is not you: leave it out, or name your own id")
            }
            Self::UnknownKey(key) => {
                format!("`key` is `{key}`, which is no key of yours: look it up under /client/v1/keys")
            }
            Self::ClientNotActive { status, .. } => format!(
                "you are {status}, and only an active client can have a key: ask those who run this installation"
            ),
            Self::NoAddress(_) => {
                "no e-mail address of yours is on file, and credentials are mailed to it: ask \
                                   those who run this installation to add one"
                    .to_owned()
            }
            _ => return None,
        })
    }

    /// The field at fault, as the API names it.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Missing(field) | Self::ControlCharacter(field) => field,
            Self::NotOnThisForm { field, .. }
            | Self::TooLong { field, .. }
            | Self::NotADate { field, .. }
            | Self::AnotherClient { field, .. } => field,
            Self::ExpiryBeforeEffective { .. } | Self::ExpiryBeforeKey { .. } | Self::Expired { .. } => {
                "expiry_date"
            }
            Self::EffectiveInThePast { .. } => "effective_date",
            Self::Registration { fault } => fault.field,
            Self::NameTaken { field, .. } => field,
            Self::QuotaOutOfRange(_) => "quota",
            Self::NoApis | Self::TooManyApis(_) | Self::ApiTwice(_) | Self::UnknownApi(_) => "apis",
            Self::UnknownClient(_) | Self::ClientNotActive { .. } | Self::NoAddress(_) => "client",
            Self::NotConfirmed { .. } => "emails",
            Self::NoApplicantAddress => "applicant",
            Self::UnknownKey(_) | Self::KeyRevoked(_) | Self::KeyHasOpenForm { .. } => "key",
        }
    }
}
