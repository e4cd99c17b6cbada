//! Python's authlib, which nobody here has written, drives every grant through the real Envoy, knowing
//! nothing but the issuer's name.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use e2e::cast::CLIENT_PASSWORD;
use e2e::client::Call;
use e2e::provision;
use e2e::world::{Database, Plan, World};
use serde_json::{Value, json};

/// Nobody listens there: the program plays the browser itself.
const REDIRECT: &str = "http://127.0.0.1:9/callback";
/// As digiRunner's tokens say it.
const AUDIENCE: &str = "YWRtaW5BUEk";

/// All that the program prints: what it has driven.
const DRIVEN: [&str; 7] = [
    "client_credentials by client_secret_basic",
    "password by client_secret_basic",
    "authorization_code by client_secret_basic",
    "client_credentials by client_secret_post",
    "password by client_secret_post",
    "authorization_code by client_secret_post",
    "authorization_code by none",
];

async fn drive(name: &str, database: Database) -> Result<()> {
    let mut world = World::start(name, Plan { database, ..Plan::default() }).await?;
    // Its issuer is where its clients reach it: at the gateway.
    let issuer = format!("http://{}", world.envoy().address);
    world.manager.stop().await?;
    world.manager.set("token_issuer", &format!("{issuer:?}"))?;
    world.manager.start().await?;

    let orders = world.api("orders", "/orders", json!({ "accepts": ["bearer"] })).await?;
    let group = world.group("partners", &[&orders]).await?;
    let client = world.client("acme", json!({ "groups": [group] })).await?;
    let grants = ["client_credentials", "password", "authorization_code", "refresh_token"];
    let path = format!("/api/v1/clients/{client}/token-settings");
    world.admin.write("PUT", &path, "", settings(&grants)).await?;
    // A client of a file has no password.
    let public = json!({ "apiVersion": "keygate/v1", "kind": "Client", "spec": {
        "id": "app", "name": "app", "display_name": "App", "note": "end-to-end tests", "groups": ["partners"],
        "token_settings": settings(&["authorization_code", "refresh_token"]),
    }});
    world.manager.run_with(&["apply", "--yes", "-f", "-"], &public.to_string())?;
    let user = json!({ "name": "ann", "display_name": "Ann Lee", "password": "secret-of-ann" });
    world.admin.post("/api/v1/users", user).await?;
    world.until_known(&Call::get("/orders")).await?;

    let place = json!({
        "issuer": issuer, "api": format!("{issuer}/orders/1"), "audience": AUDIENCE, "redirect": REDIRECT,
        "client": { "id": client, "secret": CLIENT_PASSWORD },
        "public": { "id": "app" },
        "user": { "name": "ann", "password": "secret-of-ann" },
    });
    let driven = run(&place)?;
    assert_eq!(driven.lines().collect::<Vec<_>>(), DRIVEN);
    Ok(())
}

fn settings(grants: &[&str]) -> Value {
    let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
    json!({
        "grant_types": grants, "access_token": terms, "refresh_token": terms, "redirect_urls": [REDIRECT],
    })
}

fn run(place: &Value) -> Result<String> {
    let program = provision::root().join("tests/e2e/independent_client/run.py");
    let mut child = Command::new(provision::independent_client()?)
        .arg(program.canonicalize()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the independent client")?;
    child.stdin.take().context("its input")?.write_all(place.to_string().as_bytes())?;
    let output = child.wait_with_output().context("wait for the independent client")?;
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "the independent client fails:\n{printed}{said}");
    Ok(printed.into_owned())
}

#[test]
fn authlib_drives_every_grant_on_sqlite() -> Result<()> {
    e2e::run(drive("independent_client", Database::Sqlite))
}

#[test]
fn authlib_drives_every_grant_on_postgresql() -> Result<()> {
    e2e::run(drive("independent_client_pg", Database::Postgres))
}
