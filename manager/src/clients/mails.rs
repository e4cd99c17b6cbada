//! What clients are told about their account.

use gate::time::UnixMillis;

use super::model::{Client, ServiceTime};
use super::password::NewPassword;
use crate::app::App;
use crate::credential_links::{self, Credentials, Handover, Secret};
use crate::db::{Conn, DbError};
use crate::mail::contexts::{ByLink, Calls, ClientCreated, ClientPasswordReset, Per, Span};
use crate::mail::{self, About, MailError, NewMail, Recipient, Template};
use crate::password::Password;
use crate::quotas::Period;
use crate::validity::print_instant;

/// To whom a client's mails go.
pub fn recipients(client: &Client) -> Vec<Recipient> {
    client.emails.iter().map(|email| email.as_str().to_owned().into()).collect()
}

/// Takes back what is not sent yet of the passwords that were mailed to the client, and the links
/// that have not been opened: before the caller records anything.
pub async fn withdraw_passwords(
    conn: &mut Conn,
    client: &str,
    why: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    let about = About::new("client", client);
    for template in [Template::ClientCreated, Template::ClientPasswordReset] {
        mail::withdraw(conn, &about, template, why, now).await?;
    }
    credential_links::withdraw(conn, &about, now).await
}

/// Tells a new client who it is and what it may do. The password is in it: it is what the mail is
/// for. It goes as late as credentials do, so that a mistake can be taken back
/// ([`withdraw_passwords`]).
pub(super) async fn created(
    conn: &mut Conn,
    app: &App,
    client: &Client,
    password: &NewPassword,
    now: UnixMillis,
) -> Result<(), MailError> {
    let context = ClientCreated {
        product_name: app.config.product_name.clone(),
        client_id: client.id.as_str().into(),
        client_name: client.display_name.clone(),
        url: format!("{}/client/v1/session", app.config.base_url()),
        password: Some(password.clear().reveal().into()),
        validity: client.dates.map(|dates| Span {
            from: dates.start.to_string(),
            until: dates.expiry.to_string(),
            zone: client.zone.name().to_owned(),
        }),
        service_time: client.service_time.map(|times| Span {
            from: ServiceTime::clock(times.from),
            until: ServiceTime::clock(times.until),
            zone: client.zone.name().to_owned(),
        }),
        api_quota: Some(Calls {
            calls: client.quota.calls,
            per: match client.quota.period {
                Period::Total => Per::Total,
                Period::Day => Per::Day,
                Period::Week => Per::Week,
                Period::Month => Per::Month,
            },
        })
        .filter(|quota| quota.calls > 0),
        tps: Some(client.tps).filter(|tps| *tps > 0),
        hosts: client.bindings.iter().map(|b| format!("{} ({})", b.address, b.name)).collect(),
        link: None,
        link_expires_at: None,
    };
    let not_before = app.config.credentials_not_before(now);
    let mail = NewMail {
        recipients: password.recipients(client),
        context,
        not_before,
        about: About::new("client", client.id.as_str()),
    };
    hand_over(conn, app, client, mail, (password.clear(), None), now).await
}

/// Sends the password that serves to set a new one. At once: somebody waits for it.
pub(super) async fn password_reset(
    conn: &mut Conn,
    app: &App,
    client: &Client,
    password: &Password,
    expires_at: UnixMillis,
    now: UnixMillis,
) -> Result<(), MailError> {
    let context = ClientPasswordReset {
        product_name: app.config.product_name.clone(),
        client_id: client.id.as_str().into(),
        client_name: client.display_name.clone(),
        password: password.reveal().into(),
        expires_at: print_instant(expires_at, &app.config.zone()),
        url: format!("{}/client/v1/password", app.config.base_url()),
        link: None,
        link_expires_at: None,
    };
    let mail = NewMail {
        recipients: recipients(client),
        context,
        not_before: now,
        about: About::new("client", client.id.as_str()),
    };
    hand_over(conn, app, client, mail, (password, Some(expires_at)), now).await
}

async fn hand_over<C: ByLink>(
    conn: &mut Conn,
    app: &App,
    client: &Client,
    mail: NewMail<C>,
    (password, until): (&Password, Option<UnixMillis>),
    now: UnixMillis,
) -> Result<(), MailError> {
    let credentials = Credentials {
        secret: Secret::Password { password: password.reveal().into() },
        client_id: client.id.as_str().into(),
        client_name: client.display_name.clone(),
    };
    let what = Handover { credentials: &credentials, secret: "", until };
    credential_links::hand_over(conn, app, mail, what, now).await.map(drop)
}
