//! What a client sees of the catalogue and of what is its own.

use super::*;

#[tokio::test]
async fn a_client_sees_the_enabled_apis_that_its_audience_permits() {
    for stage in Stage::both().await {
        let off = api(&stage.admin, "retired", "both").await;
        stage.admin.patch(&format!("/api/v1/apis/{off}"), json!({ "enabled": false })).await.expect(200);
        let of = async |client: &Caller, query: &str| {
            let page = client.get(&format!("/client/v1/apis{query}")).await.expect(200);
            each(&page, "id").into_iter().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(of(&stage.acme, "").await, ["inside", "orders"], "of both sides");
        assert_eq!(of(&stage.other, "").await, ["orders"], "from outside alone");
        stage.admin.patch("/api/v1/clients/other", json!({ "audience": "internal" })).await.expect(200);
        assert_eq!(of(&stage.other, "").await, ["inside", "orders"], "the next call knows");
        stage.admin.patch("/api/v1/clients/other", json!({ "audience": "external" })).await.expect(200);
        for (query, found) in [
            ("?keyword=SHOP", 2),
            ("?keyword=orders", 1),
            ("?keyword=inside%20of", 1),
            ("?keyword=sells", 2),
            ("?keyword=%25", 0),
            ("?keyword=retired", 0),
            ("?source=registered", 2),
            ("?source=imported", 0),
        ] {
            assert_eq!(of(&stage.acme, query).await.len(), found, "{query}");
        }
        let [orders, inside] = &stage.apis;
        let shown = stage.other.get(&format!("/client/v1/apis/{orders}")).await.expect(200);
        assert_eq!(shown["url"], "https://api.example.com/orders");
        assert_eq!(shown["accepts"], json!(["dgrk", "x_api_key"]));
        let fields: Vec<_> = shown.as_object().expect("an API").keys().map(String::as_str).collect();
        assert_eq!(
            fields,
            [
                "accepts",
                "description",
                "id",
                "methods",
                "module",
                "name",
                "no_auth",
                "path",
                "source",
                "uid",
                "url"
            ],
            "nothing of how the installation is run"
        );
        for hidden in [inside.as_str(), off.as_str(), "api_none"] {
            stage.other.get(&format!("/client/v1/apis/{hidden}")).await.problem(404, "not_found");
        }
        stage.acme.get(&format!("/client/v1/apis/{inside}")).await.expect(200);
    }
}

#[tokio::test]
async fn a_list_of_apis_pages_on() {
    let stage = Stage::set(World::sqlite().await).await;
    let first = stage.acme.get("/client/v1/apis?limit=1").await.expect(200);
    let next = first["next"].as_str().expect("a second page");
    let second = stage.acme.get(&format!("/client/v1/apis?limit=1&cursor={next}")).await.expect(200);
    assert_eq!((each(&first, "id"), each(&second, "id")), (vec!["inside"], vec!["orders"]));
    assert_eq!(second["next"], Value::Null);
}

#[tokio::test]
async fn a_client_without_keys_has_an_empty_list() {
    let stage = Stage::set(World::sqlite().await).await;
    for path in ["/client/v1/keys", "/client/v1/x-api-keys", "/client/v1/tokens", "/client/v1/applications"] {
        assert_eq!(stage.acme.get(path).await.expect(200), json!({ "items": [], "next": null }), "{path}");
    }
}

#[tokio::test]
async fn a_client_sees_its_key_with_apis_masks_and_what_happened() {
    for stage in Stage::both().await {
        let id = stage.key(&stage.acme).await;
        let listed = stage.acme.get("/client/v1/keys").await.expect(200);
        assert_eq!(each(&listed, "id"), [id.as_str()]);
        let path = format!("/client/v1/keys/{id}");
        let shown = stage.acme.get(&path).await.expect(200);
        assert_eq!((&shown["state"], &shown["quota"]), (&json!("active"), &json!(1000)));
        assert_eq!(
            (&shown["effective_date"], &shown["expiry_date"]),
            (&json!("2026-01-15"), &json!("2026-12-31"))
        );
        assert_eq!((&shown["apis"][0]["id"], &shown["apis"][0]["enabled"]), (&json!("orders"), &json!(true)));
        let mask = shown["secrets"][0]["mask"].as_str().expect("a mask");
        assert_eq!((mask.len(), mask.matches('*').count()), (88, 78));
        assert_eq!(shown["secrets"][0]["last_used_at"], Value::Null);
        assert_eq!((&shown["uses"]["limit"], &shown["uses"]["remaining"]), (&json!(1000), &json!(1000)));

        stage.world.advance_ms(1_000);
        assert_eq!(shown["secrets"][0]["ends_at"], Value::Null);
        stage.admin.post(&format!("/api/v1/keys/{id}/secrets"), json!({ "overlap_h": 24 })).await.expect(201);
        let secrets = stage.acme.get(&path).await.expect(200)["secrets"].clone();
        let ends = stage.world.app.now().0 + 24 * 3_600_000;
        assert_eq!((&secrets[0]["ends_at"], &secrets[1]["ends_at"]), (&Value::Null, &json!(ends)));
        stage.world.advance_ms(1_000);
        stage.admin.post(&format!("/api/v1/keys/{id}/revoke"), json!({})).await.expect(200);
        let history = stage.acme.get(&format!("{path}/history")).await.expect(200);
        assert_eq!(each(&history, "event"), ["revoke", "rotate", "issue"]);
        assert_eq!(each(&history, "by"), ["operator"; 3]);
        let forms: Vec<_> =
            history["items"].as_array().expect("events").iter().map(|event| &event["application"]).collect();
        assert_eq!(forms, [&Value::Null, &Value::Null, &json!("KA-20260115-0001")]);
        assert_eq!(history["items"][0]["at"], World::START.0 + 2_000);
        assert!(!history.to_string().contains(&stage.admin.id), "no operator is named");
        let first = stage.acme.get(&format!("{path}/history?limit=2")).await.expect(200);
        let next = first["next"].as_str().expect("more");
        let rest = stage.acme.get(&format!("{path}/history?limit=2&cursor={next}")).await.expect(200);
        assert_eq!(each(&rest, "event"), ["issue"]);
        stage.acme.get(&format!("{path}/history?cursor=eA")).await.problem(400, "invalid_query");
        let revoked = stage.acme.get(&path).await.expect(200);
        assert_eq!(
            (&revoked["state"], revoked["secrets"].as_array().map(Vec::len)),
            (&json!("revoked"), Some(2))
        );
    }
}

#[tokio::test]
async fn a_change_of_a_key_is_told_field_by_field() {
    for stage in Stage::both().await {
        let key = stage.key(&stage.acme).await;
        let change = json!({
            "type": "KU", "key": key, "name": "orders key", "effective_date": "2026-01-15",
            "expiry_date": "2026-12-31", "quota": 500, "description": "less", "apis": [stage.apis[0]],
        });
        let form = stage.submitted(&stage.acme, change).await;
        stage.world.advance_ms(1_000);
        stage.review(&stage.rita, &form, "approve").await;
        stage.review(&stage.ralph, &form, "approve").await;
        let history = stage.acme.get(&format!("/client/v1/keys/{key}/history")).await.expect(200);
        assert_eq!(history["items"][0]["event"], "change");
        assert_eq!(history["items"][0]["changed"], json!({ "quota": { "before": 1000, "after": 500 } }));
    }
}

#[tokio::test]
async fn a_keys_days_tell_whether_it_works() {
    let stage = Stage::set(World::sqlite().await).await;
    let key = json!({
        "client": "acme", "api_key": "YjQx", "secret_key": "a-secret-that-was-made-elsewhere",
        "name": "brought", "effective_date": "2026-01-16", "expiry_date": "2026-01-16", "quota": -1,
        "apis": [stage.apis[0]],
    });
    let id = id_in(&stage.admin.post("/api/v1/keys/import", key).await.expect(201));
    let state = async || stage.world.client_session("acme").await.get(&format!("/client/v1/keys/{id}")).await;
    for expected in ["not_effective", "active", "expired"] {
        let shown = state().await.expect(200);
        assert_eq!((&shown["state"], &shown["uses"]), (&json!(expected), &Value::Null));
        stage.world.advance_ms(86_400_000);
    }
}

#[tokio::test]
async fn meters_tell_what_is_left_of_ones_own_quota_and_of_each_keys() {
    for stage in Stage::both().await {
        stage.admin.patch("/api/v1/clients/acme", json!({ "quota": 100 })).await.expect(200);
        let keys = [stage.key(&stage.acme).await, stage.key(&stage.acme).await];
        stage
            .world
            .sql(&format!("UPDATE meters SET debited = 40 WHERE owner IN ('acme', '{}')", keys[0]))
            .await;
        let meters = stage.acme.get("/client/v1/meters").await.expect(200);
        let own = &meters["items"][0];
        assert_eq!((&own["kind"], &own["id"]), (&json!("client"), &json!("acme")));
        let day_ends = World::START.0 + 86_400_000;
        assert_eq!(
            own["uses"],
            json!({
                "limit": 100, "used": 40, "held": 0, "withheld": 0, "remaining": 60, "period": "day",
                "calls_per_hour": 0, "exhausted_at": null,
                "window_start": World::START.0, "window_end": day_ends,
            })
        );
        let of_key =
            meters["items"].as_array().expect("meters").iter().find(|meter| meter["id"] == keys[0].as_str());
        assert_eq!(
            of_key.expect("its meter")["uses"],
            json!({
                "limit": 1000, "used": 40, "held": 0, "withheld": 0, "remaining": 960, "period": "total",
                "calls_per_hour": 0, "exhausted_at": null,
                "window_start": null, "window_end": null,
            })
        );
        // Page by page they are the same, and each once.
        let (mut cursor, mut paged) = (String::new(), Vec::new());
        loop {
            let page = stage.acme.get(&format!("/client/v1/meters?limit=1{cursor}")).await.expect(200);
            paged.extend(page["items"].as_array().expect("meters").clone());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(Value::Array(paged), meters["items"]);
        // The next day all of the client's is there again; an unlimited one is not counted.
        stage.world.advance_ms(86_400_000);
        let acme = stage.world.client_session("acme").await;
        let meters = acme.get("/client/v1/meters").await.expect(200);
        assert_eq!(meters["items"][0]["uses"]["remaining"], 100);
        let other = stage.world.client_session("other").await.get("/client/v1/meters").await.expect(200);
        assert_eq!(other["items"][0]["uses"], Value::Null);
    }
}

#[tokio::test]
async fn x_api_keys_are_shown_by_their_mask() {
    for stage in Stage::both().await {
        let group = json!({ "name": "retail", "apis": [stage.apis[0]] });
        let group = id_in(&stage.admin.post("/api/v1/groups", group).await.expect(201));
        stage.admin.patch("/api/v1/clients/acme", json!({ "groups": [group] })).await.expect(200);
        let key = json!({
            "client": "acme", "alias": "till", "expiry_date": "2026-12-31", "groups": [group],
        });
        let made = stage.admin.post("/api/v1/x-api-keys", key).await.expect(201);
        let listed = stage.acme.get("/client/v1/x-api-keys").await.expect(200);
        let item = &listed["items"][0];
        assert_eq!((&item["alias"], &item["mask"]), (&json!("till"), &made["mask"]));
        assert_eq!((&item["state"], &item["groups"]), (&json!("active"), &json!(["retail"])));
        let text = made["x_api_key"].as_str().expect("its text");
        assert!(!listed.to_string().contains(text));
        assert_eq!(stage.other.get("/client/v1/x-api-keys").await.expect(200)["items"], json!([]));
        // What the client has lost its key opens no more.
        stage.admin.patch("/api/v1/clients/acme", json!({ "groups": [] })).await.expect(200);
        let listed = stage.acme.get("/client/v1/x-api-keys").await.expect(200);
        assert_eq!(listed["items"][0]["groups"], json!([]));
    }
}

#[tokio::test]
async fn a_profile_tells_a_client_what_concerns_it() {
    let stage = Stage::set(World::sqlite().await).await;
    let body = json!({
        "start_date": "2026-01-01", "expiry_date": "2026-12-31", "time_zone": "Asia/Taipei",
        "remark": "pays late",
    });
    stage.admin.patch("/api/v1/clients/other", body).await.expect(200);
    let shown = stage.other.get("/client/v1/profile").await.expect(200);
    assert_eq!((&shown["id"], &shown["emails"]), (&json!("other"), &json!(["it@other.example"])));
    assert_eq!((&shown["security_level"], &shown["audience"]), (&json!("SYSTEM"), &json!("external")));
    assert_eq!((&shown["start_date"], &shown["time_zone"]), (&json!("2026-01-01"), &json!("Asia/Taipei")));
    assert!(!shown.to_string().contains("pays late"), "what operators note is theirs");
}
