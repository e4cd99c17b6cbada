//! X-Api-Keys through the real Envoy, and what does not depend on the kind of credential.

use std::time::Duration;

use anyhow::Result;
use e2e::cast::XApiKey;
use e2e::client::{self, Answer, Call, Protocol};
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::json;
use tokio::sync::OnceCell;

struct Stage {
    world: World,
    orders: String,
    group: String,
    client: String,
    /// Its last day was yesterday.
    expired: XApiKey,
}

static STAGE: OnceCell<Stage> = OnceCell::const_new();

async fn stage() -> Result<&'static Stage> {
    STAGE
        .get_or_try_init(|| async {
            let mut world = World::start("x-api-key", Plan::default()).await?;
            let orders = world.api("orders", "/orders", json!({})).await?;
            world.api("reports", "/reports", json!({})).await?;
            let bearer_only = json!({ "accepts": ["x_api_key"], "methods": ["GET", "POST"] });
            let plain = world.api("plain", "/plain", bearer_only).await?;
            world.api("open", "/open", json!({ "accepts": [], "no_auth": true })).await?;
            world.api("off", "/off", json!({ "enabled": false })).await?;
            let group = world.group("partners", &[&orders, &plain]).await?;
            let client = world.client("acme", json!({ "groups": [group] })).await?;
            // Nobody can create a key that is over: it was created when it was not.
            world.manager.stop().await?;
            world.manager.set_day(-9);
            world.manager.start().await?;
            let days = json!({ "effective_date": wait::day(-9), "expiry_date": wait::day(-1) });
            let expired = world.x_api_key(&client, &[&group], days).await?;
            world.manager.stop().await?;
            world.manager.set_day(0);
            world.manager.start().await?;
            world.until_known(&Call::get("/off")).await?;
            Ok(Stage { world, orders, group, client, expired })
        })
        .await
}

impl Stage {
    async fn key(&self, more: serde_json::Value) -> Result<XApiKey> {
        self.world.x_api_key(&self.client, &[&self.group], more).await
    }

    async fn call(&self, call: Call) -> Result<Answer> {
        self.world.call(&call).await
    }
}

#[test]
fn key_opens_its_groups_and_no_more() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let key = stage.key(json!({})).await?;
        let echo = stage.call(Call::get("/orders/1?x=y").x_api_key(&key.text)).await?.echo()?;
        assert_eq!(echo.path, "/orders/1?x=y");
        assert_eq!(echo.header("x-keygate-client-id"), [stage.client.as_str()]);
        let answer = stage.call(Call::get("/reports/1").x_api_key(&key.text)).await?;
        assert_eq!(answer.verdict(), "403 permission_denied");
        Ok(())
    })
}

#[test]
fn unknown_key_is_refused_until_it_exists() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let answer = stage.call(Call::get("/orders/1").x_api_key("bm8tc3VjaC1rZXk")).await?;
        assert_eq!(answer.verdict(), "401 credential_unknown");
        assert!(answer.header("www-authenticate").is_some());
        Ok(())
    })
}

#[test]
fn key_of_tomorrow_and_expired_key_are_refused() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let tomorrow = stage.key(json!({ "effective_date": wait::day(1) })).await?;
        let answer = stage.call(Call::get("/orders/1").x_api_key(&tomorrow.text)).await?;
        assert_eq!(answer.verdict(), "401 credential_not_effective");
        let answer = stage.call(Call::get("/orders/1").x_api_key(&stage.expired.text)).await?;
        assert_eq!(answer.verdict(), "401 credential_expired");
        Ok(())
    })
}

#[test]
fn deleted_key_is_refused_within_a_second() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let key = stage.key(json!({})).await?;
        let call = Call::get("/orders/deleted").x_api_key(&key.text);
        assert_eq!(stage.call(call.clone()).await?.status, 200);
        stage.world.operator().delete(&format!("/api/v1/x-api-keys/{}", key.id)).await?;
        let deleted = wait::now();
        while stage.call(call.clone()).await?.verdict() != "401 credential_unknown" {
            assert!(deleted.elapsed() < Duration::from_secs(1), "still let in after {:?}", deleted.elapsed());
        }
        Ok(())
    })
}

#[test]
fn keys_deleted_together_are_refused_within_a_second() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let keys = [stage.key(json!({})).await?, stage.key(json!({})).await?];
        let calls = keys.each_ref().map(|key| Call::get("/orders/together").x_api_key(&key.text));
        for call in &calls {
            assert_eq!(stage.call(call.clone()).await?.status, 200);
        }
        let ids = json!({ "ids": [keys[0].id, keys[1].id] });
        stage.world.operator().post("/api/v1/x-api-keys/delete", ids).await?;
        let deleted = wait::now();
        for call in &calls {
            while stage.call(call.clone()).await?.verdict() != "401 credential_unknown" {
                assert!(deleted.elapsed() < Duration::from_secs(1), "let in after {:?}", deleted.elapsed());
            }
        }
        Ok(())
    })
}

#[test]
fn key_of_another_system_opens_by_its_old_text() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        // A published example: what digiRunner keeps of it, and the text that its holder has.
        let import = json!({
            "client": stage.client, "alias": "from before", "expiry_date": wait::day(30),
            "groups": [stage.group], "mask": "YjN***GJm",
            "sha256": "DDDDFCD2AF735B009C9F689402E990EB5DEBA4A3F7A5D343B04ED48F7063C1F3",
        });
        let call = Call::get("/orders/before").x_api_key("YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm");
        assert_eq!(stage.call(call.clone()).await?.verdict(), "401 credential_unknown");
        stage.world.operator().post("/api/v1/x-api-keys/import", import).await?;
        let imported = wait::now();
        while stage.call(call.clone()).await?.status != 200 {
            assert!(imported.elapsed() < Duration::from_secs(1), "refused after {:?}", imported.elapsed());
        }
        Ok(())
    })
}

#[test]
fn group_taken_from_the_client_closes_its_keys_within_a_second() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let group = stage.world.group("temporary", &[&stage.orders]).await?;
        let client = stage.world.client("temporary", json!({ "groups": [group] })).await?;
        let key = stage.world.x_api_key(&client, &[&group], json!({})).await?;
        let call = Call::get("/orders/temporary").x_api_key(&key.text);
        assert_eq!(stage.call(call.clone()).await?.status, 200);
        stage.world.operator().patch(&format!("/api/v1/clients/{client}"), json!({ "groups": [] })).await?;
        let taken = wait::now();
        while stage.call(call.clone()).await?.verdict() != "403 permission_denied" {
            assert!(taken.elapsed() < Duration::from_secs(1), "still let in after {:?}", taken.elapsed());
        }
        Ok(())
    })
}

#[test]
fn client_quota_of_five_is_exhausted_on_the_sixth() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let client = stage.world.client("five", json!({ "groups": [stage.group], "quota": 5 })).await?;
        // All its credentials count together.
        let one = stage.world.x_api_key(&client, &[&stage.group], json!({})).await?;
        let two = stage.world.x_api_key(&client, &[&stage.group], json!({})).await?;
        for (n, key) in [&one, &two, &one, &two, &one].into_iter().enumerate() {
            let answer = stage.call(Call::get("/orders/five").x_api_key(&key.text)).await?;
            assert_eq!(answer.verdict(), "200", "call {}", n + 1);
        }
        let answer = stage.call(Call::get("/orders/five").x_api_key(&two.text)).await?;
        assert_eq!(answer.verdict(), "429 quota_exhausted");
        assert!(answer.header("retry-after").is_some(), "a daily quota says when to come back: {answer:?}");
        assert_eq!(stage.world.upstream.count("/orders/five"), 5);
        Ok(())
    })
}

#[test]
fn disabled_client_is_refused_within_a_second() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let client = stage.world.client("switched", json!({ "groups": [stage.group] })).await?;
        let key = stage.world.x_api_key(&client, &[&stage.group], json!({})).await?;
        let call = Call::get("/orders/switched").x_api_key(&key.text);
        assert_eq!(stage.call(call.clone()).await?.status, 200);
        stage
            .world
            .operator()
            .patch(&format!("/api/v1/clients/{client}"), json!({ "status": "disabled" }))
            .await?;
        let switched = wait::now();
        while stage.call(call.clone()).await?.verdict() != "403 client_disabled" {
            assert!(
                switched.elapsed() < Duration::from_secs(1),
                "still let in after {:?}",
                switched.elapsed()
            );
        }
        Ok(())
    })
}

#[test]
fn rate_is_counted_per_node_and_second() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let client = stage.world.client("slow", json!({ "groups": [stage.group], "tps": 3 })).await?;
        let key = stage.world.x_api_key(&client, &[&stage.group], json!({})).await?;
        let mut refused = 0;
        let started = wait::now();
        for _ in 0..30 {
            let answer = stage.call(Call::get("/orders/slow").x_api_key(&key.text)).await?;
            match answer.verdict().as_str() {
                "200" => (),
                "429 rate_exceeded" => refused += 1,
                other => panic!("{other}: {}", answer.text()),
            }
        }
        // In every second of the clock that the burst touched, three.
        let seconds = started.elapsed().as_secs() + 2;
        let admitted = stage.world.upstream.count("/orders/slow");
        assert_eq!(admitted + refused, 30);
        assert!(admitted >= 3 && admitted <= 3 * seconds, "{admitted} in at most {seconds} s");
        Ok(())
    })
}

#[test]
fn upload_that_waits_for_its_look_up_passes() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let body = vec![b'x'; 3_000_000];
        for protocol in [Protocol::Http1, Protocol::Http2] {
            // Known to nobody yet: the request waits while its body arrives.
            let key = stage.key(json!({})).await?;
            let call = Call::post("/orders/upload", body.clone()).x_api_key(&key.text);
            let echo = client::send(stage.world.envoy().address, protocol, &call).await?.echo()?;
            assert_eq!(echo.body_bytes, body.len(), "{protocol:?}");
        }
        Ok(())
    })
}

#[test]
fn authorization_that_is_not_ours_goes_upstream_untouched() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let key = stage.key(json!({})).await?;
        let call =
            Call::get("/plain/1").x_api_key(&key.text).header("authorization", "Bearer of.the.upstream");
        let echo = stage.call(call).await?.echo()?;
        assert_eq!(echo.header("authorization"), ["Bearer of.the.upstream"]);
        // Where an API takes DGRK too, Authorization wins.
        let call =
            Call::get("/orders/1").x_api_key(&key.text).header("authorization", "Bearer of.the.upstream");
        assert_eq!(stage.call(call).await?.status, 401);
        Ok(())
    })
}

#[test]
fn open_closed_and_missing_apis_say_so() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let key = stage.key(json!({})).await?;
        let rows = [
            (Call::get("/open/1"), "200"),
            (Call::get("/off/1").x_api_key(&key.text), "503 api_disabled"),
            (Call::get("/nowhere").x_api_key(&key.text), "404 api_not_found"),
            (Call::new("DELETE", "/plain/1").x_api_key(&key.text), "405 method_not_allowed"),
            (Call::get("/orders/1"), "401 credential_missing"),
            (Call::get("/orders/1").x_api_key(&key.text).x_api_key(&key.text), "400 credential_duplicated"),
        ];
        for (call, expected) in rows {
            let answer = stage.call(call.clone()).await?;
            assert_eq!(answer.verdict(), expected, "{} {}", call.method, call.path);
            if answer.status == 401 {
                assert!(answer.header("www-authenticate").is_some());
            }
        }
        Ok(())
    })
}

#[test]
fn spoofed_identity_is_stripped_without_credentials_too() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let call = Call::get("/open/spoofed")
            .header("x-keygate-client-id", "boss")
            .header("X-Keygate-Groups", "all");
        let echo = stage.call(call).await?.echo()?;
        let ours = echo.headers.iter().filter(|(name, _)| name.replace('_', "-").starts_with("x-keygate-"));
        assert_eq!(ours.count(), 0, "{echo:?}");
        // Back ends of the CGI family would read an underscore as a dash.
        let answer = stage.call(Call::get("/open/spoofed").header("x_keygate_client_id", "boss")).await?;
        if answer.status == 200 {
            assert_eq!(answer.echo()?.header("x_keygate_client_id"), Vec::<&str>::new());
        }
        Ok(())
    })
}

#[test]
fn cors_preflight_passes_uncounted() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let preflight = Call::new("OPTIONS", "/orders/cors")
            .header("origin", "https://shop.example")
            .header("access-control-request-method", "POST");
        assert_eq!(stage.call(preflight).await?.status, 200);
        // An OPTIONS that is no preflight is a call like any other.
        assert_eq!(
            stage.call(Call::new("OPTIONS", "/orders/cors")).await?.verdict(),
            "401 credential_missing"
        );
        Ok(())
    })
}

#[test]
fn token_is_not_in_the_configuration_dump() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let dump = stage.world.envoy().config_dump().await?;
        assert!(dump.contains("keygate_manager"), "this is the dump");
        assert!(!dump.contains(stage.world.envoy().token()), "the gateway's token is no part of it");
        Ok(())
    })
}
