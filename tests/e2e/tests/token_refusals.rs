//! `tests/vectors/tokens/calls.json`, case by case, through the real Envoy: what a call with a Bearer or a
//! Basic is told in the `digirunner` format, and which of two faults.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::cast::CLIENT_PASSWORD;
use e2e::client::{self, Answer, Call};
use e2e::tokens::{forged, form};
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::{Value, json};

const VECTORS: &str = include_str!("../../vectors/tokens/calls.json");
/// What was changed at the manager is known here.
const LIMIT: Duration = Duration::from_secs(5);
/// Of a token whose time is over when it is presented.
const BRIEF: Duration = Duration::from_secs(1);

struct Stage {
    world: World,
    group: String,
}

/// What is presented, and what stands in the expected answer for it.
struct Presented {
    call: Call,
    client: String,
    jti: String,
    window: [&'static str; 2],
}

impl Stage {
    async fn change(&self, client: &str, fields: &Value) -> Result<()> {
        if !fields.is_null() {
            self.world.admin.patch(&format!("/api/v1/clients/{client}"), fields.clone()).await?;
        }
        Ok(())
    }

    /// Makes what is given, and calls as often as it says.
    async fn prepare(&self, client: &str, case: &Value) -> Result<Presented> {
        let (world, given) = (&self.world, &case["given"]);
        world.client(client, json!({ "id": client, "groups": [self.group] })).await?;
        let validity = if given["token"] == "expired" { BRIEF.as_secs() } else { 3_600 };
        let terms =
            json!({ "validity": validity, "unit": "seconds", "uses": given["uses"].as_u64().unwrap_or(0) });
        let all = json!(["client_credentials", "password"]);
        let settings = json!({
            "grant_types": given["grants"].as_array().map_or(all, |grants| json!(grants)),
            "access_token": terms, "refresh_token": terms, "redirect_urls": [],
        });
        world.admin.write("PUT", &format!("/api/v1/clients/{client}/token-settings"), "", settings).await?;
        let (header, jti) = match case["kind"].as_str() {
            Some("bearer") => self.token(client, given).await?,
            _ => {
                let id = given["id"].as_str().unwrap_or(client);
                let password = given["password"].as_str().unwrap_or(CLIENT_PASSWORD);
                (format!("Basic {}", STANDARD.encode(format!("{id}:{password}"))), String::new())
            }
        };
        let call = Call::get("/orders/1").header("authorization", header);

        let quota =
            json!({ "quota": given["client"]["quota"], "quota_period": given["client"]["quota_period"] });
        if !given["client"]["quota"].is_null() {
            self.change(client, &quota).await?;
        }
        for _ in 0..given["calls"].as_u64().unwrap_or(0) {
            let answer = world.call(&call).await?;
            ensure!(answer.status == 200, "before: {}", answer.text());
        }
        let window = if wait::is_morning() { ["20:00", "21:00"] } else { ["02:00", "03:00"] };
        if given["closed"] == true {
            let [from, until] = window;
            let closed = json!({ "service_from": from, "service_until": until, "time_zone": "UTC" });
            self.change(client, &closed).await?;
        }
        if given["calls"].is_null() {
            self.change(client, &given["client"]).await?;
        }
        self.change(client, &given["then"]).await?;
        Ok(Presented { call, client: client.to_owned(), jti, window })
    }

    /// A token of a client, or of a user by way of it, and what became of it. Its id is told too.
    async fn token(&self, client: &str, given: &Value) -> Result<(String, String)> {
        let world = &self.world;
        let mut asks = "grant_type=client_credentials".to_owned();
        let mut user = Value::Null;
        if !given["user"].is_null() {
            let account = json!({ "name": format!("user-{client}"), "password": "secret-of-a-user" });
            user = world.admin.post("/api/v1/users", account).await?;
            asks = format!("grant_type=password&username=user-{client}&password=secret-of-a-user");
        }
        let answer = client::http1(world.manager.address, &form(client, "/oauth/token", &asks)).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        let answer = answer.json();
        let token = answer["access_token"].as_str().context("a token")?.to_owned();
        let jti = answer["jti"].as_str().context("an id")?.to_owned();
        if given["revoked"] == true {
            let revoke = form(client, "/oauth2/revoke", &format!("token={token}"));
            ensure!(client::http1(world.manager.address, &revoke).await?.status == 200, "it is revoked");
        }
        if let (Some(id), Some(status)) = (user["id"].as_str(), given["user"].as_str()) {
            world.admin.patch(&format!("/api/v1/users/{id}"), json!({ "status": status })).await?;
        }
        let token = match given["token"].as_str() {
            Some("forged") => forged(&token)?,
            Some("expired") => {
                // Its last instant is within the second after that.
                tokio::time::sleep(2 * BRIEF).await;
                token
            }
            Some(other) => other.to_owned(),
            None => token,
        };
        Ok((format!("Bearer {token}"), jti))
    }
}

impl Presented {
    fn expected(&self, case: &Value) -> Result<Value> {
        let [from, until] = self.window.map(|time| format!("{time}+0000"));
        let pairs =
            [("{client}", &self.client), ("{jti}", &self.jti), ("{from}", &from), ("{until}", &until)];
        let text =
            pairs.iter().fold(case["body"].to_string(), |text, (name, value)| text.replace(name, value));
        Ok(serde_json::from_str(&text)?)
    }
}

/// With what nobody can foretell taken out.
fn told(answer: &Answer) -> Value {
    let mut body = answer.json();
    if body["timestamp"].as_str().is_some_and(|text| text.parse::<i64>().is_ok()) {
        body["timestamp"] = "{now}".into();
    }
    const NOW: &str = "Now(HH:mmZ): ";
    if let Some((before, clock)) = body["message"].as_str().and_then(|text| text.split_once(NOW))
        && clock.len() == "12:34+0000".len()
    {
        body["message"] = format!("{before}{NOW}{{clock}}").into();
    }
    body
}

/// RFC 6750, section 3.1.
fn challenge(case: &Value) -> Option<&'static str> {
    let basic = case["kind"] == "basic";
    match case["line"].as_u64() {
        Some(1 | 2 | 3 | 7 | 10) if !basic => Some("Bearer realm=\"keygate\", error=\"invalid_token\""),
        Some(8) if !basic => Some("Bearer realm=\"keygate\", error=\"insufficient_scope\""),
        _ if basic && case["status"] == 401 => Some("Basic realm=\"keygate\", charset=\"UTF-8\""),
        _ => None,
    }
}

#[test]
fn refusals_of_bearer_and_basic_are_those_of_the_reference_in_its_order() -> Result<()> {
    e2e::run(async {
        let settings = vec![("denial_format", "\"digirunner\"".to_owned())];
        let world = World::start("token_refusals", Plan { settings, ..Plan::default() }).await?;
        let orders = world.api("orders", "/orders", json!({ "accepts": ["bearer", "basic"] })).await?;
        let group = world.group("partners", &[&orders]).await?;
        wait::until("the API to be known", LIMIT, async || {
            let answer = world.call(&Call::get("/orders")).await.ok()?;
            (answer.status == 401).then_some(())
        })
        .await?;
        let stage = Stage { world, group };
        let vectors: Value = serde_json::from_str(VECTORS)?;
        for (n, case) in vectors["cases"].as_array().context("a list")?.iter().enumerate() {
            let presented = stage.prepare(&format!("c{n}"), case).await?;
            let expected = presented.expected(case)?;
            let mut answer = stage.world.call(&presented.call).await?;
            // What is changed after calls were let in, or counted at the manager, is known here a moment later.
            let started = wait::now();
            while told(&answer) != expected && !case["given"]["calls"].is_null() && started.elapsed() < LIMIT
            {
                answer = stage.world.call(&presented.call).await?;
            }
            assert_eq!(told(&answer), expected, "{case:#}");
            assert_eq!(json!(answer.status), case["status"], "{case:#}");
            assert_eq!(answer.header("www-authenticate"), challenge(case), "{case:#}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{case:#}");
            // And again: what is remembered of it is told alike.
            let again = stage.world.call(&presented.call).await?;
            assert_eq!((told(&again), again.status), (expected, answer.status), "{case:#}");
        }
        Ok(())
    })
}
