//! Why something could not be done with a form.

use thiserror::Error;

use super::bounds::{MAX_OPEN, MAX_SUBMISSIONS};
use super::form::FieldFault;
use super::model::{MAX_COMMENT_CHARS, Refusal};
use crate::approvals::FormKind;
use crate::approvals::signers::Shortage;
use crate::clients::ClientError;
use crate::db::DbError;
use crate::keys::{KeyError, TermsError};
use crate::mail::MailError;

/// Why something could not be done with a form.
#[derive(Debug, Error)]
pub enum ApplicationError {
    /// No such form, or none that the caller may see.
    #[error("there is no form `{0}` that you may see")]
    NotFound(String),
    /// A field is at fault.
    #[error(transparent)]
    Field(#[from] FieldFault),
    /// The same in the words of those who cannot change it.
    #[error("{detail}")]
    Reworded {
        /// Which.
        fault: FieldFault,
        /// In words.
        detail: String,
    },
    /// The action may not be.
    #[error("{refusal}{}", told(happened))]
    Refused {
        /// Why not.
        refusal: Refusal,
        /// What last happened to the form, as a sentence.
        happened: String,
    },
    /// The form is not the one that the caller has seen.
    #[error(
        "you acted on version {seen} of the form, but it is now version {present}{}: \
         read it again, then decide",
        told(happened)
    )]
    Changed {
        /// The version that the caller named.
        seen: i64,
        /// The version that there is.
        present: i64,
        /// What last happened to the form, as a sentence.
        happened: String,
    },
    /// A reviewer did not say which version was seen.
    #[error(
        "a review says which version of the form was seen: repeat it with the header \
         If-Match and the ETag of the form that you read"
    )]
    VersionMissing,
    /// Nobody has said who signs such forms.
    #[error(
        "no approval flow is configured for {kind} forms ({}), so nobody could sign this one: \
         an administrator configures it with PUT /api/v1/approval-flows/{kind}; the draft is kept",
        kind.label()
    )]
    NoFlow {
        /// The kind of the form.
        kind: FormKind,
    },
    /// Such forms are for others.
    #[error(
        "`type` is {kind} ({}), which a {applicant} cannot file: {}",
        kind.label(), filed_instead(applicant)
    )]
    NotFiledBy {
        /// The kind of the form.
        kind: FormKind,
        /// The kind of who filed it.
        applicant: &'static str,
    },
    /// Not every level finds somebody who could sign it.
    #[error(
        "the form finds no signers, so it was not submitted: {shortage}; an administrator gives somebody the role, or \
         names other roles with PUT /api/v1/approval-flows/{kind}"
    )]
    NoSigner {
        /// The kind of the form.
        kind: FormKind,
        /// What is missing.
        shortage: Shortage,
    },
    /// The same as those are told who are not to know who signs.
    #[error(
        "the form finds no signers at present, so it was not submitted: ask those who run this installation, \
         then submit it again"
    )]
    NoSignerAtPresent,
    /// An address was changed between the submission and an approval.
    #[error(
        "the credentials of the key would not go where they were to go when the form was submitted: an address of \
         the client or the applicant, or the setting `credential_recipients`, has changed since. Return the form, so \
         that its applicant submits it again with the new addresses, or have the former ones restored \
         (`credentials_go_to` of the form lists them)"
    )]
    CredentialsRedirected,
    /// A client or visitor has as many as it may have.
    #[error(
        "you have {MAX_OPEN} forms that are not ended, which is as many as may be: withdraw or delete one, or wait \
         for the end of one, then file another"
    )]
    TooManyOpen,
    /// A client or visitor has handed in as many as it may.
    #[error(
        "you have handed in forms {MAX_SUBMISSIONS} times within 24 hours, which is as often as may be: wait"
    )]
    TooManySubmissions,
    /// A client or visitor has edited a form as often as it may.
    #[error(
        "the form has {max} versions and is edited no more: hand it in as it is, or withdraw it and file \
         another"
    )]
    TooManyVersions {
        /// As many as it may have.
        max: i64,
    },
    /// The comment is too long.
    #[error("`comment` has {chars} characters; at most {MAX_COMMENT_CHARS} are allowed")]
    CommentTooLong {
        /// How many were given.
        chars: usize,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A mail about the form could not be written.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The key could not be issued, changed or revoked.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The client could not be made.
    #[error(transparent)]
    Client(ClientError),
}

impl ApplicationError {
    /// As clients and visitors are told it, to whom reviewers have no names: what happened to the
    /// form they read in its history.
    pub fn without_names(self) -> Self {
        let happened = String::new();
        match self {
            Self::Refused { refusal, .. } => Self::Refused { refusal, happened },
            Self::Changed { seen, present, .. } => Self::Changed { seen, present, happened },
            Self::NoSigner { .. } => Self::NoSignerAtPresent,
            Self::Field(fault) => match fault.to_client() {
                Some(detail) => Self::Reworded { fault, detail },
                None => Self::Field(fault),
            },
            other => other,
        }
    }
}

impl ApplicationError {
    /// As a reviewer is told it, who cannot change the form.
    pub(super) fn for_reviewers(self) -> Self {
        match self {
            Self::Field(fault) => Self::Reworded { detail: fault.to_reviewer(), fault },
            other => other,
        }
    }
}

impl From<ClientError> for ApplicationError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Invalid(fault) => FieldFault::from(fault).into(),
            // Made by somebody else since the form's rules were asked.
            ClientError::NameTaken { name } => FieldFault::NameTaken { field: "name", name }.into(),
            ClientError::DisplayNameTaken { name } => {
                FieldFault::NameTaken { field: "display_name", name }.into()
            }
            ClientError::Mail(error) => error.into(),
            ClientError::Db(error) => error.into(),
            other => Self::Client(other),
        }
    }
}

impl From<TermsError> for ApplicationError {
    fn from(error: TermsError) -> Self {
        Self::Key(error.into())
    }
}

fn filed_instead(applicant: &str) -> &'static str {
    match applicant {
        "client" => "a client applies for, changes and revokes keys of its own (KA, KU, KR)",
        _ => "ask an operator to file it",
    }
}

fn told(happened: &str) -> String {
    if happened.is_empty() { String::new() } else { format!(" ({happened})") }
}
