//! Gateways through the router: tokens, rotation, what is seen of Envoys.

use axum::http::Method;
use serde_json::json;

use crate::testing::{Caller, World};

const ADD: &str = "/api/v1/gateways";
const POLL: &str = "/gateway/v1/changes?since=0&wait_ms=0";

async fn added(admin: &Caller, name: &str) -> serde_json::Value {
    admin.post(ADD, json!({"name": name})).await.expect(201)
}

fn text<'a>(value: &'a serde_json::Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}"))
}

#[tokio::test]
async fn a_token_opens_the_gateway_api_until_it_is_revoked_and_two_live_meanwhile() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let first = added(&admin, "edge").await;
        let id = text(&first, "gateway");
        world.bearer(text(&first, "token")).get(POLL).await.expect(200);

        let tokens = format!("{ADD}/{id}/tokens");
        let second = admin.post(&tokens, json!({})).await.expect(201);
        assert_ne!(text(&first, "token"), text(&second, "token"));
        for token in [&first, &second] {
            world.bearer(text(token, "token")).get(POLL).await.expect(200);
        }
        let third = admin.post(&tokens, json!({})).await.problem(409, "too_many_gateway_tokens");
        assert!(text(&third, "detail").contains(text(&first, "token_id")), "it says which to revoke");

        let path = format!("{tokens}/{}", text(&first, "token_id"));
        admin.delete(&path).await.expect(204);
        admin.delete(&path).await.problem(404, "not_found");
        world.bearer(text(&first, "token")).get(POLL).await.problem(401, "unauthenticated");
        world.bearer(text(&second, "token")).get(POLL).await.expect(200);
        admin.post(&tokens, json!({})).await.expect(201);
    }
}

#[tokio::test]
async fn whoever_shows_no_gateways_token_gets_nothing() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        for (caller, who) in
            [(world.anon(), "nobody"), (world.bearer("kggw_made-up"), "a guesser"), (admin, "an operator")]
        {
            for (method, path) in [
                (Method::GET, "/gateway/v1/directory"),
                (Method::GET, POLL),
                (Method::POST, "/gateway/v1/exchange"),
            ] {
                let answer = caller.send(method, path, &[], None).await;
                assert_eq!(answer.header("x-keygate-manager"), Some("1"), "{who} {path}");
                answer.problem(401, "unauthenticated");
            }
        }
    }
}

#[tokio::test]
async fn names_are_checked_and_unique() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        added(&admin, "edge").await;
        admin.post(ADD, json!({"name": "edge"})).await.problem(409, "gateway_name_taken");
        for body in [json!({"name": "two words"}), json!({"name": ""}), json!({"name": 7}), json!({})] {
            admin.post(ADD, body).await.refuses("name");
        }
        admin.post(ADD, json!({"name": "x", "token": "mine"})).await.refuses("token");
        admin.post("/api/v1/gateways/nobody/tokens", json!({})).await.problem(404, "not_found");
        let listed = admin.get(ADD).await.expect(200);
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    }
}

#[tokio::test]
async fn only_who_may_sees_and_adds_gateways() {
    for world in World::both().await {
        let applicant = world.operator("bob", &["applicant"]).await;
        applicant.get(ADD).await.problem(403, "forbidden");
        applicant.post(ADD, json!({"name": "edge"})).await.problem(403, "forbidden");
        world.anon().get(ADD).await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn the_overview_shows_each_envoy_and_no_secret() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let gateway = added(&admin, "edge").await;
        let caller = world.bearer(text(&gateway, "token"));
        let holder = "0123456789abcdef0123456789abcdef";
        let exchange = json!({
            "version": 1, "holder": holder, "slot": 0, "filter_version": "0.1.0",
            "directory": 1, "feed": 1, "leases_held": 3,
        });
        caller.post("/gateway/v1/exchange", exchange.clone()).await.expect(200);
        // A poll brings the row up to date after a second, and keeps what it does not state.
        world.advance_ms(5_000);
        caller.get(&format!("/gateway/v1/changes?since=0&wait_ms=0&holder={holder}")).await.expect(200);

        let listed = admin.get(ADD).await.expect(200);
        let envoy = &listed["items"][0]["envoys"][0];
        let expected = json!({
            "holder": holder,
            "first_seen_at": World::START.0,
            "last_seen_at": World::START.0 + 5_000,
            "filter_version": "0.1.0",
            "directory_revision": 1,
            "feed_revision": 0,
            "feed_lag": 1,
            "leases_held": 3,
        });
        assert_eq!(envoy, &expected);
        assert!(!listed.to_string().contains(text(&gateway, "token")), "a token is shown once");

        // Another gateway cannot speak for that Envoy.
        let other = added(&admin, "other").await;
        let other = world.bearer(text(&other, "token"));
        other.post("/gateway/v1/exchange", exchange).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn after_a_restore_gateways_begin_anew() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let gateway = added(&admin, "edge").await;
        let caller = world.bearer(text(&gateway, "token"));
        let before = caller.get(POLL).await.expect(200);
        super::after_restore(&world.app, "test").await.expect("a new epoch");
        let query = format!("/gateway/v1/changes?epoch={}&since=0&wait_ms=0", before["epoch"]);
        let after = caller.get(&query).await.expect(200);
        assert_eq!(after["reset"], true);
        assert_ne!(after["epoch"], before["epoch"]);
        let entries = admin.get("/api/v1/audit").await.expect(200);
        assert_eq!(entries["items"][0]["action"], "gateways.after_restore");
    }
}
