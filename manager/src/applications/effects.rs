//! What the last signature brings about: a key issued, changed or revoked. Only a
//! [`LastSignature`], or a scheduled change that is due, gets here.

use gate::time::UnixMillis;
use jiff::civil::Date;

use super::error::ApplicationError;
use super::form::{FieldFault, Form, Terms};
use super::model::{Application, Effect, LastSignature};
use super::world;
use crate::app::App;
use crate::db::Conn;
use crate::keys::{self, Changed, Credentials, KeyChange, KeyName, NewKey, TermsError, UseQuota};
use crate::validity::{Validity, day_of};

/// Does what the form asks for, or puts a change off until its day. `by` is who signed last, as the
/// audit trail names it.
pub(super) async fn begin(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    signature: &LastSignature,
    by: &str,
) -> Result<Effect, ApplicationError> {
    let now = signature.at();
    let zone = app.config.zone();
    let day = application.form.effective_date();
    match application.form {
        // A key is issued at once; its effective date is asked about at each call.
        Form::Apply { .. } => carry_out(conn, app, application, by, now).await,
        Form::Change { .. } | Form::Revoke { .. } if day > day_of(now, &zone) => {
            let due = Validity::new(day, day).map(|validity| validity.instants(&zone).from);
            Ok(Effect::Scheduled { due: due.unwrap_or(now) })
        }
        Form::Change { .. } | Form::Revoke { .. } => carry_out(conn, app, application, by, now).await,
    }
}

/// Issues, changes or revokes the key now, and writes the mails about it.
pub(super) async fn carry_out(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    by: &str,
    now: UnixMillis,
) -> Result<Effect, ApplicationError> {
    let number = application.number.map(|number| number.to_string());
    let client = application.form.client();
    let key = match &application.form {
        Form::Apply { client, terms } => {
            let new = NewKey { client: client.clone(), terms: terms_of_new(app, terms)? };
            let issued = keys::issue(conn, app, new, by, now).await?;
            let delay_ms = i64::try_from(app.config.credential_mail_delay_s.saturating_mul(1_000));
            let mail = Credentials {
                headline: "Your application was approved and this API key was issued.".to_owned(),
                notes: notes(terms, day_of(now, &app.config.zone())),
                application: number,
                recipients: world::credential_addresses(conn, &app.config, client, &application.applicant)
                    .await?,
                not_before: UnixMillis(now.0.saturating_add(delay_ms.unwrap_or(i64::MAX))),
            };
            keys::mail_credentials(conn, app, &issued, mail, now).await?;
            return Ok(Effect::Done { at: now, key: issued.key.id });
        }
        Form::Change { key, terms, reset_usage, .. } => {
            let change = KeyChange {
                name: name(terms)?,
                expires_on: terms.expiry_date,
                uses: uses(terms),
                reset_usage: *reset_usage,
                apis: terms.apis.clone(),
            };
            keys::change(conn, app, key, change, by, now).await?
        }
        Form::Revoke { key, .. } => keys::revoke(conn, key, by, now).await?,
    };
    let mail = Changed {
        change: if application.form.terms().is_some() { "changed" } else { "revoked" },
        application: number,
        recipients: world::client_addresses(conn, client).await?,
        not_before: now,
    };
    keys::mail_change(conn, app, &key, mail, now).await?;
    Ok(Effect::Done { at: now, key: key.id })
}

/// Terms of a key that begins on the form's effective date.
fn terms_of_new(app: &App, terms: &Terms) -> Result<keys::Terms, ApplicationError> {
    let backwards =
        |_| FieldFault::ExpiryBeforeEffective { effective: terms.effective_date, expiry: terms.expiry_date };
    let days = Validity::new(terms.effective_date, terms.expiry_date).map_err(backwards)?;
    Ok(keys::Terms::new(name(terms)?, days, uses(terms), terms.apis.clone(), &app.config.zone()))
}

fn name(terms: &Terms) -> Result<KeyName, TermsError> {
    KeyName::parse(&terms.name)
}

fn uses(terms: &Terms) -> UseQuota {
    terms.quota.map_or(UseQuota::Unlimited, UseQuota::Uses)
}

fn notes(terms: &Terms, today: Date) -> Vec<String> {
    if terms.effective_date > today {
        vec![format!("The key is accepted from {} on.", terms.effective_date)]
    } else {
        vec!["The key is accepted from now on.".to_owned()]
    }
}
