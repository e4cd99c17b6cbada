//! What is nearly used up is told; at which parts is set.

use gate::id::{CredentialId, MeterId};
use gate::time::UnixMillis;
use gate::wire::exchange::MeterKind;
use serde_json::json;

use super::model::{ALL, Percents};
use super::store::{self, Saved};
use crate::app::App;
use crate::audit;
use crate::clients::{self, Client, ClientError};
use crate::db::{Conn, DbError};
use crate::keys::{self, Key, KeyState};
use crate::mail::contexts::{Calls, Per, QuotaReached};
use crate::mail::{self, About, NewMail};
use crate::quotas::{self, Meter, Outstanding, Period};
use crate::validity::print_instant;

/// Meters that are asked for at a time.
const PAGE: i64 = 200;

/// Whose meter it is.
struct Owner {
    client: Client,
    /// The key whose uses it counts.
    key: Option<Key>,
}

/// What is to be done about a meter.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// Tell of these parts, ascending.
    Tell(Vec<u8>),
    /// Nothing before this part is handed out.
    PutOff(u8),
    /// A lease that is still out decides.
    Wait,
    /// Nothing more in this generation.
    Nothing,
}

/// Looks at every meter of which something may be to tell. One that fails does not keep the others.
pub(super) async fn look(app: &App) -> anyhow::Result<()> {
    let (mut after, mut failed) = (None, None);
    loop {
        let page = quotas::candidates(&mut *app.db.read().await?, after, app.now(), PAGE).await?;
        for meter in &page {
            if let Err(error) = look_at(app, *meter).await {
                failed = Some(error.context(format!("meter {meter}")));
            }
        }
        after = page.last().copied();
        if (page.len() as i64) < PAGE {
            return failed.map_or(Ok(()), Err);
        }
    }
}

async fn look_at(app: &App, id: MeterId) -> anyhow::Result<()> {
    let now = app.now();
    let waits = {
        let mut read = app.db.snapshot().await?;
        match standing(&mut read, id, now, false).await? {
            Some((.., due)) => due == Due::Wait,
            None => false,
        }
    };
    if waits {
        return Ok(());
    }
    let mut write = app.db.write("quota_warnings.look").await?;
    // Once more, with the row held: a renewal, a raise of the limit or another replica may have come.
    match standing(&mut write, id, now, true).await? {
        None => quotas::unwatch(&mut write, id).await?,
        Some((_, _, _, Due::Wait)) => return Ok(()),
        Some((_, _, _, Due::Nothing)) => quotas::unwatch(&mut write, id).await?,
        Some((_, _, _, Due::PutOff(percent))) => quotas::put_off(&mut write, id, percent).await?,
        Some((meter, out, owner, Due::Tell(percents))) => {
            let mut highest = None;
            for percent in percents {
                if quotas::tell(&mut write, id, meter.generation, percent, now).await? {
                    highest = Some(percent);
                }
            }
            if let (Some(percent), Some(owner)) = (highest, owner) {
                tell(&mut write, app, &owner, (&meter, out), percent, now).await?;
            }
        }
    }
    write.commit().await?;
    Ok(())
}

/// The meter, and what is due. None: it is gone, or its owner is.
async fn standing(
    conn: &mut Conn,
    id: MeterId,
    now: UnixMillis,
    lock: bool,
) -> Result<Option<(Meter, Outstanding, Option<Owner>, Due)>, DbError> {
    let Some((meter, out)) = quotas::meter_by_id(conn, id, now, lock).await? else { return Ok(None) };
    let Some(owner) = owner_of(conn, &meter).await? else { return Ok(None) };
    let percents = store::of_client(conn, owner.client.id.as_str()).await?.percents;
    let told = quotas::told(conn, id, meter.generation).await?;
    let turned = meter.window.is_some_and(|window| window.end <= now);
    let due = if turned { Due::Nothing } else { due(&meter, out, &percents, &told) };
    Ok(Some((meter, out, Some(owner), due)))
}

fn due(meter: &Meter, out: Outstanding, percents: &Percents, told: &[u8]) -> Due {
    if !meter.reaches(meter.debited, quotas::LEAST_PERCENT) {
        return Due::Nothing;
    }
    let untold: Vec<u8> = percents.iter().filter(|percent| !told.contains(percent)).collect();
    let used: Vec<u8> =
        untold.iter().copied().filter(|percent| meter.reaches(meter.used(out), *percent)).collect();
    match (used.is_empty(), untold.first()) {
        (false, _) => Due::Tell(used),
        (true, None) => Due::Nothing,
        (true, Some(next)) if meter.reaches(meter.debited, *next) => Due::Wait,
        (true, Some(next)) => Due::PutOff(*next),
    }
}

async fn owner_of(conn: &mut Conn, meter: &Meter) -> Result<Option<Owner>, DbError> {
    let key = match meter.kind {
        MeterKind::ClientQuota => None,
        MeterKind::KeyUses => match keys::by_id(conn, &CredentialId(meter.owner.clone())).await? {
            // Nobody can use what is left of it.
            Some(Key { state: KeyState::Revoked { .. }, .. }) | None => return Ok(None),
            Some(key) => Some(key),
        },
        // Tokens have none that anybody could be told of.
        MeterKind::TokenUses => return Ok(None),
    };
    let client = match (meter.kind, &key) {
        (MeterKind::ClientQuota, _) => clients::by_id(conn, &meter.owner).await?,
        (_, Some(key)) => clients::by_id(conn, key.client.as_str()).await?,
        (_, None) => None,
    };
    Ok(client.map(|client| Owner { client, key }))
}

/// Mails and records, in the caller's transaction.
async fn tell(
    conn: &mut Conn,
    app: &App,
    owner: &Owner,
    (meter, out): (&Meter, Outstanding),
    percent: u8,
    now: UnixMillis,
) -> anyhow::Result<()> {
    let client = owner.client.id.as_str();
    let recipients = clients::recipients(&owner.client);
    let about = match &owner.key {
        Some(key) => About::new("key", key.id.as_str()),
        None => About::new("client", client),
    };
    let subject = format!("{}:{}", about.kind, about.id);
    let (addresses, used) = (recipients.len(), meter.used(out));
    if !recipients.is_empty() {
        let context = QuotaReached {
            product_name: app.config.product_name.clone(),
            client_id: client.into(),
            client_name: owner.client.display_name.clone(),
            key_name: owner.key.as_ref().map(|key| key.name.as_str().into()),
            api_key: owner.key.as_ref().map(|key| key.api_key.as_str().into()),
            percent,
            is_used_up: percent == ALL,
            quota: Calls {
                calls: meter.in_force(),
                per: match meter.limit.period {
                    Period::Total => Per::Total,
                    Period::Day => Per::Day,
                    Period::Week => Per::Week,
                    Period::Month => Per::Month,
                },
            },
            used,
            left: meter.in_force().saturating_sub(used),
            begins_again_at: meter.window.map(|window| print_instant(window.end, &app.config.zone())),
            time_zone: app.config.zone().iana_name().unwrap_or("UTC").into(),
            url: format!("{}/client/v1/meters", app.config.base_url()),
        };
        mail::enqueue(conn, app, NewMail { recipients, context, not_before: now, about }, now).await?;
    }
    let entry = audit::Entry {
        actor: "system".into(),
        action: "quotas.warn",
        subject,
        detail: json!({
            "client": client,
            "percent": percent,
            "limit": meter.in_force(),
            "used": used,
            "withheld": out.withheld,
            "window_start": meter.window.map(|window| window.start.0),
            "addresses": addresses,
        }),
    };
    audit::record(conn, entry, now).await?;
    Ok(())
}

pub(super) async fn get(app: &App, client: &str) -> Result<Saved, ClientError> {
    let mut read = app.db.snapshot().await?;
    let Some(client) = clients::by_id(&mut read, client).await? else {
        return Err(ClientError::NotFound { id: client.into() });
    };
    Ok(store::of_client(&mut read, client.id.as_str()).await?)
}

pub(super) async fn set(
    app: &App,
    by: &str,
    client: &str,
    expected: Option<i64>,
    percents: Percents,
) -> Result<Saved, ClientError> {
    let now = app.now();
    let mut write = app.db.write("quota_warnings.set").await?;
    let client = clients::hold(&mut write, client).await?;
    let client = client.id.as_str();
    let before = store::of_client(&mut write, client).await?;
    if let Some(expected) = expected
        && expected != before.version
    {
        return Err(ClientError::Version { expected, present: before.version });
    }
    if !store::save(&mut write, client, before.version, &percents, now).await? {
        return Err(ClientError::Version { expected: before.version, present: before.version + 1 });
    }
    quotas::hold_all_of(&mut write, client).await?;
    quotas::watch_all_of(&mut write, client).await?;
    let shown = |percents: &Percents| json!({ "percents": percents.iter().collect::<Vec<_>>() });
    let entry = audit::Entry {
        actor: by.into(),
        action: "quotas.set_warnings",
        subject: format!("client:{client}"),
        detail: json!({ "changed": audit::changed(&shown(&before.percents), &shown(&percents)) }),
    };
    audit::record(&mut write, entry, now).await?;
    write.commit().await?;
    Ok(Saved { percents, updated_at: Some(now), version: before.version + 1 })
}
