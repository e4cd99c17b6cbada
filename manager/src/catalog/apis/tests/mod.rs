//! APIs through the router, as operators, on both databases.

use axum::http::Method;
use gate::id::Revision;
use gate::time::UnixMillis;
use serde_json::{Value, json};

mod batch;
mod places;
mod turns;

use super::store::entries;
use crate::testing::{Caller, World};

fn orders() -> Value {
    json!({
        "module": "shop", "id": "orders", "name": "Orders", "methods": ["get", "POST"],
        "path": { "exact": "/orders" }, "accepts": ["x_api_key", "dgrk"]
    })
}

fn with(mut body: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

async fn registered(admin: &Caller, changes: Value) -> String {
    let api = admin.post("/api/v1/apis", with(orders(), changes)).await.expect(201);
    api["uid"].as_str().expect("a uid").to_string()
}

/// The directory as a gate with revision `since` gets it: uids of what is there and what is gone.
async fn delta(world: &World, since: Option<u64>) -> (Vec<String>, Vec<String>) {
    let mut conn = world.app.db.snapshot().await.expect("a connection");
    let entries = entries(&mut conn, since.map(Revision)).await.expect("entries");
    let uids = entries.apis.iter().map(|api| api.uid.to_string()).collect();
    (uids, entries.removed.iter().map(ToString::to_string).collect())
}

async fn revision(world: &World) -> u64 {
    let mut conn = world.app.db.read().await.expect("a connection");
    crate::changes::head(&mut conn).await.expect("the head").revision.0
}

#[tokio::test]
async fn a_registered_api_reads_back_and_updates_leave_what_they_do_not_name() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let made = admin.post("/api/v1/apis", orders()).await;
        assert_eq!(made.header("etag"), Some("\"1\""));
        let location = made.header("location").expect("a location").to_string();
        let made = made.expect(201);
        assert_eq!(made["methods"], json!(["GET", "POST"]));
        assert_eq!(made["accepts"], json!(["dgrk", "x_api_key"]));
        assert_eq!((made["enabled"].clone(), made["audience"].clone()), (json!(true), json!("both")));
        assert_eq!((made["labels"].clone(), made["source"].clone()), (json!([]), json!("registered")));
        assert_eq!(admin.get(&location).await.expect(200), made);

        world.advance_ms(5);
        let changed = admin
            .patch(&location, json!({ "enabled": false, "hosts": ["API.example.com."] }))
            .await
            .expect(200);
        let UnixMillis(start) = World::START;
        let expected = with(
            made,
            json!({ "enabled": false, "hosts": ["api.example.com"], "version": 2, "updated_at": start + 5 }),
        );
        assert_eq!(changed, expected);
    }
}

#[tokio::test]
async fn bad_apis_are_refused_by_field_and_leave_nothing() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        for (changes, field) in [
            (json!({ "module": "" }), "module"),
            (json!({ "module": "a b" }), "module"),
            (json!({ "id": "a/b" }), "id"),
            (json!({ "id": "x".repeat(256) }), "id"),
            (json!({ "name": "" }), "name"),
            (json!({ "name": "x".repeat(256) }), "name"),
            (json!({ "description": "x".repeat(501) }), "description"),
            (json!({ "hosts": ["https://x"] }), "hosts"),
            (json!({ "hosts": vec!["a"; 33] }), "hosts"),
            (json!({ "methods": ["G T"] }), "methods"),
            (json!({ "labels": [""] }), "labels"),
            (json!({ "labels": ["x".repeat(51)] }), "labels"),
            (json!({ "labels": ["a", "A"] }), "labels"),
            (json!({ "labels": ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"] }), "labels"),
            (json!({ "path": { "exact": "orders" } }), "path"),
            (json!({ "path": { "exact": "/a/../b" } }), "path"),
            (json!({ "path": { "template": "/a" } }), "path"),
            (json!({ "path": {} }), "path"),
            (json!({ "path": { "exact": "/a", "prefix": "/b" } }), "path"),
            (json!({ "path": { "regex": "/a" } }), "path"),
            (json!({ "path": "/a" }), "path"),
            (json!({ "accepts": ["magic"] }), "accepts[0]"),
            (json!({ "accepts": [] }), "accepts"),
            (json!({ "no_auth": true }), "accepts"),
            (json!({ "audience": "nobody" }), "audience"),
            (json!({ "enabled": "yes" }), "enabled"),
            (json!({ "colour": "red" }), "colour"),
        ] {
            let body = with(orders(), changes);
            admin.post("/api/v1/apis", body).await.refuses(field);
        }
        let no_path = json!({ "module": "shop", "id": "orders" });
        admin.post("/api/v1/apis", no_path).await.refuses("path");
        assert_eq!(admin.get("/api/v1/apis").await.expect(200)["items"], json!([]));
        assert_eq!(revision(&world).await, 0, "nothing was recorded");
        assert_eq!(delta(&world, None).await, (vec![], vec![]));
    }
}

#[tokio::test]
async fn what_changes_nothing_leaves_no_trace() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let api = format!("/api/v1/apis/{}", registered(&admin, json!({})).await);
        let group = admin.post("/api/v1/groups", json!({ "name": "partners" })).await.expect(201);
        let group = format!("/api/v1/groups/{}", group["id"].as_str().expect("an id"));
        let trail = admin.get("/api/v1/audit").await.expect(200)["items"][0]["seq"].clone();
        let before = revision(&world).await;
        for (path, same) in [
            (&api, json!({})),
            (&api, json!({ "name": "Orders", "accepts": ["dgrk", "x_api_key"] })),
            (&group, json!({})),
            (&group, json!({ "alias": "partners", "apis": [] })),
        ] {
            let read = admin.get(path).await.expect(200);
            assert_eq!(admin.patch(path, same).await.expect(200), read);
        }
        assert_eq!(revision(&world).await, before);
        assert_eq!(admin.get("/api/v1/audit").await.expect(200)["items"][0]["seq"], trail);
    }
}

#[tokio::test]
async fn two_apis_never_answer_at_the_same_place_and_both_are_named() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let uid = registered(
            &admin,
            json!({ "path": { "template": "/orders/{id}" }, "hosts": ["a.example", "b.example"] }),
        )
        .await;
        let rival = json!({
            "id": "rival", "path": { "template": "/orders/{number}" }, "hosts": ["b.example"], "methods": ["POST", "PUT"]
        });
        let refusal =
            admin.post("/api/v1/apis", with(orders(), rival.clone())).await.problem(409, "same_place");
        let detail = refusal["detail"].as_str().expect("a text");
        for part in ["shop/rival", "shop/orders", uid.as_str(), "POST", "b.example"] {
            assert!(detail.contains(part), "{part} is missing: {detail}");
        }
        // Another method, another host, another kind of path: each is another place.
        for (id, changes) in [
            ("m", json!({ "methods": ["PUT"] })),
            ("h", json!({ "hosts": [] })),
            ("p", json!({ "path": { "prefix": "/orders" } })),
        ] {
            let other = with(with(orders(), rival.clone()), with(changes, json!({ "id": id })));
            admin.post("/api/v1/apis", other).await.expect(201);
        }
        // An update is checked as well, against others and not against itself.
        admin.patch(&format!("/api/v1/apis/{uid}"), json!({ "name": "Same" })).await.expect(200);
        let put = json!({ "methods": ["PUT"] });
        admin.patch(&format!("/api/v1/apis/{uid}"), put).await.problem(409, "same_place");
        admin
            .post("/api/v1/apis", with(orders(), json!({ "path": { "exact": "/x" } })))
            .await
            .problem(409, "api_exists");
    }
}

#[tokio::test]
async fn gates_are_sent_what_changed_and_no_more() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let a = registered(&admin, json!({ "id": "a", "path": { "exact": "/a" } })).await;
        let b = registered(&admin, json!({ "id": "b", "path": { "exact": "/b" } })).await;
        let at_first = revision(&world).await;
        assert_eq!(at_first, 2);
        let mut both = vec![a.clone(), b.clone()];
        both.sort();
        assert_eq!(delta(&world, None).await, (both, vec![]));
        assert_eq!(delta(&world, Some(at_first)).await, (vec![], vec![]));

        admin.patch(&format!("/api/v1/apis/{a}"), json!({ "enabled": false })).await.expect(200);
        assert_eq!(delta(&world, Some(at_first)).await, (vec![a.clone()], vec![]));

        // A group alters the entries of those that join or leave it.
        let before = revision(&world).await;
        let group = admin.post("/api/v1/groups", json!({ "name": "g", "apis": [b] })).await.expect(201);
        let group = group["id"].as_str().expect("an id");
        assert_eq!(delta(&world, Some(before)).await, (vec![b.clone()], vec![]));
        let before = revision(&world).await;
        admin.patch(&format!("/api/v1/groups/{group}"), json!({ "apis": [a, b] })).await.expect(200);
        assert_eq!(delta(&world, Some(before)).await, (vec![a.clone()], vec![]));
        let before = revision(&world).await;
        admin.patch(&format!("/api/v1/groups/{group}"), json!({ "alias": "Other" })).await.expect(200);
        assert_eq!(revision(&world).await, before, "no entry changed");

        let before = revision(&world).await;
        admin.delete(&format!("/api/v1/apis/{b}")).await.expect(204);
        assert_eq!(delta(&world, Some(before)).await, (vec![], vec![b.clone()]));
        assert_eq!(delta(&world, None).await, (vec![a.clone()], vec![]));
        let left = admin.get(&format!("/api/v1/groups/{group}")).await.expect(200);
        assert_eq!(left["apis"], json!([a]));
    }
}

#[tokio::test]
async fn what_the_catalogue_accepts_every_gate_can_index() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        for (id, path) in [
            ("1", json!({ "exact": "/" })),
            ("2", json!({ "prefix": "/" })),
            ("3", json!({ "template": "/{a}/b/{c}" })),
            ("4", json!({ "prefix": "/x/y/" })),
            ("5", json!({ "exact": "/%E4/~:@!$&'()*+,=" })),
        ] {
            registered(&admin, json!({ "id": id, "path": path })).await;
        }
        let mut conn = world.app.db.snapshot().await.expect("a connection");
        let apis = entries(&mut conn, None).await.expect("entries").apis;
        assert_eq!(apis.len(), 5);
        let directory = gate::directory::Directory::from_snapshot(gate::wire::directory::DirectoryAnswer {
            version: gate::wire::WIRE_VERSION,
            epoch: gate::id::Epoch(1),
            revision: Revision(1),
            since: None,
            settings: Default::default(),
            apis,
            token_keys: vec![],
            removed: vec![],
        })
        .expect("a directory");
        let found = directory.find("", "GET", "/q/b/r").expect("the template");
        assert_eq!(found.id, "3");
    }
}

#[tokio::test]
async fn an_api_that_a_key_lists_stays_until_the_key_is_revoked() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let path = format!("/api/v1/apis/{}", registered(&admin, json!({})).await);
        let other = registered(&admin, json!({ "id": "other", "path": { "exact": "/other" } })).await;
        let client = json!({
            "id": "acme", "name": "acme", "display_name": "Acme Ltd.", "note": "Ann",
            "password": "secret-1", "password_confirmation": "secret-1",
        });
        admin.post("/api/v1/clients", client).await.expect(201);
        let key = json!({
            "client": "acme", "api_key": "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==",
            "secret_key": "YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw==",
            "name": "orders alone", "expiry_date": "2026-12-31", "quota": 5,
            "apis": [path.rsplit('/').next()],
        });
        let key = admin.post("/api/v1/keys/import", key).await.expect(201)["id"].clone();
        let key = key.as_str().expect("an id");

        let before = revision(&world).await;
        let told = format!(
            "shop/orders is listed by keys that are not revoked: orders alone ({key}) of acme; change or revoke \
             them first"
        );
        let refusal = admin.delete(&path).await.problem(409, "api_in_use");
        assert_eq!(refusal["detail"], json!(told));
        admin.get(&path).await.expect(200);
        admin.delete(&format!("/api/v1/apis/{other}")).await.expect(204);
        assert!(revision(&world).await > before);

        admin.post(&format!("/api/v1/keys/{key}/revoke"), json!({})).await.expect(200);
        admin.delete(&path).await.expect(204);
        admin.get(&path).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn of_two_that_read_the_same_version_one_is_told() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let path = format!("/api/v1/apis/{}", registered(&admin, json!({})).await);
        let one = [("if-match", "\"1\"")];
        admin.send(Method::PATCH, &path, &one, Some(json!({ "name": "A" }))).await.expect(200);
        admin
            .send(Method::PATCH, &path, &one, Some(json!({ "name": "B" })))
            .await
            .problem(412, "version_mismatch");
        admin.send(Method::DELETE, &path, &one, None).await.problem(412, "version_mismatch");
        admin.send(Method::PATCH, &path, &[("if-match", "1")], Some(json!({}))).await.refuses("If-Match");
        assert_eq!(admin.get(&path).await.expect(200)["name"], "A");
    }
}

/// `module/id` of the items of a page.
fn titles(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|api| format!("{}/{}", api["module"], api["id"]).replace('"', "")).collect()
}

#[tokio::test]
async fn lists_are_narrowed_and_paged() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        for (module, id, changes) in [
            ("shop", "b", json!({ "labels": ["Zahlung", "50%"], "accepts": ["bearer", "dgrk"] })),
            ("shop", "a", json!({ "description": "Täglich", "labels": ["zahlung"] })),
            ("bank", "100_x", json!({ "name": "100%_x", "enabled": false })),
            ("bank", "c", json!({ "labels": ["Zahlungen"], "accepts": [], "no_auth": true })),
        ] {
            let place = json!({ "module": module, "id": id, "name": id, "path": { "exact": format!("/{module}/{id}") } });
            registered(&admin, with(place, changes)).await;
        }
        let first = admin.get("/api/v1/apis?limit=3").await.expect(200);
        assert_eq!(titles(&first), ["bank/100_x", "bank/c", "shop/a"]);
        let rest = format!("/api/v1/apis?limit=3&cursor={}", first["next"].as_str().expect("more"));
        let rest = admin.get(&rest).await.expect(200);
        assert_eq!((titles(&rest), &rest["next"]), (vec!["shop/b".to_string()], &Value::Null));
        let in_group = admin.get("/api/v1/apis?keyword=shop").await.expect(200)["items"][0]["uid"].clone();
        let group =
            admin.post("/api/v1/groups", json!({ "name": "g", "apis": [in_group] })).await.expect(201);
        let by_group = format!("group={}", group["id"].as_str().expect("an id"));
        for (query, expected) in [
            ("keyword=SHOP/A", vec!["shop/a"]),
            ("keyword=T%C3%84GLICH", vec!["shop/a"]),
            ("keyword=0%25_", vec!["bank/100_x"]),
            ("keyword=%25", vec!["bank/100_x"]),
            ("module=bank&keyword=c", vec!["bank/c"]),
            ("enabled=false", vec!["bank/100_x"]),
            ("group=gr_none", vec![]),
            (&by_group, vec!["shop/a"]),
            // A whole label, whatever its case; what stands for anything elsewhere is itself.
            ("label=ZAHLUNG", vec!["shop/a", "shop/b"]),
            ("label=zahlung%25", vec![]),
            ("label=50%25", vec!["shop/b"]),
            ("label=5_%25", vec![]),
            ("source=registered&module=shop", vec!["shop/a", "shop/b"]),
            ("source=imported", vec![]),
            ("credential=bearer", vec!["shop/b"]),
            ("credential=dgrk", vec!["bank/100_x", "shop/a", "shop/b"]),
            ("credential=no_auth", vec!["bank/c"]),
        ] {
            let page = admin.get(&format!("/api/v1/apis?{query}")).await.expect(200);
            assert_eq!(titles(&page), expected, "{query}");
        }
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("cursor=!", "cursor"),
            ("colour=x", "colour"),
            ("source=magic", "source"),
            ("credential=magic", "credential"),
        ] {
            let answer = admin.get(&format!("/api/v1/apis?{query}")).await;
            assert_eq!(answer.status, 400);
            answer.refuses(field);
        }
    }
}

#[tokio::test]
async fn who_may_not_is_told_which_permission_is_missing() {
    for world in World::both().await {
        let reviewer = world.operator("rex", &["reviewer_1"]).await;
        let refusal = reviewer.post("/api/v1/apis", orders()).await.problem(403, "forbidden");
        assert!(refusal["detail"].as_str().is_some_and(|text| text.contains("catalog.write")));
        reviewer.get("/api/v1/apis").await.expect(200);
        world.anon().get("/api/v1/apis").await.problem(401, "unauthenticated");
    }
}
