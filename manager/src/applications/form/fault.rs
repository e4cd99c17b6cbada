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
    /// What a new client's form would refuse too.
    #[error("`{}`: {fault}", fault.field)]
    Registration {
        /// What it says.
        fault: Fault,
    },
    /// Another client has the name.
    #[error(
        "`{field}`: Client {} duplicated: a client with the {} `{name}` exists; choose another, or ask a \
         reviewer to return the form so that another can be chosen",
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
        "the key `{0}` has been revoked: it can be neither changed nor revoked again; withdraw or reject \
         the form, and apply for a new key if one is needed"
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

impl From<Fault> for FieldFault {
    fn from(fault: Fault) -> Self {
        Self::Registration { fault }
    }
}

impl FieldFault {
    /// The field at fault, as the API names it.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Missing(field) | Self::ControlCharacter(field) => field,
            Self::NotOnThisForm { field, .. }
            | Self::TooLong { field, .. }
            | Self::NotADate { field, .. } => field,
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
