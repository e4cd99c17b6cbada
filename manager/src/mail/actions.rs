//! Write a mail, send what is due, send again.

use gate::time::UnixMillis;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::contexts::MailContext;
use super::health::without_addresses;
use super::model::{
    About, AfterFailure, CLAIM_MS, MAX_ATTEMPTS, Mail, Recipient, SendError, Via, after_failure,
};
use super::render::render;
use super::store::{self, Claimed, NewRow};
use super::template::Template;
use super::transport::{Letter, Transport};
use crate::app::App;
use crate::audit;
use crate::db::{Conn, DbError};
use crate::schedule::{self, BATCH, Outcome, Task};

/// Conversations with servers at the same time, per process.
const LANES: usize = 4;
/// Mails that one lane sends in one run; the next run goes on.
const MAILS_PER_LANE: usize = 64;

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

/// Why a mail could not be written or sent again.
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
    /// No such mail.
    #[error("there is no mail {id}")]
    NotFound {
        /// As asked for.
        id: String,
    },
    /// It held a secret, which is gone for good.
    #[error("mail {id} held a secret, which is not kept: issue the credential anew (or rotate it) instead")]
    SecretErased {
        /// Which one.
        id: String,
    },
    /// It has not ended yet.
    #[error("mail {id} is still on its way: it is tried again by itself")]
    StillPending {
        /// Which one.
        id: String,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What one run of the worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Accepted by a server, or in the folder.
    pub sent: usize,
    /// Failed for now.
    pub postponed: usize,
    /// Failed for good.
    pub given_up: usize,
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

    let mut recipients = mail.recipients;
    // One who asked for a language before the same one who did not.
    recipients.sort_by(|a, b| a.address.cmp(&b.address).then(b.language.cmp(&a.language)));
    recipients.dedup_by(|a, b| a.address == b.address);
    let mut ids = Vec::with_capacity(recipients.len());
    for recipient in &recipients {
        let language = recipient.language.unwrap_or(app.config.mail_language);
        // The mail itself is printed when it is sent; printing it here too would only find out
        // sooner what a test has found out already. The log's copy is needed now, while masking is
        // possible.
        let log_copy = render(&app.config, C::TEMPLATE, language, &masked)
            .map_err(|error| unprintable(error.to_string()))?;
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
                body_masked: &log_copy.text,
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

/// Sends what is due now. Run by the job `mail`; any number of processes may run it at once.
pub async fn deliver_due(app: &App, transport: &Transport) -> Result<Delivered, DbError> {
    if matches!(transport, Transport::None) {
        return Ok(Delivered::default());
    }
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        lanes.spawn(lane(app.clone(), transport.clone()));
    }
    let mut all = Delivered::default();
    while let Some(lane) = lanes.join_next().await {
        let did = lane.expect("a lane neither panics nor is cancelled")?;
        all.sent += did.sent;
        all.postponed += did.postponed;
        all.given_up += did.given_up;
    }
    Ok(all)
}

async fn lane(app: App, transport: Transport) -> Result<Delivered, DbError> {
    let mut did = Delivered::default();
    for _ in 0..MAILS_PER_LANE {
        let now = app.now();
        let mut tx = app.db.write("mail.claim").await?;
        let claimed =
            store::claim(&mut tx, &app.random.id("mc"), UnixMillis(now.0.saturating_add(CLAIM_MS)), now)
                .await?;
        tx.commit().await?;
        let Some(claimed) = claimed else { break };
        attempt(&app, &transport, &claimed, &mut did).await?;
    }
    Ok(did)
}

async fn attempt(
    app: &App,
    transport: &Transport,
    claimed: &Claimed,
    did: &mut Delivered,
) -> Result<(), DbError> {
    let mail = &claimed.mail;
    let outcome = match letter_of(app, claimed) {
        // Earlier attempts ended without a word (the process was killed): not for ever.
        _ if mail.attempts > MAX_ATTEMPTS => {
            Err(SendError::AnswerLost(format!("{MAX_ATTEMPTS} attempts ended without an answer")))
        }
        Ok(rendered) => {
            let letter = Letter {
                id: &mail.id,
                recipient: &mail.recipient,
                rendered: &rendered,
                written_at: mail.created_at,
            };
            transport.send(&letter).await
        }
        Err(unprintable) => Err(unprintable),
    };

    let now = app.now();
    let mut tx = app.db.write("mail.attempted").await?;
    let error = outcome.as_ref().err().map(|error| without_addresses(&error.to_string()));
    let via = outcome.as_ref().copied().unwrap_or(Via::Primary);
    if let Some(address) = transport.address(via) {
        store::server_fared(&mut tx, &address, error.as_deref(), now).await?;
    }
    let still_ours = match outcome {
        Ok(via) => {
            did.sent += 1;
            store::sent(&mut tx, &mail.id, &claimed.claim, via, now).await?
        }
        Err(error) => {
            let lost = matches!(error, SendError::AnswerLost(_));
            let told = error.to_string();
            match after_failure(mail.attempts, &error, now) {
                AfterFailure::TryAgain { at } => {
                    did.postponed += 1;
                    tracing::warn!(
                        mail.id,
                        attempts = mail.attempts,
                        "A mail could not be sent and waits for another attempt"
                    );
                    store::waits_again(&mut tx, &mail.id, &claimed.claim, at, &told, lost).await?
                }
                AfterFailure::GiveUp => {
                    did.given_up += 1;
                    tracing::warn!(
                        mail.id,
                        attempts = mail.attempts,
                        "A mail was given up: the mail log has the reason"
                    );
                    store::given_up(&mut tx, &mail.id, &claimed.claim, &told, lost, now).await?
                }
            }
        }
    };
    tx.commit().await?;
    if !still_ours {
        tracing::warn!(
            mail.id,
            "A mail was withdrawn, or taken over after its claim, while it was being sent: it may arrive all the same"
        );
    }
    Ok(())
}

fn letter_of(app: &App, claimed: &Claimed) -> Result<super::render::Rendered, SendError> {
    let mail = &claimed.mail;
    let context = app
        .vault
        .open(&purpose(&mail.id), &claimed.context_sealed)
        .map_err(|error| SendError::Retry(format!("the sealed context does not open: {error}")))?;
    let context: Value = serde_json::from_slice(&context)
        .map_err(|_| SendError::Refused("the context is not the JSON that was sealed".into()))?;
    render(&app.config, mail.template, mail.language, &context)
        .map_err(|error| SendError::Refused(format!("template {}: {error}", mail.template.name())))
}

/// Writes a mail that was sent or given up once more, as a new one.
pub async fn resend(app: &App, id: &str, by: &str, now: UnixMillis) -> Result<Mail, MailError> {
    let mut tx = app.db.write("mail.resend").await?;
    let not_found = || MailError::NotFound { id: id.into() };
    let old = store::by_id(&mut tx, id).await?.ok_or_else(not_found)?;
    if old.template.carries_secret() {
        return Err(MailError::SecretErased { id: id.into() });
    }
    if old.state.is_pending() {
        return Err(MailError::StillPending { id: id.into() });
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

/// What the context of a mail is sealed for.
fn purpose(id: &str) -> String {
    format!("mail.context:{id}")
}

/// Mails that were sent or given up `mail_log_retention_days` ago leave the log.
pub(super) async fn forget(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    const DAY_MS: i64 = 86_400_000;
    let kept_ms = i64::from(app.config.mail_log_retention_days).saturating_mul(DAY_MS);
    let before = UnixMillis(app.now().0.saturating_sub(kept_ms));
    let deleted = store::forget(conn, before, BATCH).await?;
    Ok(schedule::forgotten(task, deleted, BATCH, "mails"))
}
