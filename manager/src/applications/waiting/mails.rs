//! Who is told of a form that waits for too long.

use gate::time::UnixMillis;

use super::super::model::Application;
use super::super::{mails, world};
use crate::app::App;
use crate::approvals::rounds::Round;
use crate::approvals::signers::{Circle, Shortage, Signer};
use crate::db::Conn;
use crate::mail::contexts::{Lack, ReviewStuck, ReviewWaiting};
use crate::mail::{self, About, MailContext, MailError, NewMail};
use crate::validity::print_instant;

/// Reminds those who may sign.
pub(super) async fn remind(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    round: &Round,
    signers: &[Signer],
    now: UnixMillis,
) -> Result<(), MailError> {
    waiting(conn, app, application, round, signers, false, now).await
}

/// Tells those who may sign too from now on.
pub(super) async fn escalated(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    round: &Round,
    signers: &[Signer],
    now: UnixMillis,
) -> Result<(), MailError> {
    waiting(conn, app, application, round, signers, true, now).await
}

/// Tells administrators what is missing; none: nobody else to escalate to.
pub(super) async fn stuck(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    round: &Round,
    circle: &Circle,
    (missing, escalation): (Option<&Shortage>, bool),
    now: UnixMillis,
) -> Result<(), MailError> {
    let lack = match missing.cloned() {
        None => Lack::Nobody,
        Some(Shortage::Nobody { level, roles }) => Lack::Level { level, roles },
        Some(Shortage::TooFew { levels, people }) => Lack::People { levels, people },
    };
    let told = facts(conn, app, application, round).await?;
    let context = ReviewStuck {
        product_name: told.product_name,
        number: told.number,
        kind: told.kind,
        level: told.level,
        levels: told.levels,
        since: told.since,
        applicant: told.applicant,
        client_id: told.client_id,
        client_name: told.client_name,
        key_name: told.key_name,
        api_key: told.api_key,
        escalation,
        lack,
        link: told.link,
        url: told.url,
    };
    let to = circle.administrators().filter_map(|person| person.email.clone()).collect();
    send(conn, app, application, to, context, now).await
}

/// Everybody who signs for themselves in one mail each, delegates by the name of whom they sign for.
async fn waiting(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    round: &Round,
    signers: &[Signer],
    escalated: bool,
    now: UnixMillis,
) -> Result<(), MailError> {
    let told = ReviewWaiting { escalated, ..facts(conn, app, application, round).await? };
    for signer in signers {
        let on_behalf_of = match &signer.right.on_behalf_of {
            Some(principal) => Some(world::actor_name(conn, principal).await?),
            None => None,
        };
        let to = signer.person.email.iter().cloned().collect();
        send(conn, app, application, to, ReviewWaiting { on_behalf_of, ..told.clone() }, now).await?;
    }
    Ok(())
}

/// What each of these mails says.
async fn facts(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    round: &Round,
) -> Result<ReviewWaiting, MailError> {
    let (client_id, client_name) = world::client_of(conn, &application.form).await?;
    let key = world::key_of(conn, &application.form).await?;
    Ok(ReviewWaiting {
        product_name: app.config.product_name.clone(),
        number: round.number.clone(),
        kind: mails::form_type(round.kind),
        level: round.level,
        levels: round.levels,
        since: print_instant(round.since, &app.config.zone()),
        applicant: world::applicant_name(conn, &application.applicant).await?,
        client_id,
        client_name,
        key_name: key.name,
        api_key: key.api_key,
        escalated: false,
        on_behalf_of: None,
        link: world::link(app, application),
        version: application.version,
        url: app.config.base_url(),
    })
}

async fn send<C: MailContext>(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    to: Vec<String>,
    context: C,
    now: UnixMillis,
) -> Result<(), MailError> {
    let recipients = to.into_iter().map(Into::into).collect();
    let about = About::new("application", application.id.clone());
    mail::enqueue(conn, app, NewMail { recipients, context, not_before: now, about }, now).await?;
    Ok(())
}
