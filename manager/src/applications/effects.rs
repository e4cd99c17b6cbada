//! What the last signature brings about: a key issued, changed or revoked, a client made. Only a
//! [`LastSignature`], or a scheduled change that is due, gets here.

use gate::id::ClientId;
use gate::time::UnixMillis;

use super::applicant::Applicant;
use super::error::ApplicationError;
use super::form::{FieldFault, Form, Terms};
use super::model::{Application, Effect, LastSignature, State};
use super::{store, world};
use crate::app::App;
use crate::approvals::FormKind;
use crate::clients::{self, NewClient, NewPassword};
use crate::db::Conn;
use crate::keys::{self, Changed, Credentials, KeyChange, KeyName, NewKey, TermsError, UseQuota};
use crate::mail::contexts::{KeyEvent, Occasion};
use crate::validity::{Validity, day_of};

/// Does what the form asks for, or puts a change off until its day. `by` is who signed last, as the
/// audit trail names it.
pub(super) async fn begin(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    signature: &LastSignature,
    by: &str,
    first_password: Option<NewPassword>,
) -> Result<Effect, ApplicationError> {
    let now = signature.at();
    let zone = app.config.zone();
    let today = day_of(now, &zone);
    let day = match application.form {
        // A key is issued at once; its effective date is asked about at each call.
        Form::Apply { .. } | Form::Client { .. } => None,
        Form::Change { .. } | Form::Revoke { .. } => application.form.effective_date(),
    };
    match day.filter(|day| *day > today) {
        Some(day) => {
            let due = Validity::new(day, day).map(|validity| validity.instants(&zone).from);
            Ok(Effect::Scheduled { due: due.unwrap_or(now) })
        }
        None => carry_out(conn, app, application, by, first_password, now).await,
    }
}

/// The password of the client that an approval of the form would make; none: it makes none now.
pub(super) async fn first_password(app: &App, id: &str) -> Result<Option<NewPassword>, ApplicationError> {
    let form = store::find(&mut *app.db.snapshot().await?, id).await?;
    let last = form.is_some_and(|found| {
        let last = matches!(found.state, State::PendingOrder { level, levels } if level >= levels);
        last && found.form.kind() == FormKind::Client
    });
    Ok(if last { Some(NewPassword::drawn(app).await) } else { None })
}

/// Issues, changes or revokes the key, or makes the client now, and writes the mails about it.
pub(super) async fn carry_out(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    by: &str,
    first_password: Option<NewPassword>,
    now: UnixMillis,
) -> Result<Effect, ApplicationError> {
    let number = application.number.map(|number| number.to_string());
    let (client, key) = match &application.form {
        Form::Apply { client, terms } => {
            let new = NewKey {
                client: client.clone(),
                terms: terms_of_new(app, terms)?,
                application: number.clone(),
                applied_by: match &application.applicant {
                    Applicant::Operator(id) => Some(id.clone()),
                    Applicant::Client(_) | Applicant::Visitor { .. } => None,
                },
            };
            let issued = keys::issue(conn, app, new, by, now).await?;
            let mail = Credentials {
                occasion: Occasion::Issued,
                application: number,
                // Asked again: an address may have changed while this transaction went on.
                recipients: world::credentials_go_where_signed(conn, &app.config, application).await?,
                not_before: app.config.credentials_not_before(now),
            };
            keys::mail_credentials(conn, app, &issued, mail, now).await?;
            return Ok(Effect::Done { at: now, key: issued.key.id });
        }
        Form::Client { registration, .. } => {
            let password = match first_password {
                Some(password) => password,
                None => NewPassword::drawn(app).await,
            };
            // Of a visitor's addresses one was confirmed; the others may be anybody's.
            let password = match &application.applicant {
                Applicant::Visitor { email } => password.to_alone(email.clone()),
                Applicant::Operator(_) | Applicant::Client(_) => password,
            };
            let owner = world::applicant_name(conn, &application.applicant).await?;
            let owner = owner.chars().take(clients::MAX_NOTE).collect();
            let fields = registration.fields(owner, number);
            let new = NewClient { id: None, fields, password: Some(password) };
            let made = clients::create_in(conn, app, by, new, now).await?;
            return Ok(Effect::Registered { at: now, client: ClientId::from(made.id.as_str()) });
        }
        Form::Change { client, key, terms, reset_usage } => {
            let change = KeyChange {
                name: name(terms)?,
                expires_on: terms.expiry_date,
                uses: uses(terms),
                reset_usage: *reset_usage,
                apis: terms.apis.clone(),
                application: number.clone(),
            };
            (client, keys::change(conn, app, key, change, by, now).await?)
        }
        Form::Revoke { client, key, .. } => {
            (client, keys::revoke(conn, key, number.as_deref(), by, now).await?)
        }
    };
    let mail = Changed {
        change: if application.form.terms().is_some() { KeyEvent::Changed } else { KeyEvent::Revoked },
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
