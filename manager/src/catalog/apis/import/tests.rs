//! Imports through the router, as operators, on both databases.

use axum::body::Body;
use axum::http::Method;
use gate::id::Revision;
use serde_json::{Value, json};

use super::cli;
use super::document::MAX_DOCUMENT_BYTES;
use crate::catalog::entries;
use crate::testing::{Answer, Caller, World};

const PETSTORE: &str = include_str!("samples/petstore.yaml");
const ORDERS: &str = include_str!("samples/orders.yaml");
const LEDGER: &str = include_str!("samples/ledger.json");

async fn upload(caller: &Caller, query: &str, text: &str) -> Answer {
    let kind = if text.starts_with('{') { "application/json" } else { "application/yaml" };
    let path = format!("/api/v1/apis/import?{query}");
    caller.raw(Method::POST, &path, &[("content-type", kind)], Body::from(text.to_string())).await
}

/// A document of operations `(path, method, operation)`, title `Shop`.
fn document(operations: &[(&str, &str, Value)]) -> String {
    let mut root = json!({ "openapi": "3.0.3", "info": { "title": "Shop", "version": "1" }, "paths": {} });
    for (path, method, operation) in operations {
        root["paths"][path][method] = operation.clone();
    }
    root.to_string()
}

fn named(id: &str) -> Value {
    json!({ "operationId": id })
}

/// APIs of a module by their ids.
async fn module(caller: &Caller, module: &str) -> Value {
    let page = caller.get(&format!("/api/v1/apis?limit=200&module={module}")).await.expect(200);
    let items = page["items"].as_array().expect("items").iter();
    items
        .map(|api| (api["id"].as_str().expect("an id").to_string(), api.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// What an import leaves behind where it does something: entries of the trail, changes of the feed.
async fn traces(world: &World, admin: &Caller) -> (i64, u64) {
    let last = admin.get("/api/v1/audit?limit=1").await.expect(200);
    let mut conn = world.app.db.read().await.expect("a connection");
    let revision = crate::changes::head(&mut conn).await.expect("the head").revision.0;
    (last["items"][0]["seq"].as_i64().expect("a number"), revision)
}

/// Each step of a report, in short.
fn steps(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_string();
    let steps = report["apis"].as_array().expect("steps").iter();
    steps.map(|step| (text(&step["id"]), text(&step["change"]))).collect()
}

fn step<'r>(report: &'r Value, id: &str) -> &'r Value {
    report["apis"].as_array().expect("steps").iter().find(|step| step["id"] == id).expect("a step")
}

fn same(report: &Value, change: &str) -> bool {
    steps(report).iter().all(|(_, other)| other == change)
}

#[tokio::test]
async fn a_dry_run_shows_what_the_import_then_does_once() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let before = traces(&world, &admin).await;
        let query = "skip_unsupported=true&module=pets";
        let mut planned = upload(&admin, &format!("{query}&dry_run=true"), PETSTORE).await.expect(200);
        assert_eq!((&planned["dry_run"], &planned["refused"]), (&json!(true), &Value::Null));
        assert_eq!(traces(&world, &admin).await, before, "a dry run leaves nothing");
        assert_eq!(module(&admin, "pets").await, json!({}));

        let mut done = upload(&admin, query, PETSTORE).await.expect(200);
        assert_eq!((done["created"].clone(), done["updated"].clone()), (json!(6), json!(0)));
        let after = traces(&world, &admin).await;
        assert_eq!(after, (before.0 + 7, before.1 + 1), "an entry for each and one for all, one change");
        for report in [&mut planned, &mut done] {
            report["dry_run"] = Value::Null;
            for step in report["apis"].as_array_mut().expect("steps") {
                step["uid"] = Value::Null;
            }
        }
        assert_eq!(planned, done);
        let told = done["unsupported"][0].clone();
        assert_eq!(told["operation"], "GET /pets/{petId}.json");

        let again = upload(&admin, query, PETSTORE).await.expect(200);
        assert!(same(&again, "unchanged") && again["unchanged"] == 6, "{again:#}");
        assert_eq!(traces(&world, &admin).await, after, "a second import leaves nothing");
    }
}

#[tokio::test]
async fn imported_apis_are_closed_until_somebody_opens_them() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let report = upload(&admin, "skip_unsupported=true&module=pets", PETSTORE).await.expect(200);
        let apis = module(&admin, "pets").await;
        for (id, api) in apis.as_object().expect("APIs") {
            assert_eq!(
                (&api["enabled"], &api["accepts"], &api["no_auth"], &api["source"], &api["audience"]),
                (
                    &json!(false),
                    &json!(["dgrk", "x_api_key"]),
                    &json!(false),
                    &json!("imported"),
                    &json!("both")
                ),
                "{id}"
            );
            assert_eq!(api["hosts"], json!(["api.petstore.example"]));
        }
        assert_eq!(apis["createPet"]["labels"], json!(["pets", "write"]));
        assert_eq!(apis["showPet"]["path"], json!({ "template": "/v1/pets/{petId}" }));
        assert_eq!(apis["listPets"]["path"], json!({ "exact": "/v1/pets" }));
        assert_eq!(apis["listPets"]["name"], "List all pets");
        // A form goes unsigned, and an operation that the document opens stays closed: both are told.
        let unsigned: Vec<_> =
            apis.as_object().expect("APIs").iter().filter(|(_, api)| api["unsigned_forms"] == true).collect();
        assert_eq!(unsigned.len(), 1);
        assert_eq!(unsigned[0].0, "uploadPhoto");
        let told = |id: &str| step(&report, id)["warnings"].to_string();
        assert!(told("uploadPhoto").contains("unsigned_forms=false"), "{}", told("uploadPhoto"));
        assert!(told("get.health").contains("allow_no_auth=true"), "{}", told("get.health"));
        assert_eq!(told("listPets"), "[]");
        // As gates get them.
        let mut conn = world.app.db.snapshot().await.expect("a connection");
        let directory = entries(&mut conn, Some(Revision(0))).await.expect("entries");
        assert_eq!(directory.apis.len(), 6);
    }
}

#[tokio::test]
async fn options_choose_what_opens_new_apis() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let query = "skip_unsupported=true&module=pets&accepts=document&allow_no_auth=true&enabled=true&audience=internal\
                     &hosts=a.example,b.example&base_path=/pub";
        let report = upload(&admin, query, PETSTORE).await.expect(200);
        let apis = module(&admin, "pets").await;
        let health = &apis["get.health"];
        assert_eq!(
            (&health["no_auth"], &health["accepts"], &health["enabled"]),
            (&json!(true), &json!([]), &json!(true))
        );
        assert!(
            step(&report, "get.health")["warnings"][0]
                .as_str()
                .expect("told")
                .contains("anybody may call it")
        );
        let list = &apis["listPets"];
        assert_eq!((&list["accepts"], &list["audience"]), (&json!(["x_api_key"]), &json!("internal")));
        assert_eq!(
            (&list["hosts"], &list["path"]),
            (&json!(["a.example", "b.example"]), &json!({ "exact": "/pub/pets" }))
        );
        assert_eq!(
            apis["uploadPhoto"]["unsigned_forms"], false,
            "nothing is signed where DGRK is not accepted"
        );

        let query = "module=signed&skip_unsupported=true&unsigned_forms=false&hosts=signed.example";
        upload(&admin, query, PETSTORE).await.expect(200);
        assert_eq!(module(&admin, "signed").await["uploadPhoto"]["unsigned_forms"], false);
    }
}

#[tokio::test]
async fn what_operators_changed_since_stays_unless_an_option_names_it() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let form = json!({ "operationId": "pay", "summary": "Pay", "tags": ["a"], "requestBody": { "content": { "multipart/form-data": {} } } });
        let first = document(&[("/pay", "post", form.clone()), ("/list", "get", named("list"))]);
        upload(&admin, "", &first).await.expect(200);
        let uid = module(&admin, "Shop").await["pay"]["uid"].as_str().expect("a uid").to_string();
        let path = format!("/api/v1/apis/{uid}");
        let by_hand = json!({
            "enabled": true, "accepts": ["dgrk", "basic"], "audience": "external", "unsigned_forms": false,
            "name": "By hand",
        });
        admin.patch(&path, by_hand).await.expect(200);
        let group = json!({ "name": "payers", "apis": [uid] });
        let group = admin.post("/api/v1/groups", group).await.expect(201)["id"].clone();

        let mut changed = form;
        changed["tags"] = json!(["b"]);
        let second = document(&[("/pay/now", "post", changed), ("/list", "get", named("list"))]);
        let (entries, revision) = traces(&world, &admin).await;
        let report = upload(&admin, "", &second).await.expect(200);
        assert_eq!(steps(&report), [("list".into(), "unchanged".into()), ("pay".into(), "update".into())]);
        assert_eq!(
            step(&report, "pay")["fields"],
            json!({
                "name": { "before": "By hand", "after": "Pay" },
                "path.exact": { "before": "/pay", "after": "/pay/now" },
                "labels": { "before": ["a"], "after": ["b"] },
            })
        );
        assert!(step(&report, "pay")["warnings"].to_string().contains("unsigned_forms=true"));
        assert_eq!(traces(&world, &admin).await, (entries + 2, revision + 1));
        let pay = module(&admin, "Shop").await["pay"].clone();
        assert_eq!(
            (&pay["enabled"], &pay["accepts"], &pay["audience"], &pay["unsigned_forms"], &pay["groups"]),
            (&json!(true), &json!(["dgrk", "basic"]), &json!("external"), &json!(false), &json!([group]))
        );
        assert_eq!(
            (&pay["path"], &pay["name"], &pay["labels"]),
            (&json!({ "exact": "/pay/now" }), &json!("Pay"), &json!(["b"]))
        );
        assert_eq!(pay["uid"], json!(uid), "keys and groups go on knowing it");

        let query = "enabled=false&accepts=dgrk&audience=both&unsigned_forms=true";
        upload(&admin, query, &second).await.expect(200);
        let pay = module(&admin, "Shop").await["pay"].clone();
        assert_eq!(
            (&pay["enabled"], &pay["accepts"], &pay["audience"], &pay["unsigned_forms"]),
            (&json!(false), &json!(["dgrk"]), &json!("both"), &json!(true))
        );
        assert_eq!(pay["groups"], json!([group]));
    }
}

#[tokio::test]
async fn an_update_that_gates_do_not_see_is_no_change_of_the_directory() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        upload(&admin, "", &document(&[("/a", "get", json!({ "operationId": "a", "summary": "One" }))]))
            .await
            .expect(200);
        let (entries, revision) = traces(&world, &admin).await;
        let renamed = document(&[("/a", "get", json!({ "operationId": "a", "summary": "Two" }))]);
        upload(&admin, "", &renamed).await.expect(200);
        assert_eq!(traces(&world, &admin).await, (entries + 2, revision));
        assert_eq!(module(&admin, "Shop").await["a"]["name"], "Two");
    }
}

#[tokio::test]
async fn operations_that_cannot_be_held_stop_the_import_unless_they_are_left_out() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let before = traces(&world, &admin).await;
        let problem = upload(&admin, "", PETSTORE).await.problem(422, "unsupported_operations");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(
            detail.contains("GET /pets/{petId}.json") && detail.contains("skip_unsupported=true"),
            "{detail}"
        );
        let planned = upload(&admin, "dry_run=true", PETSTORE).await.expect(200);
        assert_eq!(planned["refused"], problem["detail"], "a dry run says the same");
        assert_eq!(planned["created"], 6);
        assert_eq!(traces(&world, &admin).await, before);

        // One that is there, and that the document now says in a way that cannot be held, stays.
        upload(&admin, "", &document(&[("/f/{name}", "get", named("file"))])).await.expect(200);
        let odd = document(&[("/f/{name}.json", "get", named("file")), ("/g", "get", named("g"))]);
        let report = upload(&admin, "skip_unsupported=true&prune=true", &odd).await.expect(200);
        assert_eq!(steps(&report), [("g".into(), "create".into())]);
        assert_eq!(module(&admin, "Shop").await["file"]["path"], json!({ "template": "/f/{name}" }));
    }
}

#[tokio::test]
async fn nothing_is_pruned_where_the_document_cannot_be_read_whole() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let whole = [("/a", "get", named("a")), ("/b", "get", named("b")), ("/c", "get", named("c"))];
        upload(&admin, "", &document(&whole)).await.expect(200);
        // The path of b is broken, or the operation's id is: whether b is meant cannot be told.
        let broken = |item: Value| {
            let mut root: Value = serde_json::from_str(&document(&whole[..1])).expect("JSON");
            root["paths"]["/b"] = item;
            root.to_string()
        };
        let prune = "prune=true&skip_unsupported=true";
        for item in [
            json!({ "$ref": "#/components/pathItems/gone" }),
            json!([]),
            json!({ "get": { "operationId": 7 } }),
        ] {
            let report = upload(&admin, prune, &broken(item.clone())).await.expect(200);
            assert_eq!(
                steps(&report),
                [
                    ("a".into(), "unchanged".into()),
                    ("b".into(), "missing".into()),
                    ("c".into(), "missing".into())
                ],
                "{item}"
            );
            for id in ["b", "c"] {
                let told = step(&report, id)["warnings"].to_string();
                assert!(told.contains("it stays, although prune=true") && told.contains("/b"), "{told}");
            }
            assert_eq!(module(&admin, "Shop").await.as_object().map(|apis| apis.len()), Some(3), "{item}");
        }
        // What would take the place of one that stays is not told to prune.
        let mut root: Value = serde_json::from_str(&broken(json!([]))).expect("JSON");
        root["paths"]["/c"] = json!({ "get": named("new") });
        let report = upload(&admin, prune, &root.to_string()).await.expect(200);
        let reason = report["conflicts"][0]["reason"].as_str().expect("a reason");
        assert!(reason.contains("Shop/c") && !reason.contains("prune"), "{reason}");

        let readable = upload(&admin, prune, &document(&whole[..1])).await.expect(200);
        assert_eq!(readable["removed"], 2);
    }
}

#[tokio::test]
async fn an_import_beside_another_api_names_both() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        for (id, path) in
            [("taken", json!({ "exact": "/orders" })), ("crossing", json!({ "template": "/a/{x}/b" }))]
        {
            let api =
                json!({ "module": "other", "id": id, "methods": ["GET"], "path": path, "accepts": ["dgrk"] });
            admin.post("/api/v1/apis", api).await.expect(201);
        }
        let text = document(&[
            ("/orders", "get", named("orders")),
            ("/a/b/{y}", "get", named("crossed")),
            ("/free", "get", named("free")),
        ]);
        let before = traces(&world, &admin).await;
        let planned = upload(&admin, "dry_run=true", &text).await.expect(200);
        let conflicts = planned["conflicts"].as_array().expect("conflicts");
        assert_eq!(conflicts.len(), 2, "{planned:#}");
        for (conflict, id, rival) in
            [(&conflicts[0], "crossed", "other/crossing"), (&conflicts[1], "orders", "other/taken")]
        {
            let reason = conflict["reason"].as_str().expect("a reason");
            assert_eq!(conflict["id"], id);
            assert!(reason.contains(&format!("Shop/{id}")) && reason.contains(rival), "{reason}");
        }
        let problem = upload(&admin, "", &text).await.problem(409, "import_conflict");
        assert_eq!(planned["refused"], problem["detail"]);
        assert_eq!(traces(&world, &admin).await, before, "all or nothing");

        let report = upload(&admin, "skip_unsupported=true", &text).await.expect(200);
        assert_eq!(steps(&report), [("free".into(), "create".into())]);
        assert_eq!(report["conflicts"], planned["conflicts"]);
    }
}

#[tokio::test]
async fn operations_of_one_document_that_mean_the_same_requests_conflict() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let text = document(&[("/a/{x}", "get", named("one")), ("/a/{y}", "get", named("two"))]);
        let problem = upload(&admin, "", &text).await.problem(409, "import_conflict");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("Shop/one") && detail.contains("Shop/two"), "{detail}");
    }
}

#[tokio::test]
async fn apis_may_change_places_in_one_import() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        upload(&admin, "", &document(&[("/a", "get", named("one")), ("/b", "get", named("two"))]))
            .await
            .expect(200);
        let swapped = document(&[("/a", "get", named("two")), ("/b", "get", named("one"))]);
        let report = upload(&admin, "", &swapped).await.expect(200);
        assert!(same(&report, "update"), "{report:#}");
        let apis = module(&admin, "Shop").await;
        assert_eq!(
            (&apis["one"]["path"], &apis["two"]["path"]),
            (&json!({ "exact": "/b" }), &json!({ "exact": "/a" }))
        );
    }
}

#[tokio::test]
async fn what_the_document_no_longer_has_goes_with_prune_alone() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        upload(&admin, "", &document(&[("/a", "get", named("a")), ("/b", "get", named("b"))]))
            .await
            .expect(200);
        let hand =
            json!({ "module": "Shop", "id": "hand", "path": { "exact": "/hand" }, "accepts": ["dgrk"] });
        admin.post("/api/v1/apis", hand).await.expect(201);
        let apis = module(&admin, "Shop").await;
        let group = json!({ "name": "all", "apis": [apis["a"]["uid"], apis["b"]["uid"]] });
        let group =
            admin.post("/api/v1/groups", group).await.expect(201)["id"].as_str().expect("an id").to_string();

        let less = document(&[("/a", "get", named("a"))]);
        let before = traces(&world, &admin).await;
        let report = upload(&admin, "", &less).await.expect(200);
        assert_eq!(steps(&report), [("a".into(), "unchanged".into()), ("b".into(), "missing".into())]);
        assert_eq!(traces(&world, &admin).await, before);

        let report = upload(&admin, "prune=true&dry_run=true", &less).await.expect(200);
        assert_eq!(steps(&report), [("a".into(), "unchanged".into()), ("b".into(), "remove".into())]);
        let report = upload(&admin, "prune=true", &less).await.expect(200);
        assert_eq!(report["removed"], 1);
        let left = module(&admin, "Shop").await;
        assert!(left["b"].is_null() && !left["a"].is_null() && !left["hand"].is_null(), "{left:#}");
        let group = admin.get(&format!("/api/v1/groups/{group}")).await.expect(200);
        assert_eq!(group["apis"], json!([apis["a"]["uid"]]));
        let mut conn = world.app.db.snapshot().await.expect("a connection");
        let delta = entries(&mut conn, Some(Revision(before.1))).await.expect("entries");
        assert_eq!(json!(delta.removed), json!([apis["b"]["uid"]]), "gates hear of it");
    }
}

#[tokio::test]
async fn what_a_key_lists_is_not_pruned() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        upload(&admin, "", &document(&[("/a", "get", named("a")), ("/b", "get", named("b"))]))
            .await
            .expect(200);
        let client = json!({
            "id": "acme", "name": "acme", "display_name": "Acme Ltd.", "note": "Ann",
            "password": "secret-1", "password_confirmation": "secret-1",
        });
        admin.post("/api/v1/clients", client).await.expect(201);
        let key = json!({
            "client": "acme", "api_key": "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==",
            "secret_key": "YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw==",
            "name": "b alone", "expiry_date": "2026-12-31", "quota": 5, "apis": [module(&admin, "Shop").await["b"]["uid"]],
        });
        let key = admin.post("/api/v1/keys/import", key).await.expect(201)["id"]
            .as_str()
            .expect("an id")
            .to_string();
        let less = document(&[("/a", "get", named("a"))]);
        let before = traces(&world, &admin).await;
        let problem =
            upload(&admin, "prune=true&skip_unsupported=true", &less).await.problem(409, "import_conflict");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(
            detail.contains("Shop/b")
                && detail.contains("b alone")
                && detail.contains(&key)
                && detail.contains("acme"),
            "{detail}"
        );
        assert_eq!(traces(&world, &admin).await, before);
        admin.post(&format!("/api/v1/keys/{key}/revoke"), json!({})).await;
        upload(&admin, "prune=true", &less).await.expect(200);
        assert!(module(&admin, "Shop").await["b"].is_null());
    }
}

#[tokio::test]
async fn an_operation_with_another_id_takes_its_place_with_prune() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        upload(&admin, "", &document(&[("/a", "get", named("old"))])).await.expect(200);
        let renamed = document(&[("/a", "get", named("new"))]);
        let problem = upload(&admin, "", &renamed).await.problem(409, "import_conflict");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("Shop/old is not in the document: prune=true removes it"), "{detail}");
        let report = upload(&admin, "prune=true", &renamed).await.expect(200);
        assert_eq!(steps(&report), [("new".into(), "create".into()), ("old".into(), "remove".into())]);
    }
}

#[tokio::test]
async fn an_api_registered_by_hand_is_brought_up_to_date_and_never_pruned() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let hand = json!({ "module": "Shop", "id": "a", "path": { "exact": "/a" }, "methods": ["GET"], "accepts": ["basic"] });
        admin.post("/api/v1/apis", hand).await.expect(201);
        let report = upload(&admin, "", &document(&[("/a/{b}", "get", named("a"))])).await.expect(200);
        assert!(step(&report, "a")["warnings"].to_string().contains("registered by hand"));
        let api = module(&admin, "Shop").await["a"].clone();
        assert_eq!(
            (&api["source"], &api["accepts"], &api["enabled"], &api["path"]),
            (&json!("registered"), &json!(["basic"]), &json!(true), &json!({ "template": "/a/{b}" }))
        );
        upload(&admin, "prune=true", &document(&[("/c", "get", named("c"))])).await.expect(200);
        assert!(!module(&admin, "Shop").await["a"].is_null());
    }
}

#[tokio::test]
async fn servers_oauth_and_openapi_3_1_arrive_in_the_catalogue() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let report = upload(&admin, "accepts=document&skip_unsupported=true", ORDERS).await.expect(200);
        assert_eq!((&report["created"], &report["module"]), (&json!(6), &json!("Orders")));
        let apis = module(&admin, "Orders").await;
        assert_eq!(
            apis["orders-create"]["hosts"],
            json!(["eu.orders.example", "no.orders.example", "us.orders.example"])
        );
        assert_eq!(apis["orders-create"]["accepts"], json!(["bearer", "basic"]));
        assert_eq!(apis["upload"]["hosts"], json!(["uploads.orders.example"]));
        assert_eq!(apis["sizes"]["path"], json!({ "exact": "/v2/Gr%C3%B6%C3%9Fe%20tabelle" }));

        let report = upload(&admin, "skip_unsupported=true", LEDGER).await.expect(200);
        assert_eq!(report["created"], 4);
        let apis = module(&admin, "Ledger").await;
        assert_eq!((&apis["account"]["hosts"], &apis["account"]["methods"]), (&json!([]), &json!(["GET"])));
    }
}

#[tokio::test]
async fn bad_uploads_say_what_to_do_and_leave_nothing() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let before = traces(&world, &admin).await;
    let fine = document(&[("/a", "get", named("a"))]);
    for (query, text, status, code, field, told) in [
        ("", "{", 400, "malformed_document", None, "line 1"),
        ("", "a: [", 400, "malformed_document", None, "line"),
        ("", "a: &a [*a]", 400, "malformed_document", None, "YAML"),
        ("", r#"{"swagger":"2.0"}"#, 422, "invalid_document", Some("#/swagger"), "OpenAPI 3"),
        ("", "openapi: 4.0.0", 422, "invalid_document", Some("#/openapi"), "4.0.0"),
        ("", "just text", 422, "invalid_document", Some("#/openapi"), "openapi"),
        (
            "",
            r#"{"openapi":"3.0.3","paths":{"/a":{"$ref":"a.yaml"}}}"#,
            422,
            "invalid_document",
            Some("#/paths/~1a"),
            "\"a.yaml\"",
        ),
        (
            "module=m",
            r#"{"openapi":"3.0.3","paths":{}}"#,
            422,
            "invalid_document",
            Some("#/paths"),
            "no operation",
        ),
        ("module=a%20b", &fine, 422, "invalid_field", Some("module"), "module"),
        ("accepts=none", &fine, 422, "invalid_field", Some("accepts"), "dgrk"),
        ("accepts=", &fine, 422, "invalid_field", Some("accepts"), "dgrk"),
        ("hosts=https://a", &fine, 422, "invalid_field", Some("hosts"), "is no host"),
        ("base_path=v1", &fine, 422, "invalid_field", Some("base_path"), "begin with"),
        ("dry_run=maybe", &fine, 400, "invalid_query", Some("dry_run"), "`true` or `false`"),
        ("audience=everybody", &fine, 400, "invalid_query", Some("audience"), "everybody"),
        ("dryrun=true", &fine, 400, "invalid_query", Some("dryrun"), "dryrun"),
    ] {
        let problem = upload(&admin, query, text).await.problem(status, code);
        assert_eq!(problem["field"].as_str(), field, "{query} {text}: {problem:#}");
        assert!(problem["detail"].as_str().expect("a detail").contains(told), "{query} {text}: {problem:#}");
    }
    assert_eq!(traces(&world, &admin).await, before);
}

#[tokio::test]
async fn documents_come_in_each_media_type_and_up_to_their_own_bound() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let json = document(&[("/a", "get", named("a"))]);
    let yaml = "openapi: 3.0.3\ninfo: {title: Shop}\npaths: {/a: {get: {operationId: a}}}\n";
    let send = |kind: &'static str, text: String| {
        let admin = admin.clone();
        async move {
            let headers = [("content-type", kind)];
            admin.raw(Method::POST, "/api/v1/apis/import?dry_run=true", &headers, Body::from(text)).await
        }
    };
    for kind in
        ["application/json", "application/vnd.oai.openapi+json;version=3.0", "application/vnd.oai.openapi"]
    {
        send(kind, json.clone()).await.expect(200);
    }
    for kind in [
        "application/yaml",
        "Application/YAML; charset=utf-8",
        "application/vnd.oai.openapi",
        "application/x-yaml",
    ] {
        send(kind, yaml.into()).await.expect(200);
        // JSON is YAML too.
        send(kind, json.clone()).await.expect(200);
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        send(kind, json.clone()).await.problem(415, "unsupported_media_type");
    }
    let filled = |bytes: usize| format!("{json}{}", " ".repeat(bytes - json.len()));
    send("application/json", filled(MAX_DOCUMENT_BYTES)).await.expect(200);
    send("application/json", filled(MAX_DOCUMENT_BYTES + 1)).await.problem(413, "body_too_large");
}

#[tokio::test]
async fn only_those_who_write_the_catalogue_import() {
    let world = World::sqlite().await;
    let auditor = world.operator("aud", &["auditor"]).await;
    let text = document(&[("/a", "get", named("a"))]);
    for query in ["", "dry_run=true"] {
        upload(&auditor, query, &text).await.problem(403, "forbidden");
        upload(&world.anon(), query, &text).await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn the_command_line_imports_too() {
    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        import: cli::Import,
    }
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("petstore.yaml");
    std::fs::write(&file, PETSTORE).expect("written");
    let run = |more: &[&str]| {
        let file = file.to_str().expect("a path").to_string();
        let arguments = ["import", &file, "--module", "pets"].into_iter().chain(more.iter().copied());
        let Arguments { import } = clap::Parser::try_parse_from(arguments).expect("understood");
        let app = world.app.clone();
        async move { cli::run(&app, import).await.map_err(|error| error.to_string()) }
    };
    let refused = run(&[]).await.expect_err("one cannot be held");
    assert!(refused.contains("skip_unsupported=true"), "{refused}");
    let refused = run(&["--dry-run"]).await.expect_err("one cannot be held");
    assert!(refused.starts_with("the import would be refused"), "{refused}");
    run(&["--skip-unsupported", "--dry-run"]).await.expect("shown");
    assert_eq!(module(&admin, "pets").await, json!({}));
    run(&["--skip-unsupported", "--enabled", "true", "--audience", "external"]).await.expect("imported");
    let apis = module(&admin, "pets").await;
    assert_eq!(
        (&apis["showPet"]["enabled"], &apis["showPet"]["audience"]),
        (&json!(true), &json!("external"))
    );
    let trail = admin.get("/api/v1/audit?subject=module:pets").await.expect(200);
    assert_eq!(
        (&trail["items"][0]["actor"], &trail["items"][0]["detail"]["created"]),
        (&json!("cli"), &json!(6))
    );
}

#[tokio::test]
async fn the_largest_document_goes_in_at_once() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let paths: serde_json::Map<String, Value> = (0..super::model::MAX_OPERATIONS)
            .map(|n| (format!("/r{}/{{a}}/s{n}/{{b}}", n % 50), json!({ "get": named(&format!("op{n}")) })))
            .collect();
        let text = json!({ "openapi": "3.0.3", "info": { "title": "Shop" }, "paths": paths }).to_string();
        let (_, revision) = traces(&world, &admin).await;
        assert_eq!(upload(&admin, "", &text).await.expect(200)["created"], 2_000);
        assert_eq!(upload(&admin, "", &text).await.expect(200)["unchanged"], 2_000);
        assert_eq!(traces(&world, &admin).await.1, revision + 1);
    }
}
