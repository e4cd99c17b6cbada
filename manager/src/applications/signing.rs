//! How people stand to forms, and what a form's transaction does among its signers. The rules are
//! those of `approvals::signers`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use gate::time::UnixMillis;

use super::applicant::{Applicant, Caller};
use super::error::ApplicationError;
use super::model::{Action, Application, Signing, Standing, State};
use super::turn::flow_of;
use super::waiting;
use crate::app::App;
use crate::approvals::rounds::{self, Author, Round};
use crate::approvals::signers::{self, Bar, Right, Signer, Word};
use crate::clients;
use crate::db::{Conn, DbError};
use crate::operators::Permission;

/// How somebody stands to a form, and what that rests on.
pub(super) struct Position {
    /// What the rules want to know.
    pub standing: Standing,
    /// Where the form stands among its signers, if it waits for one.
    pub round: Option<Round>,
    /// By what they would sign.
    pub right: Option<Right>,
}

/// How the caller stands to each of these forms, in their order: what is asked of the database is
/// asked once, however many they are.
pub(super) async fn positions(
    conn: &mut Conn,
    app: &App,
    caller: Caller<'_>,
    applications: &[Application],
) -> Result<Vec<Position>, DbError> {
    let waits = |application: &&Application| matches!(application.state, State::PendingOrder { .. });
    let waiting: Vec<&Application> = applications.iter().filter(waits).collect();
    let reviewer = caller.operator().filter(|actor| actor.token_reaches(Permission::ApplicationsReview));
    let mut rounds: BTreeMap<String, Round> = BTreeMap::new();
    let (mut flows, mut circle) = (BTreeMap::new(), None);
    if reviewer.is_some() && !waiting.is_empty() {
        circle = Some(signers::circle(conn, &app.config, app.now()).await?);
        for application in &waiting {
            let kind = application.form.kind();
            if let Entry::Vacant(flow) = flows.entry(kind) {
                flow.insert(flow_of(conn, kind).await?);
            }
        }
    }
    let ids: Vec<&str> = waiting.iter().map(|application| application.id.as_str()).collect();
    let all = rounds::of(conn, &ids).await?;
    rounds.extend(all.into_iter().map(|round| (round.form.clone(), round)));
    let (applicant, files) = (caller.applicant(), caller.reaches(Permission::ApplicationsApply));
    let position = |application: &Application| {
        let round = rounds.remove(&application.id).filter(|round| waits_as_in(application, round));
        let flow = flows.get(&application.form.kind()).and_then(Option::as_ref);
        let word = match (reviewer, &circle, flow, &round) {
            (Some(actor), Some(circle), Some(flow), Some(round)) => circle.word(flow, round, &actor.operator),
            _ => Word::Nothing,
        };
        let (signing, right) = match word {
            Word::Nothing => (Signing::No, None),
            Word::Barred(Bar::OwnForm) => (Signing::OwnForm, None),
            Word::Barred(Bar::Signed { level }) => (Signing::Signed { level }, None),
            Word::NoApproval(right, shortage) => {
                (Signing::NoApproval { level: shortage.level() }, Some(right))
            }
            Word::Full(right) => (Signing::Full, Some(right)),
        };
        let standing = Standing {
            applicant: files && application.applicant == applicant,
            signing,
            overseer: caller.may(Permission::KeysWrite),
        };
        Position { standing, round, right }
    };
    Ok(applications.iter().map(position).collect())
}

/// How the caller stands to each of these forms, in their order.
pub(super) async fn standings(
    conn: &mut Conn,
    app: &App,
    caller: Caller<'_>,
    applications: &[Application],
) -> Result<Vec<Standing>, DbError> {
    let positions = positions(conn, app, caller, applications).await?;
    Ok(positions.into_iter().map(|position| position.standing).collect())
}

/// Moves the round of a form on with the form itself, which `action` by `signer` has made what it
/// is. Returns the round in which it waits now.
pub(super) async fn follow(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    action: Action,
    signer: &str,
    (round, right): (Option<Round>, Option<&Right>),
    now: UnixMillis,
) -> Result<Option<Round>, DbError> {
    match (action, &application.state) {
        (Action::Submit | Action::Resubmit, &State::PendingOrder { levels, .. }) => {
            let number = application.number.map(|number| number.to_string()).unwrap_or_default();
            let form = (application.id.as_str(), application.form.kind(), number.as_str());
            let author = author(conn, &application.applicant).await?;
            let round = rounds::begin(conn, form, &author, levels, now).await?;
            waiting::plan(conn, app, &round, now).await?;
            Ok(Some(round))
        }
        (Action::Approve, _) => match (round, right) {
            (Some(round), Some(right)) => {
                waiting::forget(conn, &application.id, now).await?;
                let next = rounds::sign(conn, &round, signer, right, now).await?;
                if let Some(next) = &next {
                    waiting::plan(conn, app, next, now).await?;
                }
                Ok(next)
            }
            _ => Err(without_round(application)),
        },
        (_, State::PendingOrder { .. }) => Ok(round),
        (_, _) => {
            end(conn, &application.id, now).await?;
            Ok(None)
        }
    }
}

/// No level of the form waits any more, nor is anything planned for one.
pub(super) async fn end(conn: &mut Conn, form: &str, now: UnixMillis) -> Result<(), DbError> {
    waiting::forget(conn, form, now).await?;
    rounds::end(conn, form, now).await
}

/// Err: the form that begins `round` would not find its signers. To be asked behind the audit
/// entry, whose lock puts transactions in order: the flow may have changed, an operator left.
pub(super) async fn must_find_signers(
    conn: &mut Conn,
    app: &App,
    round: &Round,
) -> Result<(), ApplicationError> {
    let kind = round.kind;
    let flow = flow_of(conn, kind).await?.ok_or(ApplicationError::NoFlow { kind })?;
    let circle = signers::circle(conn, &app.config, app.now()).await?;
    match circle.shortage(&flow, round) {
        Some(shortage) => Err(ApplicationError::NoSigner { kind, shortage }),
        None => Ok(()),
    }
}

/// Why a form that waits does not find its signers, as people are told; None: it does.
pub(super) async fn shortage(
    conn: &mut Conn,
    app: &App,
    application: &Application,
) -> Result<Option<String>, DbError> {
    let Some(round) = rounds::find(conn, &application.id).await? else { return Ok(None) };
    let Some(flow) = flow_of(conn, round.kind).await? else { return Ok(None) };
    let circle = signers::circle(conn, &app.config, app.now()).await?;
    Ok(circle.shortage(&flow, &round).map(|shortage| shortage.to_string()))
}

/// Everybody who may have a word at the level of `round` that waits.
pub(super) async fn signers_of(conn: &mut Conn, app: &App, round: &Round) -> Result<Vec<Signer>, DbError> {
    let Some(flow) = flow_of(conn, round.kind).await? else { return Ok(Vec::new()) };
    let circle = signers::circle(conn, &app.config, app.now()).await?;
    Ok(circle.signers(&flow, round))
}

/// Who files it, at the moment. Behind a client may be an operator: one who knows its password, or one
/// who reads its mails, by which a password is reset.
pub(super) async fn author(conn: &mut Conn, applicant: &Applicant) -> Result<Author, DbError> {
    Ok(match applicant {
        Applicant::Operator(id) => Author::operator(id.clone()),
        Applicant::Client(id) => {
            let client = clients::by_id(conn, id.as_str()).await?;
            let emails = client.iter().flat_map(|client| &client.emails);
            Author {
                operator: clients::password_set_by(conn, id.as_str()).await?,
                emails: emails.map(|email| email.as_str().to_owned()).collect(),
            }
        }
        Applicant::Visitor { email } => Author { operator: None, emails: vec![email.as_str().to_owned()] },
    })
}

fn waits_as_in(application: &Application, round: &Round) -> bool {
    application.state == State::PendingOrder { level: round.level, levels: round.levels }
}

fn without_round(application: &Application) -> DbError {
    DbError::Inconsistency { table: "approval_rounds", column: "level", row: application.id.clone() }
}
