//! A mail at once, past the outbox, told step by step: are the settings right?

pub(super) mod cli;
pub(super) mod http;
#[cfg(test)]
mod tests;

use serde_json::json;

use super::contexts::TestMail;
use super::delivery::{self, Tried};
use super::model::Via;
use super::smtp::Event;
use super::templates::render;
use super::transport::{Letter, Transport};
use super::{MailContext as _, MailError};
use crate::app::App;
use crate::audit;
use crate::config::ConfigError;
use crate::db::DbError;
use crate::validity::print_instant;

/// One that was made.
#[derive(Debug)]
pub struct Trial {
    /// Id of the mail, in its Message-ID; it is not in the log.
    pub mail: String,
    /// What was asked.
    pub via: Via,
    /// `host:port`, or a folder.
    pub server: String,
    /// What went well.
    pub steps: Vec<Event>,
    /// The server's answer to the mail, or what went wrong.
    pub outcome: Result<String, Fault>,
}

/// What went wrong, and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{told}")]
pub struct Fault {
    /// Server, step and cause.
    pub told: String,
    /// For an operator.
    pub advice: &'static str,
}

/// Why none could be made.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// There is nothing to try.
    #[error(
        "nothing was sent, because mail_transport is `none`: mails wait. Set mail_transport = \"smtp\" and smtp_host"
    )]
    NotConfigured,
    /// No second server.
    #[error("nothing was sent: there is no {server} server (a second one is set with smtp_secondary_host)")]
    NoSuchServer {
        /// `primary` or `secondary`.
        server: &'static str,
    },
    /// Not an address.
    #[error("{to:?} is not a mail address: {reason}")]
    Recipient {
        /// As asked for.
        to: String,
        /// Why not.
        reason: String,
    },
    /// The settings name a file that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The template, or the database.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Sends a test mail to `to` through the first server, or the one asked for. `watcher` is told each
/// step when it is done. A server that accepts it need not rest any longer: what waits is sent at once.
pub async fn try_out(
    app: &App,
    to: &str,
    via: Option<Via>,
    by: &str,
    watcher: &mut (dyn FnMut(&Event) + Send),
) -> Result<Trial, TrialError> {
    to.parse::<lettre::Address>()
        .map_err(|error| TrialError::Recipient { to: to.into(), reason: error.to_string() })?;
    let transport = Transport::open(&app.config)?;
    let servers = transport.servers();
    let (via, server) = match via {
        None => servers.into_iter().next().ok_or(TrialError::NotConfigured)?,
        Some(_) if servers.is_empty() => return Err(TrialError::NotConfigured),
        Some(via) => servers
            .into_iter()
            .find(|(it, _)| *it == via)
            .ok_or(TrialError::NoSuchServer { server: via.name() })?,
    };
    let now = app.now();
    let context = TestMail {
        product_name: app.config.product_name.clone(),
        asked_at: print_instant(now, &app.config.zone()),
        asked_by: (by != "cli").then(|| by.to_owned()),
    };
    let unprintable = |error: minijinja::Error| MailError::Template {
        template: TestMail::TEMPLATE.name(),
        reason: error.to_string(),
    };
    let rendered =
        render(&app.config, TestMail::TEMPLATE, app.config.mail_language, &context).map_err(unprintable)?;
    let mail = app.random.id("ml");
    let letter = Letter { id: &mail, recipient: to, rendered: &rendered, written_at: now };
    let mut steps = Vec::new();
    let outcome = match transport.compose(&letter) {
        Ok(message) => {
            let known = delivery::store::server(&mut *app.db.read().await?, &server).await?;
            let mut told = |event: Event| {
                watcher(&event);
                steps.push(event);
            };
            let result = transport.hand_over(via, &message, &mut told).await;
            let tried = Tried { via, server: known, started_at: now, ended_at: app.now(), result };
            record(app, &tried, &mail, by).await?;
            tried.result.map_err(|refusal| Fault { told: refusal.error.to_string(), advice: refusal.advice })
        }
        Err(error) => {
            Err(Fault { told: error.to_string(), advice: "check the recipient's address and mail_from" })
        }
    };
    Ok(Trial { mail, via, server, steps, outcome })
}

async fn record(app: &App, tried: &Tried, mail: &str, by: &str) -> Result<(), DbError> {
    let now = app.now();
    let mut tx = app.db.write("mail.test").await?;
    // That a server refuses one recipient says nothing about the mails that wait.
    if tried.result.as_ref().err().is_none_or(|refusal| refusal.of_the_server) {
        delivery::store::fared(&mut tx, tried, now).await?;
    }
    let entry = audit::Entry {
        actor: by.into(),
        action: "mail.test",
        subject: format!("mail:{mail}"),
        detail: json!({ "server": tried.server.address, "outcome": tried.outcome() }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(())
}
