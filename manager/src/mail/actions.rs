//! Write a mail, and take it back.

use gate::time::UnixMillis;
use zeroize::Zeroizing;

use super::contexts::MailContext;
use super::log;
use super::model::{About, Recipient};
use super::store::{self, NewRow};
use super::templates::{Template, render};
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::schedule::{self, BATCH, Outcome, Task};

/// Bytes of a mail's text that the log keeps; the mail itself goes out whole.
pub const MAX_LOGGED_BYTES: usize = 64 << 10;

/// A mail to be written, one row per recipient.
#[derive(Clone, Debug)]
pub struct NewMail<C> {
    /// Each gets a mail of its own; an address that is named twice gets a single one.
    pub recipients: Vec<Recipient>,
    /// What is printed; its type names the template.
    pub context: C,
    /// Not sent before.
    pub not_before: UnixMillis,
    /// What it is about, for the log.
    pub about: About,
}

/// Why a mail could not be written.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// A template does not print its context: a defect of this program.
    #[error("template {template}: {reason}")]
    Template {
        /// Which one.
        template: &'static str,
        /// What it stumbled on.
        reason: String,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Writes `mail` into the outbox, within the caller's transaction. Returns the new ids. Without
/// recipients nothing is written.
pub async fn enqueue<C: MailContext>(
    conn: &mut Conn,
    app: &App,
    mail: NewMail<C>,
    now: UnixMillis,
) -> Result<Vec<String>, MailError> {
    let unprintable = |reason: String| MailError::Template { template: C::TEMPLATE.name(), reason };
    let json = |context: &C| serde_json::to_string(context).map_err(|error| unprintable(error.to_string()));
    let masked = mail.context.masked();
    let context = Zeroizing::new(json(&mail.context)?);
    let context_masked = json(&masked)?;

    let recipients = each_once(mail.recipients);
    let mut ids = Vec::with_capacity(recipients.len());
    for recipient in &recipients {
        let language = recipient.language.unwrap_or(app.config.mail_language);
        // The mail itself is printed when it is sent; printing it here too would only find out
        // sooner what a test has found out already. The log's copy is needed now, while masking is
        // possible.
        let log_copy = render(&app.config, C::TEMPLATE, language, &masked)
            .map_err(|error| unprintable(error.to_string()))?;
        let logged = cut(log_copy.text);
        let id = app.random.id("ml");
        store::insert(
            conn,
            &NewRow {
                id: &id,
                template: C::TEMPLATE,
                language,
                recipient: &recipient.address,
                about: &mail.about,
                subject: &log_copy.subject,
                body_masked: &logged,
                context_sealed: &app.vault.seal(&purpose(&id), context.as_bytes()),
                context_masked: &context_masked,
                not_before: mail.not_before,
                now,
            },
        )
        .await?;
        ids.push(id);
    }
    Ok(ids)
}

/// Each address once. One who asked for a language stands for the same one who did not.
pub fn each_once(mut recipients: Vec<Recipient>) -> Vec<Recipient> {
    recipients.sort_by(|a, b| a.address.cmp(&b.address).then(b.language.cmp(&a.language)));
    recipients.dedup_by(|a, b| a.address == b.address);
    recipients
}

/// Takes back what a mail that has not gone yet would hand over, within the transaction that ends
/// it: the mails of that template about that thing fail, and their secrets are erased. One that a
/// worker is sending at the moment may still arrive; it is not tried again.
pub async fn withdraw(
    conn: &mut Conn,
    about: &About,
    template: Template,
    why: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    store::withdraw(conn, about, template, why, now).await
}

/// What the context of a mail is sealed for.
pub(super) fn purpose(id: &str) -> String {
    format!("mail.context:{id}")
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_LOGGED_BYTES {
        text.truncate(text.floor_char_boundary(MAX_LOGGED_BYTES));
        text.push_str("\n[… cut here: the mail itself went out whole]\n");
    }
    text
}

/// Mails that were sent or given up `mail_log_retention_days` ago leave the log.
pub(super) async fn forget(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    const DAY_MS: i64 = 86_400_000;
    let kept_ms = i64::from(app.config.mail_log_retention_days).saturating_mul(DAY_MS);
    let before = UnixMillis(app.now().0.saturating_sub(kept_ms));
    let deleted = log::purge_before(conn, before, BATCH).await?;
    Ok(schedule::forgotten(task, deleted, BATCH, "mails"))
}
