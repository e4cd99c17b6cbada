//! DGRK keys through the real Envoy: what is let in, and what is refused with which code.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::cast::{Pair, Terms};
use e2e::client::{self, Answer, Body, Call, Connection, Protocol};
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const VECTORS: &str = include_str!("../../vectors/dgrk.json");
/// Setting `max_signed_body_bytes` of this world.
const MAX_SIGNED_BODY: usize = 256 * 1024;

struct Stage {
    world: World,
    orders: String,
    client: String,
    /// Its last day was yesterday.
    expired: Pair,
}

static STAGE: OnceCell<Stage> = OnceCell::const_new();

async fn stage() -> Result<&'static Stage> {
    STAGE
        .get_or_try_init(|| async {
            let plan = Plan {
                settings: vec![
                    ("max_signed_body_bytes", MAX_SIGNED_BODY.to_string()),
                    ("credential_mail_delay_s", "0".into()),
                ],
                ..Plan::default()
            };
            let mut world = World::start("dgrk", plan).await?;
            let orders = world.api("orders", "/orders", json!({})).await?;
            world.api("reports", "/reports", json!({})).await?;
            let client = world.client("acme", json!({})).await?;
            // Nobody can bring in a key that is over: it was brought in when it was not.
            world.manager.set_day(-9);
            let terms = Terms::new(&client, &[&orders]).days(-9, -1);
            let expired = world.import(Pair::named("expired"), "expired", &terms)?;
            world.manager.set_day(0);
            world.until_known(&Call::get("/reports")).await?;
            Ok(Stage { world, orders, client, expired })
        })
        .await
}

impl Stage {
    fn terms(&self) -> Terms {
        Terms::new(&self.client, &[&self.orders])
    }

    fn pair(&self, name: &str, terms: &Terms) -> Result<Pair> {
        self.world.import(Pair::named(name), name, terms)
    }

    async fn call(&self, call: Call) -> Result<Answer> {
        self.world.call(&call).await
    }
}

#[test]
fn published_vectors_are_accepted_with_that_very_pair() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let vectors: Value = serde_json::from_str(VECTORS)?;
        let text = |value: &Value, field: &str| e2e::api::text(value, field);
        let pair = Pair {
            id: String::new(),
            api_key: text(&vectors, "api_key")?,
            secret_key: text(&vectors, "secret_key")?,
        };
        let pair = stage.world.import(pair, "published", &stage.terms())?;
        let cases = vectors["cases"].as_array().context("cases")?;
        assert!(cases.len() > 5);
        for case in cases {
            let (name, body, signature) =
                (text(case, "name")?, text(case, "body")?, text(case, "signature")?);
            let call = if body.is_empty() {
                Call::get("/orders/vector")
            } else {
                Call::post("/orders/vector", body.clone())
            };
            let call = call.header("authorization", format!("DGRK {}.{signature}", pair.api_key));
            let echo = stage.call(call).await?.echo().context(name)?;
            assert_eq!(echo.body, body, "what goes upstream is what came");
        }
        Ok(())
    })
}

#[test]
fn upstream_learns_who_calls() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("identity", &stage.terms())?;
        let spoofed = pair
            .sign(Call::post("/orders/who", "{}"))
            .header("x-keygate-client-id", "the-boss")
            .header("X-Keygate-Anything", "1")
            .header("x-keygate-client-id", "again");
        let echo = stage.call(spoofed).await?.echo()?;
        assert_eq!(echo.header("x-keygate-client-id"), [stage.client.as_str()]);
        assert_eq!(echo.header("x-keygate-anything"), Vec::<&str>::new());
        assert_eq!(echo.header("x-keygate-credential"), [pair.id.as_str()]);
        Ok(())
    })
}

#[test]
fn wrong_signature_is_refused_with_the_hashes_that_help() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("wrong signature", &stage.terms())?;
        let body = r#"{ "a": 1 }"#;
        let other = Pair { secret_key: Pair::named("another").secret_key, ..pair };
        let answer = stage.call(other.sign(Call::post("/orders", body))).await?;
        assert_eq!(answer.verdict(), "401 signature_incorrect");
        assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("DGRK")));
        let hash = |text: &str| sha256_hex(text.as_bytes());
        assert_eq!(answer.json()["received_sha256"], hash(body));
        assert_eq!(answer.json()["minified_sha256"], hash(r#"{"a":1}"#));
        Ok(())
    })
}

#[test]
fn tampered_body_is_refused() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("tampered", &stage.terms())?;
        let mut call = pair.sign(Call::post("/orders/tampered", r#"{"price":990}"#));
        call.body = Body::Whole(r#"{"price":991}"#.into());
        assert_eq!(stage.call(call).await?.verdict(), "401 signature_incorrect");
        // A captured GET header does not carry a body, whatever content type claims it.
        for content_type in
            ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
        {
            let mut call = pair.sign(Call::get("/orders/tampered")).header("content-type", content_type);
            call.method = "POST".into();
            call.body = Body::Whole("price=1".into());
            assert_eq!(stage.call(call).await?.verdict(), "401 signature_incorrect", "{content_type}");
        }
        assert_eq!(stage.world.upstream.count("/orders/tampered"), 0);
        Ok(())
    })
}

#[test]
fn unknown_key_is_refused() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let call = Pair::named("nobody has it").sign(Call::post("/orders", "{}"));
        let answer = stage.call(call).await?;
        assert_eq!(answer.verdict(), "401 credential_unknown");
        assert!(answer.header("www-authenticate").is_some());
        Ok(())
    })
}

#[test]
fn api_that_is_not_on_the_key_is_refused() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("one api", &stage.terms())?;
        assert_eq!(stage.call(pair.sign(Call::get("/orders/1"))).await?.status, 200);
        assert_eq!(stage.call(pair.sign(Call::get("/reports/1"))).await?.verdict(), "403 permission_denied");
        assert_eq!(stage.world.upstream.count("/reports/1"), 0);
        Ok(())
    })
}

#[test]
fn expired_key_and_key_of_tomorrow_are_refused() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let tomorrow = stage.pair("effective tomorrow", &stage.terms().days(1, 30))?;
        let today = stage.pair("today alone", &stage.terms().days(0, 0))?;
        let rows = [
            (&stage.expired, "401 credential_expired"),
            (&tomorrow, "401 credential_not_effective"),
            (&today, "200"),
        ];
        for (pair, expected) in rows {
            assert_eq!(stage.call(pair.sign(Call::get("/orders/day"))).await?.verdict(), expected);
        }
        Ok(())
    })
}

#[test]
fn revoked_key_is_refused_within_a_second() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("to be revoked", &stage.terms())?;
        let call = pair.sign(Call::get("/orders/revoked"));
        assert_eq!(stage.call(call.clone()).await?.status, 200);
        let operator = stage.world.operator();
        operator.write("POST", &format!("/api/v1/keys/{}", pair.id), "/revoke", Value::Null).await?;
        let revoked = wait::now();
        loop {
            let answer = stage.call(call.clone()).await?;
            if answer.verdict() == "401 credential_revoked" {
                break;
            }
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(revoked.elapsed() < Duration::from_secs(1), "still let in after {:?}", revoked.elapsed());
        }
        // Every worker has heard of it by then.
        tokio::time::sleep(Duration::from_secs(1).saturating_sub(revoked.elapsed())).await;
        for _ in 0..16 {
            assert_eq!(stage.call(call.clone()).await?.verdict(), "401 credential_revoked");
        }
        Ok(())
    })
}

#[test]
fn use_quota_of_five_is_exhausted_on_the_sixth() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("five uses", &stage.terms().quota(5))?;
        for use_ in 1..=5 {
            // A refused call in between uses nothing.
            assert_eq!(
                stage.call(pair.sign(Call::get("/reports/1"))).await?.verdict(),
                "403 permission_denied"
            );
            let call = pair.sign(Call::post("/orders/five", format!(r#"{{"use":{use_}}}"#)));
            assert_eq!(stage.call(call).await?.verdict(), "200", "use {use_}");
        }
        let answer = stage.call(pair.sign(Call::post("/orders/five", "{}"))).await?;
        assert_eq!(answer.verdict(), "429 quota_exhausted");
        assert_eq!(stage.world.upstream.count("/orders/five"), 5);
        Ok(())
    })
}

#[test]
fn signed_bodies_arrive_in_every_shape() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("shapes", &stage.terms())?;
        let small = r#"{ "a": [1, 2, 3], "b": "中" }"#.to_owned();
        let large = format!(r#"{{"filler":"{}"}}"#, "x".repeat(MAX_SIGNED_BODY - 100));
        let slow = Duration::from_millis(20);
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut connection = Connection::open(stage.world.envoy().address, protocol).await?;
            for body in [&small, &large] {
                let whole = pair.sign(Call::post("/orders/shape", body.clone()));
                let shapes = [
                    ("with its length", whole.clone()),
                    ("in pieces", whole.clone().in_pieces(5, slow, &[])),
                    (
                        "with trailers",
                        whole.clone().in_pieces(3, slow, &[("x-end", "1"), ("x-keygate-client-id", "me")]),
                    ),
                ];
                for (shape, call) in shapes {
                    let what = format!("{protocol:?}, {} bytes, {shape}", body.len());
                    let echo = connection.send(&call).await?.echo().context(what.clone())?;
                    assert_eq!(
                        (echo.body_bytes, echo.body_sha256),
                        (body.len(), sha256_hex(body.as_bytes())),
                        "{what}"
                    );
                    assert!(echo.trailers.iter().all(|(name, _)| !name.starts_with("x-keygate-")), "{what}");
                }
            }
            // A POST without a body signs the empty text.
            let mut empty = pair.sign(Call::get("/orders/shape"));
            empty.method = "POST".into();
            assert_eq!(connection.send(&empty).await?.verdict(), "200", "{protocol:?}, no body");
        }
        Ok(())
    })
}

#[test]
fn wrong_bodies_reach_nobody_in_any_shape() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("wrong shapes", &stage.terms())?;
        let whole = pair.sign(Call::post("/orders/wrong", r#"{"a":1}"#)).body(r#"{"a":2}"#);
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for call in
                [whole.clone(), whole.clone().in_pieces(4, Duration::from_millis(10), &[("x-end", "1")])]
            {
                let answer = client::send(stage.world.envoy().address, protocol, &call).await?;
                assert_eq!(answer.verdict(), "401 signature_incorrect", "{protocol:?}");
            }
        }
        assert_eq!(stage.world.upstream.count("/orders/wrong"), 0, "not even its first bytes");
        Ok(())
    })
}

#[test]
fn body_over_the_limit_is_refused() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("too large", &stage.terms())?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for (bytes, expected) in [(MAX_SIGNED_BODY, "200"), (MAX_SIGNED_BODY + 1, "413 body_too_large")] {
                let call = pair.sign(Call::post("/orders/large", "x".repeat(bytes)));
                let answer = client::send(stage.world.envoy().address, protocol, &call).await?;
                assert_eq!(answer.verdict(), expected, "{protocol:?}, {bytes} bytes");
            }
        }
        Ok(())
    })
}

#[test]
fn expectation_of_100_continue_is_met() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("expects", &stage.terms())?;
        let call = pair.sign(Call::post("/orders/expect", "{}"));
        let (_, authorization) = call.headers.last().context("the signature")?;
        let head = format!(
            "POST /orders/expect HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\
             connection: close\r\ncontent-type: application/json\r\nauthorization: {}\r\n\r\n",
            String::from_utf8_lossy(authorization)
        );
        let answer = client::raw(stage.world.envoy().address, format!("{head}{{}}").as_bytes()).await?;
        assert!(answer.contains("HTTP/1.1 100 Continue"), "{answer}");
        assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
        let answer = client::raw(stage.world.envoy().address, format!("{head}[]").as_bytes()).await?;
        assert!(
            answer.contains("HTTP/1.1 401 Unauthorized") && answer.contains("signature_incorrect"),
            "{answer}"
        );
        Ok(())
    })
}

#[test]
fn hostile_headers_are_refused_and_the_vm_lives() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("hostile", &stage.terms())?;
        let good = pair.sign(Call::get("/orders/hostile"));
        let mut twice = good.clone();
        twice.headers.extend(good.headers.clone());
        // Envoy joins the two with a comma before the filter sees them.
        assert_eq!(stage.call(twice).await?.verdict(), "401 credential_malformed");
        for value in [&b"DGRK ab\xff\xfe.x"[..], b"DGRK", b"DGRK ", b"DGRK a.b.c", b"\xff\xfe", b"dgrk x"] {
            let answer = stage.call(Call::get("/orders/hostile").header("authorization", value)).await?;
            assert_eq!(answer.status, 401, "{value:?}: {}", answer.text());
            assert!(answer.header("www-authenticate").is_some());
        }
        // A header that is none of ours may be anything.
        assert_eq!(stage.call(good.header("x-anything", b"\xff\xfe\x80")).await?.status, 200);
        let stats = stage.world.envoy().stats().await?;
        let failed =
            stats.iter().filter(|(name, _)| name.contains("vm_reload")).map(|(_, value)| value).sum::<u64>();
        assert_eq!(failed, 0, "no VM has trapped: {stats:?}");
        Ok(())
    })
}

#[test]
fn streams_that_cannot_be_signed_get_a_defined_answer() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let pair = stage.pair("streams", &stage.terms())?;
        let upgrade =
            pair.sign(Call::get("/orders/ws")).header("connection", "upgrade").header("upgrade", "websocket");
        let answer = stage.call(upgrade).await?;
        assert!(!(200..300).contains(&answer.status) && answer.status != 101, "{}", answer.text());
        let grpc = pair.sign(Call::post("/orders/grpc", "")).header("te", "trailers");
        let grpc =
            Call { headers: grpc.headers.into_iter().filter(|(n, _)| n != "content-type").collect(), ..grpc };
        let grpc = grpc.header("content-type", "application/grpc").in_pieces(1, Duration::ZERO, &[]);
        let answer = client::send(stage.world.envoy().address, Protocol::Http2, &grpc).await?;
        assert!(answer.header("grpc-status").is_some_and(|status| status != "0"), "{answer:?}");
        assert_eq!(stage.world.upstream.count("/orders/ws") + stage.world.upstream.count("/orders/grpc"), 0);
        Ok(())
    })
}

fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn both_secrets_sign_during_a_rotation_and_the_retired_one_is_refused_within_a_second() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let old = stage.pair("to be rotated", &stage.terms())?;
        let call = |pair: &Pair| pair.sign(Call::get("/orders/rotated"));
        assert_eq!(stage.call(call(&old)).await?.status, 200);
        let (operator, path) = (stage.world.operator(), format!("/api/v1/keys/{}", old.id));
        operator.post(&format!("{path}/secrets"), json!({})).await?;
        let mail =
            stage.world.mail.mail_to("acme@example.com", &old.api_key, Duration::from_secs(10)).await?;
        let new = Pair::in_mail(&mail)?;
        // The gates hold the old secret alone, until they have heard of the change.
        let look = async || stage.call(call(&new)).await.ok().filter(|answer| answer.status == 200);
        wait::until("the new secret to sign", Duration::from_secs(5), look).await?;
        for pair in [&old, &new, &old, &new] {
            assert_eq!(stage.call(call(pair)).await?.status, 200);
        }
        let shown = wait::until("the last use of both secrets", Duration::from_secs(20), async || {
            let shown = operator.get(&path).await.ok()?;
            let used = (0..2).all(|n| shown["secrets"][n]["last_used_at"].is_i64());
            used.then_some(shown)
        });
        let shown = shown.await?;
        let first = shown["secrets"][1]["id"].as_str().context("the old secret, the older one")?;
        operator.delete(&format!("{path}/secrets/{first}")).await?;
        let retired = wait::now();
        while stage.call(call(&old)).await?.verdict() != "401 signature_incorrect" {
            assert!(retired.elapsed() < Duration::from_secs(1), "still let in after {:?}", retired.elapsed());
        }
        assert_eq!(stage.call(call(&new)).await?.status, 200);
        Ok(())
    })
}
