//! A client looks at its tokens that live, and ends one.

use axum::body::Body;
use axum::http::Method;

use super::*;

impl Stage {
    async fn introspects(&self, client: &str, token: &str) -> bool {
        let form = format!("client_id={client}&client_secret={}&token={token}", World::CLIENT_PASSWORD);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let anon = self.world.anon();
        let seen = anon.raw(Method::POST, "/oauth2/introspect", &headers, Body::from(form)).await;
        seen.expect(200)["active"] == json!(true)
    }
}

#[tokio::test]
async fn a_client_lists_its_tokens_that_live_and_revokes_one() {
    for stage in Stage::both().await {
        let terms = |uses: u32| json!({ "validity": 1, "unit": "hours", "uses": uses });
        let settings = json!({
            "grant_types": ["client_credentials", "password", "refresh_token"], "access_token": terms(3),
            "refresh_token": terms(0), "redirect_urls": [],
        });
        stage.admin.put("/api/v1/clients/acme/token-settings", settings).await.expect(200);
        let group = json!({ "name": "partners", "apis": [stage.apis[0]] });
        let group = id_in(&stage.admin.post("/api/v1/groups", group).await.expect(201));
        stage.admin.post("/api/v1/clients/acme/groups", json!({ "groups": [group] })).await.expect(200);
        let mut made = Vec::new();
        for _ in 0..3 {
            stage.world.advance_ms(1);
            made.push(stage.token("acme").await);
        }
        stage.token("other").await;
        let ids: Vec<String> = made.iter().rev().map(id_of_token).collect();
        let listed = stage.acme.get("/client/v1/tokens").await.expect(200);
        assert_eq!(each(&listed, "id"), ids);
        let first = listed["items"][0].as_object().expect("a token").clone();
        let at = World::START.0 + 3;
        assert_eq!(
            Value::Object(first),
            json!({
                "id": ids[0], "grant_type": "client_credentials", "user": null, "groups": ["partners"],
                "issued_at": at, "expires_at": World::START.0 + 3_600_000 - 1, "uses": 3, "remaining_uses": 3,
                "refresh_token_id": null,
            }),
            "neither its text nor its hash"
        );
        let page = stage.acme.get("/client/v1/tokens?limit=2").await.expect(200);
        let next = page["next"].as_str().expect("more");
        let rest = stage.acme.get(&format!("/client/v1/tokens?limit=2&cursor={next}")).await.expect(200);
        assert_eq!([each(&page, "id"), each(&rest, "id")].concat(), ids);
        stage.acme.get("/client/v1/tokens?cursor=eA").await.problem(400, "invalid_query");

        let text = made[2]["access_token"].as_str().expect("a text");
        assert!(stage.introspects("acme", text).await);
        for _ in 0..2 {
            stage.acme.delete(&format!("/client/v1/tokens/{}", ids[0])).await.expect(204);
        }
        assert!(!stage.introspects("acme", text).await);
        assert_eq!(each(&stage.acme.get("/client/v1/tokens").await.expect(200), "id"), ids[1..]);
        let trail = stage.admin.get("/api/v1/audit?action=tokens.revoke").await.expect(200);
        assert_eq!(each(&trail, "actor"), ["client:acme"], "once");
        assert_eq!(trail["items"][0]["subject"], format!("token:{}", ids[0]));

        stage.world.advance_ms(3_600_000);
        let acme = stage.world.client_session("acme").await;
        assert_eq!(acme.get("/client/v1/tokens").await.expect(200)["items"], json!([]));
    }
}

#[tokio::test]
async fn with_a_token_goes_the_refresh_token_that_it_belongs_to() {
    for stage in Stage::both().await {
        let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
        let settings = json!({
            "grant_types": ["password", "refresh_token"], "access_token": terms, "refresh_token": terms,
            "redirect_urls": [],
        });
        stage.admin.put("/api/v1/clients/acme/token-settings", settings).await.expect(200);
        let user = json!({ "name": "rosa", "password": "secret-of-rosa" });
        stage.admin.post("/api/v1/users", user).await.expect(201);
        let own = format!("client_id=acme&client_secret={}", World::CLIENT_PASSWORD);
        let ask = async |form: String| {
            let headers = [("content-type", "application/x-www-form-urlencoded")];
            let body = Body::from(format!("{own}&{form}"));
            stage.world.anon().raw(Method::POST, "/oauth/token", &headers, body).await
        };
        let signed_in =
            ask("grant_type=password&username=rosa&password=secret-of-rosa".into()).await.expect(200);
        let refresh = signed_in["refresh_token"].as_str().expect("a text").to_owned();
        let listed = stage.acme.get("/client/v1/tokens").await.expect(200);
        assert_eq!((&listed["items"][0]["user"], each(&listed, "id").len()), (&json!("rosa"), 1));
        assert!(listed["items"][0]["refresh_token_id"].is_string());
        stage.acme.delete(&format!("/client/v1/tokens/{}", id_of_token(&signed_in))).await.expect(204);
        let renewed = ask(format!("grant_type=refresh_token&refresh_token={refresh}")).await;
        assert_eq!((renewed.status, &renewed.body["error"]), (403, &json!("invalid_token")));
        let text = signed_in["access_token"].as_str().expect("a text");
        assert!(!stage.introspects("acme", text).await);
    }
}
