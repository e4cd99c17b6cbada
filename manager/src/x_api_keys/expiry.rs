//! Reminders that an X-Api-Key ends: one key a transaction, which locks nothing else.

use gate::time::UnixMillis;

use super::model::XApiKey;
use super::store;
use crate::app::App;
use crate::clients::{self, Client};
use crate::db::{Conn, savepoint};
use crate::expiry::{Ending, PAGE, Reminder, Round, Told, days_left};
use crate::mail::contexts::XApiKeyExpiring;
use crate::mail::{self, About, MailError, NewMail};
use crate::schedule::{Outcome, Task};
use crate::validity::Validity;

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
    // Somebody else may have deleted it meanwhile.
    if !store::set_reminded(conn, &ending.id, due.days()).await? || matches!(due, Reminder::Skip(_)) {
        return Ok(Told::NotWanted);
    }
    let Some(key) = store::by_id(conn, &ending.id).await? else { return Ok(Told::NotWanted) };
    let client = clients::by_id(conn, key.client.as_str()).await?;
    let Some(client) = client.filter(|client| !client.emails.is_empty()) else { return Ok(Told::Nobody) };
    tell(conn, app, &key, &client, app.now()).await?;
    Ok(Told::Client)
}

async fn tell(
    conn: &mut Conn,
    app: &App,
    key: &XApiKey,
    client: &Client,
    now: UnixMillis,
) -> Result<(), MailError> {
    let zone = app.config.zone();
    let context = XApiKeyExpiring {
        product_name: app.config.product_name.clone(),
        mask: key.trace.mask.clone(),
        key_name: key.alias.as_str().into(),
        client_id: key.client.0.clone(),
        client_name: client.display_name.clone(),
        days_left: days_left(app, key.validity.until, now),
        expires_on: Validity::of_instants(key.validity, &zone).expires_on().to_string(),
        time_zone: zone.iana_name().unwrap_or("UTC").into(),
    };
    let mail = NewMail {
        recipients: clients::recipients(client),
        context,
        not_before: now,
        about: About::new("x_api_key", key.id.as_str()),
    };
    mail::enqueue(conn, app, mail, now).await?;
    Ok(())
}
