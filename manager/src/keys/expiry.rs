//! Reminders that a key ends: one key a transaction, which locks nothing else.

use super::mails;
use super::store;
use crate::app::App;
use crate::clients;
use crate::db::Conn;
use crate::expiry::{PAGE, Reminder, Round};
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
    // Somebody else may have changed or revoked it meanwhile.
    if !store::set_reminded(conn, &ending, due.days()).await? || matches!(due, Reminder::Skip(_)) {
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
