//! Keys through the router and in a form's transaction, on both databases.

mod life;
mod mails;
mod reminders;
mod secrets;

use gate::id::{ClientId, CredentialId};
use gate::wire::changes::Subject;
use gate::wire::exchange::MeterKind;
use jiff::civil::date;
use serde_json::{Value, json};

use super::{IssuedKey, KeyName, NewKey, Terms, UseQuota, issue, parse_apis};
use crate::testing::{Caller, World};
use crate::validity::Validity;
use crate::{changes, quotas};

const HOUR_MS: i64 = 3_600_000;
const API_KEY: &str = "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==";
const SECRET: &str =
    "YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw==";

/// A client `acme` with an address, and the uids of two APIs.
async fn furnish(admin: &Caller) -> Vec<String> {
    let client = json!({
        "id": "acme", "name": "acme", "display_name": "Acme Ltd.", "note": "Ann", "emails": "ops@acme.example",
        "password": "secret-1", "password_confirmation": "secret-1",
    });
    admin.post("/api/v1/clients", client).await.expect(201);
    let mut apis = Vec::new();
    for name in ["orders", "invoices"] {
        let api = json!({
            "module": "shop", "id": name, "name": name, "hosts": ["api.example"], "methods": ["POST"], "accepts": ["dgrk"],
            "path": { "exact": format!("/{name}") },
        });
        let made = admin.post("/api/v1/apis", api).await.expect(201);
        apis.push(made["uid"].as_str().expect("a uid").to_owned());
    }
    apis
}

fn terms(world: &World, quota: i64, apis: &[String]) -> Terms {
    Terms::new(
        KeyName::parse("orders key").expect("a name"),
        Validity::new(date(2026, 1, 15), date(2026, 12, 31)).expect("in order"),
        UseQuota::parse(quota).expect("a quota"),
        parse_apis(apis.to_vec()).expect("APIs"),
        &world.app.config.zone(),
    )
}

async fn issued(world: &World, quota: i64, apis: &[String]) -> IssuedKey {
    let new = NewKey {
        client: ClientId::from("acme"),
        terms: terms(world, quota, apis),
        application: None,
        applied_by: None,
    };
    let now = world.app.now();
    let mut tx = world.app.db.write("test.issue").await.expect("a transaction");
    let issued = issue(&mut tx, &world.app, new, "system", now).await.expect("issued");
    tx.commit().await.expect("committed");
    issued
}

fn import_of(apis: &[String]) -> Value {
    json!({
        "client": "acme", "api_key": API_KEY, "secret_key": SECRET, "name": "from before",
        "expiry_date": "2026-12-31", "quota": 5, "apis": apis,
    })
}

/// The newest change.
async fn last_change(world: &World) -> Subject {
    let mut conn = world.app.db.read().await.expect("a connection");
    let head = changes::head(&mut conn).await.expect("a head").revision;
    let before = gate::id::Revision(head.0 - 1);
    match changes::page(&mut conn, before, head, 1).await.expect("a page") {
        changes::Page::Changes(mut page) => page.pop().expect("one").subject,
        changes::Page::TooOld => panic!("just made"),
    }
}

async fn limit_of(world: &World, key: &CredentialId) -> Option<u64> {
    let mut conn = world.app.db.read().await.expect("a connection");
    let meter = quotas::meter_of(&mut conn, MeterKind::KeyUses, key.as_str()).await.expect("asked");
    meter.map(|meter| meter.limit.units)
}
