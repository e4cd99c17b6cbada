//! One function per thing that can happen to a form. Each is one transaction: the form's new
//! state, its history, what the last signature brings about, the mails and the audit entry commit
//! together or not at all.

use gate::id::{ClientId, CredentialId};
use gate::time::UnixMillis;
use jiff::civil::Date;

use super::applicant::{Applicant, Caller};
use super::error::ApplicationError;
use super::form::{FieldFault, Fields, Form, Moment};
use super::history::{self, record, step_of};
use super::model::{Action, Application, MAX_COMMENT_CHARS, State};
use super::turn::{Turn, overtaken};
use super::{bounds, effects, number, store, world};
use crate::app::App;
use crate::approvals::FormKind;
use crate::db::Conn;
use crate::validity::day_of;

/// Saves a new draft.
pub async fn save(
    app: &App,
    caller: Caller<'_>,
    kind: FormKind,
    fields: Fields,
) -> Result<Application, ApplicationError> {
    let mut tx = app.db.write("applications.save").await?;
    let application = save_in(&mut tx, app, caller, (kind, fields), false, app.now()).await?;
    tx.commit().await?;
    Ok(application)
}

/// Saves a new form and hands it in at once, within the caller's transaction: for those who have
/// no drafts.
pub async fn file_in(
    conn: &mut Conn,
    app: &App,
    caller: Caller<'_>,
    kind: FormKind,
    fields: Fields,
    now: UnixMillis,
) -> Result<Application, ApplicationError> {
    let saved = save_in(conn, app, caller, (kind, fields), true, now).await?;
    submit_in(conn, app, caller, &saved.id, Some(saved.version), Action::Submit).await
}

/// With its number where it is `filed` at once: the counter is asked before the first audit entry, whose
/// lock everybody else takes behind the counter's.
async fn save_in(
    conn: &mut Conn,
    app: &App,
    caller: Caller<'_>,
    (kind, fields): (FormKind, Fields),
    filed: bool,
    now: UnixMillis,
) -> Result<Application, ApplicationError> {
    let applicant = caller.applicant();
    let form = parsed(conn, caller, kind, fields).await?;
    world::hold_client(conn, &form).await?;
    bounds::another(conn, &applicant).await?;
    checked(conn, app, &form, &applicant, None, Moment::Saving).await?;
    let number = match filed {
        true => Some(number::draw(conn, kind, today(app, now)).await?),
        false => None,
    };
    let application = Application {
        id: app.random.id("ap"),
        number,
        form,
        applicant,
        credentials_go_to: None,
        state: State::Draft,
        version: 1,
        created_at: now,
        submitted_at: None,
        updated_at: now,
    };
    store::insert(conn, &application).await?;
    let step = step_of(&application, &application.applicant, "save", None, String::new());
    history::add(conn, &application.id, &step).await?;
    record(conn, &application, &step).await?;
    Ok(application)
}

/// Replaces the fields of a draft or of a returned form.
pub async fn edit(
    app: &App,
    caller: Caller<'_>,
    id: &str,
    seen: Option<i64>,
    fields: Fields,
) -> Result<Application, ApplicationError> {
    let mut tx = app.db.write("applications.edit").await?;
    let turn = Turn::begin(&mut tx, app, caller, id, seen, Action::Edit).await?;
    bounds::another_version(&turn.before)?;
    let form = parsed(&mut tx, caller, turn.before.form.kind(), fields).await?;
    if let (Some(client), Some(_)) = (turn.before.form.client(), &turn.before.number)
        && form.client() != Some(client)
    {
        let field = if form.key().is_some() { "key" } else { "client" };
        return Err(FieldFault::AnotherClient { field, client: client.clone() }.into());
    }
    world::hold_client(&mut tx, &form).await?;
    match (checked(&mut tx, app, &form, &turn.before.applicant, Some(id), Moment::Saving).await, caller) {
        // A visitor is told when it hands the form in again, which each version does once at most:
        // who edits learns no names of clients.
        (Err(ApplicationError::Field(FieldFault::NameTaken { .. })), Caller::Visitor(_)) => {}
        (checked, _) => checked?,
    }
    let application = Application { form, credentials_go_to: None, ..turn.before.clone() };
    store::replace_lists(&mut tx, &application).await?;
    let application = turn.finish(&mut tx, app, application, String::new()).await?;
    tx.commit().await?;
    Ok(application)
}

/// Throws a draft away. It never had a number, so that no number is missed.
pub async fn delete(
    app: &App,
    caller: Caller<'_>,
    id: &str,
    seen: Option<i64>,
) -> Result<(), ApplicationError> {
    let mut tx = app.db.write("applications.delete").await?;
    let turn = Turn::begin(&mut tx, app, caller, id, seen, Action::Delete).await?;
    if !store::delete_draft(&mut tx, id, turn.before.version).await? {
        return Err(overtaken(&mut tx, app, &turn.before).await?);
    }
    history::forget(&mut tx, id).await?;
    let gone = Application { updated_at: turn.now, ..turn.before };
    let step = step_of(&gone, &gone.applicant, Action::Delete.name(), None, String::new());
    record(&mut tx, &gone, &step).await?;
    tx.commit().await?;
    Ok(())
}

/// Hands a draft in for review (`Submit`), or a returned form in again (`Resubmit`). The first
/// time draws its number.
pub async fn submit(
    app: &App,
    caller: Caller<'_>,
    id: &str,
    seen: Option<i64>,
    action: Action,
) -> Result<Application, ApplicationError> {
    let mut tx = app.db.write("applications.submit").await?;
    let application = submit_in(&mut tx, app, caller, id, seen, action).await?;
    tx.commit().await?;
    Ok(application)
}

async fn submit_in(
    conn: &mut Conn,
    app: &App,
    caller: Caller<'_>,
    id: &str,
    seen: Option<i64>,
    action: Action,
) -> Result<Application, ApplicationError> {
    let turn = Turn::begin(conn, app, caller, id, seen, action).await?;
    bounds::another_submission(conn, &turn.before, turn.now).await?;
    checked(conn, app, &turn.before.form, &turn.before.applicant, Some(id), Moment::Filing).await?;
    let credentials_go_to = world::credentials_go_to(conn, &app.config, &turn.before).await?;
    let mut application =
        Application { submitted_at: Some(turn.now), credentials_go_to, ..turn.before.clone() };
    if application.number.is_none() {
        let kind = application.form.kind();
        application.number = Some(number::draw(conn, kind, today(app, turn.now)).await?);
    }
    turn.finish(conn, app, application, String::new()).await
}

/// A reviewer's word on the level that waits: approve, return or reject. The last level's approval
/// brings about what the form asks for.
pub async fn review(
    app: &App,
    caller: Caller<'_>,
    id: &str,
    seen: Option<i64>,
    action: Action,
    comment: &str,
) -> Result<Application, ApplicationError> {
    let comment = commented(comment)?;
    let first_password = match action {
        Action::Approve => effects::first_password(app, id).await?,
        _ => None,
    };
    let mut tx = app.db.write("applications.review").await?;
    let mut turn = Turn::begin(&mut tx, app, caller, id, seen, action).await?;
    turn.first_password = first_password;
    if seen.is_none() {
        return Err(ApplicationError::VersionMissing);
    }
    if action == Action::Approve {
        checked(&mut tx, app, &turn.before.form, &turn.before.applicant, Some(id), Moment::Signing)
            .await
            .map_err(ApplicationError::for_reviewers)?;
        world::credentials_go_where_signed(&mut tx, &app.config, &turn.before).await?;
    }
    let application = turn.before.clone();
    let finished = turn.finish(&mut tx, app, application, comment).await;
    let application = finished.map_err(ApplicationError::for_reviewers)?;
    tx.commit().await?;
    Ok(application)
}

/// Takes a form back for good, as long as no reviewer has signed it.
pub async fn withdraw(
    app: &App,
    caller: Caller<'_>,
    id: &str,
    seen: Option<i64>,
    comment: &str,
) -> Result<Application, ApplicationError> {
    plain(app, caller, id, seen, Action::Withdraw, comment, "applications.withdraw").await
}

/// Stops an approved change or revocation before it is due.
pub async fn stop(
    app: &App,
    caller: Caller<'_>,
    id: &str,
    seen: Option<i64>,
    comment: &str,
) -> Result<Application, ApplicationError> {
    plain(app, caller, id, seen, Action::Stop, comment, "applications.stop").await
}

/// An action that changes nothing but the state.
async fn plain(
    app: &App,
    caller: Caller<'_>,
    id: &str,
    seen: Option<i64>,
    action: Action,
    comment: &str,
    name: &'static str,
) -> Result<Application, ApplicationError> {
    let comment = commented(comment)?;
    let mut tx = app.db.write(name).await?;
    let turn = Turn::begin(&mut tx, app, caller, id, seen, action).await?;
    let application = turn.before.clone();
    let application = turn.finish(&mut tx, app, application, comment).await?;
    tx.commit().await?;
    Ok(application)
}

/// What the caller wrote, as far as it may file that at all. To a client the keys of others are
/// as unknown as keys that do not exist.
async fn parsed(
    conn: &mut Conn,
    caller: Caller<'_>,
    kind: FormKind,
    mut fields: Fields,
) -> Result<Form, ApplicationError> {
    let applicant = caller.applicant();
    if !applicant.files(kind) {
        return Err(ApplicationError::NotFiledBy { kind, applicant: applicant.kind() });
    }
    let mut owner = match fields.key.as_deref().map(str::trim) {
        Some(key) => world::owner_of_key(conn, &CredentialId::from(key)).await?,
        None => None,
    };
    if let Caller::Client(own) = caller {
        owner = owner.filter(|owner| owner == own);
        if kind == FormKind::Apply {
            let named = fields.client.get_or_insert_with(|| own.0.clone()).trim();
            if named != own.as_str() && !named.is_empty() {
                return Err(FieldFault::UnknownClient(ClientId::from(named)).into());
            }
        }
    }
    let form = Form::parse(kind, fields, owner)?;
    if let (Caller::Visitor(confirmed), Some(asked)) = (caller, form.registration())
        && asked.emails.first() != Some(confirmed)
    {
        return Err(FieldFault::NotConfirmed { confirmed: confirmed.clone() }.into());
    }
    Ok(form)
}

/// Asks the form's rules about the world; `id` is the form itself once it has one.
pub(super) async fn checked(
    conn: &mut Conn,
    app: &App,
    form: &Form,
    applicant: &Applicant,
    id: Option<&str>,
    moment: Moment,
) -> Result<(), ApplicationError> {
    let today = today(app, app.now());
    let world = world::around(conn, &app.config, form, applicant, id, today).await?;
    Ok(form.check(&world, moment)?)
}

fn commented(comment: &str) -> Result<String, ApplicationError> {
    let chars = comment.chars().count();
    let comment = comment.trim();
    if chars > MAX_COMMENT_CHARS {
        Err(ApplicationError::CommentTooLong { chars })
    } else {
        Ok(comment.to_owned())
    }
}

/// The day it is in the installation's zone.
pub(super) fn today(app: &App, now: UnixMillis) -> Date {
    day_of(now, &app.config.zone())
}
