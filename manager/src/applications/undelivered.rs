//! Who is told that a mail with a secret could not be delivered: whoever applied for what was in it, and
//! administrators. Without the secret; nothing is told of these mails themselves.

use super::{store, world};
use crate::app::App;
use crate::approvals::signers;
use crate::db::Conn;
use crate::mail::contexts::{CredentialsUndelivered, Remedy, SecretKind};
use crate::mail::{self, About, Mail, MailState, NewMail, Recipient, Template, Undelivered};
use crate::schedule::{Outcome, Task};
use crate::validity::print_instant;

/// Tells of the mail that `task` is about.
pub(super) async fn tell(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let now = app.now();
    let Some(Undelivered { mail, context }) = mail::undelivered(conn, &task.about.id).await? else {
        return Ok(Outcome::Done("no longer wanted: the mail has left the log".into()));
    };
    let (MailState::Failed { failed_at }, Some((secret, call))) = (mail.state, handed_over(&mail)) else {
        return Ok(Outcome::Done("no longer wanted: the mail holds no secret, or has gone".into()));
    };
    let text = |field: &str| context[field].as_str().map(str::to_owned);
    let told = CredentialsUndelivered {
        product_name: app.config.product_name.clone(),
        secret,
        client_id: text("client_id").unwrap_or_default(),
        client_name: text("client_name").unwrap_or_default(),
        key_name: text("key_name"),
        application: text("application"),
        failed_at: print_instant(failed_at, &app.config.zone()),
        remedy: None,
    };
    let form = store::that_made(conn, &mail.about.kind, &mail.about.id).await?;
    let applicant = match &form {
        Some(form) => world::applicant_addresses(conn, &form.applicant).await?,
        None => Vec::new(),
    };
    let circle = signers::circle(conn, &app.config, now).await?;
    let administrators: Vec<Recipient> =
        circle.administrators().filter_map(|person| person.email.clone()).map(Recipient::from).collect();
    // The address that mails do not reach is not asked again; an administrator is told once, with the remedy.
    let elsewhere = |recipient: &Recipient| recipient.address != mail.recipient;
    let administrators: Vec<Recipient> = administrators.into_iter().filter(elsewhere).collect();
    let applicant: Vec<Recipient> =
        applicant.into_iter().filter(elsewhere).filter(|one| !administrators.contains(one)).collect();
    if administrators.is_empty() && applicant.is_empty() {
        return Ok(Outcome::Failed(format!(
            "nobody could be told that mail {} was given up: give an administrator an e-mail address with PATCH \
             /api/v1/operators/{{id}}, then `keygate tasks retry`; what was in it is handed over again with {call}",
            mail.id
        )));
    }
    let names = [&administrators, &applicant].map(|some| some.len());
    let remedy = Remedy {
        recipient: mail.recipient.clone(),
        reason: mail.last_error.clone().unwrap_or_default(),
        mail: mail.id.clone(),
        call,
    };
    let to_administrators = CredentialsUndelivered { remedy: Some(remedy), ..told.clone() };
    for (recipients, context) in [(administrators, to_administrators), (applicant, told)] {
        let about = About::new(&mail.about.kind, mail.about.id.clone());
        mail::enqueue(conn, app, NewMail { recipients, context, not_before: now, about }, now).await?;
    }
    Ok(Outcome::Done(format!("told {} administrators and {} addresses of the applicant", names[0], names[1])))
}

/// What was in it, and the call that hands it over again.
fn handed_over(mail: &Mail) -> Option<(SecretKind, String)> {
    let id = &mail.about.id;
    match mail.template {
        Template::KeyCredentials => Some((SecretKind::KeyPair, format!("POST /api/v1/keys/{id}/resend"))),
        Template::XApiKeyIssued => Some((SecretKind::XApiKey, "POST /api/v1/x-api-keys".to_owned())),
        Template::ClientCreated | Template::ClientPasswordReset => {
            Some((SecretKind::Password, format!("POST /api/v1/clients/{id}/password/reset")))
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
        | Template::RegistrationConfirmation
        | Template::TestMail => None,
    }
}
