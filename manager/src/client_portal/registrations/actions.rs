//! Ask, confirm, and whose token it is that follows a form.

use gate::time::UnixMillis;
use zeroize::Zeroizing;

use super::mails;
use super::model::{
    Asked, CONFIRM_TTL_MS, FOLLOW_TTL_MS, MAX_OF_CALLER, Registration, Turn, Visitor, WINDOW_MS,
};
use super::store::{self, Attempt};
use crate::app::App;
use crate::applications::{self, Application, ApplicationError, Caller, FieldFault, Fields, Form};
use crate::approvals::FormKind;
use crate::bearer;
use crate::caller_address::CallerAddress;
use crate::db::{Conn, DbError};
use crate::mail::MailError;
use crate::operators::Email;
use crate::schedule::{self, BATCH, Outcome, Task};

/// What the token of a mail begins with.
const CONFIRM_PREFIX: &str = "kgr";
/// What the token that follows a form begins with.
const FOLLOW_PREFIX: &str = "kgv";

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegistrationError {
    /// The installation does not want it.
    #[error(
        "clients are not registered here: ask those who run this installation (setting `client_registration`)"
    )]
    Closed,
    /// A field cannot be taken.
    #[error(transparent)]
    Field(#[from] FieldFault),
    /// This caller.
    #[error("you have asked {MAX_OF_CALLER} times within an hour: wait")]
    CallerRefused,
    /// All of them.
    #[error("too many ask at present: try again in an hour")]
    AllRefused,
    /// No token that serves.
    #[error("the token is unknown, was used or has run out: ask anew with POST /client/v1/registrations")]
    UnknownToken,
    /// The form could not be filed.
    #[error(transparent)]
    Application(#[from] ApplicationError),
    /// The mail could not be written.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A question that has become a form: the text of the token that follows it is shown this once.
pub(super) struct Filed {
    pub application: Application,
    pub token: Zeroizing<String>,
    pub expires_at: UnixMillis,
}

/// Takes a question and mails its first address, if nobody has been asked for too often.
pub(super) async fn ask(app: &App, from: &CallerAddress, asked: Asked) -> Result<(), RegistrationError> {
    if !app.config.client_registration {
        return Err(RegistrationError::Closed);
    }
    let form = Form::parse(FormKind::Client, fields(asked.clone()), None)?;
    let Some(email) = form.registration().and_then(|client| client.emails.first()).cloned() else {
        unreachable!("a form that asks for a client has an address");
    };
    let email_sha256 = bearer::sha256_hex(&email.as_str().to_lowercase());
    let now = app.now();
    let mut tx = app.db.write("client_portal.ask").await?;
    store::hold(&mut tx).await?;
    let attempts = store::attempts(&mut tx, from, &email_sha256, now).await?;
    let mailed = match attempts.turn() {
        Turn::Mailed => true,
        Turn::Silent => false,
        Turn::CallerRefused => return Err(RegistrationError::CallerRefused),
        Turn::AllRefused => return Err(RegistrationError::AllRefused),
    };
    let id = app.random.id("ra");
    let attempt = Attempt { id: &id, caller: &from.0, email_sha256: &email_sha256, mailed };
    store::insert_attempt(&mut tx, attempt, now).await?;
    if mailed {
        let registration = Registration {
            id: app.random.id("rg"),
            email,
            asked,
            created_at: now,
            expires_at: UnixMillis(now.0 + CONFIRM_TTL_MS),
        };
        let token = bearer::draw(&app.random, CONFIRM_PREFIX);
        store::insert(&mut tx, &registration, &bearer::sha256_hex(&token)).await?;
        mails::confirmation(&mut tx, app, &registration, &token, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Files the form of a question whose token somebody presents, who has got the mail therefore.
pub(super) async fn confirm(app: &App, unverified_token: &str) -> Result<Filed, RegistrationError> {
    if !app.config.client_registration {
        return Err(RegistrationError::Closed);
    }
    let now = app.now();
    let sha256 = bearer::sha256_hex(unverified_token.trim());
    // Who guesses keeps nobody from writing.
    if !store::is_open(&mut *app.db.read().await?, &sha256, now).await? {
        return Err(RegistrationError::UnknownToken);
    }
    let mut tx = app.db.write("client_portal.confirm").await?;
    let registration = store::confirm(&mut tx, &sha256, now).await?.ok_or(RegistrationError::UnknownToken)?;
    let caller = Caller::Visitor(&registration.email);
    let fields = fields(registration.asked);
    let application = applications::file_in(&mut tx, app, caller, FormKind::Client, fields, now).await?;
    let token = bearer::draw(&app.random, FOLLOW_PREFIX);
    let expires_at = UnixMillis(now.0 + FOLLOW_TTL_MS);
    // Of a row that this transaction holds already: behind the audit entry it waits for nobody.
    let follow = bearer::sha256_hex(&token);
    store::filed(&mut tx, &registration.id, &application.id, &follow, expires_at).await?;
    tx.commit().await?;
    Ok(Filed { application, token, expires_at })
}

/// Who follows a form with this token; None: nobody.
pub(super) async fn authenticate(app: &App, unverified_token: &str) -> Result<Option<Visitor>, DbError> {
    let sha256 = bearer::sha256_hex(unverified_token);
    let visitor = store::by_follow_hash(&mut *app.db.snapshot().await?, &sha256).await?;
    Ok(visitor.filter(|visitor| app.now() <= visitor.expires_at))
}

/// Forgets what has run out.
pub async fn forget(conn: &mut Conn, task: &Task, now: UnixMillis) -> anyhow::Result<Outcome> {
    let (questions, attempts) = store::forget(conn, now, BATCH).await?;
    Ok(schedule::forgotten(task, questions.max(attempts), BATCH, "questions for a client and attempts"))
}

/// As the form takes it.
pub(super) fn fields(asked: Asked) -> Fields {
    let Asked { name, display_name, description, emails, bindings } = asked;
    Fields { name, display_name, description, emails, bindings, ..Fields::default() }
}

/// For whom a refused caller has to wait.
pub(super) const RETRY_AFTER_S: u32 = (WINDOW_MS / 1_000) as u32;

/// Who follows, as the forms know them.
pub(super) fn as_applicant(email: &Email) -> Caller<'_> {
    Caller::Visitor(email)
}
