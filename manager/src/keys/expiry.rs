//! Reminders that a key ends: one key a transaction, which locks nothing else.

use super::mails;
use super::store;
use crate::app::App;
use crate::clients;
use crate::db::{Conn, savepoint};
use crate::expiry::{Ending, PAGE, Reminder, Round, Told};
use crate::schedule::{Outcome, Task};

/// Looks at the next key that ends soon, and tells its client where a reminder is due.
pub(super) async fn remind(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let (mut round, now, zone) = (Round::of(task), app.now(), app.config.zone());
    let days = &app.config.key_expiry_reminder_days;
    let window = (now, days.horizon(now, &zone));
    let page =
        if days.is_off() { Vec::new() } else { store::ending(conn, window, &round.after, PAGE).await? };
    let Some((ending, due)) = days.next(&page, &mut round, now, &zone) else {
        return Ok(if page.is_empty() { round.is_done() } else { round.goes_on() });
    };
    let mut point = savepoint(conn).await?;
    match remind_of(&mut point, app, &ending, due).await {
        Ok(told) => {
            point.keep().await?;
            round.add(told);
        }
        Err(error) => {
            // Nor is it marked: the next round tries again.
            point.take_back().await?;
            round.failed(&ending.id, error)?;
        }
    }
    Ok(round.goes_on())
}

async fn remind_of(conn: &mut Conn, app: &App, ending: &Ending, due: Reminder) -> anyhow::Result<Told> {
    // Somebody else may have changed or revoked it meanwhile.
    if !store::set_reminded(conn, ending, due.days()).await? || matches!(due, Reminder::Skip(_)) {
        return Ok(Told::NotWanted);
    }
    let Some(key) = store::by_id(conn, &ending.id).await? else { return Ok(Told::NotWanted) };
    let client = clients::by_id(conn, key.client.as_str()).await?;
    let recipients = client.as_ref().map(clients::recipients).unwrap_or_default();
    if recipients.is_empty() {
        return Ok(Told::Nobody);
    }
    mails::mail_expiry(conn, app, &key, recipients, app.now()).await?;
    Ok(Told::Client)
}
