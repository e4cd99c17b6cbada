//! Tokens through the real Envoy: obtained there, used there, counted, revoked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::client::{self, Call};
use e2e::load;
use e2e::tokens::{asking, forged, form};
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::{Value, json};

/// Of a revocation, on every worker that is connected.
const PROMISED: Duration = Duration::from_secs(1);
/// Connections spread over the two workers; that many in a row leave hardly one out.
const EVERY_WORKER: usize = 16;

/// An API that takes tokens, and a client that may call it and obtain tokens of these terms.
async fn prepare(world: &World, access: Value) -> Result<String> {
    let orders = world.api("orders", "/orders", json!({ "accepts": ["bearer"] })).await?;
    let group = world.group("partners", &[&orders]).await?;
    let client = world.client("acme", json!({ "groups": [group] })).await?;
    world.may_obtain_tokens(&client, access).await?;
    world.until_known(&Call::get("/orders")).await?;
    Ok(client)
}

/// Through Envoy.
async fn token(world: &World, client: &str) -> Result<String> {
    let answer = world.call(&asking(client)).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok(answer.json()["access_token"].as_str().context("a token")?.to_owned())
}

fn bearing(token: &str) -> Call {
    Call::get("/orders/1").bearing(token)
}

/// Every worker refuses it, within a second of the call that ended it.
async fn refused_soon(world: &World, token: &str, called: Instant, code: &str) -> Result<()> {
    let mut refused_in_a_row = 0;
    while refused_in_a_row < EVERY_WORKER {
        let answer = world.call(&bearing(token)).await?;
        if answer.status == 200 {
            ensure!(wait::now() - called < PROMISED, "it is let in after a second");
            refused_in_a_row = 0;
        } else {
            assert_eq!(answer.code(), code, "{}", answer.text());
            refused_in_a_row += 1;
        }
    }
    println!("{code} after {:?}", wait::now() - called);
    Ok(())
}

#[test]
fn the_token_of_a_stopped_user_is_refused_within_a_second() -> Result<()> {
    e2e::run(async {
        let world = World::start("tokens-user", Plan::default()).await?;
        let client = prepare(&world, json!({ "validity": 1, "unit": "days", "uses": 0 })).await?;
        for status in ["disabled", "locked"] {
            let name = format!("user-{status}");
            let user = json!({ "name": name, "password": "secret-of-a-user" });
            let user = world.admin.post("/api/v1/users", user).await?;
            let user = format!("/api/v1/users/{}", user["id"].as_str().context("an id")?);
            let token = world.token_of(&client, &name, "secret-of-a-user").await?;
            let of_itself = world.token(&client).await?;
            for text in [&token, &of_itself] {
                let answer = world.call(&bearing(text)).await?;
                ensure!(answer.status == 200, "{}", answer.text());
            }
            let called = wait::now();
            world.admin.patch(&user, json!({ "status": status })).await?;
            refused_soon(&world, &token, called, "credential_inactive").await?;
            assert_eq!(world.call(&bearing(&of_itself)).await?.status, 200, "the client's own lives on");
        }
        Ok(())
    })
}

#[test]
fn a_group_that_is_taken_from_a_client_is_closed_to_its_tokens_within_a_second() -> Result<()> {
    e2e::run(async {
        let world = World::start("tokens-group", Plan::default()).await?;
        let client = prepare(&world, json!({ "validity": 1, "unit": "days", "uses": 0 })).await?;
        let token = world.token(&client).await?;
        assert_eq!(world.call(&bearing(&token)).await?.status, 200);
        let called = wait::now();
        world.admin.patch(&format!("/api/v1/clients/{client}"), json!({ "groups": [] })).await?;
        refused_soon(&world, &token, called, "permission_denied").await?;
        let answer = world.call(&bearing(&token)).await?;
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, Some("Bearer realm=\"keygate\", error=\"insufficient_scope\""));
        Ok(())
    })
}

/// What is no token of ours is refused here, each with its own words, and costs the manager nothing.
#[test]
fn what_is_no_token_never_reaches_the_manager() -> Result<()> {
    const INVALID: &str = "Bearer realm=\"keygate\", error=\"invalid_token\"";
    e2e::run(async {
        // One worker: what it knows of a token, all know.
        let world = World::start("tokens-forged", Plan { workers: 1, ..Plan::default() }).await?;
        let client = prepare(&world, json!({ "validity": 1, "unit": "days", "uses": 0 })).await?;
        let token = world.token(&client).await?;
        assert_eq!(world.call(&bearing(&token)).await?.status, 200);
        let before = world.manager.metric("keygate_resolves_total").await?;
        assert!(before > 0, "what is counted is there");

        let (signed, signature) = token.rsplit_once('.').context("three parts")?;
        let (head, claims) = signed.split_once('.').context("three parts")?;
        let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head)?)?;
        let with = |member: &str, value: &str| {
            let mut head = head.clone();
            head[member] = value.into();
            format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode(head.to_string()))
        };
        let mut later: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
        later["exp"] = 4_000_000_000_u64.into();
        let later = URL_SAFE_NO_PAD.encode(later.to_string());
        let (encoded, _) = signed.split_once('.').context("three parts")?;
        let long = |kib: usize| "x".repeat(kib << 10);
        for (what, presented, status, code, told) in [
            (
                "another key",
                with("kid", "nobody's"),
                401,
                "credential_unknown",
                "a key that is not used here",
            ),
            ("alg none", with("alg", "none"), 401, "credential_unknown", "is not signed by RS256"),
            (
                "alg none, unsigned",
                format!("{}.", with("alg", "none").rsplit_once('.').context("three")?.0),
                401,
                "credential_unknown",
                "is not signed by RS256",
            ),
            ("alg HS256", with("alg", "HS256"), 401, "credential_unknown", "is not signed by RS256"),
            ("another signature", forged(&token)?, 401, "credential_unknown", "an incorrect signature"),
            (
                "a later end",
                format!("{encoded}.{later}.{signature}"),
                401,
                "credential_unknown",
                "an incorrect signature",
            ),
            ("garbage", "garbage".into(), 401, "credential_unknown", "is no JWT"),
            ("three parts of it", "a.b.c".into(), 401, "credential_unknown", "is no JWT"),
            ("longer than tokens are", long(9), 401, "credential_malformed", ""),
        ] {
            for time in ["once", "twice"] {
                let answer = world.call(&bearing(&presented)).await?;
                assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}, {time}");
                assert!(answer.text().contains(told), "{what}, {time}: {}", answer.text());
                let challenge = answer.header("www-authenticate").unwrap_or_default();
                assert!(challenge.starts_with(INVALID), "{what}, {time}: {challenge}");
            }
        }
        // Envoy itself takes no headers of this size.
        let answer = world.call(&bearing(&long(100))).await?;
        assert_eq!(answer.status, 431, "{}", answer.text());

        // RFC 6750, sections 2.2 and 2.3, are not offered: a token stands in the header.
        let in_query = Call::get(&format!("/orders/1?access_token={token}"));
        let in_body = Call::new("POST", "/orders/1")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("access_token={token}"));
        for call in [in_query, in_body] {
            let answer = world.call(&call).await?;
            assert_eq!((answer.status, answer.code().as_str()), (401, "credential_missing"));
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Bearer realm=\"keygate\""),
                "nothing was presented"
            );
        }
        // Envoy joins two headers of that name, and no token has a comma.
        let twice = world.call(&bearing(&token).bearing(&token)).await?;
        assert_eq!((twice.status, twice.code().as_str()), (401, "credential_malformed"));
        assert_eq!(world.manager.metric("keygate_resolves_total").await?, before, "nobody was asked");
        assert_eq!(world.call(&bearing(&token)).await?.status, 200);
        Ok(())
    })
}

#[test]
fn a_token_whose_time_is_over_is_refused_by_the_gateway_alone() -> Result<()> {
    e2e::run(async {
        let world = World::start("tokens-over", Plan { workers: 1, ..Plan::default() }).await?;
        let client = prepare(&world, json!({ "validity": 3, "unit": "seconds", "uses": 0 })).await?;
        let token = world.token(&client).await?;
        assert_eq!(world.call(&bearing(&token)).await?.status, 200);
        let before = world.manager.metric("keygate_resolves_total").await?;
        let answer = wait::until("its end", Duration::from_secs(10), async || {
            world.call(&bearing(&token)).await.ok().filter(|answer| answer.status != 200)
        })
        .await?;
        assert_eq!((answer.status, answer.code().as_str()), (401, "credential_expired"));
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, Some("Bearer realm=\"keygate\", error=\"invalid_token\""));
        assert_eq!(world.manager.metric("keygate_resolves_total").await?, before, "nobody was asked");
        // Who asks is told too.
        let asked = form(&client, "/oauth2/introspect", &format!("token={token}"));
        let told = client::http1(world.manager.address, &asked).await?;
        assert_eq!(told.json(), json!({ "active": false }));
        Ok(())
    })
}

#[test]
fn a_token_is_obtained_used_three_times_and_no_more() -> Result<()> {
    e2e::run(async {
        let world = World::start("tokens-counted", Plan::default()).await?;
        let client = prepare(&world, json!({ "validity": 1, "unit": "days", "uses": 3 })).await?;
        let token = token(&world, &client).await?;
        for call in 1..=3 {
            let answer = world.call(&bearing(&token)).await?;
            ensure!(answer.status == 200, "call {call}: {}", answer.text());
            assert_eq!(answer.echo()?.header("x-keygate-client-id"), [client.as_str()]);
        }
        for call in 4..=6 {
            let answer = world.call(&bearing(&token)).await?;
            ensure!(answer.status != 200, "call {call} is let in");
            assert_eq!(answer.code(), "token_used_up", "call {call}: {}", answer.text());
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        }
        let metadata = world.call(&Call::get("/.well-known/oauth-authorization-server")).await?;
        assert_eq!(metadata.status, 200, "{}", metadata.text());
        let jwks = world.call(&Call::get("/oauth/jwks")).await?;
        assert_eq!(jwks.json()["keys"].as_array().map(Vec::len), Some(1), "{}", jwks.text());
        Ok(())
    })
}

#[test]
fn a_token_of_the_second_form_opens_what_every_other_one_does() -> Result<()> {
    e2e::run(async {
        let world = World::start("tokens-second-form", Plan::default()).await?;
        let client = prepare(&world, json!({ "validity": 1, "unit": "days", "uses": 2 })).await?;
        let found =
            world.call(&Call::get("/dgrv4/ssotoken/v2/OIDC/.well-known/openid-configuration")).await?;
        ensure!(found.status == 200, "{}", found.text());
        let endpoint = found.json()["token_endpoint"].as_str().context("an endpoint")?.to_owned();
        ensure!(endpoint.ends_with("/oauth/v2/token"), "{endpoint}");
        let answer = world.call(&form(&client, "/oauth/v2/token", "grant_type=client_credentials")).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        let token = answer.json()["access_token"].as_str().context("a token")?.to_owned();
        for call in 1..=2 {
            let answer = world.call(&bearing(&token)).await?;
            ensure!(answer.status == 200, "call {call}: {}", answer.text());
        }
        let answer = world.call(&bearing(&token)).await?;
        assert_eq!(answer.code(), "token_used_up", "{}", answer.text());
        Ok(())
    })
}

#[test]
fn a_revoked_token_is_refused_within_a_second() -> Result<()> {
    e2e::run(async {
        let world = World::start("tokens-revoked", Plan::default()).await?;
        let client = prepare(&world, json!({ "validity": 1, "unit": "days", "uses": 0 })).await?;
        let (token, other) = (token(&world, &client).await?, token(&world, &client).await?);
        for text in [&token, &other] {
            let answer = world.call(&bearing(text)).await?;
            ensure!(answer.status == 200, "{}", answer.text());
        }
        let called: Instant = wait::now();
        let answer = world.call(&form(&client, "/oauth2/revoke", &format!("token={token}"))).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        refused_soon(&world, &token, called, "credential_revoked").await?;
        assert_eq!(world.call(&bearing(&other)).await?.status, 200, "another one lives on");
        Ok(())
    })
}

#[test]
fn a_token_of_a_withdrawn_key_is_refused_within_a_second() -> Result<()> {
    e2e::run(async {
        let world = World::start("tokens-withdrawn", Plan::default()).await?;
        let client = prepare(&world, json!({ "validity": 1, "unit": "days", "uses": 0 })).await?;
        let before = token(&world, &client).await?;
        let answer = world.call(&bearing(&before)).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        let keys = world.admin.get("/api/v1/token-keys").await?;
        let kid = keys["items"][0]["kid"].as_str().context("a key")?;
        let called: Instant = wait::now();
        world.admin.delete(&format!("/api/v1/token-keys/{kid}")).await?;
        loop {
            let answer = world.call(&bearing(&before)).await?;
            if answer.status != 200 {
                // By the manager's word of it, or by the directory without its key.
                let codes = ["credential_revoked", "credential_unknown"];
                assert!(codes.contains(&answer.code().as_str()), "{}", answer.text());
                break;
            }
            ensure!(wait::now() - called < PROMISED, "it is let in after a second");
        }
        println!("withdrawn and refused after {:?}", wait::now() - called);
        let after = token(&world, &client).await?;
        let served = || async { (world.call(&bearing(&after)).await.ok()?.status == 200).then_some(()) };
        wait::until("the new key at every gateway", PROMISED, served).await?;
        assert_ne!(world.call(&bearing(&before)).await?.status, 200);
        Ok(())
    })
}

#[test]
fn hundreds_of_counted_tokens_of_one_client_serve_side_by_side() -> Result<()> {
    const TOKENS: usize = 200;
    const USES: usize = 3;
    e2e::run(async {
        let world = World::start("tokens-many", Plan::default()).await?;
        let client = prepare(&world, json!({ "validity": 1, "unit": "days", "uses": USES })).await?;
        let mut tokens = Vec::new();
        for _ in 0..TOKENS {
            tokens.push(world.token(&client).await?);
        }
        let calls = u64::try_from(TOKENS * USES * 2)?;
        let call = move |n: u64| bearing(&tokens[usize::try_from(n).unwrap_or(0) % TOKENS]);
        let outcome = load::run(&[world.envoy().address], TOKENS, calls, call).await?;
        assert_eq!(outcome.of("503 capacity"), 0, "{:?}", outcome.verdicts);
        assert_eq!(outcome.of("200"), u64::try_from(TOKENS * USES)?, "{:?}", outcome.verdicts);
        Ok(())
    })
}
