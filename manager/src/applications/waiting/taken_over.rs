//! Forms that a replica of an older version moved while this one ran already: it knows nothing of
//! rounds, so that they stand elsewhere among their signers than the forms themselves do.

use gate::time::UnixMillis;

use super::super::error::ApplicationError;
use super::super::history;
use super::super::model::{State, Step};
use super::super::signing::{author, end};
use super::super::store;
use super::plan;
use crate::app::App;
use crate::approvals::rounds::{self, Round, Signature};
use crate::db::Conn;

/// Forms that are put right in one run; the next one goes on.
const PAGE: i64 = 500;

/// Has rounds stand where their forms do, as the history tells it.
pub(super) async fn take_over(app: &App) -> Result<(), ApplicationError> {
    let astray = store::astray(&mut *app.db.read().await?, PAGE).await?;
    for id in &astray {
        let mut tx = app.db.write("applications.take_over").await?;
        if !store::lock(&mut tx, id).await? || !store::is_astray(&mut tx, id).await? {
            continue;
        }
        match put_right(&mut tx, app, id, app.now()).await {
            Ok(()) => tx.commit().await?,
            // Its row makes no sense: the others are not to wait for it.
            Err(error) => tracing::error!(form = id, "A form could not be taken over: {error}"),
        }
    }
    Ok(())
}

async fn put_right(conn: &mut Conn, app: &App, id: &str, now: UnixMillis) -> Result<(), ApplicationError> {
    let Some(form) = store::find(conn, id).await? else { return Ok(()) };
    end(conn, id, now).await?;
    let State::PendingOrder { level, levels } = form.state else { return Ok(()) };
    let steps = history::of(conn, id).await?;
    let handed_in = |step: &Step| matches!(step.action.as_str(), "submit" | "resubmit");
    let last = steps.iter().rposition(handed_in).unwrap_or_default();
    let signatures: Vec<_> = steps.iter().skip(last).filter_map(signature).collect();
    let round = Round {
        number: form.number.map(|number| number.to_string()).unwrap_or_default(),
        author: author(conn, &form.applicant).await?,
        round: u32::try_from(steps.iter().filter(|step| handed_in(step)).count()).unwrap_or(u32::MAX),
        level,
        since: form.updated_at,
        form: form.id,
        ..Round::imagined(form.form.kind(), levels)
    };
    rounds::restore(conn, &round, &signatures).await?;
    plan(conn, app, &round, now).await?;
    Ok(())
}

fn signature(step: &Step) -> Option<(Signature, UnixMillis)> {
    let level = step.level.filter(|_| step.action == "approve")?;
    let (signer, on_behalf_of) = (step.actor.clone(), step.on_behalf_of.clone());
    Some((Signature { level, signer, on_behalf_of, escalated: step.escalated }, step.at))
}
