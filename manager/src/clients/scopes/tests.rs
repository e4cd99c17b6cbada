//! Scopes of clients through the router, on both databases.

use axum::http::Method;
use serde_json::{Value, json};

use crate::testing::{Caller, World};

const SCOPES: &str = "/api/v1/clients/acme/scopes";

async fn acme(world: &World, level: &str) -> Caller {
    let admin = world.operator("ann", &["admin"]).await;
    let client = json!({
        "id": "acme", "name": "acme", "display_name": "Acme", "note": "Ann", "security_level": level,
        "password": "secret-1", "password_confirmation": "secret-1",
    });
    admin.post("/api/v1/clients", client).await.expect(201);
    admin
}

async fn made(admin: &Caller, kind: &str, name: &str, level: &str) -> String {
    let body = json!({ "name": name, "alias": format!("Alias of {name}"), "security_level": level });
    let made = admin.post(&format!("/api/v1/{kind}"), body).await.expect(201);
    made["id"].as_str().expect("an id").into()
}

fn names(items: &Value) -> Vec<&str> {
    items.as_array().expect("a list").iter().map(|item| item["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn a_client_is_given_scopes_and_they_are_taken_again() {
    for world in World::both().await {
        let admin = acme(&world, "SYSTEM").await;
        let (read, write) =
            (made(&admin, "scopes", "read", "SYSTEM").await, made(&admin, "scopes", "write", "SYSTEM").await);
        let empty = admin.get(SCOPES).await;
        assert_eq!(empty.header("etag"), Some("\"1\""), "the client's version");
        assert_eq!(empty.expect(200), json!({ "scopes": [], "version": 1 }));
        let set = admin.put(SCOPES, json!({ "scopes": [write, read, read] })).await.expect(200);
        let mut found = names(&set["scopes"]);
        found.sort_unstable();
        assert_eq!((found, &set["version"]), (vec!["read", "write"], &json!(2)));
        assert_eq!(admin.get(SCOPES).await.expect(200), set);
        // The same once more is no change.
        assert_eq!(admin.put(SCOPES, json!({ "scopes": [read, write] })).await.expect(200), set);
        let left = admin.put(SCOPES, json!({ "scopes": [write] })).await.expect(200);
        assert_eq!((names(&left["scopes"]), &left["version"]), (vec!["write"], &json!(3)));
        assert_eq!(admin.get("/api/v1/clients/acme").await.expect(200)["version"], 3);

        let trail = admin.get("/api/v1/audit?subject=client:acme").await.expect(200);
        let entry = &trail["items"][0];
        assert_eq!(entry["action"], "clients.set_scopes");
        let changed = &entry["detail"]["changed"]["scopes"];
        let mut both = [read, write.clone()];
        both.sort_unstable();
        assert_eq!((&changed["before"], &changed["after"]), (&json!(both), &json!([write])));
    }
}

#[tokio::test]
async fn level_c_is_not_offered_scopes_of_a_and_b() {
    for world in World::both().await {
        let admin = acme(&world, "C").await;
        for level in ["A", "B", "C", "D", "SYSTEM"] {
            made(&admin, "scopes", &format!("at-{level}"), level).await;
        }
        made(&admin, "groups", "a-group", "SYSTEM").await;
        let offered = async |query: &str| {
            admin.get(&format!("/api/v1/clients/acme/offered-scopes{query}")).await.expect(200)
        };
        let all = offered("").await;
        assert_eq!(names(&all["items"]), ["at-C", "at-D", "at-SYSTEM"]);
        assert!(all["items"].as_array().expect("items").iter().all(|scope| scope["given"] == false));
        assert_eq!(names(&offered("?keyword=OF%20AT-d").await["items"]), ["at-D"]);
        let first = offered("?limit=2").await;
        let next = first["next"].as_str().expect("more");
        assert_eq!(names(&offered(&format!("?limit=2&cursor={next}")).await["items"]), ["at-SYSTEM"]);
        let given = all["items"][1]["id"].clone();
        admin.put(SCOPES, json!({ "scopes": [given] })).await.expect(200);
        let marked = offered("").await;
        let given: Vec<_> =
            marked["items"].as_array().expect("items").iter().map(|scope| &scope["given"]).collect();
        assert_eq!(given, [false, true, false]);
    }
}

#[tokio::test]
async fn a_scope_above_the_clients_level_is_refused_naming_both() {
    for world in World::both().await {
        let admin = acme(&world, "C").await;
        let (high, low) =
            (made(&admin, "scopes", "high", "B").await, made(&admin, "scopes", "low", "D").await);
        let group = made(&admin, "groups", "a-group", "SYSTEM").await;
        let refused = admin.put(SCOPES, json!({ "scopes": [low, high] })).await.refuses("scopes");
        let detail = refused["detail"].as_str().expect("a detail");
        assert!(detail.contains("scope high has the security level B, above the client's C"), "{detail}");
        for unknown in [group.as_str(), "sc_none"] {
            let refused = admin.put(SCOPES, json!({ "scopes": [unknown] })).await.refuses("scopes");
            let told = format!("Scope [{unknown}] does not exist");
            assert_eq!(refused["detail"], told.as_str());
        }
        assert_eq!(names(&admin.get(SCOPES).await.expect(200)["scopes"]), [""; 0], "nothing half-written");
        // One that was raised meanwhile stays, and does not keep another one out.
        admin.put(SCOPES, json!({ "scopes": [low] })).await.expect(200);
        admin.patch(&format!("/api/v1/scopes/{low}"), json!({ "security_level": "A" })).await.expect(200);
        let other = made(&admin, "scopes", "other", "C").await;
        admin.put(SCOPES, json!({ "scopes": [low, other] })).await.expect(200);
    }
}

#[tokio::test]
async fn groups_and_scopes_together_are_205_at_most() {
    let world = World::sqlite().await;
    let admin = acme(&world, "SYSTEM").await;
    let mut groups = Vec::new();
    for n in 0..204 {
        groups.push(made(&admin, "groups", &format!("g{n}"), "SYSTEM").await);
    }
    admin.patch("/api/v1/clients/acme", json!({ "groups": groups })).await.expect(200);
    let (one, two) =
        (made(&admin, "scopes", "one", "SYSTEM").await, made(&admin, "scopes", "two", "SYSTEM").await);
    let refused = admin.put(SCOPES, json!({ "scopes": [one, two] })).await.refuses("scopes");
    assert!(refused["detail"].as_str().expect("a detail").contains("Upper limit of 205"), "{refused:#}");
    admin.put(SCOPES, json!({ "scopes": [one] })).await.expect(200);
    groups.push(made(&admin, "groups", "one-more", "SYSTEM").await);
    let refused = admin.patch("/api/v1/clients/acme", json!({ "groups": groups })).await.refuses("groups");
    assert!(refused["detail"].as_str().expect("a detail").contains("Upper limit of 205"), "{refused:#}");
}

#[tokio::test]
async fn a_scope_in_use_cannot_be_deleted_and_the_answer_says_by_whom() {
    for world in World::both().await {
        let admin = acme(&world, "SYSTEM").await;
        let scope = made(&admin, "scopes", "read", "SYSTEM").await;
        admin.put(SCOPES, json!({ "scopes": [scope] })).await.expect(200);
        let path = format!("/api/v1/scopes/{scope}");
        let refused = admin.delete(&path).await.problem(409, "scope_in_use");
        assert!(refused["detail"].as_str().expect("a detail").contains("acme"), "{refused:#}");
        admin.put(SCOPES, json!({ "scopes": [] })).await.expect(200);
        admin.delete(&path).await.expect(204);
    }
}

#[tokio::test]
async fn a_stale_version_of_the_client_gives_nothing() {
    for world in World::both().await {
        let admin = acme(&world, "SYSTEM").await;
        let scope = made(&admin, "scopes", "read", "SYSTEM").await;
        admin.patch("/api/v1/clients/acme", json!({ "tps": 7 })).await.expect(200);
        let put = async |version: &str| {
            let body = Some(json!({ "scopes": [scope] }));
            admin.send(Method::PUT, SCOPES, &[("if-match", version)], body).await
        };
        put("\"1\"").await.problem(412, "version_mismatch");
        put("\"2\"").await.expect(200);
        admin.get("/api/v1/clients/nobody/scopes").await.problem(404, "not_found");
        admin.get("/api/v1/clients/nobody/offered-scopes").await.problem(404, "not_found");
    }
}
