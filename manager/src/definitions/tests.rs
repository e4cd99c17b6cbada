//! Applied and written down, through the router, on both databases.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::kinds::{ApiSpec, ClientSpec, FlowSpec, GroupSpec, ScopeSpec};
use super::model::Spec;
use crate::catalog::apis::take_turns;
use crate::clock::Random;
use crate::testing::{Caller, World};

const APPLY: &str = "/api/v1/definitions/apply";
const EXPORT: &str = "/api/v1/definitions";

fn definition(kind: &str, spec: Value) -> Value {
    json!({ "apiVersion": "keygate/v1", "kind": kind, "spec": spec })
}

fn api(id: &str, more: Value) -> Value {
    with(
        definition(
            "Api",
            json!({ "module": "shop", "id": id, "path": { "exact": format!("/{id}") }, "accepts": ["dgrk"] }),
        ),
        more,
    )
}

fn group(name: &str, more: Value) -> Value {
    with(definition("Group", json!({ "name": name })), more)
}

fn client(id: &str, more: Value) -> Value {
    with(definition("Client", json!({ "id": id, "name": id, "display_name": id, "note": "Ann" })), more)
}

fn with(mut definition: Value, more: Value) -> Value {
    let spec = definition["spec"].as_object_mut().expect("a spec");
    spec.extend(more.as_object().expect("fields").clone());
    definition
}

fn all(definitions: &[Value]) -> Value {
    json!({ "definitions": definitions })
}

/// `Create api shop/orders`, …
fn told(applied: &Value) -> Vec<String> {
    let changes = applied["changes"].as_array().expect("changes").iter();
    let text = |change: &Value| {
        let fields: Vec<_> = change["fields"]
            .as_array()
            .expect("fields")
            .iter()
            .map(|field| field["field"].as_str().expect("a name"))
            .collect();
        let word = |name: &str| change[name].as_str().expect("a text").to_owned();
        let fields =
            if word("action") == "update" { format!(" {}", fields.join(",")) } else { String::new() };
        format!("{} {} {}{fields}", word("action"), word("kind"), word("id"))
    };
    changes.map(text).collect()
}

async fn entries(caller: &Caller) -> u64 {
    let trail = caller.get("/api/v1/audit?limit=1").await.expect(200);
    trail["items"][0]["seq"].as_u64().expect("a number")
}

#[tokio::test]
async fn what_is_defined_is_there_and_the_second_apply_changes_nothing() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        world.operator("rita", &["reviewer_1"]).await;
        let definitions = all(&[
            definition("ApprovalFlow", json!({ "type": "KA", "levels": [["reviewer_1"], ["admin"]] })),
            client(
                "acme",
                json!({ "groups": ["partners"], "tps": 20, "emails": "a@example.com, b@example.com" }),
            ),
            group("partners", json!({ "apis": ["shop/orders"], "security_level": "SYSTEM" })),
            definition("Scope", json!({ "name": "orders.read".replace('.', "_"), "apis": ["shop/orders"] })),
            // Other ways to write what is kept in one form.
            api("orders", json!({ "methods": ["post", "get", "GET"], "hosts": ["API.example.com."] })),
        ]);
        let dry = admin.post(&format!("{APPLY}?dry_run=true"), definitions.clone()).await.expect(200);
        assert_eq!(dry["applied"], json!(false));
        admin.get("/api/v1/clients/acme").await.problem(404, "not_found");

        let done = admin.post(APPLY, definitions.clone()).await.expect(200);
        assert_eq!(
            told(&done),
            [
                "create Api shop/orders",
                "create Group partners",
                "create Scope orders_read",
                "create Client acme",
                "create ApprovalFlow KA"
            ]
        );
        assert_eq!((&done["applied"], &done["changes"]), (&json!(true), &dry["changes"]));
        let made = admin.get("/api/v1/clients/acme").await.expect(200);
        assert_eq!((&made["tps"], &made["password_state"]), (&json!(20), &json!("none")));
        assert_eq!(made["groups"].as_array().map(Vec::len), Some(1));
        let flow = admin.get("/api/v1/approval-flows/KA").await.expect(200);
        assert_eq!(flow["levels"], json!([["reviewer_1"], ["admin"]]));
        let apis = admin.get("/api/v1/apis").await.expect(200);
        assert_eq!(apis["items"][0]["methods"], json!(["GET", "POST"]));

        let before = entries(&admin).await;
        let again = admin.post(APPLY, definitions).await.expect(200);
        assert_eq!((told(&again), &again["unchanged"]), (vec![], &json!(5)));
        assert_eq!(entries(&admin).await, before, "what changes nothing leaves no trace");
        assert_eq!(admin.get("/api/v1/clients/acme").await.expect(200)["version"], made["version"]);
    }
}

#[tokio::test]
async fn users_are_defined_without_passwords_and_never_deleted() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let user = |name: &str, more: Value| {
            let mut spec = json!({ "name": name });
            spec.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
            definition("User", spec)
        };
        let bert = json!({ "display_name": "Bert", "email": "bert@example.com", "org_id": "100000" });
        let definitions = all(&[user("Bert", bert), user("carl", json!({ "status": "disabled" }))]);
        let done = admin.post(APPLY, definitions.clone()).await.expect(200);
        assert_eq!(told(&done), ["create User bert", "create User carl"]);
        let found = admin.get("/api/v1/users").await.expect(200);
        let (bert, carl) = (&found["items"][0], &found["items"][1]);
        assert_eq!((&bert["name"], &bert["has_password"]), (&json!("bert"), &json!(false)));
        assert_eq!((&bert["org_id"], &carl["status"]), (&json!("100000"), &json!("disabled")));
        let path = format!("/api/v1/users/{}", bert["id"].as_str().expect("an id"));
        admin.patch(&path, json!({ "password": "secret-1" })).await.expect(200);

        let again = admin.post(APPLY, definitions).await.expect(200);
        assert_eq!((told(&again), &again["unchanged"]), (vec![], &json!(2)));
        let change = all(&[user("bert", json!({ "email": null, "display_name": "Bert Lee" }))]);
        let pruned = admin.post(&format!("{APPLY}?prune=true"), change).await.expect(200);
        assert_eq!(told(&pruned), ["update User bert display_name,email"]);
        assert_eq!(pruned["spared"], json!([{ "kind": "User", "id": "carl" }]), "{pruned}");
        let bert = admin.get(&path).await.expect(200);
        assert_eq!((&bert["email"], &bert["org_id"]), (&json!(null), &json!("100000")));
        assert_eq!(bert["has_password"], true, "what somebody has set stays");
        for (more, field) in [
            (json!({ "password": "secret-1" }), "spec.password"),
            (json!({ "email": "nobody" }), "spec.email"),
            (json!({ "org_id": "a b" }), "spec.org_id"),
            (json!({ "display_name": "" }), "spec.display_name"),
            (json!({ "status": "gone" }), "spec.status"),
        ] {
            let refused = admin.post(APPLY, all(&[user("bert", more)])).await;
            assert!(refused.body.to_string().contains(field), "{field}: {:#}", refused.body);
            assert_eq!(refused.status, 422, "{:#}", refused.body);
        }
        admin.post(APPLY, all(&[user("a b", json!({}))])).await.refuses("definitions[0].spec.name");
    }
}

#[tokio::test]
async fn the_trail_tells_an_apply_as_it_tells_the_calls() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        admin.post(APPLY, all(&[group("partners", json!({})), client("acme", json!({}))])).await.expect(200);
        let trail = admin.get("/api/v1/audit?limit=2").await.expect(200);
        let actions: Vec<_> =
            trail["items"].as_array().expect("entries").iter().map(|e| &e["action"]).collect();
        assert_eq!(actions, ["clients.create", "catalog.create_group"]);
        assert_eq!(trail["items"][0]["actor"], json!(format!("operator:{}", admin.id)));
    }
}

#[tokio::test]
async fn a_field_that_is_left_out_stays_and_null_takes_away() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let first = client(
            "acme",
            json!({
                "application_number": "A-1", "remark": "r", "tps": 7,
                "start_date": "2026-01-01", "expiry_date": "2026-12-31", "time_zone": "Asia/Taipei",
            }),
        );
        admin.post(APPLY, all(&[first])).await.expect(200);
        let only = |spec: Value| all(&[with(definition("Client", json!({ "id": "acme" })), spec)]);
        let done = admin.post(APPLY, only(json!({ "tps": 8, "application_number": null }))).await.expect(200);
        assert_eq!(told(&done), ["update Client acme application_number,tps"]);
        let fields = &done["changes"][0]["fields"];
        assert_eq!(fields[0], json!({ "field": "application_number", "before": "A-1", "after": null }));
        let made = admin.get("/api/v1/clients/acme").await.expect(200);
        assert_eq!(
            (&made["remark"], &made["application_number"], &made["start_date"]),
            (&json!("r"), &json!(null), &json!("2026-01-01"))
        );
        // One of a pair alone goes with the other that is there, or is refused.
        admin.post(APPLY, only(json!({ "expiry_date": "2027-01-01" }))).await.expect(200);
        let refused =
            admin.post(APPLY, only(json!({ "expiry_date": null }))).await.problem(422, "invalid_field");
        assert!(
            refused["field"].as_str().is_some_and(|f| f.starts_with("definitions[0].spec.expiry_date")),
            "{refused}"
        );
        // An empty text is no way to take away.
        admin.post(APPLY, only(json!({ "remark": "" }))).await.refuses("definitions[0].spec.remark");
        admin.post(APPLY, only(json!({ "tps": null }))).await.refuses("definitions[0].spec.tps");
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once_and_nothing_is_done() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        admin.post(APPLY, all(&[api("orders", json!({}))])).await.expect(200);
        let before = entries(&admin).await;
        let refused = admin
            .post(
                APPLY,
                all(&[
                    group("fine", json!({})),
                    group("lists", json!({ "apis": ["shop/none"] })),
                    group("typed", json!({ "descripton": "x", "alias": 7 })),
                    api("second", json!({ "path": { "exact": "/orders" } })),
                    api("third", json!({ "path": { "exact": "no/slash" } })),
                    client("low", json!({ "groups": ["high"], "priority": 10 })),
                    client("above", json!({ "groups": ["high"] })),
                    group("high", json!({ "security_level": "A" })),
                    client("depends", json!({ "groups": ["lists"] })),
                    definition("ApprovalFlow", json!({ "type": "KX", "levels": [["king"]] })),
                ]),
            )
            .await
            .problem(422, "invalid_field");
        let detail = refused["detail"].as_str().expect("a text");
        let lines: Vec<&str> = detail.lines().collect();
        for (line, part) in [
            ("definitions[2].spec.alias: ", "expected a string"),
            ("definitions[2].spec.descripton: ", "is no field here"),
            ("definitions[1].spec.apis: ", "\"shop/none\", which does not exist"),
            ("definitions[3].spec.path: ", "shop/orders"),
            ("definitions[4].spec.path: ", "must start with `/`"),
            ("definitions[5].spec.priority: ", "0 (highest) to 9"),
            ("definitions[6].spec.groups: ", "above the client's"),
            ("definitions[9].spec.type: ", "KA, KU, KR, CR"),
        ] {
            assert!(lines.iter().any(|l| l.starts_with(line) && l.contains(part)), "{line}{part}: {detail}");
        }
        assert_eq!(lines.len(), 8, "{detail}");
        assert_eq!(entries(&admin).await, before);
        let groups = admin.get("/api/v1/groups").await.expect(200);
        assert_eq!(groups["items"], json!([]));
    }
}

#[tokio::test]
async fn what_another_gives_up_can_be_taken_in_the_same_apply() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let aliases = |a: &str, b: &str, c: &str| {
            all(&[
                group("one", json!({ "alias": a })),
                group("two", json!({ "alias": b })),
                group("three", json!({ "alias": c })),
            ])
        };
        admin.post(APPLY, aliases("A", "B", "C")).await.expect(200);
        let done = admin.post(APPLY, aliases("B", "C", "D")).await.expect(200);
        assert_eq!(
            told(&done),
            ["update Group three alias", "update Group two alias", "update Group one alias"]
        );
        // In a circle nobody can begin.
        let refused = admin.post(APPLY, aliases("C", "D", "B")).await.problem(422, "invalid_field");
        assert_eq!(refused["detail"].as_str().map(|detail| detail.lines().count()), Some(3));
        // A new name at the same place, the old one pruned.
        admin.post(APPLY, all(&[api("orders", json!({}))])).await.expect(200);
        let renamed = all(&[api("sales", json!({ "path": { "exact": "/orders" } }))]);
        let done = admin.post(&format!("{APPLY}?prune=true"), renamed).await.expect(200);
        assert_eq!(told(&done), ["delete Api shop/orders", "create Api shop/sales"]);
    }
}

#[tokio::test]
async fn pruning_deletes_what_nobody_defines_but_never_clients() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let prune = format!("{APPLY}?prune=true");
        let first = all(&[
            api("orders", json!({})),
            api("prices", json!({})),
            group("partners", json!({ "apis": ["shop/orders", "shop/prices"] })),
            group("old", json!({ "apis": ["shop/prices"] })),
            client("acme", json!({ "groups": ["partners", "old"] })),
            client("other", json!({ "groups": ["old"] })),
        ]);
        admin.post(APPLY, first).await.expect(200);
        // Still given to `other`.
        let partners = group("partners", json!({ "apis": ["shop/orders"] }));
        let acme = client("acme", json!({ "groups": ["partners"] }));
        let some = all(&[partners.clone(), acme.clone()]);
        let refused = admin.post(&prune, some).await.problem(422, "invalid_field");
        assert_eq!(refused["field"], "group old");
        assert!(refused["detail"].as_str().is_some_and(|d| d.contains("client other")), "{refused}");

        let whole =
            all(&[api("orders", json!({})), partners, acme, client("other", json!({ "groups": [] }))]);
        let done = admin.post(&prune, whole.clone()).await.expect(200);
        assert_eq!(
            told(&done),
            [
                "delete Api shop/prices",
                "update Group partners apis",
                "update Client acme groups",
                "update Client other groups",
                "delete Group old"
            ]
        );
        assert_eq!(told(&admin.post(&prune, whole).await.expect(200)), Vec::<String>::new());
        let spared = admin.post(&prune, all(&[client("acme", json!({}))])).await.expect(200);
        assert_eq!(spared["spared"], json!([{ "kind": "Client", "id": "other" }]));
        admin.get("/api/v1/clients/other").await.expect(200);
    }
}

#[tokio::test]
async fn what_was_shown_is_done_or_nothing() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let wanted = all(&[group("a", json!({ "description": "new" })), group("b", json!({}))]);
        let shown = admin.post(&format!("{APPLY}?dry_run=true"), wanted.clone()).await.expect(200);
        let plan = shown["plan"].as_str().expect("a text").to_owned();
        // Meanwhile somebody makes one of them.
        admin.post("/api/v1/groups", json!({ "name": "a" })).await.expect(201);
        let second = format!("{APPLY}?plan={plan}");
        admin.post(&second, wanted.clone()).await.problem(409, "plan_changed");
        assert_eq!(admin.get("/api/v1/groups").await.expect(200)["items"].as_array().map(Vec::len), Some(1));
        let shown = admin.post(&format!("{APPLY}?dry_run=true"), wanted.clone()).await.expect(200);
        let second = format!("{APPLY}?plan={}", shown["plan"].as_str().expect("a text"));
        let done = admin.post(&second, wanted).await.expect(200);
        assert_eq!(told(&done), ["update Group a description", "create Group b"]);
    }
}

#[tokio::test]
async fn each_kind_asks_for_its_permission() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        for (name, permissions) in [
            ("catalog", ["catalog.read", "catalog.write"].as_slice()),
            ("clients", &["clients.read", "clients.write"]),
            ("readers", &["catalog.read", "clients.read"]),
            ("flows", &["approvals.configure"]),
            ("onlookers", &["usage.read"]),
        ] {
            let role = json!({ "description": name, "permissions": permissions });
            admin.put(&format!("/api/v1/roles/{name}"), role).await.expect(200);
        }
        let flow = definition("ApprovalFlow", json!({ "type": "KA", "levels": [["admin"]] }));
        let kinds =
            [("Group", group("g", json!({}))), ("Client", client("c", json!({}))), ("ApprovalFlow", flow)];
        for (role, may_read, may_write) in [
            ("catalog", ["Group"].as_slice(), ["Group"].as_slice()),
            ("clients", &["Client"], &["Client"]),
            ("readers", &["Group", "Client"], &[]),
            ("flows", &["ApprovalFlow"], &["ApprovalFlow"]),
            ("onlookers", &[], &[]),
        ] {
            let caller = world.operator(&format!("of_{role}"), &[role]).await;
            for (kind, definition) in &kinds {
                let read = caller.get(&format!("{EXPORT}?kind={kind}")).await.status;
                assert_eq!(read, if may_read.contains(kind) { 200 } else { 403 }, "{role} reads {kind}");
                let path = format!("{APPLY}?dry_run=true");
                let written = caller.post(&path, all(std::slice::from_ref(definition))).await.status;
                assert_eq!(written, if may_write.contains(kind) { 200 } else { 403 }, "{role} writes {kind}");
            }
            caller.get(EXPORT).await.problem(403, "forbidden");
        }
        world.anon().get(EXPORT).await.problem(401, "unauthenticated");
        world.anon().post(APPLY, all(&[])).await.problem(401, "unauthenticated");
        admin.get(&format!("{EXPORT}?kind=Key")).await.problem(400, "invalid_query");
        let onlooker = world.operator("looks", &["onlookers"]).await;
        assert_eq!(onlooker.post(APPLY, all(&[])).await.refuses("definitions")["status"], 422);
    }
}

/// Random definitions: what can be written down of `size` things of each kind.
fn random_world(random: &Random, size: u64) -> Vec<Value> {
    let pick = |of: u64| random.number() % of;
    let one_of = |of: &[&str]| of[usize::try_from(pick(of.len() as u64)).expect("small")].to_owned();
    let some = |names: &[String]| -> Vec<String> { names.iter().filter(|_| pick(2) == 0).cloned().collect() };
    let text = || {
        let texts = ["", "no", "1", "two\nlines", "#x: [a]", "ä€😀", "- 'quoted'", "null", "2026-01-01"];
        one_of(&texts)
    };
    let (mut definitions, mut apis, mut groups, mut scopes) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..size {
        let path = match pick(3) {
            0 => json!({ "exact": format!("/e{n}") }),
            1 => json!({ "prefix": format!("/p{n}") }),
            _ => json!({ "template": format!("/t{n}/{{id}}") }),
        };
        let hosts = if pick(2) == 0 { json!([]) } else { json!(["b.example", "A.example"]) };
        let enabled = pick(2) == 0;
        let accepts = if pick(2) == 0 { json!(["basic", "dgrk"]) } else { json!(["x_api_key"]) };
        definitions.push(definition(
            "Api",
            json!({
                "module": format!("m{}", n % 2), "id": format!("api-{n}"), "path": path, "hosts": hosts,
                "methods": some(&["get".into(), "POST".into()]), "accepts": accepts, "description": text(),
                "enabled": enabled, "unsigned_forms": pick(2) == 0, "audience": "internal",
                "labels": some(&["zeta".into(), "Alpha".into()]),
                "disable_at": if enabled { json!("2027-03-01T10:00") } else { json!(null) },
            }),
        ));
        apis.push(format!("m{}/api-{n}", n % 2));
    }
    for kind in ["Group", "Scope"] {
        for n in 0..size {
            let name = format!("{}{n}", kind.to_lowercase());
            definitions.push(definition(
                kind,
                json!({
                    "name": name, "alias": format!("{kind} №{n}"), "description": text(),
                    "security_level": one_of(&["SYSTEM", "D"]), "apis": some(&apis),
                }),
            ));
            if kind == "Group" {
                groups.push(name);
            } else {
                scopes.push(name);
            }
        }
    }
    for n in 0..size {
        let dated = pick(2) == 0;
        let day = |text: &str| if dated { json!(text) } else { json!(null) };
        definitions.push(definition("Client", json!({
            "id": format!("client-{n}"), "name": format!("c{n}"), "display_name": format!("C # {n}"), "note": "no",
            "application_number": if pick(2) == 0 { json!("007") } else { json!(null) },
            "status": one_of(&["active", "disabled", "locked"]),
            "bindings": if pick(2) == 0 { json!([{ "name": "office", "address": "10.0.0.0/8" }]) } else { json!([]) },
            "start_date": day("2026-02-03"), "expiry_date": day("2026-12-31"),
            "service_from": day("08:30"), "service_until": day("18:00"), "time_zone": "Europe/Berlin",
            "quota": pick(3) * 100, "quota_period": one_of(&["day", "week", "month", "none"]),
            "lease_horizon_s": if pick(2) == 0 { json!(60 + pick(3)) } else { json!(null) },
            "max_lease_percent": if pick(2) == 0 { json!(1 + pick(100)) } else { json!(null) },
            "tps": pick(50), "priority": pick(10), "security_level": "C", "groups": some(&groups), "scopes": some(&scopes),
            "emails": if pick(2) == 0 { json!("a@example.com , b@example.com") } else { json!(null) },
            "remark": if pick(2) == 0 { json!("true") } else { json!(null) }, "allowed_attempts": 1 + pick(5),
            "token_settings": {
                "grant_types": ["refresh_token", "authorization_code"],
                "access_token": { "validity": pick(3) * 60, "unit": "minutes", "uses": pick(2) },
                "refresh_token": { "validity": 1, "unit": "days", "uses": 0 },
                "redirect_urls": [format!("https://app.example/{n}")],
            },
        })));
    }
    definitions.push(definition(
        "ApprovalFlow",
        json!({ "type": "KA", "levels": [["reviewer_2", "reviewer_1"], ["admin"]] }),
    ));
    // In whatever order they come.
    for at in (1..definitions.len()).rev() {
        let other = usize::try_from(random.number() % (at as u64 + 1)).expect("small");
        definitions.swap(at, other);
    }
    definitions
}

#[tokio::test]
async fn an_export_of_any_world_changes_nothing_there_and_makes_the_same_elsewhere() {
    for seed in 0..6 {
        let [here, elsewhere] = World::both().await;
        let admin = here.operator("ann", &["admin"]).await;
        for world in [&here, &elsewhere] {
            world.operator("rita", &["reviewer_1"]).await;
        }
        let definitions = random_world(&Random::seeded(seed), 2 + seed);
        let done = admin.post(APPLY, all(&definitions)).await.expect(200);
        assert_eq!(told(&done).len(), definitions.len(), "seed {seed}");
        assert_eq!(
            told(&admin.post(APPLY, all(&definitions)).await.expect(200)),
            Vec::<String>::new(),
            "seed {seed}"
        );

        let export = admin.get(EXPORT).await.expect(200);
        assert_eq!(export["definitions"].as_array().map(Vec::len), Some(definitions.len()));
        let prune = format!("{APPLY}?prune=true");
        let again = admin.post(&prune, export.clone()).await.expect(200);
        assert_eq!((told(&again), &again["unchanged"]), (vec![], &json!(definitions.len())), "seed {seed}");

        let other = elsewhere.operator("eve", &["admin"]).await;
        let made = other.post(APPLY, export.clone()).await.expect(200);
        assert_eq!(told(&made).len(), definitions.len(), "seed {seed}");
        assert_eq!(other.get(EXPORT).await.expect(200), export, "seed {seed}");
    }
}

#[tokio::test]
async fn level_groups_and_scopes_of_a_client_rise_and_fall_together() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let sets = ["Group", "Scope"].map(|kind| {
            let high = json!({ "name": format!("high_{kind}"), "security_level": "A" });
            definition(kind, high)
        });
        admin.post(APPLY, all(&sets)).await.expect(200);
        let level = |level: &str, groups: Value, scopes: Value| {
            all(&[client("acme", json!({ "security_level": level, "groups": groups, "scopes": scopes }))])
        };
        let high = level("A", json!(["high_Group"]), json!(["high_Scope"]));
        let low = level("SYSTEM", json!([]), json!([]));
        for (wanted, changes) in [
            (&low, "create Client acme"),
            (&high, "update Client acme security_level,groups,scopes"),
            (&low, "update Client acme security_level,groups,scopes"),
        ] {
            assert_eq!(told(&admin.post(APPLY, wanted.clone()).await.expect(200)), [changes]);
            assert_eq!(told(&admin.post(APPLY, wanted.clone()).await.expect(200)), Vec::<String>::new());
        }
        let above = level("D", json!([]), json!(["high_Scope"]));
        admin.post(APPLY, above).await.refuses("definitions[0].spec.scopes");
        // What is left out stays: a level below what is kept is refused.
        admin.post(APPLY, high).await.expect(200);
        let only = definition("Client", json!({ "id": "acme", "security_level": "SYSTEM" }));
        let refused = admin.post(APPLY, all(&[only])).await.problem(422, "invalid_field");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains("above")), "{refused}");
        let only = definition("Client", json!({ "id": "acme", "security_level": "SYSTEM", "groups": [] }));
        let refused = admin.post(APPLY, all(&[only])).await.problem(422, "invalid_field");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains("high_Scope")), "{refused}");
    }
}

#[tokio::test]
async fn an_export_holds_no_secret() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let body = json!({
            "id": "acme", "name": "acme", "display_name": "Acme", "note": "Ann",
            "password": "a secret one", "password_confirmation": "a secret one",
        });
        admin.post("/api/v1/clients", body).await.expect(201);
        let export = admin.get(EXPORT).await.expect(200);
        let text = export.to_string();
        assert!(text.contains("acme"), "{text}");
        for secret in ["a secret one", "argon2", "password_", "hash"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        // And applying it leaves the password as it is.
        admin.post(APPLY, export).await.expect(200);
        assert_eq!(admin.get("/api/v1/clients/acme").await.expect(200)["password_state"], "set");
    }
}

#[tokio::test]
async fn two_at_a_time_are_done_one_after_the_other() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let names = |who: &str| -> Vec<Value> {
            (0..10).map(|n| group(&format!("g{n}"), json!({ "description": who }))).collect()
        };
        let (one, two) = (all(&names("one")), all(&names("two")));
        let (first, second) = tokio::join!(admin.post(APPLY, one), admin.post(APPLY, two));
        let (first, second) = (told(&first.expect(200)), told(&second.expect(200)));
        let all_are = |done: &[String], word: &str| done.iter().all(|change| change.starts_with(word));
        let (earlier, later, last) =
            if all_are(&first, "create") { (first, second, "two") } else { (second, first, "one") };
        assert!(earlier.len() == 10 && all_are(&earlier, "create"), "{earlier:?}");
        assert!(later.len() == 10 && all_are(&later, "update"), "{later:?}");
        let groups = admin.get("/api/v1/groups").await.expect(200);
        let groups = groups["items"].as_array().expect("groups");
        assert!(groups.iter().all(|group| group["description"] == last), "{groups:?}");
    }
}

#[tokio::test]
async fn a_planned_switch_that_has_happened_is_as_the_file_says() {
    const HOUR_MS: i64 = 3_600_000;
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let start = World::START.0;
        // One that says what it is until then, one that leaves that to others, one in milliseconds.
        let files = all(&[
            api("says", json!({ "enabled": false, "enable_at": "2026-01-15T01:00:00Z" })),
            api("leaves", json!({ "disable_at": "2026-01-15T01:00" })),
            api("counts", json!({ "disable_at": start + HOUR_MS, "enable_at": start + 3 * HOUR_MS })),
        ]);
        assert_eq!(told(&admin.post(APPLY, files.clone()).await.expect(200)).len(), 3);
        let export = admin.get(EXPORT).await.expect(200);
        let unchanged = async |files: &Value, when: &str| {
            let applied = admin.post(APPLY, files.clone()).await.expect(200);
            assert_eq!((told(&applied), &applied["unchanged"]), (vec![], &json!(3)), "{when}");
        };
        let enabled = async || -> Vec<bool> {
            let apis = admin.get("/api/v1/apis").await.expect(200);
            let apis = apis["items"].as_array().expect("APIs").clone();
            apis.iter().map(|api| api["enabled"].as_bool().expect("a bool")).collect()
        };
        unchanged(&files, "at first").await;
        world.advance_ms(HOUR_MS);
        unchanged(&files, "before the job has come").await;
        take_turns(&world.app).await.expect("done");
        assert_eq!(enabled().await, [false, false, true], "counts, leaves, says");
        unchanged(&files, "after the switch").await;
        unchanged(&export, "restored").await;

        // By hand meanwhile: what the file leaves out stays, what it says comes back.
        let uid = async |id: &str| -> String {
            let apis = admin.get(&format!("/api/v1/apis?keyword={id}")).await.expect(200);
            apis["items"][0]["uid"].as_str().expect("a uid").to_owned()
        };
        for (id, by_hand) in [("counts", true), ("leaves", true), ("says", false)] {
            let path = format!("/api/v1/apis/{}", uid(id).await);
            admin.patch(&path, json!({ "enabled": by_hand })).await.expect(200);
        }
        let applied = admin.post(APPLY, files.clone()).await.expect(200);
        assert_eq!(
            (told(&applied), enabled().await),
            (vec!["update Api shop/says enabled".into()], vec![true; 3])
        );
        world.advance_ms(HOUR_MS);
        unchanged(&files, "later").await;

        // Where there was nothing, what has passed counts as its effect.
        for id in ["counts", "leaves", "says"] {
            let path = format!("/api/v1/apis/{}", uid(id).await);
            admin.delete(&path).await.expect(204);
        }
        assert_eq!(told(&admin.post(APPLY, files.clone()).await.expect(200)).len(), 3);
        assert_eq!(enabled().await, [false, false, true]);
        unchanged(&files, "made anew").await;
    }
}

#[tokio::test]
async fn what_is_checked_together_is_refused_the_first_time_too() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let planned = json!({ "enabled": false, "enable_at": "2026-02-01T08:00:00Z" });
        admin.post(APPLY, all(&[api("orders", planned)])).await.expect(200);
        let contrary = json!({ "enabled": true, "enable_at": "2026-02-01T08:00:00Z" });
        for _ in 0..2 {
            let wanted = all(&[api("orders", contrary.clone())]);
            admin.post(APPLY, wanted).await.refuses("definitions[0].spec.enable_at");
        }
        let never = json!({ "enable_at": i64::MAX });
        admin.post(APPLY, all(&[api("orders", never)])).await.refuses("definitions[0].spec.enable_at");
    }
}

/// An apply beside single calls that change what it changes too, many times: neither may fail
/// because both wait for each other.
#[tokio::test]
async fn an_apply_and_single_calls_never_wait_for_each_other() {
    const ROUNDS: u64 = 25;
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        for (name, role) in [("rita", "reviewer_1"), ("ralph", "reviewer_2")] {
            world.operator(name, &[role]).await;
        }
        let flow =
            |kind: &str, role: &str| definition("ApprovalFlow", json!({ "type": kind, "levels": [[role]] }));
        let settings = |minutes: u64| {
            json!({
                "grant_types": ["client_credentials"],
                "access_token": { "validity": minutes, "unit": "minutes", "uses": 0 },
                "refresh_token": { "validity": 1, "unit": "days", "uses": 0 },
                "redirect_urls": [],
            })
        };
        let (high, low) = (json!(["reviewer_1"]), json!(["reviewer_2"]));
        for round in 1..=ROUNDS {
            let named = |id: &str, host: &str| {
                let more = json!({
                    "remark": format!("{round}"), "quota": 10 * round, "quota_period": "day", "groups": ["shared"],
                    "bindings": [{ "name": "a", "address": format!("{host}{round}.example.com") }],
                    "token_settings": settings(2 * round),
                });
                client(id, more)
            };
            let wanted = all(&[
                named("a", "z"),
                named("b", "y"),
                named("c", "x"),
                group("shared", json!({ "alias": format!("Shared {round}") })),
                flow("KA", if round % 2 == 0 { "admin" } else { "reviewer_1" }),
                flow("KU", if round % 2 == 0 { "admin" } else { "reviewer_2" }),
            ]);
            let levels = |roles: &Value| json!({ "levels": [roles] });
            let (tps, minutes) = (json!({ "tps": round, "quota": 7 * round }), settings(2 * round + 1));
            let (client_path, settings_path) = ("/api/v1/clients/b", "/api/v1/clients/c/token-settings");
            let (applied, patched, set, configured, other) = tokio::join!(
                admin.post(APPLY, wanted),
                admin.patch(client_path, tps),
                admin.put(settings_path, minutes),
                admin.put("/api/v1/approval-flows/KU", levels(&high)),
                admin.put("/api/v1/approval-flows/KA", levels(&low)),
            );
            let dialect = world.app.db.dialect();
            assert_eq!(applied.status, 200, "{dialect:?} round {round}: {}", applied.body);
            for (call, answer) in [("client", patched), ("settings", set), ("KU", configured), ("KA", other)]
            {
                // Not there yet, or changed while it was being changed: said as it is.
                let said = match answer.status {
                    200 => true,
                    404 => round == 1,
                    409 | 412 => true,
                    _ => false,
                };
                assert!(said, "{dialect:?} round {round}, {call}: {} {}", answer.status, answer.body);
            }
        }
    }
}

/// The properties of the body of a call, as the API's document has them.
fn body_of(path: &str, method: &str) -> BTreeSet<String> {
    fn properties(document: &Value, schema: &Value) -> BTreeSet<String> {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().expect("a name");
            return properties(document, &document["components"]["schemas"][name]);
        }
        let own = schema["properties"].as_object().into_iter().flat_map(|own| own.keys().cloned());
        let parts = schema["allOf"].as_array().into_iter().flatten();
        own.chain(parts.flat_map(|part| properties(document, part))).collect()
    }
    let document = crate::openapi::document();
    let body = &document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"];
    let properties = properties(document, body);
    assert!(!properties.is_empty(), "{method} {path} has a body: {body}");
    properties
}

#[test]
fn a_definition_has_every_field_that_the_calls_take() {
    const SECRETS: [&str; 2] = ["password", "password_confirmation"];
    fn check<S: Spec>(calls: &[(&str, &str)], by_other_calls: &[&str]) {
        let mut taken: BTreeSet<String> =
            calls.iter().flat_map(|(method, path)| body_of(path, method)).collect();
        taken.retain(|field| !SECRETS.contains(&field.as_str()));
        taken.extend(by_other_calls.iter().map(|field| (*field).to_owned()));
        let defined: BTreeSet<String> = S::fields().into_iter().map(str::to_owned).collect();
        assert_eq!(defined, taken, "{:?}", S::KIND);
    }
    check::<ApiSpec>(&[("post", "/api/v1/apis"), ("patch", "/api/v1/apis/{uid}")], &[]);
    check::<GroupSpec>(&[("post", "/api/v1/groups"), ("patch", "/api/v1/groups/{id}")], &[]);
    check::<ScopeSpec>(&[("post", "/api/v1/scopes"), ("patch", "/api/v1/scopes/{id}")], &[]);
    let client = [("post", "/api/v1/clients"), ("patch", "/api/v1/clients/{id}")];
    check::<ClientSpec>(&client, &["scopes", "token_settings"]);
    assert!(body_of("/api/v1/clients/{id}/scopes", "put").contains("scopes"));
    check::<FlowSpec>(&[("put", "/api/v1/approval-flows/{type}")], &["type"]);
}
