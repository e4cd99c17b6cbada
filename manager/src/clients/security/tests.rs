//! The security configuration through the router, as operators.

use serde_json::{Value, json};

use crate::clients::{PasswordCheck, check_password};
use crate::testing::{Caller, World};

const ACME: &str = "/api/v1/clients/acme";

async fn acme(admin: &Caller, more: Value) -> Value {
    let mut body = json!({
        "id": "acme", "name": "acme", "display_name": "Acme Ltd.", "note": "Ann",
        "password": "secret-1", "password_confirmation": "secret-1",
    });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    admin.post("/api/v1/clients", body).await.expect(201)
}

async fn group(admin: &Caller, name: &str, level: &str) -> String {
    let body = json!({ "name": name, "alias": name, "security_level": level });
    let group = admin.post("/api/v1/groups", body).await.expect(201);
    group["id"].as_str().expect("an id").into()
}

async fn head(world: &World) -> u64 {
    let mut conn = world.app.db.read().await.expect("a connection");
    crate::changes::head(&mut conn).await.expect("a head").revision.0
}

#[tokio::test]
async fn level_c_is_not_offered_groups_of_a_and_b() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let mut groups = std::collections::BTreeMap::new();
        for level in ["A", "B", "C", "D", "SYSTEM"] {
            groups.insert(level, group(&admin, &format!("group_{level}"), level).await);
        }
        acme(&admin, json!({ "security_level": "C", "groups": [groups["D"]] })).await;
        let offered = async |query: &str| -> Vec<(String, bool)> {
            let page = admin.get(&format!("{ACME}/offered-groups{query}")).await.expect(200);
            let items = page["items"].as_array().expect("items");
            let named = |item: &Value| item["name"].as_str().expect("a name").to_owned();
            items.iter().map(|item| (named(item), item["given"] == true)).collect()
        };
        let all = [("group_C", false), ("group_D", true), ("group_SYSTEM", false)];
        assert_eq!(offered("").await, all.map(|(name, given)| (name.to_owned(), given)));
        assert_eq!(offered("?keyword=p_SYS").await, [("group_SYSTEM".to_owned(), false)]);
        assert_eq!(offered("?keyword=group_A").await, []);
        for level in ["A", "B"] {
            let body = json!({ "groups": [groups[level]] });
            let refused = admin.post(&format!("{ACME}/groups"), body).await.refuses("groups");
            let detail = refused["detail"].as_str().expect("a detail");
            assert_eq!(
                detail,
                format!("group group_{level} has the security level {level}, above the client's C")
            );
        }
        admin.post(&format!("{ACME}/groups"), json!({ "groups": [groups["C"]] })).await.expect(200);
    }
}

#[tokio::test]
async fn groups_are_given_and_taken_one_by_one() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let (one, two) = (group(&admin, "one", "SYSTEM").await, group(&admin, "two", "SYSTEM").await);
        acme(&admin, json!({ "groups": [one] })).await;
        let before = head(&world).await;
        let both = admin.post(&format!("{ACME}/groups"), json!({ "groups": [two, one] })).await.expect(200);
        assert_eq!(both["groups"].as_array().map(Vec::len), Some(2));
        assert_eq!(head(&world).await, before + 1, "gateways are told");
        let left = admin.delete(&format!("{ACME}/groups/{one}")).await.expect(200);
        assert_eq!(left["groups"], json!([two]));
        assert_eq!(head(&world).await, before + 2);
        admin.delete(&format!("{ACME}/groups/{one}")).await.problem(404, "not_found");
        admin.post(&format!("{ACME}/groups"), json!({ "groups": ["none"] })).await.refuses("groups");
        let same = admin.post(&format!("{ACME}/groups"), json!({ "groups": [two] })).await.expect(200);
        assert_eq!((&same["version"], head(&world).await), (&left["version"], before + 2));
        // A group that was raised above the client can be taken, and keeps no other from being taken.
        admin.post(&format!("{ACME}/groups"), json!({ "groups": [one] })).await.expect(200);
        admin.patch(&format!("/api/v1/groups/{one}"), json!({ "security_level": "A" })).await.expect(200);
        admin.delete(&format!("{ACME}/groups/{two}")).await.expect(200);
        admin.delete(&format!("{ACME}/groups/{one}")).await.expect(200);
    }
}

#[tokio::test]
async fn a_client_has_205_groups_at_most() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let mut groups = Vec::new();
    for n in 0..=205 {
        groups.push(group(&admin, &format!("g{n}"), "SYSTEM").await);
    }
    acme(&admin, json!({ "groups": groups[..205] })).await;
    let refused = admin.post(&format!("{ACME}/groups"), json!({ "groups": [groups[205]] })).await;
    let refused = refused.refuses("groups");
    let says = refused["detail"].as_str().expect("a detail");
    assert!(says.starts_with("Upper limit of 205 Groups per Group List"), "{says}");
}

#[tokio::test]
async fn a_lower_level_takes_the_groups_above_it_once_that_is_confirmed() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let (top, high, low) = (
            group(&admin, "top", "A").await,
            group(&admin, "high", "B").await,
            group(&admin, "low", "C").await,
        );
        acme(&admin, json!({ "security_level": "A", "groups": [top, high, low] })).await;
        let path = format!("{ACME}/security-level");
        let before = head(&world).await;
        let asked = admin.put(&path, json!({ "security_level": "C" })).await;
        let asked = asked.problem(409, "confirm_lower_level");
        let mut affected = [json!({ "id": top, "name": "top" }), json!({ "id": high, "name": "high" })];
        affected.sort_by_key(|thing| thing["id"].as_str().map(str::to_owned));
        assert_eq!(asked["affected"], json!({ "groups": affected, "scopes": [] }));
        let detail = asked["detail"].as_str().expect("a detail");
        assert!(
            detail.contains("top (A)") && detail.contains("high (B)") && !detail.contains("low"),
            "{detail}"
        );
        assert_eq!(head(&world).await, before, "nothing was changed");

        let lowered = admin.put(&path, json!({ "security_level": "C", "confirm": true })).await.expect(200);
        assert_eq!((&lowered["security_level"], &lowered["groups"]), (&json!("C"), &json!([low])));
        assert_eq!(head(&world).await, before + 1, "gateways are told");
        let trail = admin.get("/api/v1/audit?subject=client:acme&limit=1").await.expect(200);
        let entry = &trail["items"][0];
        assert_eq!(entry["action"], "clients.set_security_level");
        assert_eq!(entry["detail"]["changed"]["security_level"], json!({ "before": "A", "after": "C" }));

        // What loses nothing needs no confirmation: up, and down to what covers the rest.
        admin.put(&path, json!({ "security_level": "A" })).await.expect(200);
        admin.put(&path, json!({ "security_level": "C" })).await.expect(200);
        let same = admin.put(&path, json!({ "security_level": "C" })).await.expect(200);
        assert_eq!(same["version"], 4);
    }
}

#[tokio::test]
async fn a_lower_level_takes_the_scopes_above_it_too() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let scope = async |name: &str, level: &str| -> String {
            let body = json!({ "name": name, "alias": name, "security_level": level });
            admin.post("/api/v1/scopes", body).await.expect(201)["id"].as_str().expect("an id").into()
        };
        let (high, low) = (scope("read_all", "B").await, scope("read", "D").await);
        acme(&admin, json!({ "security_level": "B" })).await;
        let scopes = format!("{ACME}/scopes");
        admin.put(&scopes, json!({ "scopes": [high, low] })).await.expect(200);
        // The form takes nothing away by itself.
        admin.patch(ACME, json!({ "security_level": "D" })).await.refuses("security_level");
        let path = format!("{ACME}/security-level");
        let asked = admin.put(&path, json!({ "security_level": "D" })).await;
        let asked = asked.problem(409, "confirm_lower_level");
        assert_eq!(
            asked["affected"],
            json!({ "groups": [], "scopes": [{ "id": high, "name": "read_all" }] })
        );
        admin.put(&path, json!({ "security_level": "D", "confirm": true })).await.expect(200);
        let left = admin.get(&scopes).await.expect(200);
        assert_eq!(left["scopes"].as_array().map(Vec::len), Some(1));
        assert_eq!(left["scopes"][0]["id"], json!(low));
        let trail = admin.get("/api/v1/audit?action=clients.set_scopes&limit=1").await.expect(200);
        let changed = &trail["items"][0]["detail"]["changed"]["scopes"];
        assert_eq!(changed["after"], json!([low]), "what went is on record");
        assert_eq!(changed["before"].as_array().map(Vec::len), Some(2));
    }
}

#[tokio::test]
async fn locked_at_the_third_wrong_password() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let made = acme(&admin, json!({})).await;
        assert_eq!(made["allowed_attempts"], 3);
        let tried = async |password: &str| {
            let result = check_password(&world.app, "acme", password).await.expect("an answer");
            matches!(result, PasswordCheck::Right(_))
        };
        for (wrong, locked) in [(1, false), (2, false), (3, true)] {
            assert!(!tried("secret-2").await);
            let client = admin.get(ACME).await.expect(200);
            assert_eq!(
                (&client["failed_attempts"], &client["password_locked"]),
                (&json!(wrong), &json!(locked))
            );
        }
        assert!(!tried("secret-1").await, "the right one comes too late");
        let client = admin.get(ACME).await.expect(200);
        assert_eq!((&client["status"], &client["locked_by"]), (&json!("active"), &json!("wrong_passwords")));
        let locked = admin.get("/api/v1/clients?status=locked").await.expect(200);
        assert_eq!(locked["items"][0]["id"], "acme", "who looks for locked ones finds it");

        let status = format!("{ACME}/status");
        let open = admin.patch(&status, json!({ "reset_failed_attempts": true })).await.expect(200);
        assert_eq!((&open["failed_attempts"], &open["locked_by"]), (&json!(0), &Value::Null));
        assert!(tried("secret-1").await);
    }
}

#[tokio::test]
async fn the_number_of_allowed_attempts_is_the_clients_own() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({})).await;
        let status = format!("{ACME}/status");
        admin.patch(&status, json!({ "allowed_attempts": 0 })).await.refuses("allowed_attempts");
        admin.patch(&status, json!({ "allowed_attempts": 1 })).await.expect(200);
        check_password(&world.app, "acme", "secret-2").await.expect("an answer");
        assert_eq!(admin.get(ACME).await.expect(200)["password_locked"], true);
        let open = admin.patch(&status, json!({ "allowed_attempts": 2 })).await.expect(200);
        assert_eq!((&open["password_locked"], &open["failed_attempts"]), (&json!(false), &json!(1)));
    }
}

#[tokio::test]
async fn a_status_set_by_an_operator_is_told_apart_from_a_lock_after_wrong_passwords() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({})).await;
        let status = format!("{ACME}/status");
        let before = head(&world).await;
        let locked = admin.patch(&status, json!({ "status": "locked" })).await.expect(200);
        assert_eq!((&locked["locked_by"], &locked["password_locked"]), (&json!("operator"), &json!(false)));
        assert_eq!(head(&world).await, before + 1, "gateways are told");
        // Forgetting wrong passwords does not undo an operator's word.
        let still = admin.patch(&status, json!({ "reset_failed_attempts": true })).await.expect(200);
        assert_eq!((&still["status"], &still["version"]), (&json!("locked"), &locked["version"]));
        let open = admin.patch(&status, json!({ "status": "active" })).await.expect(200);
        assert_eq!(open["locked_by"], Value::Null);
        world
            .operator("rob", &["reviewer_1"])
            .await
            .patch(&status, json!({}))
            .await
            .problem(403, "forbidden");
    }
}
