//! Send a mail again, or not at all.

use gate::time::UnixMillis;
use serde_json::json;

use super::super::actions::purpose;
use super::super::model::{CANCELLED, Mail, MailState};
use super::super::store::{self, NewRow};
use super::model::reissue;
use crate::app::App;
use crate::audit;
use crate::db::DbError;

/// Why a mail in the log could not be acted on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No such mail.
    #[error("there is no mail {id}")]
    NotFound {
        /// As asked for.
        id: String,
    },
    /// It held a secret, which is gone for good.
    #[error("mail {id} held a secret, which is not kept: {instead} instead")]
    SecretErased {
        /// Which one.
        id: String,
        /// What to do.
        instead: String,
    },
    /// It held a secret that ended before it went.
    #[error(
        "mail {id} held a secret that is no longer in force: its `error` says why, and nothing is to be sent"
    )]
    SecretWithdrawn {
        /// Which one.
        id: String,
    },
    /// It has not ended yet.
    #[error("mail {id} is still on its way: it is tried again without anybody's doing")]
    StillPending {
        /// Which one.
        id: String,
    },
    /// It does not wait.
    #[error("mail {id} is {state} and no longer waits: there is nothing to take back")]
    NotWaiting {
        /// Which one.
        id: String,
        /// Where it stands.
        state: &'static str,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Writes a mail that was sent or given up once more, as a new one.
pub async fn resend(app: &App, id: &str, by: &str, now: UnixMillis) -> Result<Mail, LogError> {
    let mut tx = app.db.write("mail.resend").await?;
    let not_found = || LogError::NotFound { id: id.into() };
    let old = store::by_id(&mut tx, id).await?.ok_or_else(not_found)?;
    // One that waits still has its secret.
    if old.state.is_pending() {
        return Err(LogError::StillPending { id: id.into() });
    }
    if old.template.carries_secret() {
        return Err(match reissue(&old) {
            Some(instead) => LogError::SecretErased { id: id.into(), instead },
            None => LogError::SecretWithdrawn { id: id.into() },
        });
    }
    let context = store::masked_context(&mut tx, id).await?.ok_or_else(not_found)?;
    let new = app.random.id("ml");
    store::insert(
        &mut tx,
        &NewRow {
            id: &new,
            template: old.template,
            language: old.language,
            recipient: &old.recipient,
            about: &old.about,
            subject: &old.subject,
            body_masked: &old.body_masked,
            context_sealed: &app.vault.seal(&purpose(&new), context.as_bytes()),
            context_masked: &context,
            not_before: now,
            now,
        },
    )
    .await?;
    let written = store::by_id(&mut tx, &new).await?.ok_or_else(not_found)?;
    let entry = audit::Entry {
        actor: by.into(),
        action: "mail.resend",
        subject: format!("mail:{new}"),
        detail: json!({ "of": id, "template": old.template.name() }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(written)
}

/// Ends a mail that waits, so that it is never sent; what it held is erased.
pub async fn cancel(app: &App, id: &str, by: &str, now: UnixMillis) -> Result<Mail, LogError> {
    let mut tx = app.db.write("mail.cancel").await?;
    let not_found = || LogError::NotFound { id: id.into() };
    if !store::cancel(&mut tx, id, &format!("{CANCELLED}{by}"), now).await? {
        let mail = store::by_id(&mut tx, id).await?.ok_or_else(not_found)?;
        return Err(LogError::NotWaiting { id: id.into(), state: mail.state.name() });
    }
    let mail = store::by_id(&mut tx, id).await?.ok_or_else(not_found)?;
    debug_assert_eq!(mail.state, MailState::Failed { failed_at: now });
    let entry = audit::Entry {
        actor: by.into(),
        action: "mail.cancel",
        subject: format!("mail:{id}"),
        detail: json!({ "template": mail.template.name(), "about": mail.about }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(mail)
}
