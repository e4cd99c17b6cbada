//! Why was this request refused? Real refusals of the real Envoy, each found by its id in the answer,
//! in Envoy's access log, and by `keygate explain` with what led to it; and what Envoy's own
//! statistics say of the filter.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::cast::{Pair, Terms};
use e2e::client::{Answer, Call};
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::{Value, json};

/// A report takes about a second; a machine that compiles meanwhile takes longer.
const REPORTED: Duration = Duration::from_secs(15);
/// Envoy writes its access log out every ten seconds.
const LOGGED: Duration = Duration::from_secs(30);

/// The id of a refusal, which its header and its body agree on.
fn decision(answer: &Answer) -> String {
    let id = answer.header("x-keygate-decision").expect("every refusal has an id").to_owned();
    assert_eq!(answer.json()["decision"], json!(id));
    id
}

/// What `keygate explain <id>` prints, as soon as the report is there.
async fn explained(world: &World, id: &str) -> Result<String> {
    let explain = || async { world.manager.run(&["explain", id]).ok() };
    wait::until(&format!("decision {id}"), REPORTED, explain).await
}

#[test]
fn each_refusal_is_explained_by_the_id_in_its_answer_and_in_the_access_log() -> Result<()> {
    e2e::run(async {
        let world = World::start("explain", Plan { workers: 2, ..Plan::default() }).await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        world.api("reports", "/reports", json!({})).await?;
        let group = world.group("orders", &[&orders]).await?;
        world.until_known(&Call::get("/reports")).await?;
        let client = async |name: &str, more: Value| -> Result<(String, Call)> {
            let mut fields = json!({ "groups": [group] });
            for (field, value) in more.as_object().context("an object")? {
                fields[field] = value.clone();
            }
            let client = world.client(name, fields).await?;
            let key = world.x_api_key(&client, &[&group], json!({})).await?;
            Ok((client, Call::get("/orders/7?token=private").x_api_key(&key.text)))
        };
        let (metered, metered_call) = client("metered", json!({ "quota": 3 })).await?;
        let (fast, fast_call) = client("fast", json!({ "tps": 1 })).await?;
        let (disabled, disabled_call) = client("disabled", json!({})).await?;
        world
            .operator()
            .patch(&format!("/api/v1/clients/{disabled}"), json!({ "status": "disabled" }))
            .await?;
        let bindings = json!({ "bindings": [{ "name": "office", "address": "198.51.100.0/24" }] });
        let (elsewhere, elsewhere_call) = client("elsewhere", bindings).await?;
        let pair = Pair::named("explained");
        let pair = world.import(pair, "key", &Terms::new(&metered, &[&orders]))?;
        let wrong = Pair { secret_key: Pair::named("another").secret_key, ..pair.clone() };

        let mut refused: Vec<(&str, String, Vec<String>)> = Vec::new();
        let mut refuse = |answer: Answer, code: &'static str, says: &[String]| {
            assert_eq!(answer.code(), code, "{}", answer.text());
            refused.push((code, decision(&answer), says.to_vec()));
        };

        for n in 1..=3 {
            assert_eq!(world.call(&metered_call).await?.verdict(), "200", "call {n}");
        }
        let exhausted = world.call(&metered_call).await?;
        let state = exhausted.header("ratelimit").unwrap_or_default();
        assert!(state.starts_with("\"client-quota\";r=0;t="), "{state}");
        assert_eq!(exhausted.header("ratelimit-policy"), Some("\"client-quota\";q=3;w=86400"));
        assert!(exhausted.header("retry-after").is_some());
        let ledger = "the ledger said: nothing left".to_owned();
        refuse(exhausted, "quota_exhausted", &["client_quota".into(), "limit 3, 0 units".into(), ledger]);

        let over = wait::until("a full second", REPORTED, || async {
            let answer = world.call(&fast_call).await.ok()?;
            (answer.status == 429).then_some(answer)
        });
        let over = over.await?;
        assert_eq!(over.header("ratelimit"), Some("\"tps\";r=0;t=1"));
        assert_eq!(over.header("retry-after"), Some("1"));
        refuse(over, "rate_exceeded", &[fast, "1 of 1 in that second".into()]);

        refuse(world.call(&disabled_call).await?, "client_disabled", &[disabled]);
        refuse(
            world.call(&elsewhere_call).await?,
            "address_not_allowed",
            &[elsewhere, "127.0.0.1, external".into()],
        );
        refuse(world.call(&Call::get("/orders/7")).await?, "credential_missing", &["client     none".into()]);
        let unknown = Call::get("/orders/7").x_api_key("nobody-has-this-key");
        refuse(world.call(&unknown).await?, "credential_unknown", &["client     none".into()]);
        let forged = wrong.sign(Call::get("/orders/7"));
        refuse(world.call(&forged).await?, "signature_incorrect", &[metered.clone(), "not proven".into()]);
        refuse(world.call(&Call::get("/nowhere")).await?, "api_not_found", &["/nowhere".into()]);
        let mut other_api = disabled_call.clone();
        other_api.path = "/orders//7".into();
        refuse(world.call(&other_api).await?, "path_ambiguous", &["/orders//7".into()]);

        for (code, id, says) in &refused {
            let text = explained(&world, id).await?;
            assert!(text.contains(&format!("rule       {code}\n")), "{text}");
            for wanted in says {
                assert!(text.contains(wanted), "`{wanted}` in\n{text}");
            }
            for secret in ["private", "nobody-has-this-key", &pair.secret_key, &wrong.secret_key] {
                assert!(!text.contains(secret), "{text}");
            }
        }

        let log = world.envoy().log_file();
        let wanted: Vec<(String, String)> =
            refused.iter().map(|(code, id, _)| (id.clone(), format!("keygate_{code}"))).collect();
        let logged = || async {
            let text = std::fs::read_to_string(&log).ok()?;
            let lines: BTreeMap<String, Value> = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter_map(|line| Some((line["decision"].as_str()?.to_owned(), line)))
                .collect();
            let all = wanted
                .iter()
                .all(|(id, details)| lines.get(id).is_some_and(|line| line["details"] == **details));
            all.then_some(lines)
        };
        let lines = wait::until("every id in the access log", LOGGED, logged).await?;
        for (code, client, api) in [
            ("quota_exhausted", json!(metered), json!(orders)),
            ("signature_incorrect", json!(null), json!(orders)),
            ("credential_unknown", json!(null), json!(orders)),
            ("api_not_found", json!(null), json!(null)),
        ] {
            let id = refused.iter().find(|(known, ..)| *known == code).map(|(_, id, _)| id.as_str());
            let line = &lines[id.context("one of each")?];
            assert_eq!((&line["client"], &line["api"]), (&client, &api), "{code}: {line}");
        }

        // What would be decided now, without sending anything.
        let asked = world.manager.run(&["explain", "--client", &metered, "--path", "/orders/7"])?;
        assert!(asked.contains("refused with quota_exhausted (429)"), "{asked}");
        assert!(asked.contains("limit 3 until") && asked.contains(" 0 remaining, 0 leased"), "{asked}");
        let asked = world.manager.run(&["explain", "--api-key", &pair.api_key, "--path", "/reports"])?;
        assert!(asked.contains("refused with permission_denied (403)\nrule       permission"), "{asked}");
        // An id that was never given.
        let none = world.manager.run(&["explain", "0123456789abcdef-1"]);
        let none = format!("{:#}", none.expect_err("nobody gave it"));
        assert!(none.contains("has reported nothing") && none.contains("access log"), "{none}");
        Ok(())
    })
}

/// A sample of Envoy's own statistics, in the format of Prometheus.
async fn sample(world: &World, metric: &str, labels: &[(&str, &str)]) -> Result<u64> {
    let text = world.envoy().prometheus().await?;
    let fits = |line: &&str| {
        line.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
            && labels.iter().all(|(name, value)| line.contains(&format!("{name}=\"{value}\"")))
    };
    let values = text.lines().filter(fits).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(values.sum())
}

#[test]
fn envoys_own_statistics_say_what_the_filter_decided_and_what_it_asked_the_manager() -> Result<()> {
    e2e::run(async {
        let world = World::start("filter-metrics", Plan { workers: 2, ..Plan::default() }).await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        let group = world.group("orders", &[&orders]).await?;
        world.until_known(&Call::get("/orders")).await?;
        let client = world.client("counted", json!({ "groups": [group], "quota": 1_000 })).await?;
        let key = world.x_api_key(&client, &[&group], json!({})).await?;
        let call = Call::get("/orders/7").x_api_key(&key.text);
        for _ in 0..200 {
            assert_eq!(world.call(&call).await?.verdict(), "200");
        }
        for _ in 0..3 {
            assert_eq!(
                world.call(&Call::get("/orders/7").x_api_key("nobody")).await?.code(),
                "credential_unknown"
            );
        }
        let told = || async {
            let admitted = sample(&world, "keygate_decisions_total", &[("code", "admitted")]).await.ok()?;
            // Each worker tells its own with its next tick.
            let unknown = [("code", "credential_unknown")];
            let unknown = sample(&world, "keygate_decisions_total", &unknown).await.ok()?;
            ((admitted, unknown) == (200, 3)).then_some(())
        };
        wait::until("200 admitted and 3 refused in the statistics", REPORTED, told).await?;
        let of = async |metric, labels| sample(&world, metric, labels).await;
        assert!(of("keygate_lookups_total", &[("result", "known")]).await? >= 1);
        assert!(of("keygate_lookups_total", &[("result", "unknown")]).await? >= 1);
        assert!(of("keygate_waits_total", &[("reason", "lookup")]).await? >= 2);
        assert!(
            of("keygate_waits_total", &[("reason", "units")]).await? >= 1,
            "the first request waits for a lease"
        );
        assert!(of("keygate_lease_renewals_total", &[]).await? >= 1);
        let exchanges = [("kind", "exchange"), ("outcome", "answered")];
        assert!(of("keygate_manager_calls_total", &exchanges).await? >= 2);
        assert!(of("keygate_manager_calls_total", &[("kind", "poll")]).await? >= 1);
        assert!(of("keygate_feed_revision", &[]).await? >= 1);
        let grants = of("keygate_grants_held", &[]).await?;
        assert!((1..=2).contains(&grants), "{grants}: one on each worker that was called");
        let text = world.envoy().prometheus().await?;
        assert!(text.contains("# TYPE keygate_decisions_total counter"), "{text}");
        assert!(text.contains("# TYPE keygate_grants_held gauge"), "{text}");
        Ok(())
    })
}
