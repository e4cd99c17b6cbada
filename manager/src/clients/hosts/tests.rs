//! Host names through the router and a real name server on loopback, on both databases, with a
//! clock that stands until it is moved.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use gate::wire::changes::Subject;
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use super::{Answered, Resolver, resolve_due};
use crate::changes;
use crate::clients;
use crate::testing::{Caller, World};

const CLIENTS: &str = "/api/v1/clients";
const ACME: &str = "/api/v1/clients/acme";
const NAME: &str = "gateway.example.com";
const MINUTE_MS: i64 = 60_000;
const KEEP_MS: i64 = 10 * MINUTE_MS;

/// What the name server says of a name.
#[derive(Clone)]
enum Says {
    Addresses(Vec<IpAddr>),
    /// NOERROR without a record of either family.
    Nothing,
    Code(ResponseCode),
    /// A is answered, AAAA is not.
    HalfOf(Vec<IpAddr>),
    Silence,
}

/// A name server on loopback; a name that it was told nothing of does not exist.
struct NameServer {
    address: SocketAddr,
    says: Arc<Mutex<HashMap<String, Says>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("bound");
        let (says, asked) =
            (Arc::<Mutex<HashMap<String, Says>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (known, heard) = (says.clone(), asked.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            while let Ok((size, peer)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..size]).expect("a question");
                let query = question.queries.first().expect("one query").clone();
                let name = query.name().to_ascii().trim_end_matches('.').to_lowercase();
                let mut answer = Message::response(question.metadata.id, OpCode::Query);
                answer.add_query(query.clone());
                let of_family = |addresses: &[IpAddr]| -> Vec<Record> {
                    let family =
                        |address: &&IpAddr| address.is_ipv4() == (query.query_type() == RecordType::A);
                    let record = |address: &IpAddr| {
                        // A long life, which is not to be believed.
                        Record::from_rdata(query.name().clone(), 86_400, RData::from(*address))
                    };
                    addresses.iter().filter(family).map(record).collect()
                };
                let said = held(&known).get(&name).cloned();
                held(&heard).push(name);
                match said {
                    Some(Says::Addresses(addresses)) => drop(answer.add_answers(of_family(&addresses))),
                    Some(Says::Nothing) => (),
                    Some(Says::Code(code)) => answer.metadata.response_code = code,
                    Some(Says::HalfOf(addresses)) => {
                        if query.query_type() == RecordType::AAAA {
                            answer.metadata.response_code = ResponseCode::ServFail;
                        }
                        answer.add_answers(of_family(&addresses));
                    }
                    Some(Says::Silence) => continue,
                    None => answer.metadata.response_code = ResponseCode::NXDomain,
                }
                let bytes = answer.to_vec().expect("an answer");
                socket.send_to(&bytes, peer).await.expect("sent");
            }
        });
        Self { address, says, asked }
    }

    fn says(&self, name: &str, says: Says) {
        held(&self.says).insert(name.into(), says);
    }

    fn is_at(&self, name: &str, addresses: &[&str]) {
        self.says(name, Says::Addresses(parsed(addresses)));
    }

    /// How often it was asked for a name since this was called last; two questions, A and AAAA,
    /// make one.
    fn asked(&self) -> usize {
        std::mem::take(&mut *held(&self.asked)).len().div_ceil(2)
    }
}

fn held<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parsed(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().expect("an address")).collect()
}

/// A world with a client that is bound to [`NAME`], and its name server.
struct Stage {
    world: World,
    admin: Caller,
    server: NameServer,
    resolver: Resolver,
}

impl Stage {
    async fn both() -> [Self; 2] {
        Self::both_with(|_| {}).await
    }

    async fn both_with(adjust: impl Fn(&mut crate::config::Config)) -> [Self; 2] {
        let servers = [NameServer::start().await, NameServer::start().await];
        let next = std::cell::Cell::new(0);
        let worlds = World::both_with(|config| {
            config.dns_servers = Some(servers[next.replace(next.get() + 1)].address.to_string());
            adjust(config);
        })
        .await;
        let [sqlite, postgres] = worlds;
        let [first, second] = servers;
        [Self::new(sqlite, first).await, Self::new(postgres, second).await]
    }

    async fn new(world: World, server: NameServer) -> Self {
        let admin = world.operator("ann", &["admin"]).await;
        let resolver = Resolver::open(&world.app.config).expect("a resolver");
        admin.post(CLIENTS, client("acme", &[NAME])).await.expect(201);
        Self { world, admin, server, resolver }
    }

    /// One run of the worker.
    async fn run(&self) -> Answered {
        resolve_due(&self.world.app, &self.resolver).await.expect("a run")
    }

    /// From where `acme` may call, as its grants say it now.
    async fn granted(&self) -> Vec<String> {
        let mut conn = self.world.app.db.read().await.expect("a connection");
        let client = clients::by_id(&mut conn, "acme").await.expect("read").expect("there");
        client.addresses(self.world.app.now(), i64::from(self.world.app.config.host_keep_s) * 1_000)
    }

    /// The clients whose grants changed since revision `since`, and the revision now.
    async fn changed(&self, since: u64) -> (Vec<String>, u64) {
        let mut conn = self.world.app.db.read().await.expect("a connection");
        let head = changes::head(&mut conn).await.expect("a head").revision;
        let page = changes::page(&mut conn, gate::id::Revision(since), head, 100).await.expect("a page");
        let changes::Page::Changes(changes) = page else { panic!("too old") };
        let client = |change: &gate::wire::changes::Change| match &change.subject {
            Subject::Client { client } => client.as_str().to_owned(),
            other => panic!("{other:?}"),
        };
        (changes.iter().map(client).collect(), head.0)
    }

    /// What the management API shows of the client's only name.
    async fn shown(&self) -> Value {
        self.admin.get(ACME).await.expect(200)["hosts"][0].clone()
    }
}

fn client(id: &str, addresses: &[&str]) -> Value {
    let bindings: Vec<Value> = (1..)
        .zip(addresses)
        .map(|(n, address)| json!({ "name": format!("site {n}"), "address": address }))
        .collect();
    json!({
        "id": id, "name": id, "display_name": id, "note": "Ann", "bindings": bindings,
        "password": "secret-1", "password_confirmation": "secret-1",
    })
}

#[tokio::test]
async fn a_name_means_nobody_until_it_is_resolved_and_follows_the_name_server() {
    for stage in Stage::both().await {
        assert_eq!(stage.granted().await, Vec::<String>::new(), "never resolved");
        assert_eq!(stage.shown().await["tried_at"], Value::Null);
        stage.server.is_at(NAME, &["203.0.113.7", "2001:db8::7"]);
        let (_, before) = stage.changed(0).await;
        assert_eq!(stage.run().await, Answered { asked: 1, changed: 1, forgotten: 0 });
        assert_eq!(stage.granted().await, ["203.0.113.7", "2001:db8::7"]);
        let (changed, resolved) = stage.changed(before).await;
        assert_eq!(changed, ["acme"], "gateways follow");
        let shown = stage.shown().await;
        assert_eq!(
            shown,
            json!({
                "name": NAME, "addresses": ["203.0.113.7", "2001:db8::7"], "refused": [], "last_error": null,
                "resolved_at": World::START.0, "tried_at": World::START.0,
            })
        );

        // Not asked again before its minute is over, whatever happens.
        stage.server.is_at(NAME, &["203.0.113.8"]);
        stage.server.asked();
        stage.world.advance_ms(MINUTE_MS - 1);
        assert_eq!(stage.run().await, Answered::default());
        assert_eq!(stage.server.asked(), 0);
        stage.world.advance_ms(1);
        assert_eq!(stage.run().await, Answered { asked: 1, changed: 1, forgotten: 0 });
        assert_eq!(stage.granted().await, ["203.0.113.8"]);
        let (changed, moved) = stage.changed(resolved).await;
        assert_eq!(changed, ["acme"]);

        // The same again: nothing but a time is written.
        stage.world.advance_ms(MINUTE_MS);
        assert_eq!(stage.run().await, Answered { asked: 1, changed: 0, forgotten: 0 });
        assert_eq!(stage.changed(moved).await.0, Vec::<String>::new());
        assert_eq!(stage.shown().await["resolved_at"], World::START.0 + 2 * MINUTE_MS);
        assert_eq!(stage.admin.get(ACME).await.expect(200)["version"], 1, "the client is as it was");
    }
}

#[tokio::test]
async fn the_last_good_answer_is_kept_for_ten_minutes_then_the_name_means_nobody() {
    for says in [Says::Code(ResponseCode::ServFail), Says::Code(ResponseCode::NXDomain), Says::Nothing] {
        for stage in Stage::both().await {
            stage.server.is_at(NAME, &["203.0.113.7"]);
            stage.run().await;
            let (_, resolved) = stage.changed(0).await;
            stage.server.says(NAME, says.clone());
            for minute in 1..10 {
                stage.world.advance_ms(MINUTE_MS);
                assert_eq!(stage.run().await, Answered { asked: 1, changed: 0, forgotten: 0 }, "{minute}");
                assert_eq!(stage.granted().await, ["203.0.113.7"], "minute {minute}");
            }
            let shown = stage.shown().await;
            assert_eq!(shown["resolved_at"], World::START.0);
            assert_eq!(shown["tried_at"], World::START.0 + 9 * MINUTE_MS);
            assert!(shown["last_error"].is_string(), "{shown}");
            stage.world.advance_ms(MINUTE_MS - 1);
            assert_eq!(stage.granted().await, ["203.0.113.7"], "the last millisecond");
            stage.world.advance_ms(1);
            assert_eq!(stage.granted().await, Vec::<String>::new(), "also before the worker has run");
            assert_eq!(stage.changed(resolved).await.0, Vec::<String>::new());
            assert_eq!(stage.run().await, Answered { asked: 1, changed: 1, forgotten: 0 });
            assert_eq!(stage.changed(resolved).await.0, ["acme"], "gateways hear of it");
            assert_eq!(stage.shown().await["addresses"], json!([]));
            // And back.
            stage.server.is_at(NAME, &["203.0.113.7"]);
            stage.world.advance_ms(MINUTE_MS);
            assert_eq!(stage.run().await, Answered { asked: 1, changed: 1, forgotten: 0 });
            assert_eq!(stage.granted().await, ["203.0.113.7"]);
        }
    }
}

#[tokio::test]
async fn what_lapsed_while_no_worker_ran_is_told_when_it_comes_back_as_it_was() {
    for stage in Stage::both().await {
        stage.server.is_at(NAME, &["203.0.113.7"]);
        stage.run().await;
        let (_, resolved) = stage.changed(0).await;
        stage.world.advance_ms(KEEP_MS + MINUTE_MS);
        assert_eq!(stage.granted().await, Vec::<String>::new());
        assert_eq!(stage.run().await, Answered { asked: 1, changed: 1, forgotten: 0 });
        assert_eq!(stage.granted().await, ["203.0.113.7"]);
        assert_eq!(stage.changed(resolved).await.0, ["acme"], "a grant made meanwhile lacks it");
    }
}

#[tokio::test]
async fn private_answers_are_refused_and_shown_unless_the_installation_allows_them() {
    for (allowed, granted, refused) in [
        (
            false,
            json!(["203.0.113.7"]),
            json!([
                { "address": "10.0.0.1", "reason": "private" },
                { "address": "127.0.0.1", "reason": "loopback" },
                { "address": "fe80::1", "reason": "link-local" },
            ]),
        ),
        (true, json!(["10.0.0.1", "127.0.0.1", "203.0.113.7", "fe80::1"]), json!([])),
    ] {
        for stage in Stage::both_with(|config| config.host_allow_private = allowed).await {
            stage.server.is_at(NAME, &["10.0.0.1", "127.0.0.1", "fe80::1", "203.0.113.7"]);
            stage.run().await;
            let shown = stage.shown().await;
            assert_eq!((&shown["addresses"], &shown["refused"]), (&granted, &refused));
        }
    }
    for stage in Stage::both().await {
        stage.server.is_at(NAME, &["::ffff:10.0.0.1"]);
        stage.run().await;
        let shown = stage.shown().await;
        assert_eq!((&shown["addresses"], &shown["resolved_at"]), (&json!([]), &Value::Null));
        assert!(shown["last_error"].as_str().expect("told").contains("host_allow_private"), "{shown}");
        assert_eq!(stage.granted().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_went_wrong_is_shown_in_plain_words() {
    for stage in Stage::both().await {
        for (says, told) in [
            (Says::Code(ResponseCode::NXDomain), "the name does not exist (NXDOMAIN)"),
            (Says::Code(ResponseCode::ServFail), "the name server answered SERVFAIL"),
            (Says::Code(ResponseCode::Refused), "the name server answered REFUSED"),
            (Says::Nothing, "the name has neither an A nor an AAAA record"),
            // Half an answer is none: the other half would close the door to those who use it.
            (Says::HalfOf(parsed(&["203.0.113.7"])), "the name server answered SERVFAIL"),
        ] {
            stage.server.says(NAME, says);
            stage.run().await;
            assert_eq!(stage.shown().await["last_error"], told);
            assert_eq!(stage.granted().await, Vec::<String>::new(), "{told}");
            stage.world.advance_ms(MINUTE_MS);
        }
    }
}

#[tokio::test]
async fn a_silent_name_server_holds_up_no_other_name() {
    let [stage, _] = Stage::both().await;
    stage.server.says(NAME, Says::Silence);
    let names: Vec<String> = (0..15).map(|n| format!("site-{n}.example.com")).collect();
    for name in &names {
        stage.server.is_at(name, &["203.0.113.9"]);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.admin.post(CLIENTS, client("other", &names)).await.expect(201);
    let run = stage.run();
    let others = async {
        loop {
            let hosts = stage.admin.get("/api/v1/clients/other").await.expect(200)["hosts"].clone();
            let resolved = |host: &Value| host["addresses"] == json!(["203.0.113.9"]);
            if hosts.as_array().expect("hosts").iter().all(resolved) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::pin!(run);
    tokio::select! {
        answered = &mut run => panic!("ended before the silent one: {answered:?}"),
        () = others => (),
    }
    assert_eq!(run.await, Answered { asked: 16, changed: 15, forgotten: 0 });
    assert!(stage.shown().await["last_error"].as_str().expect("told").contains("no name server answered"));
}

#[tokio::test]
async fn every_client_of_a_name_changes_and_nobody_else() {
    for stage in Stage::both().await {
        stage
            .admin
            .post(CLIENTS, client("both", &["198.51.100.0/24", "GATEWAY.example.com"]))
            .await
            .expect(201);
        stage.admin.post(CLIENTS, client("none", &["198.51.100.1"])).await.expect(201);
        stage.server.is_at(NAME, &["203.0.113.7"]);
        let (_, before) = stage.changed(0).await;
        assert_eq!(stage.run().await, Answered { asked: 1, changed: 1, forgotten: 0 });
        assert_eq!(stage.changed(before).await.0, ["acme", "both"]);
        let both = stage.admin.get("/api/v1/clients/both").await.expect(200);
        assert_eq!(both["hosts"][0]["addresses"], json!(["203.0.113.7"]));
        let none = stage.admin.get("/api/v1/clients/none").await.expect(200);
        assert_eq!(none["hosts"], json!([]));
    }
}

#[tokio::test]
async fn a_name_that_no_client_is_bound_to_is_forgotten() {
    for stage in Stage::both().await {
        stage.server.is_at(NAME, &["203.0.113.7"]);
        stage.run().await;
        stage.admin.patch(ACME, json!({ "bindings": [] })).await.expect(200);
        let (_, unbound) = stage.changed(0).await;
        stage.server.asked();
        stage.world.advance_ms(MINUTE_MS);
        assert_eq!(stage.run().await, Answered { asked: 0, changed: 0, forgotten: 1 });
        assert_eq!((stage.server.asked(), stage.changed(unbound).await.0.len()), (0, 0));
        // Bound again: as if for the first time.
        let bindings = json!([{ "name": "site", "address": NAME }]);
        let bound = stage.admin.patch(ACME, json!({ "bindings": bindings })).await.expect(200);
        assert_eq!(bound["hosts"][0]["addresses"], json!([]));
        assert_eq!(stage.run().await, Answered { asked: 1, changed: 1, forgotten: 0 });
    }
}

#[tokio::test]
async fn another_binding_keeps_what_is_known_of_a_name() {
    for stage in Stage::both().await {
        stage.server.is_at(NAME, &["203.0.113.7"]);
        stage.run().await;
        stage.server.asked();
        let bindings = json!([
            { "name": "site", "address": NAME },
            { "name": "office", "address": "198.51.100.1" },
        ]);
        let saved = stage.admin.patch(ACME, json!({ "bindings": bindings })).await.expect(200);
        assert_eq!(saved["hosts"][0]["addresses"], json!(["203.0.113.7"]));
        assert_eq!(stage.granted().await, ["198.51.100.1", "203.0.113.7"]);
        assert_eq!((stage.run().await, stage.server.asked()), (Answered::default(), 0));
    }
}

#[tokio::test]
async fn replicas_share_the_names_and_take_over_from_one_that_vanished() {
    for stage in Stage::both().await {
        let names: Vec<String> = (0..16).map(|n| format!("site-{n}.example.com")).collect();
        for name in &names {
            stage.server.is_at(name, &["203.0.113.9"]);
        }
        stage.server.is_at(NAME, &["203.0.113.7"]);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        stage.admin.post(CLIENTS, client("many", &names)).await.expect(201);
        let mut other = stage.world.app.clone();
        other.db = stage.world.another_process().await;
        let (one, two) = tokio::join!(stage.run(), resolve_due(&other, &stage.resolver));
        assert_eq!(one.asked + two.expect("a run").asked, 17, "each name by one of them");
        assert_eq!(stage.server.asked(), 17);

        // One claims and is killed.
        stage.world.advance_ms(MINUTE_MS);
        let until = stage.world.app.now().0 + 30_000;
        let claimed = format!("UPDATE host_names SET claim = 'hc_gone', claimed_until = {until}");
        stage.world.sql(&claimed).await;
        assert_eq!(stage.run().await, Answered::default(), "still claimed");
        stage.world.advance_ms(30_001);
        assert_eq!(stage.run().await.asked, 17);
    }
}

#[tokio::test]
async fn bindings_are_addresses_blocks_or_names_and_nothing_else() {
    for stage in Stage::both().await {
        let save = async |addresses: &[&str]| {
            let bindings = client("acme", addresses)["bindings"].clone();
            stage.admin.patch(ACME, json!({ "bindings": bindings })).await
        };
        for good in ["192.0.2.7", "192.0.2.0/24", "2001:db8::/32", "localhost", "a.example"] {
            save(&[good]).await.expect(200);
        }
        for (bad, told) in [
            ("", "1 to 253"),
            ("192.0.2.300", "no IP address, no CIDR block"),
            ("192.0.2.0/33", "no IP address, no CIDR block"),
            ("gateway.example.com:443", "leave `:443` out"),
            ("192.0.2.7:80", "leave `:80` out"),
            ("http://gateway.example.com", "no IP address"),
            ("*.example.com", "no IP address"),
            ("münchen.example", "xn--"),
            ("gateway.example.com.", "no IP address"),
        ] {
            let refused = save(&[bad]).await.refuses("bindings");
            assert!(refused["detail"].as_str().expect("a detail").contains(told), "{bad}: {refused}");
        }
        save(&["a.example", "A.EXAMPLE"]).await.refuses("bindings");
        let names: Vec<String> = (0..=super::MAX_NAMES).map(|n| format!("site-{n}.example")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        save(&names[1..]).await.expect(200);
        save(&names).await.refuses("bindings");
    }
}
