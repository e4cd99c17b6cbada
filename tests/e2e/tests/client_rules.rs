//! Every rule of a client on the real Envoy: saved through the management API it is enforced within
//! one second of the answer, and lifted it is gone within one second, on every worker.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cast::XApiKey;
use e2e::client::{self, Answer, Call, Connection, Protocol};
use e2e::envoy::Listener;
use e2e::name_server::NameServer;
use e2e::wait;
use e2e::world::{Plan, World};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

/// Within so long of the answer to a save, every worker enforces it.
const LIMIT: Duration = Duration::from_secs(1);
/// Rows that run at the same time: more would measure the machine.
const AT_ONCE: usize = 3;
/// Between two calls that look whether a rule is enforced yet.
const PAUSE: Duration = Duration::from_millis(5);
/// Connections spread over the two workers; that many in a row leave hardly one out.
const EVERY_WORKER: usize = 16;
/// How often the installation asks for names here.
const HOST_REFRESH: Duration = Duration::from_secs(1);

const OUTSIDE: &str = r#""origin": "external""#;

struct Stage {
    world: World,
    names: NameServer,
    group: String,
    other_group: String,
}

static STAGE: OnceCell<Stage> = OnceCell::const_new();

/// One Envoy whose listeners differ in origin, family and trust, all in one VM per worker.
async fn stage() -> Result<&'static Stage> {
    STAGE
        .get_or_try_init(|| async {
            let names = NameServer::start().await?;
            names.points("here.example.com", "203.0.113.7");
            names.points("elsewhere.example.com", "203.0.113.99");
            names.points("inside.example.com", "127.0.0.1");
            let v4 = [127, 0, 0, 1].into();
            let v6 = "::1".parse().context("loopback")?;
            let ranges = r#""origin": "by_address", "internal_ranges": ["10.0.0.0/8", "fd00::/8"]"#;
            let listener = |name, host, origin, trusted_hops| Listener { name, host, origin, trusted_hops };
            let plan = Plan {
                settings: vec![
                    ("dns_servers", format!("{:?}", names.address.to_string())),
                    ("host_refresh_s", HOST_REFRESH.as_secs().to_string()),
                ],
                listeners: vec![
                    listener("inside", v4, r#""origin": "internal""#, 0),
                    listener("v6", v6, OUTSIDE, 0),
                    listener("balanced", v4, OUTSIDE, 1),
                    listener("by-address", v4, ranges, 1),
                ],
                ..Plan::default()
            };
            let world = World::start("client-rules", plan).await?;
            let accepts = json!({ "accepts": ["x_api_key", "basic"] });
            let orders = world.api("orders", "/orders", accepts.clone()).await?;
            let reports = world.api("reports", "/reports", accepts).await?;
            let group = world.group("orders", &[&orders]).await?;
            let other_group = world.group("reports", &[&reports]).await?;
            world.until_known(&Call::get("/reports")).await?;
            Ok(Stage { world, names, group, other_group })
        })
        .await
}

/// From where a call comes.
#[derive(Clone, Copy, Debug)]
enum From {
    /// 127.0.0.1 on the shipped listener, which is external.
    Here,
    /// The same, claiming to be forwarded for another.
    Claiming(&'static str),
    /// The internal listener.
    Inside,
    /// `::1` on an external listener.
    V6,
    /// Through a trusted proxy on an external listener.
    Forwarded(&'static str),
    /// Through a trusted proxy on a listener that tells the inside by address.
    ByAddress(&'static str),
}

impl Stage {
    async fn send(&self, from: From, call: &Call) -> Result<Answer> {
        let envoy = self.world.envoy();
        let (address, forwarded) = match from {
            From::Here => (envoy.address, None),
            From::Claiming(address) => (envoy.address, Some(address)),
            From::Inside => (envoy.listener("inside"), None),
            From::V6 => (envoy.listener("v6"), None),
            From::Forwarded(address) => (envoy.listener("balanced"), Some(address)),
            From::ByAddress(address) => (envoy.listener("by-address"), Some(address)),
        };
        let call = match forwarded {
            Some(chain) => call.clone().header("x-forwarded-for", chain),
            None => call.clone(),
        };
        client::http1(address, &call).await
    }

    /// A client with the group of `/orders` and one key for it.
    async fn client(&self, name: &str, fields: Value) -> Result<(String, XApiKey)> {
        let mut all = json!({ "groups": [self.group], "time_zone": "UTC" });
        if let (Some(all), Value::Object(fields)) = (all.as_object_mut(), fields) {
            all.extend(fields);
        }
        let client = self.world.client(name, all).await?;
        let key = self.world.x_api_key(&client, &[&self.group], json!({})).await?;
        Ok((client, key))
    }

    /// Let in, refused once the rule is saved, let in again once it is lifted.
    async fn row(&self, row: &Row) -> Result<()> {
        let name = row.what.replace(' ', "-");
        let (client, key) = self.client(&name, row.begins.clone()).await?;
        let call = Call::get(&format!("/orders/{name}")).x_api_key(&key.text);
        let subject = Subject { client: &client, call };
        for _ in 0..EVERY_WORKER {
            let verdict = self.send(row.from, &subject.call).await?.verdict();
            ensure!(verdict == "200", "{verdict} before the rule was saved");
        }
        self.enforces(row, &subject, &row.rule, "200", row.refused).await?;
        self.enforces(row, &subject, &row.lifted, row.refused, "200").await
    }

    async fn save(&self, client: &str, fields: &Value) -> Result<()> {
        let path = format!("/api/v1/clients/{client}");
        self.world.operator().patch(&path, fields.clone()).await.map(drop)
    }

    /// Saves, then calls until the verdict is `expected`, at most [`LIMIT`] after the answer. Before
    /// it nothing else than `before` is told, and after the limit nothing else than `expected`.
    async fn enforces(
        &self,
        row: &Row,
        subject: &Subject<'_>,
        fields: &Value,
        before: &str,
        expected: &str,
    ) -> Result<()> {
        self.save(subject.client, fields).await?;
        let saved = wait::now();
        loop {
            let verdict = self.send(row.from, &subject.call).await?.verdict();
            if verdict == expected {
                break;
            }
            ensure!(verdict == before, "{fields} is answered {verdict}");
            ensure!(
                saved.elapsed() < LIMIT,
                "still {verdict} {:?} after {fields} was saved",
                saved.elapsed()
            );
            tokio::time::sleep(PAUSE).await;
        }
        println!("{}: {} ms until {expected}", row.what, saved.elapsed().as_millis());
        tokio::time::sleep(LIMIT.saturating_sub(saved.elapsed())).await;
        for _ in 0..EVERY_WORKER {
            let verdict = self.send(row.from, &subject.call).await?.verdict();
            ensure!(verdict == expected, "{verdict} on some worker after {fields} was saved");
        }
        Ok(())
    }
}

/// Whose rule it is and who calls.
struct Subject<'a> {
    client: &'a str,
    call: Call,
}

/// A rule: refused while it is saved, let in before and after.
struct Row {
    what: &'static str,
    from: From,
    /// Of the client, besides what every client here has.
    begins: Value,
    /// What is saved.
    rule: Value,
    refused: &'static str,
    /// What lifts it.
    lifted: Value,
}

/// The rows, some at once, each with a client of its own.
async fn rows(rows: Vec<Row>) -> Result<()> {
    let stage = stage().await?;
    let mut running = JoinSet::new();
    for row in rows {
        if running.len() == AT_ONCE {
            running.join_next().await.context("some run")???;
        }
        running.spawn(async move { stage.row(&row).await.context(row.what) });
    }
    while let Some(row) = running.join_next().await {
        row??;
    }
    Ok(())
}

/// A binding to one address, block or name.
fn bound(address: &str) -> Value {
    json!({ "bindings": [{ "name": "site", "address": address }] })
}

fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
    Timestamp::now()
}

/// A zone whose clock shows an hour of `hour` now, by whole hours from UTC. Noon is far from every
/// change of the day.
fn zone_where_it_is(hour: i8) -> String {
    let ahead = (hour - now().to_zoned(TimeZone::UTC).hour()).rem_euclid(24);
    zone_ahead(if ahead > 12 { ahead - 24 } else { ahead })
}

/// The zone that is so many hours ahead of UTC, -12 to 14. POSIX counts the other way round.
fn zone_ahead(hours: i8) -> String {
    match hours {
        0 => "Etc/GMT".into(),
        1.. => format!("Etc/GMT-{hours}"),
        _ => format!("Etc/GMT+{}", -hours),
    }
}

fn now_in(zone: &str) -> jiff::Zoned {
    now().to_zoned(TimeZone::get(zone).expect("bundled"))
}

#[test]
fn status_is_enforced_and_lifted_within_a_second() -> Result<()> {
    e2e::run(rows(vec![
        Row {
            what: "status disabled",
            from: From::Here,
            begins: json!({}),
            rule: json!({ "status": "disabled" }),
            refused: "403 client_disabled",
            lifted: json!({ "status": "active" }),
        },
        Row {
            what: "status locked",
            from: From::Here,
            begins: json!({}),
            rule: json!({ "status": "locked" }),
            refused: "403 client_locked",
            lifted: json!({ "status": "active" }),
        },
    ]))
}

#[test]
fn dates_times_and_zone_are_enforced_and_lifted_within_a_second() -> Result<()> {
    let whole_day = json!({ "service_from": "00:00", "service_until": "23:59" });
    let morning = json!({ "service_from": "00:00", "service_until": "11:59" });
    let noon = zone_where_it_is(12);
    let at_noon = json!({ "time_zone": noon });
    let day = |days| now_in(&noon).date().saturating_add(jiff::Span::new().days(days)).to_string();
    let dates = |start, expiry| json!({ "start_date": day(start), "expiry_date": day(expiry) });
    let today = json!({ "time_zone": noon, "start_date": day(0), "expiry_date": day(0) });
    // 14 hours from noon it is another day: the next one, or where that is beyond the date line the
    // one before.
    let ahead = i8::try_from(now_in(&noon).offset().seconds() / 3_600).expect("12 at most");
    let (elsewhere, refused) = match ahead <= 0 {
        true => (zone_ahead(ahead + 14), "403 client_expired"),
        false => (zone_ahead((ahead - 14).max(-12)), "403 client_not_started"),
    };
    e2e::run(rows(vec![
        Row {
            what: "start date",
            from: From::Here,
            begins: at_noon.clone(),
            rule: dates(1, 30),
            refused: "403 client_not_started",
            lifted: dates(0, 30),
        },
        Row {
            what: "expiry date",
            from: From::Here,
            begins: at_noon,
            rule: dates(-30, -1),
            refused: "403 client_expired",
            lifted: dates(-30, 0),
        },
        Row {
            what: "time zone of dates",
            from: From::Here,
            begins: today,
            rule: json!({ "time_zone": elsewhere }),
            refused,
            lifted: json!({ "time_zone": noon }),
        },
        Row {
            what: "service time",
            from: From::Here,
            begins: json!({ "time_zone": zone_where_it_is(18) }),
            rule: morning,
            refused: "403 outside_service_time",
            lifted: whole_day,
        },
        Row {
            what: "time zone of service time",
            from: From::Here,
            begins: json!({ "time_zone": zone_where_it_is(6), "service_from": "00:00", "service_until": "11:59" }),
            rule: json!({ "time_zone": zone_where_it_is(18) }),
            refused: "403 outside_service_time",
            lifted: json!({ "time_zone": zone_where_it_is(6) }),
        },
    ]))
}

#[test]
fn addresses_are_enforced_and_lifted_within_a_second() -> Result<()> {
    let row = |what, from, rule: &str, lifted: &str| Row {
        what,
        from,
        begins: json!({}),
        rule: bound(rule),
        refused: "403 address_not_allowed",
        lifted: bound(lifted),
    };
    e2e::run(rows(vec![
        row("an IPv4 address", From::Here, "127.0.0.2", "127.0.0.1"),
        row("a block", From::Here, "198.51.100.0/24", "127.0.0.0/30"),
        row("an IPv6 address", From::V6, "2001:db8::1", "::1"),
        row("IPv4 is not IPv6", From::V6, "0.0.0.0/0", "::/0"),
        row("forwarded", From::Forwarded("203.0.113.7"), "203.0.113.8", "203.0.113.7"),
        row("the proxy is not the caller", From::Forwarded("203.0.113.7"), "127.0.0.1", "203.0.113.0/24"),
        row(
            "the last proxy alone is believed",
            From::Forwarded("203.0.113.7, 198.51.100.1"),
            "203.0.113.7",
            "198.51.100.1",
        ),
        row("forwarded as IPv6", From::Forwarded("2001:db8:1::7"), "2001:db8:2::/48", "2001:db8:1::/48"),
        row("mapped", From::Forwarded("::ffff:203.0.113.7"), "203.0.113.8", "203.0.113.7"),
        row("a claim without a trusted proxy", From::Claiming("203.0.113.7"), "203.0.113.7", "127.0.0.1"),
        row("a name", From::Forwarded("203.0.113.7"), "elsewhere.example.com", "here.example.com"),
        row("a name nobody knows", From::Forwarded("203.0.113.7"), "nowhere.example.com", "here.example.com"),
        // Its only answer is this machine, from where the call comes.
        row("a name of the inside", From::Here, "inside.example.com", "127.0.0.1"),
    ]))
}

#[test]
fn a_name_that_moves_is_followed() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        stage.names.points("moves.example.com", "203.0.113.7");
        let (_, key) = stage.client("moves", bound("moves.example.com")).await?;
        let call = Call::get("/orders/moves").x_api_key(&key.text);
        let verdicts = async || -> Result<[String; 2]> {
            let old = stage.send(From::Forwarded("203.0.113.7"), &call).await?.verdict();
            let new = stage.send(From::Forwarded("203.0.113.8"), &call).await?.verdict();
            Ok([old, new])
        };
        let until = async |what: &str, expected: [&str; 2]| -> Result<()> {
            let begun = wait::now();
            while verdicts().await? != expected {
                // Asked for again, and then a second as for every change.
                ensure!(begun.elapsed() < HOST_REFRESH + LIMIT, "{what} after {:?}", begun.elapsed());
            }
            Ok(())
        };
        until("not resolved", ["200", "403 address_not_allowed"]).await?;
        stage.names.points("moves.example.com", "203.0.113.8");
        until("not followed", ["403 address_not_allowed", "200"]).await
    })
}

#[test]
fn audience_is_enforced_and_lifted_within_a_second() -> Result<()> {
    let row = |what, from, rule: &str, lifted: &str| Row {
        what,
        from,
        begins: json!({ "audience": lifted }),
        rule: json!({ "audience": rule }),
        refused: "403 audience_denied",
        lifted: json!({ "audience": lifted }),
    };
    // Two listeners of one VM that differ in their origin, and one that tells it by address.
    e2e::run(rows(vec![
        row("external from outside", From::Here, "internal", "external"),
        row("both from outside", From::Here, "internal", "both"),
        row("internal from inside", From::Inside, "external", "internal"),
        row("both from inside", From::Inside, "external", "both"),
        row("inside by its address", From::ByAddress("10.1.2.3"), "external", "internal"),
        row("inside by its IPv6 address", From::ByAddress("fd00::1"), "external", "internal"),
        row("outside by its address", From::ByAddress("203.0.113.7"), "internal", "external"),
    ]))
}

/// What the rows above ran on: the listeners share their VMs, one per thread, as they share the
/// leases of quota in them.
#[test]
fn listeners_that_differ_in_origin_share_one_vm_per_worker() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let (_, key) = stage.client("shared", json!({ "quota": 40 })).await?;
        let call = Call::get("/orders/shared").x_api_key(&key.text);
        let froms =
            [From::Here, From::Inside, From::V6, From::Forwarded("203.0.113.7"), From::ByAddress("10.1.2.3")];
        let mut admitted = 0;
        for from in froms.into_iter().cycle().take(100) {
            match stage.send(from, &call).await?.verdict().as_str() {
                "200" => admitted += 1,
                verdict => assert_eq!(verdict, "429 quota_exhausted", "{from:?} after {admitted}"),
            }
        }
        assert_eq!(admitted, 40, "one quota over all listeners");
        let stats = stage.world.envoy().stats().await?;
        let vms = stats.get("wasm.envoy.wasm.runtime.v8.active");
        assert_eq!(vms, Some(&4), "two workers, the main thread, and the one they are copied from");
        Ok(())
    })
}

#[test]
fn audience_of_the_api_is_enforced_on_each_listener() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let api = stage.world.api("audience", "/audience", json!({ "accepts": ["x_api_key"] })).await?;
        let group = stage.world.group("audience", &[&api]).await?;
        let (_, key) = async {
            let client = stage.world.client("audience-of-api", json!({ "groups": [group] })).await?;
            let key = stage.world.x_api_key(&client, &[&group], json!({})).await?;
            anyhow::Ok((client, key))
        }
        .await?;
        let call = Call::get("/audience").x_api_key(&key.text);
        stage.world.until_known(&call).await?;
        let preflight = Call::new("OPTIONS", "/audience")
            .header("origin", "https://shop.example")
            .header("access-control-request-method", "GET");
        let outsides = [From::Here, From::ByAddress("203.0.113.7")];
        let insides = [From::Inside, From::ByAddress("10.1.2.3")];
        let (yes, no, neither) = ("200", "403 audience_denied", "401 credential_missing");
        for (audience, outside, inside) in [("internal", no, yes), ("external", yes, no), ("both", yes, yes)]
        {
            let path = format!("/api/v1/apis/{api}");
            stage.world.operator().patch(&path, json!({ "audience": audience })).await?;
            tokio::time::sleep(LIMIT).await;
            for (from, expected) in
                outsides.map(|from| (from, outside)).into_iter().chain(insides.map(|from| (from, inside)))
            {
                for _ in 0..4 {
                    let verdict = stage.send(from, &call).await?.verdict();
                    assert_eq!(verdict, expected, "{audience}, {from:?}");
                    // What may not come at all is not told by a preflight either.
                    let expected = if expected == yes { yes } else { neither };
                    let verdict = stage.send(from, &preflight).await?.verdict();
                    assert_eq!(verdict, expected, "preflight, {audience}, {from:?}");
                }
            }
        }
        Ok(())
    })
}

#[test]
fn groups_are_enforced_and_lifted_within_a_second() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        rows(vec![
            Row {
                what: "no group",
                from: From::Here,
                begins: json!({}),
                rule: json!({ "groups": [] }),
                refused: "403 permission_denied",
                lifted: json!({ "groups": [stage.group] }),
            },
            Row {
                what: "another group",
                from: From::Here,
                begins: json!({}),
                rule: json!({ "groups": [stage.other_group] }),
                refused: "403 permission_denied",
                lifted: json!({ "groups": [stage.group, stage.other_group] }),
            },
        ])
        .await
    })
}

#[test]
fn quota_is_enforced_and_lifted_within_a_second_for_each_period() -> Result<()> {
    let row = |what, period: &str| Row {
        what,
        from: From::Here,
        begins: json!({}),
        rule: json!({ "quota": 1, "quota_period": period }),
        refused: "429 quota_exhausted",
        lifted: json!({ "quota": 0 }),
    };
    e2e::run(rows(vec![
        row("quota of the day", "day"),
        row("quota of the week", "week"),
        row("quota of the month", "month"),
        row("quota in total", "total"),
    ]))
}

#[test]
fn tps_is_enforced_and_lifted_within_a_second() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let (client, key) = stage.client("tps", json!({ "tps": 0 })).await?;
        let call = Call::get("/orders/tps").x_api_key(&key.text);
        let mut connection = Connection::open(stage.world.envoy().address, Protocol::Http1).await?;
        for _ in 0..50 {
            assert_eq!(connection.send(&call).await?.verdict(), "200");
        }
        stage.save(&client, &json!({ "tps": 1 })).await?;
        let saved = wait::now();
        while connection.send(&call).await?.verdict() != "429 rate_exceeded" {
            assert!(saved.elapsed() < LIMIT, "not limited {:?} after it was saved", saved.elapsed());
        }
        stage.save(&client, &json!({ "tps": 0 })).await?;
        tokio::time::sleep(LIMIT).await;
        for _ in 0..50 {
            assert_eq!(stage.send(From::Here, &call).await?.verdict(), "200");
        }
        Ok(())
    })
}

#[test]
fn password_lock_closes_basic_and_is_lifted_within_a_second() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let (client, key) = stage.client("locked-out", json!({})).await?;
        let basic = |password: &str| {
            use base64::Engine;
            let text = base64::engine::general_purpose::STANDARD.encode(format!("{client}:{password}"));
            Call::get("/orders/basic").header("authorization", format!("Basic {text}"))
        };
        let right = basic("a-password-2026");
        for _ in 0..EVERY_WORKER {
            assert_eq!(stage.send(From::Here, &right).await?.verdict(), "200");
        }
        for wrong in ["wrong-1", "wrong-2", "wrong-3"] {
            assert_eq!(stage.send(From::Here, &right).await?.verdict(), "200", "two wrong ones are allowed");
            let verdict = stage.send(From::Here, &basic(wrong)).await?.verdict();
            assert_eq!(verdict, "401 credential_unknown");
        }
        let locked = wait::now();
        while stage.send(From::Here, &right).await?.verdict() != "401 credential_unknown" {
            assert!(locked.elapsed() < LIMIT, "let in {:?} after the third wrong one", locked.elapsed());
        }
        // A stranger who knows a client id stops no key.
        let keyed = Call::get("/orders/basic").x_api_key(&key.text);
        assert_eq!(stage.send(From::Here, &keyed).await?.verdict(), "200");
        let path = format!("/api/v1/clients/{client}");
        let reset = json!({ "reset_failed_attempts": true });
        stage.world.operator().write("PATCH", &path, "/status", reset).await?;
        let reset = wait::now();
        while stage.send(From::Here, &right).await?.verdict() != "200" {
            assert!(reset.elapsed() < LIMIT, "refused {:?} after the reset", reset.elapsed());
        }
        Ok(())
    })
}

#[test]
fn basic_is_closed_and_opened_by_the_grant_client_credentials_within_a_second() -> Result<()> {
    e2e::run(async {
        use base64::Engine;
        let stage = stage().await?;
        let (client, _) = stage.client("without-basic", json!({})).await?;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{client}:a-password-2026"));
        let call = Call::get("/orders/basic").header("authorization", format!("Basic {text}"));
        assert_eq!(stage.send(From::Here, &call).await?.verdict(), "200");
        let path = format!("/api/v1/clients/{client}/token-settings");
        for (grant, verdict) in [("password", "401 credential_inactive"), ("client_credentials", "200")] {
            let terms = json!({ "validity": 0, "unit": "days", "uses": 0 });
            let settings = json!({
                "grant_types": [grant], "access_token": terms, "refresh_token": terms, "redirect_urls": [],
            });
            stage.world.operator().write("PUT", &path, "", settings).await?;
            let saved = wait::now();
            while stage.send(From::Here, &call).await?.verdict() != verdict {
                assert!(saved.elapsed() < LIMIT, "no {verdict} {:?} after {grant}", saved.elapsed());
            }
        }
        Ok(())
    })
}

/// Nothing is saved: time alone opens and closes, at the turn of a minute.
#[test]
fn service_time_begins_and_ends_with_whole_minutes() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        // Around noon no minute is another day's. Some seconds for what is to be set up.
        let zone = zone_where_it_is(12);
        let turn = (now_in(&zone) + SignedDuration::from_secs(10))
            .round(jiff::ZonedRound::new().smallest(jiff::Unit::Minute).mode(jiff::RoundMode::Ceil))?;
        let minute = |at: &jiff::Zoned| at.strftime("%H:%M").to_string();
        let last = turn.checked_sub(SignedDuration::from_mins(1))?;
        let service = |from: &str, until: &str| json!({ "time_zone": zone, "service_from": from, "service_until": until });
        let (ends, begins) = (service("00:00", &minute(&last)), service(&minute(&turn), "23:59"));
        let (_, ending) = stage.client("service-ends", ends).await?;
        let (_, beginning) = stage.client("service-begins", begins).await?;
        let [ending, beginning] =
            [ending, beginning].map(|key| Call::get("/orders/turn").x_api_key(&key.text));
        let until = |at: &jiff::Zoned| {
            Duration::try_from(now().duration_until(at.timestamp())).unwrap_or(Duration::ZERO)
        };
        let margin = Duration::from_millis(100);
        let out = "403 outside_service_time";
        let mut seen = 0;
        while until(&turn) > margin {
            let verdicts = [
                stage.send(From::Here, &ending).await?.verdict(),
                stage.send(From::Here, &beginning).await?.verdict(),
            ];
            if until(&turn) > margin {
                seen += 1;
                assert_eq!(verdicts, ["200", out], "{:?} before {turn}", until(&turn));
            }
            tokio::time::sleep(margin / 2).await;
        }
        ensure!(seen > 0, "nothing was seen before the turn");
        tokio::time::sleep(until(&turn) + margin).await;
        for _ in 0..EVERY_WORKER {
            assert_eq!(stage.send(From::Here, &ending).await?.verdict(), out, "after {turn}");
            assert_eq!(stage.send(From::Here, &beginning).await?.verdict(), "200", "after {turn}");
        }
        Ok(())
    })
}

/// Calls that this one worker takes at a time; of them, a client of priority 9 gets the first 11.
const CAPACITY: u32 = 20;

#[test]
fn priority_0_goes_before_9_when_the_node_is_busy() -> Result<()> {
    e2e::run(async {
        let settings = vec![("worker_capacity", CAPACITY.to_string())];
        let plan = Plan { settings, workers: 1, ..Plan::default() };
        let world = World::start("priority", plan).await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        let group = world.group("orders", &[&orders]).await?;
        world.until_known(&Call::get("/orders")).await?;
        let caller = async |name: &str, priority: u8| -> Result<(String, Call)> {
            let fields = json!({ "groups": [group], "priority": priority });
            let client = world.client(name, fields).await?;
            let key = world.x_api_key(&client, &[&group], json!({})).await?;
            Ok((client, Call::get("/orders/priority").x_api_key(&key.text)))
        };
        let (_, best) = caller("best", 0).await?;
        let (client, worst) = caller("worst", 9).await?;
        let verdicts = async || -> Result<[String; 2]> {
            Ok([world.call(&best).await?.verdict(), world.call(&worst).await?.verdict()])
        };
        assert_eq!(verdicts().await?, ["200", "200"], "nobody else is there");

        // Uploads that take their time fill the worker, as the best client's.
        let mut busy = JoinSet::new();
        for _ in 0..11 {
            let mut upload = Call::post("/orders/busy", "x".repeat(4_000));
            upload.headers.extend(best.headers.clone());
            let upload = upload.in_pieces(400, Duration::from_millis(50), &[]);
            let address = world.envoy().address;
            busy.spawn(async move { client::http1(address, &upload).await });
        }
        let filled = || async { (verdicts().await.ok()? == ["200", "503 overloaded"]).then_some(()) };
        wait::until("a busy worker", Duration::from_secs(5), filled).await?;

        let path = format!("/api/v1/clients/{client}");
        for (priority, expected) in [(8, "200"), (9, "503 overloaded"), (0, "200")] {
            world.operator().patch(&path, json!({ "priority": priority })).await?;
            let saved = wait::now();
            while verdicts().await? != ["200", expected] {
                assert!(saved.elapsed() < LIMIT, "priority {priority}: {:?} after its save", saved.elapsed());
            }
        }
        assert!(busy.try_join_next().is_none(), "all of them were there all the time");
        Ok(())
    })
}

/// The document's example: 10 calls a second, and 10 in all on that day.
#[test]
fn tps_10_and_quota_10_the_11th_call_of_the_day_is_refused() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let (_, key) = stage.client("ten-and-ten", json!({ "tps": 10, "quota": 10 })).await?;
        let call = Call::get("/orders/ten-and-ten").x_api_key(&key.text);
        for n in 1..=10 {
            assert_eq!(stage.send(From::Here, &call).await?.verdict(), "200", "call {n}");
        }
        // Not for the rate: that second is over.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        for _ in 0..EVERY_WORKER {
            let answer = stage.send(From::Here, &call).await?;
            assert_eq!(answer.verdict(), "429 quota_exhausted");
        }
        assert_eq!(stage.world.upstream.count("/orders/ten-and-ten"), 10);
        Ok(())
    })
}

#[test]
fn one_api_called_10_times_counts_10() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let groups = [stage.group.as_str(), &stage.other_group];
        let (client, _) = stage.client("repeats", json!({ "quota": 12, "groups": groups })).await?;
        let key = stage.world.x_api_key(&client, &groups, json!({})).await?;
        let same = Call::get("/orders/repeats").x_api_key(&key.text);
        let another = Call::get("/reports/repeats").x_api_key(&key.text);
        for n in 1..=10 {
            assert_eq!(stage.send(From::Here, &same).await?.verdict(), "200", "call {n}");
        }
        for n in 11..=12 {
            assert_eq!(stage.send(From::Here, &another).await?.verdict(), "200", "call {n}");
        }
        for call in [&same, &another] {
            assert_eq!(stage.send(From::Here, call).await?.verdict(), "429 quota_exhausted");
        }
        Ok(())
    })
}

#[test]
fn quota_0_is_no_limit() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        let (_, key) = stage.client("unlimited", json!({ "quota": 0, "tps": 0 })).await?;
        let call = Call::get("/orders/unlimited").x_api_key(&key.text);
        let mut connection = Connection::open(stage.world.envoy().address, Protocol::Http1).await?;
        for n in 1..=1_000 {
            assert_eq!(connection.send(&call).await?.verdict(), "200", "call {n}");
        }
        Ok(())
    })
}

#[test]
fn tps_10_lets_10_calls_a_second_through() -> Result<()> {
    e2e::run(async {
        let stage = stage().await?;
        // What a new client has unless told otherwise.
        let (client, key) = stage.client("ten-a-second", json!({ "tps": null })).await?;
        let shown = stage.world.operator().get(&format!("/api/v1/clients/{client}")).await?;
        assert_eq!(shown["tps"], 10);
        let call = Call::get("/orders/ten-a-second").x_api_key(&key.text);
        let mut connection = Connection::open(stage.world.envoy().address, Protocol::Http1).await?;
        // A machine under load may not manage eleven calls within one second of Envoy's clock: such a
        // round tells nothing.
        for _ in 0..10 {
            // A second is spent, then the next begins with the first call that is let in again.
            while connection.send(&call).await?.verdict() == "200" {}
            let begun = loop {
                let asked = wait::now();
                if connection.send(&call).await?.verdict() == "200" {
                    break asked;
                }
            };
            let mut verdicts = vec!["200".to_owned()];
            for _ in 2..=11 {
                verdicts.push(connection.send(&call).await?.verdict());
            }
            if begun.elapsed() < Duration::from_millis(900) {
                let mut expected = vec!["200"; 10];
                expected.push("429 rate_exceeded");
                assert_eq!(verdicts, expected);
                return Ok(());
            }
        }
        panic!("eleven calls never fitted into one second");
    })
}
