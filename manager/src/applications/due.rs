//! What happens to forms without anybody who acts on them: scheduled changes that are due, and
//! the end of a client.

use gate::id::ClientId;
use gate::time::UnixMillis;

use super::actions::checked;
use super::error::ApplicationError;
use super::form::{FieldFault, Form, Moment};
use super::history::{self, audit_actor, record, step_of};
use super::model::{Application, Effect, State, Step};
use super::turn::overtaken;
use super::{effects, mails, signing, store};
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::keys::KeyError;
use crate::operators::Actor;

/// Scheduled changes that are looked for at a time.
const PAGE: i64 = 100;

/// Makes the scheduled changes that are due, each in a transaction of its own and exactly once,
/// whatever other replicas do. Returns how many forms have ended thereby. One that fails does not
/// keep the others waiting, however many fail; it stays scheduled, is tried again with the next run,
/// and its error is returned after the rest.
pub async fn apply_due(app: &App) -> Result<usize, ApplicationError> {
    apply_due_by(app, PAGE).await
}

/// [`apply_due`], looking for so many at a time.
pub(super) async fn apply_due_by(app: &App, limit: i64) -> Result<usize, ApplicationError> {
    let (mut ended, mut failure) = (0, None);
    let now = app.now();
    let mut after = (i64::MIN, String::new());
    loop {
        let page = store::due(&mut *app.db.read().await?, now, &after, limit).await?;
        for (_, id) in &page {
            match apply_one(app, id).await {
                Ok(done) => ended += usize::from(done),
                Err(error) => {
                    tracing::error!(form = id, "A scheduled change could not be made: {error}");
                    failure = Some(error);
                }
            }
        }
        // Behind the last one: those that failed are still due and would fill every page.
        match page.into_iter().last() {
            Some(last) => after = last,
            None => return failure.map_or(Ok(ended), Err),
        }
    }
}

/// Has no form about a client wait any more, within the caller's transaction, who cancels them next:
/// all of these rows come before the first one that is recorded.
pub async fn end_all_of(conn: &mut Conn, client: &ClientId, now: UnixMillis) -> Result<(), DbError> {
    for form in store::open_of(conn, client, i64::MAX).await? {
        signing::end(conn, &form.id, now).await?;
    }
    Ok(())
}

/// Cancels the forms about a client that is being deleted within the caller's transaction, who is
/// the operator `by`, once [`end_all_of`] is done; their applicants are told why. Returns the forms as they are now.
pub async fn cancel_all_of(
    conn: &mut Conn,
    app: &App,
    client: &ClientId,
    by: &Actor,
    reason: &str,
    now: UnixMillis,
) -> Result<Vec<Application>, ApplicationError> {
    let mut cancelled = Vec::new();
    for before in store::open_of(conn, client, i64::MAX).await? {
        let Some(state) = before.state.client_gone(now) else { continue };
        let application =
            Application { state, version: before.version + 1, updated_at: now, ..before.clone() };
        if !store::update(conn, &application, &before.state).await? {
            return Err(overtaken(conn, app, &before).await?);
        }
        let step = step_of(&application, &by.operator, "cancel", None, reason.to_owned());
        history::add(conn, &application.id, &step).await?;
        mails::announce(conn, app, &application, &step, &[]).await?;
        record(conn, &application, &step).await?;
        cancelled.push(application);
    }
    Ok(cancelled)
}

/// Makes one scheduled change. False: somebody else has made or stopped it meanwhile.
async fn apply_one(app: &App, id: &str) -> Result<bool, ApplicationError> {
    let now = app.now();
    let mut tx = app.db.write("applications.apply_due").await?;
    if !store::lock(&mut tx, id).await? {
        return Ok(false);
    }
    let Some(before) = store::find(&mut tx, id).await? else { return Ok(false) };
    let State::Approved { at, effect: Effect::Scheduled { due } } = before.state else { return Ok(false) };
    if due > now {
        return Ok(false);
    }
    let (effect, action, comment) =
        match checked(&mut tx, app, &before.form, &before.applicant, Some(id), Moment::Due).await {
            Ok(()) => {
                match effects::carry_out(&mut tx, app, &before, &audit_actor(Step::BY_ITSELF), None, now)
                    .await
                {
                    Ok(effect) => (effect, "apply", String::new()),
                    // What the key itself refuses, before anything of it is written, it will refuse again.
                    Err(ApplicationError::Key(
                        fault @ (KeyError::Terms(_)
                        | KeyError::Revoked { .. }
                        | KeyError::NotFound { .. }
                        | KeyError::UnknownApi { .. }),
                    )) => {
                        let reason = fault.to_string();
                        (Effect::Failed { at: now, reason: reason.clone() }, "fail", reason)
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(ApplicationError::Field(FieldFault::KeyRevoked(key)))
                if matches!(before.form, Form::Revoke { .. }) =>
            {
                let said = "The key had been revoked already: nothing was left to do.".to_owned();
                (Effect::Done { at: now, key }, "apply", said)
            }
            Err(ApplicationError::Field(fault)) => {
                let reason = fault.to_applicant();
                (Effect::Failed { at: now, reason: reason.clone() }, "fail", reason)
            }
            Err(error) => return Err(error),
        };
    let state = State::Approved { at, effect };
    let application = Application { state, version: before.version + 1, updated_at: now, ..before.clone() };
    if !store::update(&mut tx, &application, &before.state).await? {
        return Ok(false);
    }
    let step = step_of(&application, &Step::BY_ITSELF, action, None, comment);
    history::add(&mut tx, id, &step).await?;
    mails::announce(&mut tx, app, &application, &step, &[]).await?;
    record(&mut tx, &application, &step).await?;
    tx.commit().await?;
    Ok(true)
}
