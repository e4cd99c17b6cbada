//! Reminders that a key ends: one key a transaction, which locks nothing else.

use super::mails;
use super::store;
use crate::app::App;
use crate::clients;
use crate::db::Conn;
use crate::expiry::{Reminder, Round};
use crate::schedule::{Outcome, Task};
use crate::validity::day_of;

/// Looks at the next key that ends soon, and tells its client where a reminder is due.
pub(super) async fn remind(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let (mut round, now, zone) = (Round::of(task), app.now(), app.config.zone());
    let days = &app.config.key_expiry_reminder_days;
    let steps = days.steps(now, &zone);
    let Some(ending) = store::next_to_remind(conn, &steps, &round.after, now).await? else {
        return Ok(round.is_done());
    };
    round.after = (ending.expires_at.0, ending.id.0.clone());
    let set_on = day_of(ending.expiry_set_at, &zone);
    let Some(due) = days.due(day_of(ending.expires_at, &zone), set_on, day_of(now, &zone)) else {
        return Ok(round.goes_on());
    };
    let (Reminder::Tell(reminder) | Reminder::Skip(reminder)) = due;
    // Somebody else may have changed or revoked it meanwhile.
    if !store::set_reminded(conn, &ending, reminder).await? || due == Reminder::Skip(reminder) {
        return Ok(round.goes_on());
    }
    let Some(key) = store::by_id(conn, &ending.id).await? else { return Ok(round.goes_on()) };
    let client = clients::by_id(conn, key.client.as_str()).await?;
    let recipients = client.as_ref().map(clients::recipients).unwrap_or_default();
    if recipients.is_empty() {
        round.unaddressed += 1;
    } else {
        round.told += 1;
        mails::mail_expiry(conn, app, &key, recipients, now).await?;
    }
    Ok(round.goes_on())
}
