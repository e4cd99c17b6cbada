//! What the log is searched by, and what it knows of attempts.

use gate::time::UnixMillis;

use super::super::model::{About, Mail};
use super::super::templates::Template;

/// Which mails a list shows; absent: all.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// `waiting`, `sending`, `sent`, `failed`.
    pub state: Option<String>,
    /// Name of a template.
    pub template: Option<String>,
    /// The whole address; a to z in whatever case.
    pub recipient: Option<String>,
    /// What it is about.
    pub about: Option<About>,
    /// Written at this instant or later.
    pub from: Option<UnixMillis>,
    /// Written at this instant or earlier.
    pub to: Option<UnixMillis>,
    /// In the subject; a to z in whatever case.
    pub keyword: Option<String>,
    /// Written before this one: instant and id.
    pub before: Option<(UnixMillis, String)>,
}

/// One server's part of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastAttempt {
    /// Number of the attempt, from 1.
    pub attempt: i64,
    /// `host:port` or a folder; empty where nobody said.
    pub server: String,
    /// How it ended: see the table.
    pub outcome: String,
    /// What the server said, or what went wrong in which step.
    pub answer: String,
    /// Begun.
    pub started_at: UnixMillis,
    /// Over.
    pub ended_at: UnixMillis,
}

/// The call that brings about again what a mail with a secret handed over; none where nothing is
/// secret (such a mail is sent again), or where the secret ended before the mail went.
pub fn reissue(mail: &Mail) -> Option<String> {
    if mail.was_withdrawn() {
        return None;
    }
    let id = &mail.about.id;
    match mail.template {
        Template::KeyCredentials => Some(format!(
            "have the same pair mailed again with POST /api/v1/keys/{id}/resend, or another secret with POST \
             /api/v1/keys/{id}/secrets,"
        )),
        Template::XApiKeyIssued => Some(format!(
            "issue another one with POST /api/v1/x-api-keys and end {id} with DELETE /api/v1/x-api-keys/{id}"
        )),
        Template::ClientCreated | Template::ClientPasswordReset => {
            Some(format!("mail another password with POST /api/v1/clients/{id}/password/reset"))
        }
        Template::RegistrationConfirmation => {
            Some("have the visitor ask for a client again, which mails another confirmation".into())
        }
        Template::ApplicationStep
        | Template::ApplicationResult
        | Template::ReviewWaiting
        | Template::ReviewStuck
        | Template::KeyChanged
        | Template::KeyExpiring
        | Template::CredentialsUndelivered
        | Template::QuotaReached
        | Template::XApiKeyExpiring
        | Template::TestMail => None,
    }
}
