//! A mail's way from written to sent or given up, and when it is tried again.

use gate::time::UnixMillis;
use serde::Serialize;

use super::templates::{Language, Template};
use crate::openapi::schema::schema_of;

/// How long one worker may be at one mail before another may take it: longer than both servers'
/// time-outs together.
pub const CLAIM_MS: i64 = 300_000;
/// Characters of an error that are kept.
pub const MAX_ERROR_CHARS: usize = 1_000;

/// What a mail is about, so that the log can be searched by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = MailAbout)]
pub struct About {
    /// `key`, `x_api_key`, `application`, `client`, `test`.
    pub kind: String,
    /// Its id.
    pub id: String,
}

impl About {
    /// The `id` of that `kind`.
    pub fn new(kind: &str, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }
}

/// To whom a mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// One mail address.
    pub address: String,
    /// The language they asked for; absent: the setting `mail_language`.
    pub language: Option<Language>,
}

impl From<String> for Recipient {
    fn from(address: String) -> Self {
        Self { address, language: None }
    }
}

/// One mail to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// `ml_…`.
    pub id: String,
    /// What prints it.
    pub template: Template,
    /// In which language.
    pub language: Language,
    /// To whom.
    pub recipient: String,
    /// About what.
    pub about: About,
    /// Secrets masked.
    pub subject: String,
    /// The plain text, secrets masked.
    pub body_masked: String,
    /// Where it stands.
    pub state: MailState,
    /// Attempts begun.
    pub attempts: u32,
    /// Those of them that ended without an answer.
    pub unanswered: u32,
    /// Some attempt ended without the server's answer: it may have arrived more than once.
    pub maybe_repeated: bool,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it was written.
    pub created_at: UnixMillis,
    /// When it was first to go out.
    pub due_at: UnixMillis,
}

/// What [`Mail::last_error`] of a mail that was taken back begins with.
pub(super) const WITHDRAWN: &str = "withdrawn: ";

/// What that of a mail begins with that an operator cancelled.
pub(super) const CANCELLED: &str = "cancelled by ";

impl Mail {
    /// What it would have handed over ended before it went.
    pub fn was_withdrawn(&self) -> bool {
        let told = self.last_error.as_deref().unwrap_or_default();
        matches!(self.state, MailState::Failed { .. }) && told.starts_with(WITHDRAWN)
    }
}

/// Where a mail stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailState {
    /// For its time, for a transport, or for the next attempt.
    Waiting {
        /// Not before.
        next_attempt_at: UnixMillis,
    },
    /// A worker is at it.
    Sending {
        /// If it has not said how it went by then, another may try.
        claimed_until: UnixMillis,
    },
    /// A server accepted it, or it is in the folder.
    Sent {
        /// When.
        sent_at: UnixMillis,
        /// By what.
        via: Via,
    },
    /// Given up: [`Mail::last_error`] says why.
    Failed {
        /// When.
        failed_at: UnixMillis,
    },
}

schema_of! { MailState: one_of(MailState::NAMES) }

impl MailState {
    /// Every [`MailState::name`].
    pub const NAMES: [&str; 4] = ["waiting", "sending", "sent", "failed"];

    /// As it stands in the table and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Sending { .. } => "sending",
            Self::Sent { .. } => "sent",
            Self::Failed { .. } => "failed",
        }
    }

    /// It may still be sent by itself.
    pub fn is_pending(self) -> bool {
        match self {
            Self::Waiting { .. } | Self::Sending { .. } => true,
            Self::Sent { .. } | Self::Failed { .. } => false,
        }
    }
}

/// What took a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MailVia)]
pub enum Via {
    /// The first SMTP server.
    Primary,
    /// The second SMTP server.
    Secondary,
    /// A folder.
    File,
}

impl Via {
    /// As it stands in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::File => "file",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Primary, Self::Secondary, Self::File].into_iter().find(|via| via.name() == name)
    }
}

/// Why an attempt at a mail failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No server could be asked: it has nothing to do with this mail.
    #[error("{0}")]
    Unavailable(String),
    /// Nothing was handed over; another attempt may succeed.
    #[error("{0}")]
    Retry(String),
    /// The server refused this mail for good (5xx), or it cannot be written.
    #[error("{0}")]
    Refused(String),
    /// The mail was handed over, and the answer never came: it may have been accepted.
    #[error("the server's answer was lost, the mail may have arrived: {0}")]
    AnswerLost(String),
}

impl SendError {
    /// What was found.
    pub fn text(&self) -> &str {
        match self {
            Self::Unavailable(text) | Self::Retry(text) | Self::Refused(text) | Self::AnswerLost(text) => {
                text
            }
        }
    }
}

/// At most [`MAX_ERROR_CHARS`] of it.
pub fn shortened(error: &str) -> String {
    error.chars().take(MAX_ERROR_CHARS).collect()
}
