//! The worker: sends what is due, in any number of processes at once.
//!
//! A mail is claimed in one transaction, handed over, and what came of it recorded in another: a
//! process that dies in between leaves a claim that lapses. A server that fails for reasons of its own
//! rests, for all replicas, and is then asked with a single mail; mails wait meanwhile as they are.

mod model;
pub(super) mod store;
#[cfg(test)]
mod tests;

use gate::time::UnixMillis;
use serde_json::Value;
use tokio::task::JoinSet;

pub(super) use model::Tried;
use model::{AfterFailure, Attempt, MAX_UNANSWERED, Outcome, Turn, after_failure};

use super::actions::purpose;
use super::contexts::brought_up;
use super::health::without_addresses;
use super::model::{CLAIM_MS, SendError, Via};
use super::store as mails;
use super::store::Claimed;
use super::templates::{Rendered, render};
use super::transport::{LONGEST_ATTEMPT_MS, Letter, Transport};
use super::undelivered;
use crate::app::App;
use crate::db::DbError;

const _: () = assert!(CLAIM_MS > LONGEST_ATTEMPT_MS);

/// Conversations with servers at the same time, per process.
const LANES: usize = 4;
/// Mails that one lane sends in one run; the next run goes on.
const MAILS_PER_LANE: usize = 64;
/// Mails that are given up in one transaction; the next run goes on.
const GIVEN_UP_AT_ONCE: i64 = 500;

/// What one run of the worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Accepted by a server, or in the folder.
    pub sent: usize,
    /// Failed for now.
    pub postponed: usize,
    /// Put back as they were: no server could be asked. One that a lane puts back just before the
    /// others hear of the server's rest counts for each.
    pub put_back: usize,
    /// Failed for good.
    pub given_up: usize,
}

/// A mail that this process alone may send now, and the servers it may ask.
pub(super) struct Begun {
    claimed: Claimed,
    /// Rests left out, with what was known of them.
    servers: Vec<(Via, model::Server)>,
    /// How many there are with those that rest.
    configured: usize,
    /// When the claim lapses.
    until: UnixMillis,
}

/// Sends what is due now. Run by the job `mail`; any number of processes may run it at once.
pub async fn deliver_due(app: &App, transport: &Transport) -> Result<Delivered, DbError> {
    let mut all = Delivered::default();
    if matches!(transport, Transport::None) {
        return Ok(all);
    }
    // Nearly always there is nothing to do, or nobody to do it: then nothing is written either.
    let (mut conn, now) = (app.db.read().await?, app.now());
    let mut all_rest = true;
    for (_, address) in transport.servers() {
        all_rest &= store::server(&mut conn, &address).await?.turn(now) == Turn::Rest;
    }
    if all_rest || !mails::anything_due(&mut conn, now).await? {
        return Ok(all);
    }
    drop(conn);
    all.given_up += take_back_lapsed(app).await?;
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        lanes.spawn(lane(app.clone(), transport.clone()));
    }
    while let Some(lane) = lanes.join_next().await {
        let did = lane.expect("a lane neither panics nor is cancelled")?;
        all.sent += did.sent;
        all.postponed += did.postponed;
        all.put_back += did.put_back;
        all.given_up += did.given_up;
    }
    for (outcome, count) in [("sent", all.sent), ("postponed", all.postponed), ("given_up", all.given_up)] {
        if count > 0 {
            app.metrics.add("keygate_mails_total", &[("outcome", outcome)], count as u64);
        }
    }
    Ok(all)
}

/// Mails whose claim has lapsed: whoever had them never said how it ended. They wait again, and say
/// from now on that they may have been sent; too often, and they are given up.
async fn take_back_lapsed(app: &App) -> Result<usize, DbError> {
    let now = app.now();
    let mut tx = app.db.write("mail.take_back").await?;
    let lapsed = mails::take_back_lapsed(&mut tx, now).await?;
    for (id, attempt) in &lapsed {
        store::no_word(&mut tx, id, *attempt, now).await?;
    }
    let given_up = match lapsed.as_slice() {
        [] => Vec::new(),
        _ => mails::give_up_unanswered(&mut tx, MAX_UNANSWERED, now).await?,
    };
    undelivered::plan(&mut tx, app, &given_up, now).await?;
    tx.commit().await?;
    Ok(given_up.len())
}

async fn lane(app: App, transport: Transport) -> Result<Delivered, DbError> {
    let mut did = Delivered::default();
    for _ in 0..MAILS_PER_LANE {
        let Some(begun) = begin(&app, &transport).await? else { break };
        let attempt = hand_over(&app, &transport, &begun).await;
        record(&app, &begun, &attempt, &mut did).await?;
    }
    Ok(did)
}

/// Claims the mail that is due longest, unless every server rests.
pub(super) async fn begin(app: &App, transport: &Transport) -> Result<Option<Begun>, DbError> {
    let now = app.now();
    let configured = transport.servers();
    let mut tx = app.db.write("mail.claim").await?;
    let addresses: Vec<&str> = configured.iter().map(|(_, address)| address.as_str()).collect();
    let vias = configured.iter().map(|(via, _)| *via);
    let mut servers: Vec<_> = vias.zip(store::servers(&mut tx, &addresses).await?).collect();
    servers.retain(|(_, server)| server.turn(now) != Turn::Rest);
    if servers.is_empty() {
        return Ok(None);
    }
    let until = UnixMillis(now.0.saturating_add(CLAIM_MS));
    let claimed = mails::claim(&mut tx, &app.random.id("mc"), until, now).await?;
    let Some(claimed) = claimed else { return Ok(None) };
    // One conversation tries whether a server is well again; nobody else does while it lasts.
    let mut may_be_asked = Vec::with_capacity(servers.len());
    for (via, server) in servers {
        let ours = match server.turn(now) {
            Turn::Probe => store::take_probe(&mut tx, &server, until, now).await?,
            Turn::Ask => true,
            Turn::Rest => false,
        };
        if ours {
            may_be_asked.push((via, server));
        }
    }
    if may_be_asked.is_empty() {
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(Begun { claimed, servers: may_be_asked, configured: configured.len(), until }))
}

/// Asks one server after the other until one has taken the mail, or may have.
pub(super) async fn hand_over(app: &App, transport: &Transport, begun: &Begun) -> Attempt {
    let mail = &begun.claimed.mail;
    let composed = letter_of(app, &begun.claimed).and_then(|rendered| {
        let letter = Letter {
            id: &mail.id,
            recipient: &mail.recipient,
            rendered: &rendered,
            written_at: mail.created_at,
        };
        transport.compose(&letter)
    });
    let message = match composed {
        Ok(message) => message,
        Err(unwritable) => return Attempt::unwritable(unwritable),
    };
    let mut tried = Vec::with_capacity(begun.servers.len());
    for (via, server) in &begun.servers {
        let started_at = app.now();
        let result = transport.hand_over(*via, &message, &mut |_| {}).await;
        let over = match &result {
            // Perhaps it has arrived: the other server would make two of it at once.
            Ok(_) | Err(super::transport::Refusal { error: SendError::AnswerLost(_), .. }) => true,
            Err(_) => false,
        };
        tried.push(Tried { via: *via, server: server.clone(), started_at, ended_at: app.now(), result });
        if over {
            break;
        }
    }
    Attempt::of(tried, begun.configured)
}

/// Writes down what came of it.
pub(super) async fn record(
    app: &App,
    begun: &Begun,
    attempt: &Attempt,
    did: &mut Delivered,
) -> Result<(), DbError> {
    let (mail, claim) = (&begun.claimed.mail, &begun.claimed.claim);
    let now = app.now();
    let give_up_ms = i64::from(app.config.mail_give_up_h) * 3_600_000;
    let mut tx = app.db.write("mail.attempted").await?;
    for tried in &attempt.tried {
        store::fared(&mut tx, tried, now).await?;
    }
    if attempt.is_one_of_the_mail() {
        store::attempted(&mut tx, &mail.id, mail.attempts, attempt, now).await?;
    }
    // Those that were to be tried and were not needed after all.
    for (via, server) in &begun.servers {
        if server.paused_until.is_some() && attempt.tried.iter().all(|tried| tried.via != *via) {
            store::leave_probe(&mut tx, server, begun.until).await?;
        }
    }
    let mut nobody_takes_any = None;
    let still_ours = match &attempt.outcome {
        Outcome::Sent { via } => {
            did.sent += 1;
            mails::sent(&mut tx, &mail.id, claim, *via, now).await?
        }
        Outcome::Failed(SendError::Unavailable(told)) => {
            nobody_takes_any = Some(told);
            mails::put_back(&mut tx, &mail.id, claim, told).await?
        }
        Outcome::Failed(error) => {
            let lost = matches!(error, SendError::AnswerLost(_));
            let told = error.to_string();
            match after_failure(mail, error, give_up_ms, now) {
                AfterFailure::TryAgain { at } => {
                    did.postponed += 1;
                    tracing::warn!(
                        mail.id,
                        mail.attempts,
                        "A mail could not be sent and waits for another attempt"
                    );
                    mails::waits_again(&mut tx, &mail.id, claim, at, &told, lost).await?
                }
                AfterFailure::GiveUp => {
                    did.given_up += 1;
                    tracing::warn!(
                        mail.id,
                        mail.attempts,
                        "A mail was given up: the mail log has the reason"
                    );
                    let ours = mails::given_up(&mut tx, &mail.id, claim, &told, lost, now).await?;
                    if ours {
                        undelivered::plan(&mut tx, app, &[(mail.id.clone(), mail.template)], now).await?;
                    }
                    ours
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
    if let Some(told) = nobody_takes_any {
        let given_up = give_up_overdue(app, told).await?;
        did.given_up += given_up;
        did.put_back += usize::from(given_up == 0);
        tracing::warn!(given_up, "No mail server can be used: mails wait");
    }
    Ok(())
}

/// The oldest mails end when no server takes any. A transaction of its own: whoever claims one of them
/// holds it and waits for the row of the server.
async fn give_up_overdue(app: &App, told: &str) -> Result<usize, DbError> {
    let (now, hours) = (app.now(), app.config.mail_give_up_h);
    let cutoff = UnixMillis(now.0.saturating_sub(i64::from(hours) * 3_600_000));
    let why = format!("no server took it within {hours} h: {told}");
    let mut tx = app.db.write("mail.give_up_overdue").await?;
    let given_up = mails::give_up_overdue(&mut tx, cutoff, &why, GIVEN_UP_AT_ONCE, now).await?;
    undelivered::plan(&mut tx, app, &given_up, now).await?;
    tx.commit().await?;
    Ok(given_up.len())
}

fn letter_of(app: &App, claimed: &Claimed) -> Result<Rendered, SendError> {
    let mail = &claimed.mail;
    let context = app
        .vault
        .open(&purpose(&mail.id), &claimed.context_sealed)
        .map_err(|error| SendError::Retry(format!("the sealed context does not open: {error}")))?;
    let context: Value = serde_json::from_slice(&context)
        .map_err(|_| SendError::Refused("the context is not the JSON that was sealed".into()))?;
    let context = brought_up(mail.template, context);
    render(&app.config, mail.template, mail.language, &context)
        .map_err(|error| SendError::Refused(format!("template {}: {error}", mail.template.name())))
}
