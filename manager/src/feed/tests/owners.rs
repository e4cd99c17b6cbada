//! Tokens on behalf of users, as gateways are told of them.

use axum::body::Body;
use axum::http::Method;
use gate::wire::exchange::Permission;
use serde_json::json;

use crate::feed::token_tests::shop;
use crate::testing::World;

#[tokio::test]
async fn tokens_of_a_user_are_let_in_while_the_user_is_active_within_what_was_delegated() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let scope = shop.admin.post("/api/v1/scopes", json!({ "name": "delegated" })).await.expect(201);
        let scope = scope["id"].as_str().expect("an id");
        shop.admin.put("/api/v1/clients/acme/scopes", json!({ "scopes": [scope] })).await.expect(200);
        let user = json!({ "name": "ann", "password": "secret-of-ann" });
        let user = shop.admin.post("/api/v1/users", user).await.expect(201);
        let user = format!("/api/v1/users/{}", user["id"].as_str().expect("an id"));
        let path = "/oauth/token?grant_type=password&client_id=acme&client_secret=secret-1&username=ann\
                    &password=secret-of-ann";
        let answer = shop.anon.raw(Method::POST, path, &[], Body::empty()).await.expect(200);
        let token = answer["access_token"].as_str().expect("a text");
        let groups = async || match shop.grant(token).await.permission {
            Permission::Groups { groups } => groups.into_iter().map(|group| group.0).collect::<Vec<_>>(),
            Permission::Apis { .. } => panic!("tokens open groups"),
        };
        assert_eq!(groups().await, [shop.group.as_str()]);
        // One that came of a code also opens the scopes that its user was asked for.
        world.sql(&format!("UPDATE tokens SET scope = scope || ' {scope}'")).await;
        assert_eq!(groups().await, [shop.group.as_str()]);
        world.sql("UPDATE tokens SET grant_type = 'authorization_code'").await;
        assert_eq!(groups().await, [shop.group.as_str(), scope]);

        assert!(shop.grant(token).await.active);
        for status in ["disabled", "locked"] {
            let before = shop.exchange(json!({})).await;
            shop.admin.patch(&user, json!({ "status": status })).await.expect(200);
            assert!(!shop.grant(token).await.active, "{status}");
            let after = shop.exchange(json!({})).await;
            assert!(after.as_of > before.as_of, "gateways hear of it");
            shop.admin.patch(&user, json!({ "status": "active" })).await.expect(200);
            assert!(shop.grant(token).await.active);
        }
    }
}
